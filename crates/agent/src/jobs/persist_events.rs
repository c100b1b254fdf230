//! Writes the outbox to disk, in groups: what is added while a commit runs is in the next one.
//!
//! Reads the events that are on disk only when the delivery has room for them. A disk that fails
//! or hangs stops neither the delivery nor a disconnect-script: events stay in memory, bounded, and
//! are written once the disk works.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outbox::Rejected;
use outbox::dead_letters::DeadLetters;
use outbox::store::{Batch, Chunk, Incident, Loaded, SessionKey, Store, StoreError};
use resilience::{Backoff, LogLimiter};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::metrics::Metrics;
use crate::operations::list_events::EventQueue;
use crate::operations::shared_outbox::{SharedOutbox, Writing};

/// Name of the store's file in its directory.
const FILE_NAME: &str = "events.redb";
/// Time after which a disk counts as hung.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that the start waits for the events of an earlier run.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Time over which removals are collected into one commit.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two log lines about dead letters that cannot be written.
const LETTER_LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Most events that are read at once.
const READ_LIMIT: usize = 512;
/// A file that is larger, and twice as large as it became the last time, is made smaller when it
/// has no events any more.
const COMPACT_ABOVE: u64 = 8 << 20;
/// The pause before a store that failed is opened again.
const RETRY: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(30),
    multiplier: 2.0,
};

/// The rows of sessions that an earlier run left.
pub(crate) type StoredRows = Vec<(SessionKey, Vec<u8>)>;

/// Writes the outbox to its store.
pub(crate) struct EventPersistence {
    files: EventFiles,
    disk: Disk,
    outbox: SharedOutbox,
    /// Given the rows of sessions once the store is opened for the first time.
    rows: Option<oneshot::Sender<StoredRows>>,
    /// Consecutive failures.
    failures: u32,
}

enum Disk {
    /// A thread for blocking work opens the store.
    Opening(JoinHandle<Result<Opened, StoreError>>),
    Open(Store),
    /// The store failed, or a thread for blocking work writes it.
    Closed,
}

struct Opened {
    store: Store,
    loaded: Loaded,
    /// The events that were not in memory when it was opened, and their bytes.
    unknown: (usize, u64),
}

impl EventPersistence {
    /// Starts to open the store in `directory`. The receiver gets the rows of sessions once it is
    /// open.
    pub(crate) fn start(
        directory: &Path,
        agent_id: &str,
        outbox: SharedOutbox,
        metrics: Metrics,
    ) -> (Self, oneshot::Receiver<StoredRows>) {
        let files = EventFiles {
            store: directory.join(FILE_NAME),
            dead_letters: DeadLetters::in_directory(directory),
            agent_id: agent_id.to_owned(),
            metrics,
            letter_log: Arc::new(LogLimiter::new(NonZeroU32::MIN, LETTER_LOG_INTERVAL)),
            compacted: Arc::default(),
        };
        let (rows, receiver) = oneshot::channel();
        let persistence = Self {
            disk: Disk::Opening(files.open(outbox.known_sequences())),
            files,
            outbox,
            rows: Some(rows),
            failures: 0,
        };
        (persistence, receiver)
    }

    /// The events, for an operator.
    pub(crate) fn queue(&self) -> EventQueue {
        EventQueue::new(self.outbox.clone(), self.files.dead_letters.clone())
    }

    /// Loads the events of an earlier run. Waits for the disk for at most 2 s; [`Self::run`] goes
    /// on where this ends.
    pub(crate) async fn load(&mut self) {
        match timeout(LOAD_TIMEOUT, self.open()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(&error),
            Err(_) => {
                let limit = LOAD_TIMEOUT;
                tracing::warn!(?limit, "the events of an earlier run are not loaded yet");
            }
        }
    }

