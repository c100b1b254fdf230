use std::sync::mpsc::{Receiver, channel};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Output that blocks until it is released.
struct Blocked {
    release: Receiver<()>,
    released: bool,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.released {
            self.release.recv().unwrap();
            self.released = true;
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blocked() -> (LineSink, std::sync::mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
    let (releaser, release) = channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let output = Blocked {
        release,
        released: false,
        written: Arc::clone(&written),
    };
    let sink = start(output).unwrap();
    (sink, releaser, written)
}

#[test]
fn a_stalled_reader_costs_lines_and_never_blocks_a_caller() {
    let (mut sink, open, written) = blocked();
    let filler = "x".repeat(1_000);
    let total = 3 * MAX_QUEUED / filler.len();
    for n in 0..total {
        sink.write_all(format!("line {n} {filler}\n").as_bytes()).unwrap();
    }
    let lost = sink.dropped();
    let total = u64::try_from(total).unwrap();
    assert!(lost >= total / 3, "{lost} of {total}");
    assert!(
        !sink.flush(Duration::from_millis(20)),
        "nothing is written while the reader is stalled"
    );

    open.send(()).unwrap();
    assert!(sink.flush(LONG));
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    assert!(text.starts_with("line 0 x"), "queued lines are written in order");
    let lines = text.lines().filter(|line| line.starts_with("line ")).count();
    assert_eq!(
        u64::try_from(lines).unwrap() + lost,
        total,
        "a line is written or counted"
    );
    let reported = text.lines().filter_map(|line| {
        let (_, count) = line.split_once("\"message\":\"log lines dropped\",\"lines\":")?;
        count.trim_end_matches('}').parse::<u64>().ok()
    });
    assert_eq!(reported.sum::<u64>(), lost, "dropped lines are reported once");
}

#[test]
fn the_last_line_is_written_before_the_thread_ends() {
    struct Forward(std::sync::mpsc::Sender<Vec<u8>>);
    impl Write for Forward {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (sender, written) = channel();
    let mut sink = start(Forward(sender)).unwrap();
    sink.write_all(b"last\n").unwrap();
    drop(sink);
    assert_eq!(written.recv_timeout(LONG).unwrap(), b"last\n");
    // The output is dropped with the thread.
    assert!(
        written
            .recv_timeout(LONG)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}

#[test]
fn a_long_line_is_truncated() {
    let (mut sink, open, written) = blocked();
    open.send(()).unwrap();
    sink.write_all(&vec![b'x'; 3 * MAX_LINE]).unwrap();
    assert!(sink.flush(LONG));
    let written = written.lock().unwrap();
    assert_eq!(written.len(), MAX_LINE + " [cut]\n".len());
}

#[test]
fn lines_that_could_not_be_written_are_counted_and_separated_from_the_next() {
    /// Writes a part of the first batch and fails.
    struct Full(usize, Arc<Mutex<Vec<u8>>>);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => {
                    self.1.lock().unwrap().extend_from_slice(&bytes[..2]);
                    Ok(2)
                }
                2 => Err(io::ErrorKind::StorageFull.into()),
                _ => {
                    self.1.lock().unwrap().extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let written = Arc::new(Mutex::new(Vec::new()));
    let mut sink = start(Full(0, Arc::clone(&written))).unwrap();
    sink.write_all(b"first\n").unwrap();
    assert!(sink.flush(LONG));
    assert_eq!(sink.dropped(), 1);
    sink.write_all(b"second\n").unwrap();
    assert!(sink.flush(LONG));
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    assert!(text.starts_with("fi\nsecond\n"), "{text}");
    assert!(text.contains("\"lines\":1"), "{text}");
}
