//! The accept loop and one conversation.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use ocserv_agent_model::{DenyCode, Login, Username, one_line};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::beginnings::Registrar;
use super::bytes::{Unheard, read_frame, say, write};
use super::counts::Counts;
use super::desk::{self, Desk, Parts};
use super::gate::Gate;
use super::line::{Line, Waiting, accept};
use super::quiet::Quiet;
use super::{Ask, Door, read_request, respond};
use crate::clock;

/// Within what time a request has to be there, counted from the accept.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);
/// What is kept of the helper's own deadline, for the answer's way back.
const MARGIN: Duration = Duration::from_millis(50);
/// How long, and how many at a time, peers are listened to that have an answer on which nothing hangs.
const FAREWELL: Duration = Duration::from_millis(100);
const FAREWELLS: usize = 64;
/// The first and the longest pause after an accept that failed.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a reload may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Within what time a login is answered, counted from the accept.
    pub deadline: Duration,
    /// Whom the agent listens to.
    pub allowed_uids: Vec<u32>,
}

/// The IPC server.
#[derive(Debug)]
pub struct Server {
    door: Door,
    shared: Arc<Shared>,
    registrar: Registrar,
}

#[derive(Debug)]
struct Shared {
    desk: Arc<Desk>,
    /// Where everything runs that no login waits for.
    background: Handle,
    rules: Arc<ArcSwap<Rules>>,
    counts: Arc<Counts>,
    gate: Gate,
    deciding: Semaphore,
    farewells: Semaphore,
    quiet: Warnings,
}

#[derive(Debug, Default)]
struct Warnings {
    peer: Quiet,
    overload: Quiet,
    request: Quiet,
    accept: Quiet,
}

impl Server {
    /// Serves behind `door` with `parts`: at most `max_connections` that still send their request, and as many that wait
    /// for their answer. What no login waits for runs on `background`.
    #[must_use]
    pub fn new(
        door: Door,
        parts: Parts,
        rules: Arc<ArcSwap<Rules>>,
        max_connections: usize,
        background: Handle,
    ) -> Self {
        let (desk, registrar) = Desk::new(parts, max_connections);
        let shared = Shared {
            desk: Arc::new(desk),
            background,
            rules,
            counts: Arc::default(),
            gate: Gate::new(max_connections),
            deciding: Semaphore::new(max_connections),
            farewells: Semaphore::new(FAREWELLS),
            quiet: Warnings::default(),
        };
        Self {
            door,
            shared: Arc::new(shared),
            registrar,
        }
    }

    /// What went wrong since the start.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// Serves until `stop`. Then whoever has connected by then is answered, the socket is taken away (unless systemd
    /// holds it), and it returns when the last answer is given and whoever was let in is noted.
    ///
    /// # Errors
    /// When the socket cannot be served at all.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let Self {
            door,
            shared,
            registrar,
        } = self;
        let listener = Waiting::on(&door.listener)?;
        let conversations = TaskTracker::new();
        conversations.spawn_on(registrar.run(), &shared.background);
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.next() => accepted,
            };
            match accepted {
                Ok(line) => {
                    pause = ACCEPT_PAUSE.0;
                    shared.begin(line, &conversations);
                }
                Err(error) => {
                    shared.accept_failed(&error);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(ACCEPT_PAUSE.1),
                    }
                }
            }
        }
        drop(listener);
        if !door.is_inherited() {
            // Whoever is in the queue when the socket is gone is answered; whoever comes later finds no socket. (What comes
            // to systemd's socket waits there for the next agent.)
            shared.sweep(&door, &conversations);
            door.unlink();
            shared.sweep(&door, &conversations);
        }
        drop(door);
        // The registrar ends when nobody can give it more to do.
        drop(shared);
        conversations.close();
        conversations.wait().await;
        Ok(())
    }
}

