//! The client: the bytes it sends, and its errors with a server that is slow, faulty or absent.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::fs;
use std::future::poll_fn;
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use fake::{Behaviour, Fake};
use occtl::frame::encode_reply;
use occtl::{Command, ControlError, ControlSocket, DecodeError, SafeId};

/// Longer than any machine needs; only a failing test waits for it.
const LONG: Duration = Duration::from_secs(20);
/// For servers that never reply.
const SHORT: Duration = Duration::from_millis(60);

const NO: &[u8] = &[8, 0];
const YES: &[u8] = &[8, 1];

fn recorded(version: &str, name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fs::read(root.join(version).join("native").join(name)).unwrap()
}

/// The recorded request.
fn recorded_request(name: &str) -> Vec<u8> {
    let text = String::from_utf8(recorded("1.5.0", name)).unwrap();
    let hex = text
        .lines()
        .find_map(|line| line.strip_prefix("request-hex: "))
        .unwrap();
    let digits: Vec<_> = hex
        .bytes()
        .map(|digit| char::from(digit).to_digit(16).unwrap())
        .collect();
    let bytes = digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap());
    bytes.collect()
}

#[tokio::test]
async fn each_call_sends_the_bytes_that_real_servers_answered() {
    let names = [
        "status",
        "list",
        "user-info-alice",
        "id-info",
        "disconnect-name-nobody",
        "disconnect-id-999999",
        "list-cookies",
    ];
    let replies = names.map(|name| Behaviour::Reply(recorded("1.5.0", &format!("{name}.bin"))));
    let fake = Fake::start(replies.into());
    let ocserv = fake.client(LONG);
    assert_eq!(ocserv.status().await.unwrap().connections, Some(12));
    assert_eq!(ocserv.list().await.unwrap().len(), 12);
    assert_eq!(ocserv.user("alice").await.unwrap().len(), 2);
    let bob = ocserv.id(24543).await.unwrap().unwrap();
    assert_eq!(bob.username.as_deref(), Some("bob"));
    assert!(!ocserv.disconnect_user("nobody").await.unwrap());
    assert!(!ocserv.disconnect_id(999_999).await.unwrap());
    assert_eq!(ocserv.cookies().await.unwrap().len(), 16);
    let requests = fake.requests();
    for (name, request) in names.iter().zip(requests) {
        assert_eq!(request, recorded_request(&format!("{name}.txt")), "{name}");
    }
}

#[tokio::test]
async fn a_disconnect_returns_true_and_a_missing_session_is_none() {
    let fake = Fake::start(vec![
        Behaviour::Reply(encode_reply(105, YES)),
        Behaviour::Reply(encode_reply(106, YES)),
        Behaviour::Reply(recorded("1.1.6", "id-info-999999.bin")),
        Behaviour::Reply(recorded("1.1.6", "user-info-nobody.bin")),
    ]);
    let ocserv = fake.client(LONG);
    assert!(ocserv.disconnect_user("alice").await.unwrap());
    assert!(ocserv.disconnect_id(7).await.unwrap());
    assert_eq!(ocserv.id(999_999).await.unwrap(), None);
    assert_eq!(ocserv.user("nobody").await.unwrap(), []);
}

#[tokio::test]
async fn a_reply_in_pieces_of_any_size_decodes_the_same() {
    // A short one: each piece waits for the scheduler.
    let reply = recorded("1.3.0", "user-info-utf8.bin");
    let sizes = [1, 2, 3, 4, 5, 6, 7, 100];
    let fake = Fake::start(sizes.map(|size| Behaviour::InPieces(reply.clone(), size)).into());
    let ocserv = fake.client(LONG);
    let expected = occtl::decode_list(&reply).unwrap();
    assert_eq!(expected.len(), 1);
    for size in sizes {
        assert_eq!(ocserv.user("any").await.unwrap(), expected, "pieces of {size}");
    }
}

#[tokio::test]
async fn a_call_to_a_server_that_never_replies_times_out() {
    let list = recorded("1.1.6", "list.bin");
    for behaviour in [
        Behaviour::Stall(Vec::new()),
        Behaviour::Stall(list[..1].to_vec()),
        Behaviour::Stall(list[..5].to_vec()),
        Behaviour::Stall(list[..list.len() - 1].to_vec()),
        // Arriving bytes do not extend the timeout.
        Behaviour::Drip(104),
    ] {
        let fake = Fake::start(vec![behaviour]);
        let error = fake.client(SHORT).list().await.unwrap_err();
        assert!(
            matches!(error, ControlError::Timeout { command: Command::List, limit } if limit == SHORT),
            "{error:?}"
        );
        // The connection is closed: the server's side ends.
        fake.requests();
    }
}

