//! Times, sizes and numbers.

use super::*;

#[tokio::test]
async fn a_peer_that_may_not_ask_is_told_so_and_decides_nothing() {
    let lab = lab(Setup::default());
    lab.rules.store(Arc::new(Rules {
        deadline: LONG,
        allowed_uids: vec![u32::MAX - 1],
    }));
    assert_eq!(
        code(&ask(&lab.path, &request("connect", "alice", 7)).await),
        Some("peer_refused")
    );
    assert_eq!(lab.counts.refused_peers(), 1);
    assert!(lab.told().is_empty());
}

#[tokio::test]
async fn silent_connections_however_many_keep_no_login_out() {
    let lab = lab(Setup {
        max_connections: 4,
        ..Setup::default()
    });
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&lab.path).await.unwrap();
        stream.write_all(&[0, 0]).await.unwrap();
        silent.push(stream);
    }
    assert!(ask(&lab.path, &request("connect", "alice", 7)).await.allowed);
    assert_eq!(
        code(&response(&hear(&mut silent[0]).await)),
        Some("overloaded"),
        "the oldest had to go"
    );
}

#[tokio::test]
async fn a_request_that_dawdles_is_denied_in_time() {
    let lab = lab(Setup {
        deadline: Duration::from_millis(100),
        ..Setup::default()
    });
    let mut stream = UnixStream::connect(&lab.path).await.unwrap();
    stream.write_all(&[0, 0, 0]).await.unwrap();
    assert_eq!(code(&response(&hear(&mut stream).await)), Some("bad_request"));
}

#[tokio::test]
async fn a_decision_that_does_not_come_is_a_deny_in_time() {
    let (decide, _open, _) = gated();
    let lab = lab(Setup {
        decide,
        deadline: Duration::from_millis(100),
        ..Setup::default()
    });
    let denied = ask(&lab.path, &request("connect", "alice", 7)).await;
    assert_eq!(
        (code(&denied), denied.source.as_deref()),
        (Some("outage"), Some("agent"))
    );
    assert!(lab.told().is_empty());
}

#[tokio::test]
async fn the_helpers_own_deadline_counts_when_it_is_sooner() {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let decide: Decide = Arc::new(move |_, deadline| {
        *note.lock().unwrap() = Some(deadline.saturating_duration_since(clock::now()));
        Box::pin(async { allow() })
    });
    let lab = lab(Setup {
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
            &lab.path,
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
async fn more_logins_than_there_is_room_for_are_denied_at_once() {
    let (decide, open, mut waiting) = gated();
    let lab = lab(Setup {
        decide,
        max_connections: 2,
        ..Setup::default()
    });
    let frame = request("connect", "alice", 7).to_frame().unwrap();
    let mut inside = Vec::new();
    for n in 1..=2 {
        let mut stream = UnixStream::connect(&lab.path).await.unwrap();
        stream.write_all(&frame).await.unwrap();
        inside.push(stream);
        waiting.wait_for(|came| *came == n).await.unwrap();
    }
    assert_eq!(
        code(&ask(&lab.path, &request("connect", "bob", 9)).await),
        Some("overloaded")
    );
    open.send_replace(true);
    for mut stream in inside {
        assert!(response(&hear(&mut stream).await).allowed);
    }
}

#[tokio::test]
async fn the_end_of_a_session_is_taken_however_many_logins_wait() {
    let (decide, open, mut waiting) = gated();
    let lab = lab(Setup {
        decide,
        max_connections: 1,
        ..Setup::default()
    });
    open.send_replace(true);
    assert!(ask(&lab.path, &request("connect", "alice", 7)).await.allowed);
    lab.told_when(&["connect 7"]).await;
    open.send_replace(false);
    let mut inside = UnixStream::connect(&lab.path).await.unwrap();
    inside
        .write_all(&request("connect", "alice", 8).to_frame().unwrap())
        .await
        .unwrap();
    waiting.wait_for(|came| *came == 2).await.unwrap();
    assert_eq!(
        code(&ask(&lab.path, &request("connect", "bob", 9)).await),
        Some("overloaded")
    );
    // Its helper comes once and never again.
    assert!(ask(&lab.path, &request("disconnect", "alice", 7)).await.allowed);
    lab.told_when(&["connect 7", "disconnect 7"]).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_holds_nothing_up() {
    let lab = lab(Setup {
        max_connections: 2,
        ..Setup::default()
    });
    let mut deaf = Vec::new();
    for n in 1..=2 {
        let mut stream = UnixStream::connect(&lab.path).await.unwrap();
        stream
            .write_all(&request("connect", "alice", n).to_frame().unwrap())
            .await
            .unwrap();
        deaf.push(stream);
    }
    until(|| lab.told().len() == 2).await;
    let served = async { while !ask(&lab.path, &request("connect", "alice", 3)).await.allowed {} };
    timeout(LONG, served)
        .await
        .expect("its place is free after a while");
}

#[tokio::test]
async fn a_conversation_that_panics_takes_no_other_with_it() {
    let decide: Decide = Arc::new(|login, _| {
        assert_ne!(login.username.as_str(), "mallory", "a bug in deciding");
        Box::pin(async { allow() })
    });
    let lab = lab(Setup {
        decide,
        ..Setup::default()
    });
    let mut stream = UnixStream::connect(&lab.path).await.unwrap();
    let frame = request("connect", "mallory", 7).to_frame().unwrap();
    stream.write_all(&frame).await.unwrap();
    assert!(hear(&mut stream).await.is_empty(), "nobody is answered by a bug");
    assert!(ask(&lab.path, &request("connect", "alice", 8)).await.allowed);
    lab.drained().await;
}