    /// Writes the outbox until `stop`, and then what is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut is_stopping = false;
        while !is_stopping {
            let next_write = self.next_write();
            is_stopping = stop.run_until_cancelled(next_write).await.is_none();
            match self.write_reporting_a_hang().await {
                Ok(()) => self.failures = 0,
                Err(error) => self.failed(&error),
            }
        }
        if self.outbox.stats().unsaved == 0 {
            self.outbox.status().set_complete();
        }
        // Closing the file syncs it.
        let close = tokio::task::spawn_blocking(move || drop(self.disk));
        if let Err(error) = close.await {
            tracing::debug!(%error, "could not close the event store");
        }
    }

    /// Waits until there is something to write or to read, or until a store that failed is to be
    /// tried again.
    async fn next_write(&self) {
        if self.failures > 0 {
            return sleep(RETRY.ceiling(self.failures)).await;
        }
        if matches!(self.disk, Disk::Opening(_)) {
            return;
        }
        let removal = async {
            self.outbox.removable().await;
            if !self.outbox.wants_to_read() {
                sleep(REMOVAL_INTERVAL).await;
            }
        };
        tokio::select! {
            () = removal => {}
            () = self.outbox.status().requested() => {}
        }
    }

    async fn write_reporting_a_hang(&mut self) -> Result<(), String> {
        let outbox = self.outbox.clone();
        let mut write = pin!(self.write());
        match timeout(DISK_TIMEOUT, &mut write).await {
            Ok(written) => written,
            Err(_) => {
                outbox.store_failed();
                report(
                    &outbox,
                    format!("the disk did not respond within {DISK_TIMEOUT:?}"),
                );
                write.await
            }
        }
    }

    async fn write(&mut self) -> Result<(), String> {
        self.open().await?;
        let Disk::Open(mut store) = std::mem::replace(&mut self.disk, Disk::Closed) else {
            return Err("it is closed".to_owned());
        };
        let files = self.files.clone();
        let mut writing = self.outbox.take_work();
        let is_empty = self.outbox.stats().pending == 0;
        // A store that failed is closed on that thread too.
        let written =
            tokio::task::spawn_blocking(move || match files.write(&mut store, &mut writing, is_empty) {
                Ok(read) => (writing, Ok((store, read))),
                Err(error) => (writing, Err(error)),
            });
        let (writing, result) = written.await.map_err(|error| error.to_string())?;
        match result {
            Ok((store, read)) => {
                self.disk = Disk::Open(store);
                self.stored(&writing, read);
                Ok(())
            }
            Err(error) => {
                self.outbox.not_written(writing);
                Err(error.to_string())
            }
        }
    }

    fn stored(&self, writing: &Writing, read: Option<Chunk>) {
        if let Some(chunk) = read.as_ref().filter(|chunk| !chunk.damaged.is_empty()) {
            let events = chunk.damaged.len();
            tracing::error!(events, "events lost: they cannot be read from the disk any more");
        }
        self.outbox.written(writing, read);
        if self.outbox.status().set_stored(writing.requests) {
            tracing::info!("event store recovered: everything is written");
        }
    }

    /// Opens the store where it is not open. Cancelling it loses nothing.
    async fn open(&mut self) -> Result<(), String> {
        if matches!(self.disk, Disk::Closed) {
            self.disk = Disk::Opening(self.files.open(self.outbox.known_sequences()));
        }
        let Disk::Opening(opening) = &mut self.disk else {
            return Ok(());
        };
        let opened = done(opening.await);
        self.disk = Disk::Closed;
        let Opened {
            store,
            loaded,
            unknown,
        } = opened?;
        let (events, bytes) = unknown;
        self.outbox.loaded(events, bytes, loaded.last);
        if let Some(rows) = self.rows.take() {
            let sessions = loaded.sessions.len();
            tracing::info!(path = %self.files.store.display(), events, sessions, "events loaded");
            // Whoever does not want them has dropped the receiver.
            let _unwanted = rows.send(loaded.sessions);
        }
        self.disk = Disk::Open(store);
        Ok(())
    }

    fn failed(&mut self, error: &str) {
        self.failures = self.failures.saturating_add(1);
        self.outbox.store_failed();
        report(&self.outbox, error.to_owned());
    }
}

