//! A scripted control socket: one behaviour per connection, in order.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) enum Behaviour {
    /// Reads the request and sends these bytes.
    Reply(Vec<u8>),
    /// Sends these bytes a few at a time.
    InPieces(Vec<u8>, usize),
    /// Reads the request and closes.
    CloseAfterReading,
    /// Closes once the request has arrived, without reading it.
    CloseUnread,
    /// Sends these bytes and closes, without reading the request.
    ResetAfter(Vec<u8>),
    /// Reads the request, sends these bytes, then nothing until the client closes.
    Stall(Vec<u8>),
    /// Reads the request and sends an endless reply byte by byte until the client closes.
    Drip(u8),
}

pub(crate) struct Fake {
    path: PathBuf,
    requests: mpsc::Receiver<Vec<u8>>,
    _directory: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(behaviours: Vec<Behaviour>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("occtl.socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, requests) = mpsc::channel();
        let thread = thread::spawn(move || {
            for behaviour in behaviours {
                let (stream, _) = listener.accept().unwrap();
                serve(stream, behaviour, &sender);
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

    /// Waits for the last connection and returns all requests.
    pub(crate) fn requests(mut self) -> Vec<Vec<u8>> {
        self.thread.take().unwrap().join().unwrap();
        self.requests.try_iter().collect()
    }
}

fn serve(mut stream: UnixStream, behaviour: Behaviour, requests: &mpsc::Sender<Vec<u8>>) {
    // A client that sends nothing fails the test and does not hang it.
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if let Behaviour::CloseUnread | Behaviour::ResetAfter(_) = &behaviour {
        // The kernel reports to the client that data it sent was not read.
        wait_for_request(&stream);
        if let Behaviour::ResetAfter(bytes) = behaviour {
            stream.write_all(&bytes).unwrap();
        }
        return;
    }
    // One read must return the whole request: ocserv would block on a second one.
    let mut buffer = [0; 512];
    let count = stream.read(&mut buffer).unwrap();
    requests.send(buffer[..count].to_vec()).unwrap();
    match behaviour {
        Behaviour::Reply(bytes) => stream.write_all(&bytes).unwrap(),
        Behaviour::InPieces(bytes, size) => {
            for piece in bytes.chunks(size) {
                stream.write_all(piece).unwrap();
                thread::yield_now();
            }
        }
        Behaviour::CloseAfterReading | Behaviour::CloseUnread | Behaviour::ResetAfter(_) => {}
        Behaviour::Stall(bytes) => {
            stream.write_all(&bytes).unwrap();
            assert_eq!(stream.read(&mut buffer).unwrap_or(0), 0);
        }
        Behaviour::Drip(number) => {
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

/// Waits until the socket is readable, without reading.
fn wait_for_request(stream: &UnixStream) {
    let handle = rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN);
    let limit = rustix::event::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut [handle], Some(&limit)).unwrap(), 1);
}
