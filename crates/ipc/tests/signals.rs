//! Signals that interrupt the blocking client. Without the standard harness: the kernel delivers a
//! signal to the main thread, so the client must run there.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use ipc::{FrameDecoder, Request, Response, client::send_request};
use rustix::process::{Signal, getpid, kill_process};

const NAME: &str = "signals_change_nothing";

fn main() {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked("--list") {
        // What nextest asks for.
        if !asked("--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::new(AtomicBool::new(false)))
        .expect("handler");
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let listener = UnixListener::bind(&path).expect("listener");
    // The only slot of the backlog is taken: the client waits in connect.
    rustix::net::listen(&listener, 0).expect("listen");
    let waiting = UnixStream::connect(&path).expect("the only slot");
    let agent = thread::spawn(move || {
        interrupt();
        drop((listener.accept().expect("the first"), waiting));
        let mut peer = listener.accept().expect("the client").0;
        // The client waits for the answer.
        read_request(&mut peer);
        interrupt();
        let answer = Response::new(true).to_frame().expect("frame");
        peer.write_all(&answer).expect("answer");
        // And for the end.
        interrupt();
    });
    let request = Request {
        reason: "connect".into(),
        username: "alice".into(),
        ..Request::default()
    };
    let answer = send_request(&path, Duration::from_secs(60), &request);
    assert_eq!(answer.expect("answer"), Response::new(true));
    agent.join().expect("agent");
}

fn interrupt() {
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(5));
        kill_process(getpid(), Signal::USR1).expect("signal");
    }
}

fn read_request(peer: &mut UnixStream) {
    let (mut decoder, mut buffer) = (FrameDecoder::new(), [0; 512]);
    loop {
        let read = peer.read(&mut buffer).expect("request");
        if decoder.push(&buffer[..read]).expect("frame").is_some() {
            return;
        }
    }
}
