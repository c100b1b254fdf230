//! What is asked and what is answered.

use super::*;

#[tokio::test]
async fn a_decision_goes_back_with_its_source_and_the_session_is_told() {
    let lab = lab(Setup::default());
    let allowed = ask(&lab.path, &request("connect", "alice", 7)).await;
    assert_eq!(
        allowed,
        ipc::Response {
            source: Some("portal".to_owned()),
            ..ipc::Response::new(true)
        }
    );

    let denied = ask(&lab.path, &request("connect", "mallory", 8)).await;
    assert_eq!(code(&denied), Some("policy"));
    assert_eq!(denied.error.as_deref(), Some("not you"), "in one line");

    lab.told_when(&["connect 7"]).await;
    let end = ipc::Request {
        bytes_in: Some(1),
        bytes_out: Some(2),
        ..request("disconnect", "alice", 7)
    };
    assert!(ask(&lab.path, &end).await.allowed);
    assert!(ask(&lab.path, &request("host-update", "alice", 7)).await.allowed);
    lab.told_when(&["connect 7", "disconnect 7"]).await;
    assert_eq!(lab.recorder.live_count(), 0);
    lab.drained().await;
}

#[tokio::test]
async fn a_helper_that_knows_only_the_seven_keys_is_served_byte_by_byte() {
    let lab = lab(Setup::default());
    let json = br#"{"reason":"connect","username":"alice","groupname":"staff","ip_real":"10.77.0.2",
        "ip_remote":"10.88.0.5","device":"vpns0","session_id":"27015"}"#;
    let frame = ipc::encode_frame(json).unwrap();
    let mut stream = UnixStream::connect(&lab.path).await.unwrap();
    for byte in frame {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(response(&hear(&mut stream).await).allowed);
    lab.told_when(&["connect 27015"]).await;
}

#[tokio::test]
async fn what_is_no_request_is_denied_and_others_are_served() {
    let lab = lab(Setup::default());
    let whole = request("connect", "alice", 7).to_frame().unwrap();
    let mut twice = whole.clone();
    twice.extend_from_slice(&whole);
    let oversize = [
        &u32::try_from(ipc::MAX_FRAME + 1).unwrap().to_be_bytes()[..],
        b"{",
    ]
    .concat();
    let bad_name = request("connect", "../evil", 7).to_frame().unwrap();
    for (what, bytes) in [
        ("garbage", &b"\0\0\0\x05hello"[..]),
        ("zero length", &[0; 4]),
        ("oversize", &oversize),
        ("text", b"GET / HTTP/1.1\r\n\r\n"),
        ("two requests", &twice),
        ("a bad name", &bad_name),
    ] {
        assert_eq!(code(&say(&lab.path, bytes).await), Some("bad_request"), "{what}");
    }
    let mut torn = UnixStream::connect(&lab.path).await.unwrap();
    torn.write_all(&whole[..20]).await.unwrap();
    torn.shutdown().await.unwrap();
    assert_eq!(
        code(&response(&hear(&mut torn).await)),
        Some("bad_request"),
        "torn"
    );
    assert_eq!(lab.counts.bad_requests(), 7);

    let mut silent = UnixStream::connect(&lab.path).await.unwrap();
    silent.shutdown().await.unwrap();
    assert!(
        hear(&mut silent).await.is_empty(),
        "who says nothing hears nothing"
    );
    assert!(ask(&lab.path, &request("connect", "alice", 7)).await.allowed);
}

#[tokio::test]
async fn an_answer_that_nobody_hears_is_no_session() {
    let (decide, open, mut waiting) = gated();
    let lab = lab(Setup {
        decide,
        ..Setup::default()
    });

    let mut gone = UnixStream::connect(&lab.path).await.unwrap();
    gone.write_all(&request("connect", "alice", 7).to_frame().unwrap())
        .await
        .unwrap();
    waiting.wait_for(|came| *came == 1).await.unwrap();
    drop(gone);
    open.send_replace(true);

    let mut deaf = UnixStream::connect(&lab.path).await.unwrap();
    deaf.write_all(&request("connect", "alice", 8).to_frame().unwrap())
        .await
        .unwrap();
    deaf.readable().await.unwrap();
    drop(deaf);

    // A killed connect-script counts as a good one for ocserv: it reports the end of what never began.
    ask(&lab.path, &request("disconnect", "alice", 7)).await;
    ask(&lab.path, &request("disconnect", "alice", 8)).await;
    ask(&lab.path, &request("connect", "alice", 9)).await;
    lab.told_when(&["connect 9"]).await;
}
