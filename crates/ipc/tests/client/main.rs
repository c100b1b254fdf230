//! The blocking client against agents that follow the protocol and agents that do not.

#![expect(clippy::expect_used, reason = "a broken stub fails the test")]

mod deadline;

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use ipc::{
    FrameDecoder, FrameError, MAX_FRAME, Request, Response,
    client::{ClientError, ProtocolError, boottime, send_request},
    encode_frame,
};

/// Longer than any stub needs.
const AMPLE: Duration = Duration::from_secs(30);
/// For tests of a timeout.
const SHORT: Duration = Duration::from_millis(150);

type Answer = Result<Response, ClientError>;

fn request() -> Request {
    Request {
        reason: "connect".into(),
        username: "alice".into(),
        session_id: "1".into(),
        ..Request::default()
    }
}

/// Larger than a socket's buffer: the helper is in the middle of it until the agent reads or
/// closes.
fn long_request() -> Request {
    Request {
        user_agent: Some("x".repeat(900_000)),
        ..request()
    }
}

fn frame(json: &str) -> Vec<u8> {
    encode_frame(json.as_bytes()).unwrap_or_default()
}

fn read_request(peer: &mut UnixStream) -> std::io::Result<Request> {
    let (mut decoder, mut buffer) = (FrameDecoder::new(), [0; 512]);
    loop {
        let read = peer.read(&mut buffer)?;
        if let Some(body) = decoder.push(&buffer[..read]).map_err(std::io::Error::other)? {
            return Request::from_json(&body).map_err(std::io::Error::other);
        }
    }
}

/// Sends a request to an agent that reads it and then runs `act`; the connection closes when `act`
/// returns.
fn answered_by(budget: Duration, act: impl FnOnce(&mut UnixStream) + Send + 'static) -> (Answer, Request) {
    with_agent(budget, |peer| {
        let received = read_request(peer).unwrap_or_default();
        act(peer);
        received
    })
}

fn with_agent<T: Send + 'static>(
    budget: Duration,
    act: impl FnOnce(&mut UnixStream) -> T + Send + 'static,
) -> (Answer, T) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let listener = UnixListener::bind(&path).expect("listener");
    let agent = thread::spawn(move || act(&mut listener.accept().expect("connection").0));
    let answer = send_request(&path, budget, &request());
    (answer, agent.join().expect("agent"))
}

fn send(peer: &mut UnixStream, bytes: &[u8]) {
    // The helper may have closed the connection on an invalid response.
    let _ = peer.write_all(bytes);
}

fn milliseconds_since_boot() -> u64 {
    let since_boot = boottime().expect("the clock of Linux").as_millis();
    u64::try_from(since_boot).expect("small")
}

/// Waits until the helper closes the connection.
fn wait_closed(peer: &mut UnixStream) {
    let _ = peer.read_to_end(&mut Vec::new());
}

