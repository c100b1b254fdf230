//! Lists the events that wait for the portal and those that it rejected, and sends the latter
//! again.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Event, EventId, EventKind, Username, one_line};
use outbox::QueuedEvent;
use outbox::dead_letters::{DeadLetter, DeadLetters};

use super::shared_outbox::SharedOutbox;
use crate::clock;

/// Longest table, in bytes: well below the size limit of a response.
const MAX_TABLE: usize = 512 << 10;
/// Longest problem in the table, in characters.
const MAX_PROBLEM: usize = 120;
/// Dead letters that are sent again together.
const RETRY_GROUP: usize = 256;
/// Longest time until events that are sent again are on disk.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);

/// The events of an agent; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct EventQueue {
    outbox: SharedOutbox,
    dead_letters: DeadLetters,
}

/// What to do with the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventsRequest {
    /// List the pending events, of one user or all.
    List(Option<Username>),
    /// List the dead letters, of one user or all.
    Dead(Option<Username>),
    /// Send dead letters again: the one with this event ID, or all.
    Retry(Option<String>),
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventsError {
    /// The file of the dead letters cannot be used.
    #[error("the dead letters cannot be used: {0}")]
    File(#[from] io::Error),
    /// No dead letter has this event ID.
    #[error("no dead letter has the event ID {0:?}")]
    Unknown(String),
    /// More events would push others out.
    #[error("the outbox is nearly full: the events that are left stay in the dead letters")]
    Full,
    /// The events are pending, but are not on disk.
    #[error("the events are sent again, but stay in the dead letters: {0}")]
    NotStored(String),
}

impl EventQueue {
    pub(crate) fn new(outbox: SharedOutbox, dead_letters: DeadLetters) -> Self {
        Self { outbox, dead_letters }
    }

    /// Does what is requested; returns a table or a sentence.
    ///
    /// # Errors
    /// [`EventsError`], the reason.
    pub(crate) async fn answer(self, request: EventsRequest) -> Result<String, EventsError> {
        match request {
            EventsRequest::List(user) => Ok(self.pending(user.as_ref())),
            EventsRequest::Dead(user) => Ok(dead(&self.read().await?, user.as_ref())),
            EventsRequest::Retry(id) => self.retry(id).await,
        }
    }

    fn pending(&self, user: Option<&Username>) -> String {
        let stats = self.outbox.stats();
        let events = self.outbox.queued();
        let on_disk = stats.pending.saturating_sub(events.len());
        let mut table = Table::default();
        for queued in events.iter().filter(|queued| is_of(queued, user)) {
            table.line(&queued.event, queued.queued, "");
        }
        let mut text = table.finish("no event is pending");
        if on_disk > 0 {
            let _infallible = writeln!(text, "{on_disk} later events are on disk only");
        }
        text
    }

    async fn retry(&self, id: Option<String>) -> Result<String, EventsError> {
        let mut letters = self.read().await?;
        if let Some(id) = id {
            letters.retain(|letter| letter.event.event.event_id.as_str() == id);
            if letters.is_empty() {
                return Err(EventsError::Unknown(id));
            }
        }
        let count = letters.len();
        // In groups, so that none of them delays a login.
        while !letters.is_empty() {
            let group = letters.drain(..letters.len().min(RETRY_GROUP)).collect();
            self.retry_group(group).await?;
        }
        Ok(format!("events that are sent again: {count}\n"))
    }

    async fn retry_group(&self, letters: Vec<DeadLetter>) -> Result<(), EventsError> {
        if !self.outbox.has_room_for(letters.len()) {
            return Err(EventsError::Full);
        }
        let events: Vec<Event> = letters.into_iter().map(|letter| letter.event.event).collect();
        let ids: Vec<EventId> = events.iter().map(|event| event.event_id.clone()).collect();
        let by = clock::now() + STORE_TIMEOUT;
        let appended = self.outbox.append(events, Vec::new());
        // Removed only when they are on disk as pending events: a kill in between repeats them.
        let stored = appended.durable(by).await;
        stored.map_err(|error| EventsError::NotStored(error.to_string()))?;
        let letters = self.dead_letters.clone();
        Ok(blocking(move || letters.remove(&ids)).await?)
    }

    async fn read(&self) -> Result<Vec<DeadLetter>, EventsError> {
        let letters = self.dead_letters.clone();
        Ok(blocking(move || letters.read()).await?)
    }
}

fn dead(letters: &[DeadLetter], user: Option<&Username>) -> String {
    let mut table = Table::default();
    for letter in letters.iter().filter(|letter| is_of(&letter.event, user)) {
        table.line(&letter.event.event, letter.event.queued, &letter.problem);
    }
    table.finish("no dead letter")
}

fn is_of(queued: &QueuedEvent, user: Option<&Username>) -> bool {
    user.is_none_or(|user| queued.event.username == *user)
}

/// A table of events.
#[derive(Debug, Default)]
struct Table(String);

impl Table {
    fn line(&mut self, event: &Event, queued: SystemTime, problem: &str) {
        if self.0.is_empty() {
            self.0.push_str(&heading());
        }
        if self.0.len() > MAX_TABLE {
            return;
        }
        let kind = match event.kind {
            EventKind::Connected(_) => "connect",
            EventKind::Disconnected(_) => "disconnect",
            EventKind::Updated(_) => "update",
        };
        let _infallible = writeln!(
            self.0,
            "{:<24} {kind:<10} {:<20} {:<48}  {}",
            humantime::format_rfc3339_millis(queued),
            event.username.as_str(),
            event.event_id.as_str(),
            one_line(problem, MAX_PROBLEM),
        );
    }

    fn finish(mut self, empty: &str) -> String {
        if self.0.is_empty() {
            return format!("{empty}\n");
        }
        if self.0.len() > MAX_TABLE {
            self.0.push_str("later events are left out: filter with --user\n");
        }
        self.0
    }
}

fn heading() -> String {
    format!(
        "{:<24} {:<10} {:<20} {:<48}  {}\n",
        "QUEUED", "KIND", "USER", "EVENT", "PROBLEM"
    )
}

/// Runs `work` on a thread for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
