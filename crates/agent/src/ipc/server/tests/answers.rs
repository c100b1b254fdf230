//! Requests and their responses.

use super::*;

#[tokio::test]
async fn a_decision_is_sent_with_its_source_and_the_session_is_reported() {
    let server = serve(Setup::default());
    let allowed = send_request(&server.path, &request("connect", "alice", 7)).await;
    assert_eq!(
        allowed,
        ipc::Response {
            source: Some("portal".to_owned()),
            ..ipc::Response::new(true)
        }
    );

    let denied = send_request(&server.path, &request("connect", "mallory", 8)).await;
    assert_eq!(deny_code(&denied), Some("policy"));
    assert_eq!(denied.error.as_deref(), Some("not you"), "as one line");

    server.wait_for_events(&["connect 7"]).await;
    let end = ipc::Request {
        bytes_in: Some(1),
        bytes_out: Some(2),
        ..request("disconnect", "alice", 7)
    };
    assert!(send_request(&server.path, &end).await.allowed);
    assert!(
        send_request(&server.path, &request("host-update", "alice", 7))
            .await
            .allowed
    );
    server.wait_for_events(&["connect 7", "disconnect 7"]).await;
    assert_eq!(server.recorder.live_count(), 0);
    server.shut_down().await;
}

#[tokio::test]
async fn a_request_with_the_seven_required_keys_that_arrives_byte_by_byte_is_served() {
    let server = serve(Setup::default());
    let json = br#"{"reason":"connect","username":"alice","groupname":"staff","ip_real":"10.77.0.2",
        "ip_remote":"10.88.0.5","device":"vpns0","session_id":"27015"}"#;
    let frame = ipc::encode_frame(json).unwrap();
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    for byte in frame {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(response(&read_all(&mut stream).await).allowed);
    server.wait_for_events(&["connect 27015"]).await;
}

#[tokio::test]
async fn an_invalid_request_is_denied_and_others_are_served() {
    let server = serve(Setup::default());
    let whole = request("connect", "alice", 7).to_frame().unwrap();
    let mut twice = whole.clone();
    twice.extend_from_slice(&whole);
    let oversize = [
        &u32::try_from(ipc::MAX_FRAME + 1).unwrap().to_be_bytes()[..],
        b"{",
    ]
    .concat();
    let bad_name = request("connect", "../evil", 7).to_frame().unwrap();
    for (name, bytes) in [
        ("garbage", &b"\0\0\0\x05hello"[..]),
        ("zero length", &[0; 4]),
        ("oversize", &oversize),
        ("text", b"GET / HTTP/1.1\r\n\r\n"),
        ("two requests", &twice),
        ("a bad name", &bad_name),
    ] {
        assert_eq!(
            deny_code(&send(&server.path, bytes).await),
            Some("bad_request"),
            "{name}"
        );
    }
    let mut torn = UnixStream::connect(&server.path).await.unwrap();
    torn.write_all(&whole[..20]).await.unwrap();
    torn.shutdown().await.unwrap();
    assert_eq!(
        deny_code(&response(&read_all(&mut torn).await)),
        Some("bad_request"),
        "torn"
    );
    let series = "ocserv_agent_ipc_errors_total{kind=\"bad_request\"} ";
    assert_eq!(metric_value(&server.metrics, series), "7");

    let mut silent = UnixStream::connect(&server.path).await.unwrap();
    silent.shutdown().await.unwrap();
    assert!(
        read_all(&mut silent).await.is_empty(),
        "no response without a request"
    );
    assert!(
        send_request(&server.path, &request("connect", "alice", 7))
            .await
            .allowed
    );
}

#[tokio::test]
async fn an_allow_that_its_helper_does_not_read_starts_no_session() {
    let (decide, release, mut logins) = allow_when_released();
    let server = serve(Setup {
        decide,
        ..Setup::default()
    });

    let closed_early = start_request(&server.path, &request("connect", "alice", 7)).await;
    logins.wait_for(|count| *count == 1).await.unwrap();
    drop(closed_early);
    release.send_replace(true);

    let unread = start_request(&server.path, &request("connect", "alice", 8)).await;
    unread.readable().await.unwrap();
    drop(unread);

    // ocserv treats a killed connect-script as a successful one and runs the disconnect-script of a
    // session that never started.
    send_request(&server.path, &request("disconnect", "alice", 7)).await;
    send_request(&server.path, &request("disconnect", "alice", 8)).await;
    send_request(&server.path, &request("connect", "alice", 9)).await;
    server.wait_for_events(&["connect 9"]).await;
}
