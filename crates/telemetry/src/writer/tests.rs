use std::sync::mpsc::{Receiver, channel};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Output that is written only while the gate is open.
struct Gated {
    gate: Receiver<()>,
    open: bool,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.open {
            self.gate.recv().unwrap();
            self.open = true;
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gated() -> (LineSink, std::sync::mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
    let (open, gate) = channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let gated = Gated {
        gate,
        open: false,
        written: Arc::clone(&written),
    };
    let sink = start(gated).unwrap();
    (sink, open, written)
}

#[test]
fn a_reader_that_stalls_costs_lines_and_never_makes_a_caller_wait() {
    let (mut sink, open, written) = gated();
    let filler = "x".repeat(1_000);
    let total = 3 * MAX_WAITING / filler.len();
    for n in 0..total {
        sink.write_all(format!("line {n} {filler}\n").as_bytes()).unwrap();
    }
    let lost = sink.dropped();
    let total = u64::try_from(total).unwrap();
    assert!(lost >= total / 3, "{lost} of {total}");
    assert!(
        !sink.flush(Duration::from_millis(20)),
        "nothing can be flushed while nobody reads"
    );

    open.send(()).unwrap();
    assert!(sink.flush(LONG));
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    assert!(text.starts_with("line 0 x"), "what was taken is written in order");
    let lines = text.lines().filter(|line| line.starts_with("line ")).count();
    assert_eq!(
        u64::try_from(lines).unwrap() + lost,
        total,
        "a line is written or counted"
    );
    let told = text.lines().filter_map(|line| {
        let (_, count) = line.split_once("\"message\":\"log lines dropped\",\"lines\":")?;
        count.trim_end_matches('}').parse::<u64>().ok()
    });
    assert_eq!(
        told.sum::<u64>(),
        lost,
        "what is lost is told once somebody reads again"
    );
}

#[test]
fn what_was_taken_last_is_written_before_the_thread_ends() {
    struct Told(std::sync::mpsc::Sender<Vec<u8>>);
    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (told, written) = channel();
    let mut sink = start(Told(told)).unwrap();
    sink.write_all(b"last\n").unwrap();
    drop(sink);
    assert_eq!(written.recv_timeout(LONG).unwrap(), b"last\n");
    // The thread's end is the end of its output.
    assert!(
        written
            .recv_timeout(LONG)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}

#[test]
fn an_endless_line_is_cut() {
    let (mut sink, open, written) = gated();
    open.send(()).unwrap();
    sink.write_all(&vec![b'x'; 3 * MAX_LINE]).unwrap();
    assert!(sink.flush(LONG));
    let written = written.lock().unwrap();
    assert_eq!(written.len(), MAX_LINE + " [cut]\n".len());
}

#[test]
fn lines_that_could_not_be_written_are_counted_and_do_not_run_into_the_next_ones() {
    /// Takes half of the first write and fails.
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
