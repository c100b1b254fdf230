//! Time limits, peer checks and bounds.

use super::*;

#[tokio::test]
async fn a_peer_whose_uid_is_not_allowed_is_rejected_before_any_decision() {
    let server = serve(Setup::default());
    server.settings.send_replace(DynamicSettings {
        deadline: BOUND,
        allowed_uids: vec![u32::MAX - 1],
    });
    assert_eq!(
        deny_code(&send_request(&server.path, &request("connect", "alice", 7)).await),
        Some("peer_refused")
    );
    assert_eq!(
        metric_value(&server.metrics, "ocserv_agent_ipc_rejected_peers_total "),
        "1"
    );
    assert!(server.events().is_empty());
}

#[tokio::test]
async fn connections_without_a_request_delay_no_login() {
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
    assert!(
        send_request(&server.path, &request("connect", "alice", 7))
            .await
            .allowed
    );
    assert_eq!(
        deny_code(&response(&read_all(&mut silent[0]).await)),
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
    assert_eq!(
        deny_code(&response(&read_all(&mut stream).await)),
        Some("bad_request")
    );
}

#[tokio::test]
async fn a_login_without_a_decision_is_denied_at_its_deadline() {
    let (decide, _release, _) = allow_when_released();
    let server = serve(Setup {
        decide,
        deadline: Duration::from_millis(100),
        ..Setup::default()
    });
    let denied = send_request(&server.path, &request("connect", "alice", 7)).await;
    assert_eq!(
        (deny_code(&denied), denied.source.as_deref()),
        (Some("outage"), Some("agent"))
    );
    assert!(server.events().is_empty());
}

#[tokio::test]
async fn the_earlier_of_both_deadlines_applies() {
    let remaining = Arc::new(Mutex::new(None));
    let recorded = Arc::clone(&remaining);
    let decide: Decide = Arc::new(move |_, deadline| {
        *recorded.lock().unwrap() = Some(deadline.saturating_duration_since(clock::now()));
        Box::pin(async { allow() })
    });
    let server = serve(Setup {
        decide,
        ..Setup::default()
    });
    for (deadline_ms, max) in [
        (None, BOUND),
        (Some(u64::MAX), BOUND),
        (Some(5_000), Duration::from_millis(4_950)),
        (Some(10), Duration::ZERO),
    ] {
        send_request(
            &server.path,
            &ipc::Request {
                deadline_ms,
                ..request("connect", "alice", 7)
            },
        )
        .await;
        let remaining = remaining.lock().unwrap().take().unwrap();
        assert!(remaining <= max, "{deadline_ms:?}: {remaining:?}");
        assert!(
            max.saturating_sub(remaining) < Duration::from_secs(4),
            "{deadline_ms:?}: {remaining:?}"
        );
    }
}

#[tokio::test]
async fn logins_beyond_the_limit_are_denied_at_once() {
    let (decide, release, mut logins) = allow_when_released();
    let server = serve(Setup {
        decide,
        max_logins: 2,
        ..Setup::default()
    });
    let mut in_progress = Vec::new();
    for n in 1..=2 {
        in_progress.push(start_request(&server.path, &request("connect", "alice", 7)).await);
        logins.wait_for(|count| *count == n).await.unwrap();
    }
    assert_eq!(
        deny_code(&send_request(&server.path, &request("connect", "bob", 9)).await),
        Some("overloaded")
    );
    release.send_replace(true);
    for mut stream in in_progress {
        assert!(response(&read_all(&mut stream).await).allowed);
    }
}

#[tokio::test]
async fn a_disconnect_report_needs_no_permit() {
    let (decide, release, mut logins) = allow_when_released();
    let server = serve(Setup {
        decide,
        max_logins: 1,
        ..Setup::default()
    });
    release.send_replace(true);
    assert!(
        send_request(&server.path, &request("connect", "alice", 7))
            .await
            .allowed
    );
    server.wait_for_events(&["connect 7"]).await;
    release.send_replace(false);
    let _in_progress = start_request(&server.path, &request("connect", "alice", 8)).await;
    logins.wait_for(|count| *count == 2).await.unwrap();
    assert_eq!(
        deny_code(&send_request(&server.path, &request("connect", "bob", 9)).await),
        Some("overloaded")
    );
    // ocserv would not repeat a rejected report.
    assert!(
        send_request(&server.path, &request("disconnect", "alice", 7))
            .await
            .allowed
    );
    server.wait_for_events(&["connect 7", "disconnect 7"]).await;
}

#[tokio::test]
async fn a_peer_that_never_reads_delays_nothing() {
    let server = serve(Setup {
        max_logins: 2,
        ..Setup::default()
    });
    let mut unread = Vec::new();
    for n in 1..=2 {
        unread.push(start_request(&server.path, &request("connect", "alice", n)).await);
    }
    until(|| server.events().len() == 2).await;
    let permitted = async {
        while !send_request(&server.path, &request("connect", "alice", 3))
            .await
            .allowed
        {}
    };
    timeout(BOUND, permitted).await.expect("the permits are released");
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
    let mut stream = start_request(&server.path, &request("connect", "mallory", 7)).await;
    let denied = response(&read_all(&mut stream).await);
    assert_eq!(
        (deny_code(&denied), denied.source.as_deref()),
        (Some("outage"), Some("agent"))
    );
    let panics = metric_value(&server.metrics, "ocserv_agent_ipc_errors_total{kind=\"panic\"} ");
    assert_eq!(panics, "1");
    assert!(
        send_request(&server.path, &request("connect", "alice", 8))
            .await
            .allowed
    );
    server.shut_down().await;
}

#[tokio::test]
async fn the_decisions_table_needs_no_login_permit() {
    let (decide, release, mut logins) = allow_when_released();
    let server = serve(Setup {
        decide,
        max_logins: 1,
        ..Setup::default()
    });
    let mut login = start_request(&server.path, &request("connect", "alice", 7)).await;
    logins.wait_for(|count| *count == 1).await.unwrap();
    let table = send_request(&server.path, &request("decisions", "", 1)).await;
    assert_eq!(table.message.as_deref(), Some("no decision yet\n"));
    release.send_replace(true);
    assert!(response(&read_all(&mut login).await).allowed);
}

#[tokio::test]
async fn a_login_whose_helper_has_given_up_is_denied_without_a_decision() {
    let decide: Decide = Arc::new(|_, _| panic!("it must not be decided"));
    let server = serve(Setup {
        decide,
        ..Setup::default()
    });
    let now = clock::boottime().expect("the clock of Linux").as_millis();
    let late = ipc::Request {
        deadline_ms: Some(4_000),
        answer_by_boottime_ms: u64::try_from(now).ok(),
        ..request("connect", "alice", 7)
    };
    let denied = send_request(&server.path, &late).await;
    assert_eq!(
        (deny_code(&denied), denied.source.as_deref()),
        (Some("outage"), Some("agent"))
    );
    assert_eq!(denied.error.as_deref(), Some("the helper's deadline has passed"));
    let errors = metric_value(
        &server.metrics,
        "ocserv_agent_ipc_errors_total{kind=\"too_late\"} ",
    );
    assert_eq!(errors, "1");
}

#[tokio::test]
async fn a_ping_is_answered_and_counts_nowhere() {
    let (decide, _release, mut logins) = allow_when_released();
    let server = serve(Setup {
        decide,
        max_logins: 1,
        ..Setup::default()
    });
    let _in_progress = start_request(&server.path, &request("connect", "alice", 7)).await;
    logins.wait_for(|count| *count == 1).await.unwrap();
    let rendered = || {
        let text = server.metrics.registry().render();
        text.lines()
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let before = rendered();
    let ping = crate::ipc::ping::Ping::new(server.path.clone());
    assert!(matches!(ping.send(BOUND).await, crate::ipc::ping::Pong::Served));
    assert_eq!(rendered(), before);
    // A rejection is an answer, too: the thread serves.
    server
        .settings
        .send_modify(|settings| settings.allowed_uids = vec![4_000_000]);
    assert!(matches!(ping.send(BOUND).await, crate::ipc::ping::Pong::Served));
}
