//! A control socket that does what it is told, right or wrong: one conduct for each connection, in order.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) enum Conduct {
    /// Reads the request and sends these bytes.
    Reply(Vec<u8>),
    /// Sends these bytes a few at a time.
    InPieces(Vec<u8>, usize),
    /// Reads the request and closes.
    CloseAfterReading,
    /// Closes when the request is there, and leaves it unread.
    CloseUnread,
    /// Reads the request, sends these bytes, and then nothing until the client goes away.
    Stall(Vec<u8>),
    /// Reads the request and sends one byte after another of an endless answer until the client goes away.
    Drip(u8),
}

pub(crate) struct Fake {
    path: PathBuf,
    requests: mpsc::Receiver<Vec<u8>>,
    _directory: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(conducts: Vec<Conduct>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("occtl.socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, requests) = mpsc::channel();
        let thread = thread::spawn(move || {
            for conduct in conducts {
                let (stream, _) = listener.accept().unwrap();
                serve(stream, conduct, &sender);
            }
        });
        Self {
            path,
            requests,
            _directory: directory,
            thread: Some(thread),
        }
    }

    pub(crate) fn client(&self, timeout: Duration) -> occtl::ControlSocket {
        occtl::ControlSocket::new(self.path.clone(), timeout)
    }

    /// All requests, after each of the conducts had its connection.
    pub(crate) fn requests(mut self) -> Vec<Vec<u8>> {
        self.thread.take().unwrap().join().unwrap();
        self.requests.try_iter().collect()
    }
}

fn serve(mut stream: UnixStream, conduct: Conduct, requests: &mpsc::Sender<Vec<u8>>) {
    // A bound, so that a client that sends nothing fails the test and does not hang it.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if matches!(conduct, Conduct::CloseUnread) {
        // Wait until the request has arrived without taking it: the kernel then tells the client of the loss.
        wait_for_request(&stream);
        return;
    }
    // One read must see all of it, as ocserv waits for no second one without serving anybody else meanwhile.
    let mut buffer = [0; 512];
    let count = stream.read(&mut buffer).unwrap();
    requests.send(buffer[..count].to_vec()).unwrap();
    match conduct {
        Conduct::Reply(bytes) => stream.write_all(&bytes).unwrap(),
        Conduct::InPieces(bytes, size) => {
            for piece in bytes.chunks(size) {
                stream.write_all(piece).unwrap();
                thread::yield_now();
            }
        }
        Conduct::CloseAfterReading | Conduct::CloseUnread => {}
        Conduct::Stall(bytes) => {
            stream.write_all(&bytes).unwrap();
            assert_eq!(stream.read(&mut buffer).unwrap_or(0), 0);
        }
        Conduct::Drip(number) => {
            let header = [&[number][..], &1_000_000_u32.to_ne_bytes(), &[10, 200, 1]].concat();
            for byte in header.into_iter().chain(std::iter::repeat(0)) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Looks without taking, through a second handle that is put to sleep by the kernel and not by us.
fn wait_for_request(stream: &UnixStream) {
    let handle = rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN);
    let limit = rustix::event::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut [handle], Some(&limit)).unwrap(), 1);
}
