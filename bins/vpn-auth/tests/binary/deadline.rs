//! Answers to a helper that is stopped over its deadline, and agents that start late.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    sync::mpsc,
    thread,
    time::Duration,
};

use ipc::{Request, Response};
use rustix::process::{Pid, Signal, kill_process};

use crate::stub::{Agent, BOUND, code_and_line, finish, helper};

/// Runs a helper that is stopped while the agent answers, and goes on after its deadline; returns
/// its exit code, and whether it read the whole answer.
fn answered_while_stopped(allowed: bool, on_agent_down: &str) -> (i32, bool) {
    let (stopped, is_stopped) = mpsc::channel();
    let (asked, is_asked) = mpsc::channel();
    let (read, was_read) = mpsc::channel();
    let agent = Agent::new(move |peer| {
        asked.send(()).expect("the test");
        is_stopped.recv_timeout(BOUND).expect("the helper is stopped");
        let response = Response::new(allowed).to_frame().expect("frame");
        peer.write_all(&response)
            .expect("the helper still has its socket");
        // Linux resets a connection whose peer exits with unread bytes.
        let _ = read.send(peer.read(&mut [0; 16]).is_ok());
    });
    let flags = format!("--deadline 300ms --on-agent-down {on_agent_down}");
    let child = helper(agent.socket(), &flags).spawn().expect("spawn");
    let pid = Pid::from_child(&child);
    is_asked.recv_timeout(BOUND).expect("a request");
    kill_process(pid, Signal::STOP).expect("stop");
    stopped.send(()).expect("the agent");
    thread::sleep(Duration::from_millis(400));
    kill_process(pid, Signal::CONT).expect("continue");
    let code = code_and_line(&finish(child)).0;
    (code, was_read.recv_timeout(BOUND).expect("the end"))
}

#[test]
fn an_allow_that_is_read_after_the_deadline_is_none() {
    assert_eq!(answered_while_stopped(true, "deny"), (2, false));
    assert_eq!(answered_while_stopped(true, "allow"), (0, false));
}

#[test]
fn a_deny_is_a_deny_also_after_the_deadline() {
    for on_agent_down in ["deny", "allow"] {
        let (code, _) = answered_while_stopped(false, on_agent_down);
        assert_eq!(code, 1, "{on_agent_down}");
    }
}

#[test]
fn a_report_and_a_login_that_would_be_denied_wait_for_an_agent_that_starts() {
    for reason in ["connect", "disconnect", "host-update"] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("ipc.sock");
        let mut command = helper(&path, "--deadline 60s");
        let mut child = command.env("REASON", reason).spawn().expect("spawn");
        thread::sleep(Duration::from_millis(300));
        let ended = child.try_wait().expect("child");
        assert!(ended.is_none(), "{reason}: it has given up: {ended:?}");
        let listener = UnixListener::bind(&path).expect("listener");
        let mut peer = listener.accept().expect("connection").0;
        let mut header = [0; 4];
        peer.read_exact(&mut header).expect("header");
        let length = usize::try_from(u32::from_be_bytes(header)).expect("small");
        let mut body = vec![0; length];
        peer.read_exact(&mut body).expect("body");
        assert_eq!(Request::from_json(&body).expect("request").reason, reason);
        peer.write_all(&Response::new(true).to_frame().expect("frame"))
            .expect("answer");
        drop(peer);
        assert_eq!(code_and_line(&finish(child)).0, 0, "{reason}");
    }
}