impl Shared {
    /// Takes everybody who waits to be accepted.
    fn sweep(self: &Arc<Self>, door: &Door, conversations: &TaskTracker) {
        loop {
            match accept(&door.listener) {
                Ok(line) => self.begin(line, conversations),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return self.accept_failed(&error),
            }
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        self.counts.accept_errors.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.quiet.accept.may_warn(clock::now()) {
            tracing::error!(%error, left_out, "could not accept a connection on the IPC socket");
        }
    }

    /// Has a conversation as far as it goes at once: for a login with a decision in the cache, to its end. The rest, if it
    /// has to wait for anything, is a task of its own.
    fn begin(self: &Arc<Self>, line: Line, conversations: &TaskTracker) {
        let mut conversation = Box::pin(Arc::clone(self).converse(line));
        let at_once = || {
            conversation
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        };
        match catch_unwind(AssertUnwindSafe(at_once)) {
            Ok(Poll::Ready(())) => {}
            // What it waits for wakes nobody yet; the task looks again first.
            Ok(Poll::Pending) => drop(conversations.spawn(conversation)),
            // As for a task: the others go on. The panic itself is on standard error.
            Err(_) => tracing::error!("a conversation on the IPC socket panicked"),
        }
    }

    /// One conversation, from the accept to the end.
    async fn converse(self: Arc<Self>, mut line: Line) {
        let arrived = clock::now();
        match self.hear(&mut line, arrived).await {
            Heard::Nothing => {}
            Heard::Login(login, deadline, _room) => {
                let (response, decided) = self.desk.connect(login, arrived, deadline).await;
                let said = say(&mut line, &response).await;
                self.desk.answered(decided, said.then_some(line));
            }
            Heard::Operator(user, _room) => {
                let desk = Arc::clone(&self.desk);
                let table = self
                    .background
                    .spawn(async move { desk.decisions(user.as_ref()) });
                if let Ok(response) = table.await {
                    say(&mut line, &response).await;
                }
            }
            Heard::Dismissed(response) => self.dismiss(line, &response).await,
        }
    }

    /// Hears who it is and what is wanted.
    async fn hear(&self, line: &mut Line, arrived: Instant) -> Heard<'_> {
        let rules = self.rules.load_full();
        if !self.may_ask(line, &rules) {
            let why = "the agent does not listen to this user";
            return Heard::Dismissed(respond::refusal(DenyCode::PeerRefused, why));
        }
        match self.listen(line, arrived, &rules).await {
            Ok(request) => self.understand(&request, arrived, &rules),
            Err(Unheard::Silent) => Heard::Nothing,
            Err(Unheard::Expelled) => Heard::Dismissed(self.overloaded()),
            Err(Unheard::Bad(problem)) => Heard::Dismissed(self.bad_request(&problem)),
        }
    }

