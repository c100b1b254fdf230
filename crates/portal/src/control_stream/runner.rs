//! Opens the control stream for ever, and receives on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{Stream, stream};
use ocserv_agent_proto::agent::v1::agent_service_client::AgentServiceClient;
use ocserv_agent_proto::agent::v1::{AgentMessage, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use super::message::{Received, received};
use super::outgoing::{Next, Outgoing, StreamNumber};
use super::sender::ControlSender;
use super::stream_service::StreamService;
use super::types::{Instruction, Notification};
use crate::clock;
use crate::connection::Connection;
use crate::connection_manager::ConnectionHandle;
use crate::settings::Settings;
use crate::text::one_line;

/// The largest message of the portal, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Longest time that a closed stream waits for the portal's end of it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the registration, which is the first message of every stream.
pub type Register = Box<dyn Fn() -> BoxFuture<'static, Notification> + Send + Sync>;

/// The agent's end of the control stream, before it runs.
#[expect(missing_debug_implementations, reason = "it has a connection and a closure")]
pub struct ControlStream {
    settings: Arc<Settings>,
    connection: ConnectionHandle,
    sender: ControlSender,
    register: Register,
    instructions: mpsc::Sender<Instruction>,
}

/// Why a stream ended.
enum End {
    /// The portal serves no such stream.
    Unsupported,
    /// There is a new connection, as after a reload of the certificates.
    Rotated,
    /// Everything is sent, and nothing more will be.
    Closed,
    /// The reason, for the operator.
    Failed(String),
}

/// What a stream has come to.
#[derive(Default)]
struct Progress {
    /// The failures since the last stream that lasted.
    failures: u32,
    is_logged: bool,
    is_unsupported: bool,
}

impl ControlStream {
    pub(crate) fn new(
        settings: Arc<Settings>,
        connection: ConnectionHandle,
        sender: ControlSender,
        register: Register,
        instructions: mpsc::Sender<Instruction>,
    ) -> Self {
        Self {
            settings,
            connection,
            sender,
            register,
            instructions,
        }
    }

    /// Opens a stream, and another one after its end, until [`ControlSender::close`] or the stop of
    /// the client.
    pub async fn run(self) {
        let mut progress = Progress::default();
        let mut closing = self.sender.subscribe();
        loop {
            let connected = tokio::select! {
                connected = self.connection.connected() => connected,
                () = self.closed(&mut closing) => return,
            };
            let Some(connection) = connected else { return };
            let opened = clock::now();
            let end = self.serve(&connection, &mut progress).await;
            self.sender
                .shared()
                .change(|outgoing| outgoing.set_connected(false));
            let lasted = clock::now().saturating_duration_since(opened);
            if lasted >= self.settings.keepalive_interval + self.settings.keepalive_timeout {
                progress.failures = 0;
            }
            let Some(delay) = self.delay_after(end, &mut progress) else {
                return;
            };
            tokio::select! {
                () = sleep(delay) => {}
                () = self.closed(&mut closing) => return,
            }
        }
    }

    /// Logs the end of a stream; returns the time to the next one, or `None` after the last one.
    fn delay_after(&self, end: End, progress: &mut Progress) -> Option<Duration> {
        let backoff = self.settings.reconnect.backoff();
        if self.sender.shared().read(Outgoing::is_closing) {
            return None;
        }
        match end {
            End::Closed => None,
            End::Rotated => Some(Duration::ZERO),
            End::Unsupported => {
                self.sender.shared().change(Outgoing::set_unsupported);
                if !std::mem::replace(&mut progress.is_unsupported, true) {
                    tracing::info!(
                        "portal serves no control stream: it can give no instructions to this agent"
                    );
                }
                // Between half of the longest delay and all of it.
                let share = f64::midpoint(1.0, fastrand::f64());
                Some(backoff.max.mul_f64(share))
            }
            End::Failed(reason) => {
                progress.failures = progress.failures.saturating_add(1);
                let delay = backoff.delay(progress.failures, fastrand::f64());
                if std::mem::replace(&mut progress.is_logged, true) {
                    tracing::debug!(?delay, "control stream ended again: {reason}");
                } else {
                    tracing::warn!("control stream ended, it is opened again: {reason}");
                }
                Some(delay)
            }
        }
    }

    /// Serves one stream to its end.
    async fn serve(&self, connection: &Connection, progress: &mut Progress) -> End {
        let registration = (self.register)().await;
        let at = clock::wall();
        let number = self
            .sender
            .shared()
            .change(|outgoing| outgoing.open(&registration, at));
        let origin = self.settings.address.clone();
        let mut client = AgentServiceClient::with_origin(StreamService(connection.clone()), origin)
            .max_decoding_message_size(MAX_MESSAGE);
        let mut ended = connection.clone();
        let receiving = async {
            let response = client.agent_stream(messages(self.sender.clone(), number)).await?;
            self.accepted(progress);
            self.receive(response.into_inner()).await
        };
        tokio::select! {
            received = receiving => match received {
                Ok(()) => End::Failed("portal ended it".to_owned()),
                Err(status) if status.code() == Code::Unimplemented => End::Unsupported,
                Err(status) => End::Failed(one_line(&status_text(&status))),
            },
            () = self.connection.replaced(connection) => End::Rotated,
            reason = ended.closed() => End::Failed(reason.to_string()),
            () = self.drained() => End::Closed,
        }
    }

    fn accepted(&self, progress: &mut Progress) {
        self.sender
            .shared()
            .change(|outgoing| outgoing.set_connected(true));
        progress.is_logged = false;
        progress.is_unsupported = false;
        tracing::info!(address = %self.settings.address, "control stream is open");
    }

    /// Receives until the stream ends.
    async fn receive(&self, mut messages: Streaming<ServerMessage>) -> Result<(), Status> {
        while let Some(message) = messages.message().await? {
            match received(message) {
                Received::Acknowledged(event_id) => {
                    self.sender
                        .shared()
                        .change(|outgoing| outgoing.acknowledge(&event_id));
                }
                Received::Instruction(instruction) => {
                    // A full queue stops reading, and HTTP/2 the portal.
                    if self.instructions.send(instruction).await.is_err() {
                        return Ok(());
                    }
                }
                Received::Invalid(why) => {
                    tracing::warn!("portal sent an instruction that cannot be answered: {why}");
                }
            }
        }
        Ok(())
    }

    /// Waits for [`ControlSender::close`].
    async fn closed(&self, changes: &mut tokio::sync::watch::Receiver<()>) {
        while !self.sender.shared().read(Outgoing::is_closing) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the portal has had some time for its end of a stream that was closed.
    async fn drained(&self) {
        self.closed(&mut self.sender.subscribe()).await;
        let never = std::future::pending::<()>();
        let _elapsed = timeout(CLOSE_TIMEOUT, never).await;
    }
}

/// The messages that are sent on the stream with `number`.
fn messages(
    sender: ControlSender,
    number: StreamNumber,
) -> impl Stream<Item = AgentMessage> + Send + 'static {
    let changes = sender.subscribe();
    stream::unfold((sender, changes), move |(sender, mut changes)| async move {
        loop {
            match sender.shared().next(number) {
                Next::Send(message) => return Some((*message, (sender, changes))),
                Next::End => return None,
                // `sender` has the other end of the channel.
                Next::Wait => changes.changed().await.ok()?,
            }
        }
    })
}

/// What a status says, or the error that it stands for.
fn status_text(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => ocserv_agent_model::error_chain(source),
        None => format!("portal ended it as {:?}: {}", status.code(), status.message()),
    }
}