#[tokio::test]
async fn a_reply_to_another_request_fails_without_waiting_for_its_end() {
    let status = recorded("1.1.6", "status.bin");
    for behaviour in [
        Behaviour::Reply(status.clone()),
        Behaviour::Stall(status[..1].to_vec()),
    ] {
        let fake = Fake::start(vec![behaviour]);
        let error = fake.client(LONG).list().await.unwrap_err();
        assert!(
            matches!(
                error,
                ControlError::WrongReply {
                    command: Command::List,
                    expected: 104,
                    got: 101
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_torn_or_overlong_reply_is_malformed() {
    let list = recorded("1.5.0", "list.bin");
    let empty = encode_reply(104, &[]);
    for cut in [1, 4, 5, 6, list.len() / 2, list.len() - 1] {
        let fake = Fake::start(vec![Behaviour::Reply(list[..cut].to_vec())]);
        let error = fake.client(LONG).list().await.unwrap_err();
        assert!(
            matches!(
                error,
                ControlError::Malformed {
                    source: DecodeError::Truncated { .. },
                    ..
                }
            ),
            "cut at {cut}: {error:?}"
        );
    }
    for longer in [[&list[..], b"x"].concat(), [&empty[..], &empty].concat()] {
        let fake = Fake::start(vec![Behaviour::Reply(longer)]);
        let error = fake.client(LONG).list().await.unwrap_err();
        assert!(
            matches!(
                error,
                ControlError::Malformed {
                    source: DecodeError::TrailingBytes,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    let huge = [&[104][..], &u32::MAX.to_ne_bytes()].concat();
    let fake = Fake::start(vec![Behaviour::Stall(huge)]);
    let error = fake.client(LONG).list().await.unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Malformed {
                source: DecodeError::TooLong { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_close_without_a_reply_is_refused_and_says_whether_the_request_was_read() {
    let fake = Fake::start(vec![Behaviour::CloseAfterReading, Behaviour::CloseUnread]);
    let ocserv = fake.client(LONG);
    let error = ocserv.list().await.unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Refused {
                before_reading: false,
                ..
            }
        ),
        "{error:?}"
    );
    let error = ocserv.list().await.unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Refused {
                before_reading: true,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("root"));
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_reply_is_a_broken_connection_and_no_refusal() {
    let list = recorded("1.5.0", "list.bin");
    for cut in [1, 5, list.len() - 1] {
        let fake = Fake::start(vec![Behaviour::ResetAfter(list[..cut].to_vec())]);
        match fake.client(LONG).list().await.unwrap_err() {
            ControlError::Io { source, .. } => assert_eq!(source.kind(), ErrorKind::ConnectionReset),
            error => panic!("cut at {cut}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_missing_or_dead_socket_is_not_reachable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("occtl.socket");
    let ocserv = ControlSocket::new(path.clone(), LONG);
    let kind = |error| match error {
        ControlError::NotReachable { source, .. } => source.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(ocserv.status().await.unwrap_err()), ErrorKind::NotFound);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(
        kind(ocserv.status().await.unwrap_err()),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn arguments_that_ocserv_would_misread_are_not_sent() {
    // Nothing listens there: a call that connects gives another error.
    let ocserv = ControlSocket::new(PathBuf::from("/nonexistent/occtl.socket"), LONG);
    let long = "x".repeat(254);
    for name in ["", "alice\0", "\0", long.as_str()] {
        assert!(
            matches!(ocserv.user(name).await, Err(ControlError::Invalid(_))),
            "{name:?}"
        );
        assert!(
            matches!(ocserv.disconnect_user(name).await, Err(ControlError::Invalid(_))),
            "{name:?}"
        );
    }
    for id in [0, -1, i32::MIN] {
        assert!(matches!(ocserv.id(id).await, Err(ControlError::Invalid(_))));
        assert!(matches!(
            ocserv.disconnect_id(id).await,
            Err(ControlError::Invalid(_))
        ));
    }
}

#[tokio::test]
async fn terminate_is_unsupported_only_where_status_succeeds() {
    let login = SafeId::parse("493QXRGitRB0evhV9UecXq8PDMo=").unwrap();
    let status = || Behaviour::Reply(recorded("1.1.6", "status.bin"));

    // 1.1.6: closes the connection, as recorded, and replies to everything else.
    let fake = Fake::start(vec![
        Behaviour::CloseAfterReading,
        status(),
        Behaviour::CloseAfterReading,
        status(),
    ]);
    let ocserv = fake.client(LONG);
    let error = ocserv.terminate_session(&login).await.unwrap_err();
    let unsupported = ControlError::Unsupported {
        command: Command::TerminateSession,
    };
    assert_eq!(error.to_string(), unsupported.to_string());
    assert!(!ocserv.supports_terminate().await.unwrap());

    // An ocserv that refuses this process.
    let fake = Fake::start((0..4).map(|_| Behaviour::CloseUnread).collect());
    let ocserv = fake.client(LONG);
    let error = ocserv.terminate_session(&login).await.unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Refused {
                command: Command::TerminateSession,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(matches!(
        ocserv.supports_terminate().await,
        Err(ControlError::Refused { .. })
    ));

    // 1.5.0.
    let fake = Fake::start(vec![
        Behaviour::Reply(encode_reply(113, YES)),
        Behaviour::Reply(encode_reply(113, NO)),
        Behaviour::Reply(recorded("1.5.0", "terminate-user-nobody.bin")),
    ]);
    let ocserv = fake.client(LONG);
    assert!(ocserv.terminate_session(&login).await.unwrap());
    assert!(!ocserv.terminate_session(&login).await.unwrap());
    assert!(ocserv.supports_terminate().await.unwrap());
    let requests = fake.requests();
    // 28 bytes without a NUL: ocserv 1.5.0 refuses the 29 that it lists.
    assert_eq!(
        requests[0],
        [&[15, 30, 0, 0, 0, 10, 28][..], login.as_str().as_bytes()].concat()
    );
    // The probe can end no session: a username has at most 63 bytes.
    assert_eq!((requests[2][0], requests[2].len()), (13, 5 + 3 + 200));
}

#[tokio::test]
async fn an_observer_is_called_before_the_caller_gets_the_result() {
    let fake = Fake::start(vec![
        Behaviour::Reply(recorded("1.5.0", "status.bin")),
        Behaviour::CloseAfterReading,
        Behaviour::Reply(encode_reply(104, NO)),
    ]);
    let observed = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&observed);
    let ocserv = fake
        .client(LONG)
        .with_observer(Arc::new(move |command, error, took| {
            assert!(took < LONG);
            let result = match error {
                None => "answered",
                Some(ControlError::Refused { .. }) => "refused",
                Some(ControlError::WrongReply { .. }) => "wrong",
                Some(_) => "other",
            };
            calls.lock().unwrap().push((command, result));
        }));
    let clone = ocserv.clone();
    ocserv.status().await.unwrap();
    assert_eq!(observed.lock().unwrap()[..], [(Command::Status, "answered")]);
    clone.disconnect_id(7).await.unwrap_err();
    clone.status().await.unwrap_err();
    ocserv.id(-1).await.unwrap_err();
    assert_eq!(
        observed.lock().unwrap()[1..],
        [(Command::DisconnectId, "refused"), (Command::Status, "wrong")],
        "an invalid argument is no request"
    );
}

#[tokio::test]
async fn a_dropped_call_has_sent_its_whole_request_or_none_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("occtl.socket");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let ocserv = ControlSocket::new(path, LONG);
    let whole = [&[7, 7, 0, 0, 0, 10, 5][..], b"alice"].concat();
    let mut seen = Vec::new();
    for polls in 0..6 {
        {
            let mut call = pin!(ocserv.disconnect_user("alice"));
            for _ in 0..polls {
                let done = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
                assert!(!done);
                tokio::task::yield_now().await;
            }
        }
        if let Ok((mut stream, _)) = listener.accept() {
            let mut sent = Vec::new();
            stream.read_to_end(&mut sent).unwrap();
            seen.push(sent);
        }
    }
    assert!(
        seen.iter().all(|sent| sent.is_empty() || *sent == whole),
        "{seen:?}"
    );
    assert!(seen.contains(&whole));
}
