//! Time limits, sizes, bounds.

use super::*;

#[tokio::test]
async fn a_peer_that_is_not_allowed_is_refused_and_nothing_is_decided() {
    let server = serve(Setup::default());
    server.settings.send_replace(DynamicSettings {
        deadline: LONG,
        allowed_uids: vec![u32::MAX - 1],
    });
    assert_eq!(
        code(&ask(&server.path, &request("connect", "alice", 7)).await),
        Some("peer_refused")
    );
    assert_eq!(
        counted(&server.metrics, "ocserv_agent_ipc_rejected_peers_total "),
        "1"
    );
    assert!(server.reported().is_empty());
}

#[tokio::test]
async fn any_number_of_silent_connections_delays_no_login() {
    let server = serve(Setup {
        max_logins: 4,
        ..Setup::default()
    });
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream.write_all(&[0, 0]).await.unwrap();
        silent.push(stream);
    }
    assert!(ask(&server.path, &request("connect", "alice", 7)).await.allowed);
    assert_eq!(
        code(&response(&read_all(&mut silent[0]).await)),
        Some("overloaded"),
        "the oldest is evicted"
    );
}

#[tokio::test]
async fn a_slow_request_is_denied_in_time() {
    let server = serve(Setup {
        deadline: Duration::from_millis(100),
        ..Setup::default()
    });
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    stream.write_all(&[0, 0, 0]).await.unwrap();
    assert_eq!(code(&response(&read_all(&mut stream).await)), Some("bad_request"));
}

#[tokio::test]
async fn a_missing_decision_is_a_deny_in_time() {
    let (decide, _release, _) = held_back();
    let server = serve(Setup {
        decide,
        deadline: Duration::from_millis(100),
        ..Setup::default()
    });
    let denied = ask(&server.path, &request("connect", "alice", 7)).await;
    assert_eq!(
        (code(&denied), denied.source.as_deref()),
        (Some("outage"), Some("agent"))
    );
    assert!(server.reported().is_empty());
}

#[tokio::test]
async fn the_earlier_of_both_deadlines_counts() {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let decide: Decide = Arc::new(move |_, deadline| {
        *note.lock().unwrap() = Some(deadline.saturating_duration_since(clock::now()));
        Box::pin(async { allow() })
    });
    let server = serve(Setup {
        decide,
        ..Setup::default()
    });
    for (deadline_ms, most) in [
        (None, LONG),
        (Some(u64::MAX), LONG),
        (Some(5_000), Duration::from_millis(4_950)),
        (Some(10), Duration::ZERO),
    ] {
        ask(
            &server.path,
            &ipc::Request {
                deadline_ms,
                ..request("connect", "alice", 7)
            },
        )
        .await;
        let left = seen.lock().unwrap().take().unwrap();
        assert!(left <= most, "{deadline_ms:?} leaves {left:?}");
        assert!(
            most.saturating_sub(left) < Duration::from_secs(4),
            "{deadline_ms:?} leaves {left:?}"
        );
    }
}

#[tokio::test]
async fn logins_beyond_the_limit_are_denied_at_once() {
    let (decide, release, mut waiting) = held_back();
    let server = serve(Setup {
        decide,
        max_logins: 2,
        ..Setup::default()
    });
    let frame = request("connect", "alice", 7).to_frame().unwrap();
    let mut waiting_logins = Vec::new();
    for n in 1..=2 {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream.write_all(&frame).await.unwrap();
        waiting_logins.push(stream);
        waiting.wait_for(|arrived| *arrived == n).await.unwrap();
    }
    assert_eq!(
        code(&ask(&server.path, &request("connect", "bob", 9)).await),
        Some("overloaded")
    );
    release.send_replace(true);
    for mut stream in waiting_logins {
        assert!(response(&read_all(&mut stream).await).allowed);
    }
}

#[tokio::test]
async fn a_disconnect_report_needs_no_permit() {
    let (decide, release, mut waiting) = held_back();
    let server = serve(Setup {
        decide,
        max_logins: 1,
        ..Setup::default()
    });
    release.send_replace(true);
    assert!(ask(&server.path, &request("connect", "alice", 7)).await.allowed);
    server.wait_reported(&["connect 7"]).await;
    release.send_replace(false);
    let mut waiting_logins = UnixStream::connect(&server.path).await.unwrap();
    waiting_logins
        .write_all(&request("connect", "alice", 8).to_frame().unwrap())
        .await
        .unwrap();
    waiting.wait_for(|arrived| *arrived == 2).await.unwrap();
    assert_eq!(
        code(&ask(&server.path, &request("connect", "bob", 9)).await),
        Some("overloaded")
    );
    // A rejected report would not come again.
    assert!(
        ask(&server.path, &request("disconnect", "alice", 7))
            .await
            .allowed
    );
    server.wait_reported(&["connect 7", "disconnect 7"]).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_delays_nothing() {
    let server = serve(Setup {
        max_logins: 2,
        ..Setup::default()
    });
    let mut unread = Vec::new();
    for n in 1..=2 {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream
            .write_all(&request("connect", "alice", n).to_frame().unwrap())
            .await
            .unwrap();
        unread.push(stream);
    }
    until(|| server.reported().len() == 2).await;
    let served = async { while !ask(&server.path, &request("connect", "alice", 3)).await.allowed {} };
    timeout(LONG, served).await.expect("its permit is released");
}

#[tokio::test]
async fn a_handler_that_panics_affects_no_other_connection() {
    let decide: Decide = Arc::new(|login, _| {
        assert_ne!(login.username.as_str(), "mallory", "a bug in the decision");
        Box::pin(async { allow() })
    });
    let server = serve(Setup {
        decide,
        ..Setup::default()
    });
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let frame = request("connect", "mallory", 7).to_frame().unwrap();
    stream.write_all(&frame).await.unwrap();
    assert!(read_all(&mut stream).await.is_empty(), "a panic allows nothing");
    assert!(ask(&server.path, &request("connect", "alice", 8)).await.allowed);
    server.shut_down().await;
}

#[tokio::test]
async fn the_decisions_table_needs_no_login_permit() {
    let (decide, release, mut waiting) = held_back();
    let server = serve(Setup {
        decide,
        max_logins: 1,
        ..Setup::default()
    });
    let mut login = UnixStream::connect(&server.path).await.unwrap();
    login
        .write_all(&request("connect", "alice", 7).to_frame().unwrap())
        .await
        .unwrap();
    waiting.wait_for(|arrived| *arrived == 1).await.unwrap();
    let table = ask(&server.path, &request("decisions", "", 1)).await;
    assert_eq!(table.message.as_deref(), Some("no decision yet\n"));
    release.send_replace(true);
    assert!(response(&read_all(&mut login).await).allowed);
}
