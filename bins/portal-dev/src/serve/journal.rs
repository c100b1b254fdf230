//! Where the lines of JSON go, in order, by one thread that owns the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use super::recent::Recent;
use super::record::{Record, What};

/// Lines that wait for the disk; who brings one more waits for room.
const QUEUE: usize = 1024;
/// How many event ids are remembered to recognise a repetition.
const REMEMBERED: usize = 100_000;

/// A hand to the thread that writes.
#[derive(Clone)]
pub(super) struct Journal {
    queue: mpsc::Sender<Entry>,
}

enum Entry {
    Line(Box<Record>, Option<oneshot::Sender<Stored>>),
    End,
}

/// A line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its event had been written before.
    pub(super) duplicate: bool,
}

impl Journal {
    /// Opens the file, or standard output for `-`. The second value comes when the thread has ended: see
    /// [`Journal::end`].
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
        let (queue, entries) = mpsc::channel(QUEUE);
        let (end, ended) = oneshot::channel();
        let writer = Writer {
            sink,
            seen: Recent::new(REMEMBERED),
            torn: false,
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                writer.run(entries);
                // Nobody may be waiting any more.
                let _ = end.send(());
            })
            .context("could not start a thread")?;
        Ok((Self { queue }, ended))
    }

    /// Hands over a line and does not wait until it is written.
    pub(super) async fn note(&self, what: What) {
        // Fails only when the thread has ended: then the portal has, too.
        let _ = self
            .queue
            .send(Entry::Line(Box::new(Record::now(what)), None))
            .await;
    }

    /// Writes a line; `None` when it could not be written, so that nothing may be acknowledged.
    pub(super) async fn store(&self, what: What) -> Option<Stored> {
        let (done, stored) = oneshot::channel();
        self.queue
            .send(Entry::Line(Box::new(Record::now(what)), Some(done)))
            .await
            .ok()?;
        stored.await.ok()
    }

    /// Writes what waits and nothing that comes later.
    pub(super) async fn end(&self) {
        // Fails only when the thread has ended.
        let _ = self.queue.send(Entry::End).await;
    }
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
    seen: Recent<String, ()>,
    /// The last write failed and may have left a piece of a line.
    torn: bool,
}

impl Writer {
    fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        while let Some(Entry::Line(record, done)) = entries.blocking_recv() {
            match (self.write(*record), done) {
                // The caller may have gone away; then nobody is to be told.
                (Ok(stored), Some(done)) => drop(done.send(stored)),
                (Ok(_), None) => {}
                (Err(error), _) => tracing::error!("could not write a line of events: {error}"),
            }
        }
    }

    fn write(&mut self, mut record: Record) -> io::Result<Stored> {
        let mut duplicate = false;
        let mut fresh = None;
        if let Some(event) = record.event_mut()
            && let Some(id) = &event.event_id
        {
            duplicate = self.seen.get(id).is_some();
            fresh = (!duplicate).then(|| id.clone());
            event.duplicate = duplicate;
        }
        let mut line = if self.torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, &record)?;
        line.push(b'\n');
        let written = self.sink.write(&line);
        self.torn = written.is_err();
        written?;
        if let Some(id) = fresh {
            self.seen.insert(id, ());
        }
        Ok(Stored { duplicate })
    }
}
