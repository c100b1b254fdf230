use std::sync::Mutex;
use std::sync::mpsc::channel;

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
    let Writer { sink } = start(Gated {
        gate,
        open: false,
        written: Arc::clone(&written),
    })
    .unwrap();
    (sink, open, written)
}

#[test]
fn a_reader_that_stalls_costs_lines_and_never_makes_a_caller_wait() {
    let (mut sink, open, written) = gated();
    for n in 0..3 * MAX_LINES {
        sink.write_all(format!("line {n}\n").as_bytes()).unwrap();
    }
    let lost = sink.dropped();
    assert!(lost >= u64::try_from(MAX_LINES).unwrap(), "{lost}");
    assert!(
        !sink.flush(Duration::from_millis(20)),
        "nothing can be flushed while nobody reads"
    );

    open.send(()).unwrap();
    assert!(sink.flush(LONG));
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    assert!(text.starts_with("line 0\n"), "what was taken is written in order");
    let lines = u64::try_from(text.lines().filter(|line| line.starts_with("line ")).count()).unwrap();
    assert_eq!(
        lines + lost,
        u64::try_from(3 * MAX_LINES).unwrap(),
        "a line is written or counted"
    );
    assert!(
        text.contains(&format!("\"lines\":{lost}")),
        "the count is told once somebody reads again"
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