/// Where the files are, and whose they are.
#[derive(Clone)]
struct EventFiles {
    store: PathBuf,
    dead_letters: DeadLetters,
    agent_id: String,
    metrics: Metrics,
    letter_log: Arc<LogLimiter>,
    /// The length of the file after it was made smaller.
    compacted: Arc<AtomicU64>,
}

impl EventFiles {
    /// Opens the store on a thread for blocking work. `known` are the sequences in memory.
    fn open(&self, known: Vec<u64>) -> JoinHandle<Result<Opened, StoreError>> {
        let files = self.clone();
        tokio::task::spawn_blocking(move || files.open_blocking(&known))
    }

    fn open_blocking(&self, known: &[u64]) -> Result<Opened, StoreError> {
        if let Some(directory) = self.store.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let report = |incident: &Incident| self.report(incident);
        let (store, loaded) = Store::open(&self.store, &self.agent_id, report)?;
        let unknown = match known {
            [] => (loaded.events, loaded.bytes),
            known => store.count(0, |sequence| known.binary_search(&sequence).is_err())?,
        };
        Ok(Opened {
            store,
            loaded,
            unknown,
        })
    }

    fn report(&self, incident: &Incident) {
        self.metrics.event_store_replaced(incident.problem.label());
        let path = self.store.display();
        let renamed_to = incident.aside.as_ref().map(|path| path.display().to_string());
        let (reason, recovered) = (&incident.problem, incident.recovered);
        tracing::error!(
            %path, renamed_to, %reason, recovered,
            "the event store is not what this agent last wrote: events may be lost"
        );
    }

    /// Writes dead letters. A file that cannot be used delays them and nothing else.
    fn write_dead_letters(&self, rejected: &mut [Rejected]) {
        if rejected.is_empty() {
            return;
        }
        let path = self.dead_letters.path().display();
        match self.dead_letters.append(rejected) {
            Ok(0) => {}
            Ok(lost) => tracing::error!(%path, lost, "rejected events lost: the dead letters are full"),
            Err(error) => {
                let waiting = rejected.len();
                if let Some(suppressed) = self.letter_log.admit(clock::now().into_std()) {
                    tracing::error!(%path, %error, waiting, suppressed, "dead letters cannot be written: retrying");
                }
            }
        }
    }

    /// Makes the file smaller where that is worth its time: rows of sessions may need the space.
    fn compact(&self, store: &mut Store) -> Result<(), StoreError> {
        let length = || std::fs::metadata(&self.store).map_or(0, |file| file.len());
        let last = self.compacted.load(Ordering::Relaxed);
        if length() > COMPACT_ABOVE.max(last.saturating_mul(2)) {
            store.compact()?;
            self.compacted.store(length(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes dead letters, then the store; then reads events where there is room for them.
    fn write(
        &self,
        store: &mut Store,
        writing: &mut Writing,
        is_empty: bool,
    ) -> Result<Option<Chunk>, StoreError> {
        self.write_dead_letters(&mut writing.work.rejected);
        let work = &writing.work;
        let batch = Batch {
            events: work.events.clone(),
            settled: work.removed().collect(),
            sessions: writing.rows.clone(),
        };
        if !batch.is_empty() {
            store.commit(&batch)?;
        }
        if is_empty {
            self.compact(store)?;
        }
        let chunk = writing.read_from.map(|from| store.read(from, READ_LIMIT));
        chunk.transpose()
    }
}

/// Logs a failure, as an error when it is the first one.
fn report(outbox: &SharedOutbox, error: String) {
    let again = error.clone();
    let unsaved = outbox.stats().unsaved;
    if outbox.status().set_problem(error) {
        tracing::error!(
            key = "outbox.dir",
            error = again,
            unsaved,
            "event store does not work: retrying, a restart would lose events"
        );
    } else {
        tracing::debug!(error = again, unsaved, "event store does not work yet");
    }
}

/// Flattens the result of blocking work.
fn done<T>(joined: Result<Result<T, StoreError>, JoinError>) -> Result<T, String> {
    match joined {
        Ok(result) => result.map_err(|error| error.to_string()),
        // It panicked, or the runtime is shutting down.
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
