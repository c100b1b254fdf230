use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};

use ocserv_agent_model::Event;
use testkit::fake_control::{FakeControl, FakeSession, Fault, command};

use tokio::time::timeout;

use super::*;
use crate::example::{self, login};
use crate::ipc_server::line::accept;
use crate::metrics::Metrics;
use crate::operations::shared_outbox::SharedOutbox;

const ROOM: usize = 64;

struct Office {
    fake: FakeControl,
    recorder: Arc<SessionRecorder>,
    outbox: SharedOutbox,
    registrar: Registrar,
    beginnings: mpsc::Sender<Beginning>,
    _dir: tempfile::TempDir,
}

/// An ocserv with `sessions`.
fn office(sessions: Vec<FakeSession>) -> Office {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("occtl.sock");
    let fake = FakeControl::start(&path).unwrap();
    fake.set_sessions(sessions);
    let outbox = SharedOutbox::new(1_000);
    let recorder = Arc::new(SessionRecorder::new(
        "a1",
        Some(outbox.clone()),
        Metrics::new("a1").unwrap(),
    ));
    let ocserv = example::ocserv(&path);
    let (registrar, beginnings) = Registrar::new(Arc::clone(&recorder), ocserv, ROOM);
    Office {
        fake,
        recorder,
        outbox,
        registrar,
        beginnings,
        _dir: dir,
    }
}

fn session(id: i32, name: &str) -> FakeSession {
    FakeSession {
        connected_at: 1_000_000 + id.unsigned_abs(),
        ..FakeSession::connected(id, name)
    }
}

/// A line, and the helper's end of it.
fn line() -> (Line, UnixStream) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let helper = UnixStream::connect(&path).unwrap();
    (accept(&listener).unwrap(), helper)
}

/// The line of a helper that took its answer and went.
fn gone() -> Line {
    line().0
}

impl Office {
    async fn let_in(&self, id: i32, name: &str) {
        self.let_in_over(gone(), id, name).await;
    }

    async fn let_in_over(&self, line: Line, id: i32, name: &str) {
        let login = Arc::new(login(id, name));
        let beginning = Beginning {
            handle: self.recorder.login_started(&login),
            login,
            source: Source::Cache,
            line,
            written: clock::now(),
        };
        self.beginnings.send(beginning).await.unwrap();
    }

    /// Registers all that were let in; gives the names of their sessions.
    async fn close(self) -> (FakeControl, Vec<String>) {
        drop(self.beginnings);
        self.registrar.run().await;
        let uid = |event: Event| event.uid.to_string();
        (self.fake, self.outbox.pending().into_iter().map(uid).collect())
    }
}

#[tokio::test]
async fn many_beginnings_are_one_question_and_each_session_has_its_own_second_in_its_name() {
    let office = office((1..=20).map(|id| session(id, "alice")).collect());
    for id in 1..=20 {
        office.let_in(id, "alice").await;
    }
    let (fake, names) = office.close().await;
    let expected: Vec<_> = (1..=20).map(|id| format!("a1/{id}/{}", 1_000_000 + id)).collect();
    assert_eq!(names, expected);
    assert_eq!((fake.count(command::LIST), fake.count(command::ID_INFO)), (1, 0));
}

#[tokio::test]
async fn a_few_beginnings_are_a_question_about_each_and_not_about_everybody() {
    let office = office(vec![session(7, "alice"), session(8, "bob"), session(9, "carol")]);
    office.let_in(7, "alice").await;
    office.let_in(8, "bob").await;
    let (fake, names) = office.close().await;
    assert_eq!(names, ["a1/7/1000007", "a1/8/1000008"]);
    assert_eq!((fake.count(command::LIST), fake.count(command::ID_INFO)), (0, 2));
}

#[tokio::test]
async fn a_number_that_is_another_users_by_now_lends_no_second() {
    let office = office(vec![session(7, "bob"), session(8, "bob")]);
    for id in [7, 8] {
        office.let_in(id, "alice").await;
    }
    let (_fake, names) = office.close().await;
    assert_eq!(names.len(), 2, "the session is reported all the same");
    assert!(
        !names
            .iter()
            .any(|name| name.ends_with("/1000007") || name.ends_with("/1000008")),
        "{names:?}"
    );
}

#[tokio::test]
async fn an_ocserv_that_hangs_costs_the_exact_second_and_no_event() {
    let office = office(vec![session(7, "alice")]);
    office.fake.set_fault(Some(Fault::Hang));
    office.let_in(7, "alice").await;
    let closed = timeout(Duration::from_secs(4), office.close()).await;
    let (_fake, names) = closed.expect("ocserv's answer is not waited for as long as its socket may take");
    assert_eq!(names.len(), 1);
    assert_ne!(names, ["a1/7/1000007"]);
}

#[tokio::test]
async fn a_helper_that_keeps_talking_holds_up_no_other() {
    let office = office(vec![session(7, "alice"), session(8, "bob")]);
    let (line, mut helper) = line();
    office.let_in_over(line, 7, "alice").await;
    office.let_in(8, "bob").await;
    let outbox = office.outbox.clone();
    let talker = std::thread::spawn(move || {
        let begin = clock::now();
        while outbox.pending().is_empty() && clock::now() - begin < Duration::from_secs(10) {
            helper.write_all(&[b' '; 4096]).unwrap();
        }
        outbox.pending().len()
    });
    let (_fake, names) = office.close().await;
    assert_eq!(
        talker.join().unwrap(),
        1,
        "the other one did not wait for this one"
    );
    assert_eq!(names, ["a1/8/1000008", "a1/7/1000007"]);
}