    fn understand(&self, request: &ipc::Request, arrived: Instant, rules: &Rules) -> Heard<'_> {
        let ask = match read_request(request) {
            Ok(ask) => ask,
            Err(error) => {
                let response = self.bad_request(&error.to_string());
                desk::audit_refusal(request, &response, arrived);
                return Heard::Dismissed(response);
            }
        };
        // Reports wait for nothing, so they take no room; one that is turned away does not come again.
        let room = match ask {
            Ask::Connect(_) | Ask::Decisions(_) => Some(self.deciding.try_acquire()),
            Ask::Disconnect(_) | Ask::HostUpdate => None,
        };
        let Ok(room) = room.transpose() else {
            let response = self.overloaded();
            desk::audit_refusal(request, &response, arrived);
            return Heard::Dismissed(response);
        };
        let metrics = &self.desk.metrics;
        match ask {
            Ask::Connect(login) => {
                metrics.ipc_login();
                Heard::Login(login, deadline(request, arrived, rules), room)
            }
            Ask::Disconnect(ended) => {
                metrics.ipc_request("disconnect");
                Heard::Dismissed(self.desk.disconnect(ended))
            }
            Ask::Decisions(user) => Heard::Operator(user, room),
            Ask::HostUpdate => {
                metrics.ipc_request("host-update");
                Heard::Dismissed(respond::noted())
            }
        }
    }

    fn may_ask(&self, line: &Line, rules: &Rules) -> bool {
        let uid = match line.peer() {
            Ok(uid) if rules.allowed_uids.contains(&uid) => return true,
            Ok(uid) => Some(uid),
            Err(_) => None,
        };
        let refused = self.counts.refused_peers.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(left_out) = self.quiet.peer.may_warn(clock::now()) {
            tracing::warn!(
                uid,
                refused,
                left_out,
                "refused a peer on the IPC socket that is not in ipc.allowed_uids"
            );
        }
        false
    }

    /// Gives an answer that nothing hangs on, and listens a moment, so that a peer that still sends can read it. Takes no
    /// room from logins: with too many of these under way, nobody is listened to.
    async fn dismiss(&self, mut line: Line, response: &ipc::Response) {
        let farewell = async {
            if write(&mut line, response).await.is_err() {
                return;
            }
            let Ok(_permit) = self.farewells.try_acquire() else {
                return;
            };
            let mut sink = Vec::with_capacity(4096);
            while matches!(line.read(&mut sink).await, Ok(1..)) {
                sink.clear();
            }
        };
        let _gone = timeout(FAREWELL, farewell).await;
    }

    async fn listen(
        &self,
        line: &mut Line,
        arrived: Instant,
        rules: &Rules,
    ) -> Result<ipc::Request, Unheard> {
        let (visitor, full) = self.gate.enter();
        if full && let Some(left_out) = self.quiet.overload.may_warn(clock::now()) {
            tracing::warn!(
                left_out,
                "too many silent connections on the IPC socket: the oldest has to go"
            );
        }
        let within = REQUEST_WITHIN.min(rules.deadline);
        let body = tokio::select! {
            biased;
            body = timeout_at(arrived + within, read_frame(line)) => body,
            () = visitor.expelled.cancelled() => return Err(Unheard::Expelled),
        };
        let body = match body {
            Ok(read) => read?,
            Err(_) => {
                return Err(Unheard::Bad(format!(
                    "there was no complete request within {within:?}"
                )));
            }
        };
        ipc::Request::from_json(&body).map_err(|error| Unheard::Bad(error.to_string()))
    }

    fn overloaded(&self) -> ipc::Response {
        let overloaded = self.counts.overloaded.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(left_out) = self.quiet.overload.may_warn(clock::now()) {
            tracing::warn!(
                overloaded,
                left_out,
                "turned a request on the IPC socket away: too many connections"
            );
        }
        respond::refusal(DenyCode::Overloaded, "the agent has too many logins under way")
    }

    fn bad_request(&self, problem: &str) -> ipc::Response {
        let bad_requests = self.counts.bad_requests.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(left_out) = self.quiet.request.may_warn(clock::now()) {
            let problem = one_line(problem, respond::MAX_REASON);
            tracing::warn!(
                bad_requests,
                left_out,
                problem,
                "refused a request on the IPC socket"
            );
        }
        respond::refusal(DenyCode::BadRequest, problem)
    }
}

/// What became of a request.
enum Heard<'a> {
    /// There is none.
    Nothing,
    /// A login, by when its answer has to be there, and its room among those that wait.
    Login(Arc<Login>, Instant, Option<SemaphorePermit<'a>>),
    /// An operator wants to see the last decisions: about one user, or all. It takes room, too.
    Operator(Option<Username>, Option<SemaphorePermit<'a>>),
    /// An answer on which nothing hangs.
    Dismissed(ipc::Response),
}

/// By when the answer has to be there: our own deadline, or a little before the helper's if that is sooner.
fn deadline(request: &ipc::Request, arrived: Instant, rules: &Rules) -> Instant {
    let ours = arrived + rules.deadline;
    let helpers = request
        .deadline_ms
        .map(|ms| clock::now() + Duration::from_millis(ms).saturating_sub(MARGIN));
    helpers.map_or(ours, |helpers| helpers.min(ours))
}

#[cfg(test)]
mod tests;
