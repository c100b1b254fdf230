//! Late answers, and agents that start later or die.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use ipc::{
    Response,
    client::{ClientError, ProtocolError, send_request, send_request_with_retry},
};

use crate::{
    AMPLE, SHORT, frame, long_request, milliseconds_since_boot, read_request, request, send, with_agent,
};

#[test]
fn an_allow_after_the_deadline_is_none_and_the_agent_sees_that_it_was_not_taken() {
    // Long: the longer a socket's own timeout is, the later it may fire.
    let (answer, end) = with_agent(Duration::from_secs(4), |peer| {
        let by = read_request(peer).expect("request").answer_by_boottime_ms;
        while by.is_some_and(|by| milliseconds_since_boot() <= by) {
            thread::sleep(Duration::from_millis(1));
        }
        let written = peer.write_all(&frame(r#"{"allowed":true}"#));
        written.and_then(|()| peer.read(&mut [0; 16]))
    });
    assert!(matches!(answer, Err(ClientError::Timeout(_))), "{answer:?}");
    assert!(end.is_err(), "neither an end nor bytes: {end:?}");
}

#[test]
fn a_retried_connect_reaches_an_agent_that_starts_later() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    // First no socket, then one without a listener.
    let (done, outcome) = mpsc::channel();
    let socket = path.clone();
    thread::spawn(move || done.send(send_request_with_retry(&socket, AMPLE, &request())));
    assert!(outcome.recv_timeout(SHORT).is_err(), "it does not give up");
    drop(UnixListener::bind(&path).expect("listener"));
    assert!(outcome.recv_timeout(SHORT).is_err(), "it does not give up");
    std::fs::remove_file(&path).expect("remove");
    let listener = UnixListener::bind(&path).expect("listener");
    let mut peer = listener.accept().expect("connection").0;
    read_request(&mut peer).expect("request");
    send(&mut peer, &frame(r#"{"allowed":true}"#));
    drop(peer);
    let answer = outcome.recv_timeout(AMPLE).expect("an outcome");
    assert_eq!(answer.expect("answer"), Response::new(true));
}

#[test]
fn a_retried_connect_ends_at_the_deadline_and_names_the_cause() {
    let directory = tempfile::tempdir().expect("directory");
    let missing = directory.path().join("missing.sock");
    let error = send_request_with_retry(&missing, SHORT, &request()).expect_err("not reachable");
    assert!(
        matches!(error, ClientError::NotReachable(_)) && error.is_agent_down(),
        "{error}"
    );
    // A path that cannot become a socket is not retried.
    let long = PathBuf::from(format!("/{}", "x".repeat(200)));
    let error = send_request_with_retry(&long, Duration::MAX, &request()).expect_err("not reachable");
    assert!(matches!(error, ClientError::NotReachable(_)), "{error}");
}

#[test]
fn a_connection_that_is_reset_without_an_answer_is_an_agent_that_is_down() {
    // The request is unread when the agent closes: Linux resets the connection.
    let (answer, ()) = with_agent(AMPLE, |_| thread::sleep(SHORT));
    let error = answer.expect_err("no answer");
    assert!(
        matches!(error, ClientError::Closed) && error.is_agent_down(),
        "{error}"
    );
    // As above, with a reset in the middle of the answer.
    let (answer, ()) = with_agent(AMPLE, |peer| {
        send(peer, &frame(r#"{"allowed":true}"#)[..9]);
        thread::sleep(SHORT);
    });
    let error = answer.expect_err("half an answer");
    assert!(
        matches!(error, ClientError::Protocol(ProtocolError::Truncated)),
        "{error}"
    );
}

#[test]
fn a_deny_counts_when_the_agent_resets_the_connection_in_the_middle_of_the_request() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let listener = UnixListener::bind(&path).expect("listener");
    let agent = thread::spawn(move || {
        let mut peer = listener.accept().expect("connection").0;
        peer.read_exact(&mut [0; 16]).expect("the start");
        send(&mut peer, &frame(r#"{"allowed":false}"#));
        thread::sleep(SHORT);
    });
    let answer = send_request(&path, AMPLE, &long_request());
    agent.join().expect("agent");
    assert_eq!(answer.expect("a deny"), Response::new(false));
}
