//! The blocking client against agents that keep to the contract and agents that do not.

#![expect(clippy::expect_used, reason = "a broken stub fails the test")]

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
    client::{AskError, ProtocolError, ask},
    encode_frame,
};

/// Longer than any stub needs: an answer within it is not late by accident.
const AMPLE: Duration = Duration::from_secs(30);
/// For tests in which the time has to run out.
const SHORT: Duration = Duration::from_millis(150);

type Answer = Result<Response, AskError>;

fn request() -> Request {
    Request {
        reason: "connect".into(),
        username: "alice".into(),
        session_id: "1".into(),
        ..Request::default()
    }
}

fn frame(json: &str) -> Vec<u8> {
    encode_frame(json.as_bytes()).unwrap_or_default()
}

fn hear(peer: &mut UnixStream) -> std::io::Result<Request> {
    let (mut decoder, mut buffer) = (FrameDecoder::new(), [0; 512]);
    loop {
        let read = peer.read(&mut buffer)?;
        if let Some(body) = decoder.push(&buffer[..read]).map_err(std::io::Error::other)? {
            return Request::from_json(&body).map_err(std::io::Error::other);
        }
    }
}

/// Asks an agent that hears the question and then does as `act` says; the connection closes when `act` is over.
fn answered_by(budget: Duration, act: impl FnOnce(&mut UnixStream) + Send + 'static) -> (Answer, Request) {
    with_agent(budget, |peer| {
        let heard = hear(peer).unwrap_or_default();
        act(peer);
        heard
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
    let answer = ask(&path, budget, &request());
    (answer, agent.join().expect("agent"))
}

fn say(peer: &mut UnixStream, bytes: &[u8]) {
    // The helper may have hung up on what it did not like.
    let _ = peer.write_all(bytes);
}

/// Waits until the helper hangs up, so that the agent's side stays open and silent.
fn hold(peer: &mut UnixStream) {
    let _ = peer.read_to_end(&mut Vec::new());
}

#[test]
fn allow_and_deny_arrive_and_the_agent_hears_what_is_left() {
    let (answer, heard) = answered_by(AMPLE, |peer| {
        say(peer, &frame(r#"{"allowed":true,"source":"cache"}"#));
    });
    assert_eq!(
        answer.expect("answer"),
        Response {
            source: Some("cache".into()),
            ..Response::new(true)
        }
    );
    let left = heard.deadline_ms.expect("deadline");
    assert!((1..=30_000).contains(&left), "{left}");
    assert_eq!(
        Request {
            deadline_ms: None,
            ..heard
        },
        request()
    );

    let (answer, _) = answered_by(AMPLE, |peer| say(peer, &frame(r#"{"allowed":false}"#)));
    assert_eq!(answer.expect("answer"), Response::new(false));
}

#[test]
fn an_answer_in_any_pieces_is_the_same_answer() {
    for allowed in [true, false] {
        let (answer, _) = answered_by(AMPLE, move |peer| {
            for byte in Response::new(allowed).to_frame().expect("frame") {
                say(peer, &[byte]);
                thread::yield_now();
            }
        });
        assert_eq!(answer.expect("answer"), Response::new(allowed));
    }
}

#[test]
fn an_answer_cut_at_any_byte_is_an_error_even_if_the_agent_stays() {
    let whole = frame(r#"{"allowed":true}"#);
    for cut in 0..whole.len() {
        let part = whole[..cut].to_vec();
        let (answer, _) = answered_by(AMPLE, move |peer| say(peer, &part));
        match answer.expect_err("cut") {
            AskError::Protocol(ProtocolError::Closed) if cut == 0 => {}
            AskError::Protocol(ProtocolError::Cut) if cut > 0 => {}
            other => panic!("cut at {cut}: {other}"),
        }
    }
    let (answer, _) = answered_by(SHORT, move |peer| {
        say(peer, &whole[..whole.len() - 1]);
        hold(peer);
    });
    let error = answer.expect_err("half an answer");
    assert!(
        !error.is_agent_down(),
        "half an answer may have been a deny: {error}"
    );
}

#[test]
fn bytes_behind_the_answer_spoil_it() {
    let allow = || frame(r#"{"allowed":true}"#);
    for more in [b"x".to_vec(), allow(), frame(r#"{"allowed":false}"#)] {
        let mut at_once = allow();
        at_once.extend(&more);
        let (answer, _) = answered_by(AMPLE, move |peer| say(peer, &at_once));
        assert!(matches!(
            answer,
            Err(AskError::Protocol(ProtocolError::Frame(
                FrameError::TrailingBytes
            )))
        ));

        let (answer, _) = answered_by(AMPLE, move |peer| {
            say(peer, &allow());
            thread::yield_now();
            say(peer, &more);
        });
        assert!(matches!(
            answer,
            Err(AskError::Protocol(ProtocolError::Frame(
                FrameError::TrailingBytes
            )))
        ));
    }
}

#[test]
fn an_agent_that_keeps_the_connection_sees_the_end_of_the_question_and_its_answer_stands() {
    let (answer, end) = with_agent(AMPLE, |peer| {
        let _ = hear(peer);
        say(peer, &frame(r#"{"allowed":true}"#));
        peer.read(&mut [0; 16]).expect("the end of the stream")
    });
    assert_eq!(answer.expect("answer"), Response::new(true));
    assert_eq!(end, 0);

    // The helper still listens when it says so: what comes after the end counts.
    let (answer, ()) = with_agent(AMPLE, |peer| {
        let _ = hear(peer);
        say(peer, &frame(r#"{"allowed":true}"#));
        drop(peer.read(&mut [0; 16]));
        say(peer, b"x");
    });
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn the_answer_of_an_agent_that_never_closes_stands() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let listener = UnixListener::bind(&path).expect("listener");
    let agent = thread::spawn(move || {
        let mut peer = listener.accept().expect("connection").0;
        say(&mut peer, &frame(r#"{"allowed":true}"#));
        peer
    });
    let answer = ask(&path, AMPLE, &request());
    drop(agent.join().expect("agent"));
    assert_eq!(answer.expect("answer"), Response::new(true));
}

#[test]
fn what_is_no_answer_is_a_protocol_error() {
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
        let (answer, _) = answered_by(AMPLE, move |peer| say(peer, &bytes));
        assert!(matches!(answer, Err(AskError::Protocol(_))), "{answer:?}");
    }
}

#[test]
fn an_agent_that_refuses_before_it_hears_is_heard_but_cannot_allow() {
    for allowed in [true, false] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("ipc.sock");
        let listener = UnixListener::bind(&path).expect("listener");
        // Larger than a socket's buffer, so that the hang-up comes in the middle of the question.
        let long = Request {
            user_agent: Some("x".repeat(900_000)),
            ..request()
        };
        let agent = thread::spawn(move || {
            let mut peer = listener.accept().expect("connection").0;
            say(&mut peer, &Response::new(allowed).to_frame().expect("frame"));
            let _ = peer.shutdown(Shutdown::Both);
        });
        let answer = ask(&path, AMPLE, &long);
        agent.join().expect("agent");
        match answer {
            Ok(response) => assert_eq!(response, Response::new(false)),
            Err(AskError::Protocol(ProtocolError::Unasked)) => assert!(allowed),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_silent_agent_and_one_that_does_not_listen_are_late() {
    let (answer, _) = answered_by(SHORT, hold);
    assert!(matches!(answer, Err(AskError::Late(_))), "{answer:?}");

    // Never accepted, question taken by the backlog.
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let _listener = UnixListener::bind(&path).expect("listener");
    let error = ask(&path, SHORT, &request()).expect_err("late");
    assert!(
        matches!(error, AskError::Late(_)) && error.is_agent_down(),
        "{error}"
    );
}

#[test]
fn a_trickle_does_not_move_the_deadline() {
    let (stop, stopped) = mpsc::channel::<()>();
    let (answer, _) = answered_by(SHORT, move |peer| {
        // A byte comes long before each read would time out, for as long as the helper listens.
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
        matches!(answer, Err(AskError::Protocol(ProtocolError::Cut))),
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
    let _waiting = UnixStream::connect(&path).expect("the only place");
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(ask(&path, SHORT, &request())));
    let answer = outcome.recv_timeout(AMPLE).expect("the helper hangs in connect");
    assert!(matches!(answer, Err(AskError::Late(_))), "{answer:?}");
}

#[test]
fn nobody_there_is_not_reachable() {
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
        let error = ask(&path, AMPLE, &request()).expect_err("nobody");
        assert!(
            matches!(error, AskError::NotReachable(_)) && error.is_agent_down(),
            "{error}"
        );
    }
}

#[test]
fn a_question_that_fits_no_frame_is_not_sent() {
    let (answer, heard) = {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("ipc.sock");
        let listener = UnixListener::bind(&path).expect("listener");
        let answer = ask(
            &path,
            AMPLE,
            &Request {
                username: "\u{1}".repeat(300_000),
                ..request()
            },
        );
        let mut heard = Vec::new();
        listener
            .accept()
            .expect("connection")
            .0
            .read_to_end(&mut heard)
            .expect("end");
        (answer, heard)
    };
    assert!(matches!(answer, Err(AskError::Request(_))), "{answer:?}");
    assert!(heard.is_empty());
}

#[test]
fn no_budget_is_late_at_once_and_an_endless_one_works() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let _listener = UnixListener::bind(&path).expect("listener");
    let answer = ask(&path, Duration::ZERO, &request());
    assert!(matches!(answer, Err(AskError::Late(_))), "{answer:?}");
    let (answer, _) = answered_by(Duration::MAX, |peer| say(peer, &frame(r#"{"allowed":true}"#)));
    assert_eq!(answer.expect("answer"), Response::new(true));
}
