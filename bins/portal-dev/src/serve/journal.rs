//! Writes lines of JSON in order, on one thread that owns the file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::bounded_map::BoundedMap;
use super::journal_entry::{JournalEntry, JournalLine};

/// The largest number of queued lines; beyond it callers wait.
const QUEUE_CAPACITY: usize = 1024;
/// The largest number of event ids kept to detect repetitions.
const MAX_EVENT_IDS: usize = 100_000;

/// A handle to the writer thread; clones share it.
#[derive(Clone)]
pub(super) struct Journal {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Line(Box<JournalLine>, Option<oneshot::Sender<Written>>),
    Close,
}

/// A line has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Whether its event had been written before.
    pub(super) duplicate: bool,
}

impl Journal {
    /// Opens the file, or standard output for `-`. The receiver completes when the thread has
    /// ended, see [`Journal::close`].
    pub(super) fn start(path: &Path) -> anyhow::Result<(Self, oneshot::Receiver<()>)> {
        let sink = if path == Path::new("-") {
            Sink::Stdout
        } else {
            let open = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path);
            Sink::File(open.with_context(|| format!("could not open the events file {}", path.display()))?)
        };
        let (queue, entries) = mpsc::channel(QUEUE_CAPACITY);
        let (ended_sender, ended) = oneshot::channel();
        let mut event_ids = BoundedMap::new(MAX_EVENT_IDS);
        known_event_ids(path, &mut event_ids);
        let writer = Writer {
            sink,
            event_ids,
            partial_line: false,
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                writer.run(entries);
                // The receiver may have been dropped.
                let _ = ended_sender.send(());
            })
            .context("could not start a thread")?;
        Ok((Self { queue }, ended))
    }

    /// Queues an entry without waiting until it is written.
    pub(super) async fn append(&self, entry: JournalEntry) {
        // Fails only when the thread has ended on shutdown.
        let _ = self
            .queue
            .send(Message::Line(Box::new(JournalLine::now(entry)), None))
            .await;
    }

    /// Writes an entry; `None` when that failed, so the request must not be acknowledged.
    pub(super) async fn write(&self, entry: JournalEntry) -> Option<Written> {
        let (done, written) = oneshot::channel();
        self.queue
            .send(Message::Line(Box::new(JournalLine::now(entry)), Some(done)))
            .await
            .ok()?;
        written.await.ok()
    }

    /// Ends the thread after the queued lines.
    pub(super) async fn close(&self) {
        // Fails only when the thread has ended.
        let _ = self.queue.send(Message::Close).await;
    }
}

/// Collects the ids of the events that an earlier portal has written, so that their repetitions are
/// recognized.
fn known_event_ids(path: &Path, event_ids: &mut BoundedMap<String, ()>) {
    #[derive(Deserialize)]
    struct Line {
        event_id: Option<String>,
    }
    // Standard output, a device, or a new file.
    if !path.is_file() {
        return;
    }
    let Ok(file) = File::open(path) else { return };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let ids = lines.filter_map(|line| serde_json::from_str::<Line>(&line).ok()?.event_id);
    ids.for_each(|id| event_ids.insert(id, ()));
}

enum Sink {
    Stdout,
    File(File),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
        }
    }
}

struct Writer {
    sink: Sink,
    event_ids: BoundedMap<String, ()>,
    /// Whether a failed write may have left part of a line.
    partial_line: bool,
}

impl Writer {
    fn run(mut self, mut entries: mpsc::Receiver<Message>) {
        while let Some(Message::Line(line, done)) = entries.blocking_recv() {
            match (self.write(*line), done) {
                // The caller may have been cancelled.
                (Ok(written), Some(done)) => drop(done.send(written)),
                (Ok(_), None) => {}
                (Err(error), _) => tracing::error!("could not write a line of events: {error}"),
            }
        }
    }

    fn write(&mut self, mut line: JournalLine) -> io::Result<Written> {
        let mut duplicate = false;
        let mut new_id = None;
        if let Some((Some(id), is_duplicate)) = line.event_mut() {
            duplicate = self.event_ids.get(id).is_some();
            new_id = (!duplicate).then(|| id.clone());
            *is_duplicate = duplicate;
        }
        let mut bytes = if self.partial_line {
            b"\n".to_vec()
        } else {
            Vec::new()
        };
        serde_json::to_writer(&mut bytes, &line)?;
        bytes.push(b'\n');
        let written = self.sink.write(&bytes);
        self.partial_line = written.is_err();
        written?;
        if let Some(id) = new_id {
            self.event_ids.insert(id, ());
        }
        Ok(Written { duplicate })
    }
}