#[test]
fn allow_and_deny_are_returned_and_the_request_carries_the_time_left() {
    let (answer, received) = answered_by(AMPLE, |peer| {
        send(peer, &frame(r#"{"allowed":true,"source":"cache"}"#));
    });
    assert_eq!(
        answer.expect("answer"),
        Response {
            source: Some("cache".into()),
            ..Response::new(true)
        }
    );
    let left = received.deadline_ms.expect("deadline");
    assert!((1..=30_000).contains(&left), "{left}");
    let until_then = received.answer_by_boottime_ms.expect("deadline") - milliseconds_since_boot();
    assert!((1..=30_000).contains(&until_then), "{until_then}");
    assert_eq!(
        Request {
            deadline_ms: None,
            answer_by_boottime_ms: None,
            ..received
        },
        request()
    );

    let (answer, _) = answered_by(AMPLE, |peer| send(peer, &frame(r#"{"allowed":false}"#)));
    assert_eq!(answer.expect("answer"), Response::new(false));
}

#[test]
fn a_response_in_any_pieces_is_the_same_response() {
    for allowed in [true, false] {
        let (answer, _) = answered_by(AMPLE, move |peer| {
            for byte in Response::new(allowed).to_frame().expect("frame") {
                send(peer, &[byte]);
                thread::yield_now();
            }
        });
        assert_eq!(answer.expect("answer"), Response::new(allowed));
    }
}

#[test]
fn a_response_truncated_at_any_byte_is_an_error_even_if_the_connection_stays_open() {
    let whole = frame(r#"{"allowed":true}"#);
    for cut in 0..whole.len() {
        let part = whole[..cut].to_vec();
        let (answer, _) = answered_by(AMPLE, move |peer| send(peer, &part));
        match answer.expect_err("cut") {
            ClientError::Closed if cut == 0 => {}
            ClientError::Protocol(ProtocolError::Truncated) if cut > 0 => {}
            other => panic!("cut at {cut}: {other}"),
        }
    }
    let (answer, _) = answered_by(SHORT, move |peer| {
        send(peer, &whole[..whole.len() - 1]);
        wait_closed(peer);
    });
    let error = answer.expect_err("a truncated response");
    assert!(
        !error.is_agent_down(),
        "a truncated response may have been a deny: {error}"
    );
}

#[test]
fn bytes_after_the_response_are_an_error() {
    let allow = || frame(r#"{"allowed":true}"#);
    for more in [b"x".to_vec(), allow(), frame(r#"{"allowed":false}"#)] {
        let mut at_once = allow();
        at_once.extend(&more);
        let (answer, _) = answered_by(AMPLE, move |peer| send(peer, &at_once));
        assert!(matches!(
            answer,
            Err(ClientError::Protocol(ProtocolError::Frame(
                FrameError::TrailingBytes
            )))
        ));

        let (answer, _) = answered_by(AMPLE, move |peer| {
            send(peer, &allow());
            thread::yield_now();
            send(peer, &more);
        });
        assert!(matches!(
            answer,
            Err(ClientError::Protocol(ProtocolError::Frame(
                FrameError::TrailingBytes
            )))
        ));
    }
}

#[test]
fn an_agent_that_keeps_the_connection_open_sees_the_end_of_the_request_and_its_response_counts() {
    let (answer, end) = with_agent(AMPLE, |peer| {
        let _ = read_request(peer);
        send(peer, &frame(r#"{"allowed":true}"#));
        peer.read(&mut [0; 16]).expect("the end of the stream")
    });
    assert_eq!(answer.expect("answer"), Response::new(true));
    assert_eq!(end, 0);

    // The helper still reads then: bytes after the response are an error.
    let (answer, ()) = with_agent(AMPLE, |peer| {
        let _ = read_request(peer);
        send(peer, &frame(r#"{"allowed":true}"#));
        drop(peer.read(&mut [0; 16]));
        send(peer, b"x");
    });
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn the_response_of_an_agent_that_never_closes_counts() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let listener = UnixListener::bind(&path).expect("listener");
    let agent = thread::spawn(move || {
        let mut peer = listener.accept().expect("connection").0;
        send(&mut peer, &frame(r#"{"allowed":true}"#));
        peer
    });
    let answer = send_request(&path, AMPLE, &request());
    drop(agent.join().expect("agent"));
    assert_eq!(answer.expect("answer"), Response::new(true));
}

#[test]
fn an_invalid_response_is_a_protocol_error() {
    let oversize = u32::try_from(MAX_FRAME + 1).expect("small").to_be_bytes();
    let mut huge = oversize.to_vec();
    huge.resize(4 + MAX_FRAME + 1, b' ');
    for bytes in [
        vec![0; 4],
        oversize.to_vec(),
        huge,
        frame("{}"),
        frame(r#"{"allowed":"true"}"#),
        frame(r#"{"allowed":true,"allowed":true}"#),
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
    ] {
        let (answer, _) = answered_by(AMPLE, move |peer| send(peer, &bytes));
        assert!(matches!(answer, Err(ClientError::Protocol(_))), "{answer:?}");
    }
}

#[test]
fn a_response_before_the_request_was_read_may_deny_but_not_allow() {
    for allowed in [true, false] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("ipc.sock");
        let listener = UnixListener::bind(&path).expect("listener");
        let agent = thread::spawn(move || {
            let mut peer = listener.accept().expect("connection").0;
            send(&mut peer, &Response::new(allowed).to_frame().expect("frame"));
            let _ = peer.shutdown(Shutdown::Both);
        });
        let answer = send_request(&path, AMPLE, &long_request());
        agent.join().expect("agent");
        match answer {
            Ok(response) => assert_eq!(response, Response::new(false)),
            Err(ClientError::Protocol(ProtocolError::EarlyAllow)) => assert!(allowed),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_agent_that_sends_nothing_or_never_accepts_times_out() {
    let (answer, _) = answered_by(SHORT, wait_closed);
    assert!(matches!(answer, Err(ClientError::Timeout(_))), "{answer:?}");

    // Never accepted: the request waits in the backlog.
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let _listener = UnixListener::bind(&path).expect("listener");
    let error = send_request(&path, SHORT, &request()).expect_err("timeout");
    assert!(
        matches!(error, ClientError::Timeout(_)) && error.is_agent_down(),
        "{error}"
    );
}

#[test]
fn arriving_bytes_do_not_extend_the_deadline() {
    let (stop, stopped) = mpsc::channel::<()>();
    let (answer, _) = answered_by(SHORT, move |peer| {
        // Each byte arrives long before the read times out, until the helper closes the connection.
        let long = encode_frame(&[b' '; 10_000]).unwrap_or_default();
        for byte in long {
            if peer.write_all(&[byte]).is_err() {
                break;
            }
            let _ = stopped.recv_timeout(SHORT / 10);
        }
    });
    drop(stop);
    assert!(
        matches!(answer, Err(ClientError::Protocol(ProtocolError::Truncated))),
        "{answer:?}"
    );
}

#[test]
fn the_deadline_covers_a_connect_that_waits_for_the_backlog() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .expect("socket");
    rustix::net::bind(
        &listener,
        &rustix::net::SocketAddrUnix::new(&path).expect("address"),
    )
    .expect("bind");
    rustix::net::listen(&listener, 0).expect("listen");
    let _waiting = UnixStream::connect(&path).expect("the only slot");
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(send_request(&path, SHORT, &request())));
    let answer = outcome.recv_timeout(AMPLE).expect("the helper blocks in connect");
    assert!(matches!(answer, Err(ClientError::Timeout(_))), "{answer:?}");
}

#[test]
fn a_socket_without_a_listener_is_not_reachable() {
    let directory = tempfile::tempdir().expect("directory");
    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("listener"));
    let file = directory.path().join("file");
    std::fs::File::create(&file).expect("file");
    let long = PathBuf::from(format!("/{}", "x".repeat(200)));
    for path in [
        directory.path().join("missing.sock"),
        stale,
        file,
        directory.path().into(),
        long,
    ] {
        let error = send_request(&path, AMPLE, &request()).expect_err("not reachable");
        assert!(
            matches!(error, ClientError::NotReachable(_)) && error.is_agent_down(),
            "{error}"
        );
    }
}

#[test]
fn a_request_that_fits_no_frame_is_not_sent() {
    let (answer, received) = {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("ipc.sock");
        let listener = UnixListener::bind(&path).expect("listener");
        let answer = send_request(
            &path,
            AMPLE,
            &Request {
                username: "\u{1}".repeat(300_000),
                ..request()
            },
        );
        let mut received = Vec::new();
        listener
            .accept()
            .expect("connection")
            .0
            .read_to_end(&mut received)
            .expect("end");
        (answer, received)
    };
    assert!(matches!(answer, Err(ClientError::Encode(_))), "{answer:?}");
    assert!(received.is_empty());
}

#[test]
fn a_timeout_of_zero_fails_at_once_and_an_unbounded_one_works() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let _listener = UnixListener::bind(&path).expect("listener");
    let answer = send_request(&path, Duration::ZERO, &request());
    assert!(matches!(answer, Err(ClientError::Timeout(_))), "{answer:?}");
    let (answer, _) = answered_by(Duration::MAX, |peer| send(peer, &frame(r#"{"allowed":true}"#)));
    assert_eq!(answer.expect("answer"), Response::new(true));
}
