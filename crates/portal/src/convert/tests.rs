use std::time::UNIX_EPOCH;

use ocserv_agent_model::{Connected, Disconnected, EventId, OcservId, SessionUid, Source, Usage, Username};

use super::*;

fn wire(change: impl FnOnce(&mut wire::CheckPolicyResponse)) -> wire::CheckPolicyResponse {
    let mut response = wire::CheckPolicyResponse::default();
    change(&mut response);
    response
}

fn metadata(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

#[test]
fn allow_is_an_allow_and_deny_is_a_deny() {
    let allow = policy_reply(&wire(|w| w.allowed = true)).unwrap();
    assert_eq!(
        allow,
        PolicyReply {
            verdict: Verdict::Allow(Grant::default()),
            ttl: None,
            policy_version: None
        }
    );

    let deny = policy_reply(&wire(|w| w.deny_reason = "account\ndisabled".into())).unwrap();
    assert_eq!(deny.verdict, Verdict::deny(DenyCode::Policy, "account disabled"));
    let deny = policy_reply(&wire(|w| w.should_disconnect = true)).unwrap();
    assert_eq!(deny.verdict, Verdict::deny(DenyCode::Policy, ""));
    let deny = policy_reply(&wire(|w| w.metadata = metadata("policy_version", "7"))).unwrap();
    assert_eq!(deny.verdict, Verdict::deny(DenyCode::Policy, ""));
    assert_eq!(deny.policy_version.as_deref(), Some("7"));
}

#[test]
fn empty_and_contradictory_replies_are_outages() {
    for response in [
        wire(|_| {}),
        wire(|w| (w.allowed, w.should_disconnect) = (true, true)),
        wire(|w| (w.allowed, w.deny_reason) = (true, "no".into())),
        wire(|w| (w.allowed, w.routes) = (true, vec!["everything".into()])),
    ] {
        let error = policy_reply(&response).unwrap_err();
        assert!(
            error.is_outage() && matches!(error, CheckError::Nonsense(_)),
            "{response:?}: {error}"
        );
    }
}

#[test]
fn invalid_ttl_forbids_caching() {
    for (text, ttl) in [
        ("300", 300),
        ("0", 0),
        ("-1", 0),
        ("5m", 0),
        ("", 0),
        ("1e9", 0),
        ("99999999999999999999", 0),
    ] {
        let reply = policy_reply(&wire(|w| {
            (w.allowed, w.metadata) = (true, metadata("cache_ttl_seconds", text));
        }))
        .unwrap();
        assert_eq!(reply.ttl, Some(Duration::from_secs(ttl)), "{text:?}");
    }
}

#[test]
fn invalid_entries_are_skipped_and_never_widen_the_grant() {
    let response = wire(|w| {
        w.allowed = true;
        w.routes = [
            "10.0.0.0/8",
            "10.0.0.0/33",
            "fd00::/8",
            "192.0.2.7",
            "x\ny",
            "10.0.0.0/+8",
            "1.2.3.4/",
        ]
        .map(str::to_owned)
        .to_vec();
        w.dns_servers = ["10.0.0.53", "dns.test", "fd00::53"].map(str::to_owned).to_vec();
    });
    let Verdict::Allow(grant) = policy_reply(&response).unwrap().verdict else {
        panic!("not an allow")
    };
    assert_eq!(*grant.routes, ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]);
    assert_eq!(
        *grant.dns_servers,
        [
            "10.0.0.53".parse::<IpAddr>().unwrap(),
            "fd00::53".parse().unwrap()
        ]
    );
}

#[test]
fn only_force_disconnect_ends_a_session() {
    let wire = |valid, force_disconnect| wire::ValidateSessionResponse {
        valid,
        invalid_reason: "account disabled".into(),
        force_disconnect,
    };
    assert!(session_validity(&wire(true, true)).unwrap_err().is_outage());
    assert!(!session_validity(&wire(false, false)).unwrap().force_disconnect);
    let ended = session_validity(&wire(false, true)).unwrap();
    assert_eq!(
        ended,
        SessionValidity {
            valid: false,
            reason: "account disabled".into(),
            force_disconnect: true
        }
    );
}

fn event(kind: EventKind) -> Event {
    let uid = SessionUid::new("a1", OcservId::new(42).unwrap(), 1000);
    Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice").unwrap(),
        id: OcservId::new(42).unwrap(),
        uid,
        decision_source: Some(Source::Stale),
        kind,
    }
}

#[test]
fn connect_report_carries_user_addresses_and_decision_source() {
    let at = UNIX_EPOCH + Duration::from_secs(1000);
    let event = event(EventKind::Connected(Connected {
        at,
        client_ip: "192.0.2.1".parse().unwrap(),
        vpn_ip: None,
        device: "vpns0".into(),
        group: None,
    }));
    let EventReport::Connect(report) = event_report(&event, "a1") else {
        panic!("not a connect")
    };
    assert_eq!(
        (report.username.as_str(), report.session_id.as_str()),
        ("alice", "42")
    );
    assert_eq!(
        (report.client_ip.as_str(), report.vpn_ip.as_str()),
        ("192.0.2.1", "")
    );
    assert_eq!(
        report.connected_at,
        Some(Timestamp {
            seconds: 1000,
            nanos: 0
        })
    );
    for (key, value) in [
        ("event_id", "a1/42/1000/connect"),
        ("session_uid", "a1/42/1000"),
        ("agent_id", "a1"),
        ("decision_source", "stale"),
    ] {
        assert_eq!(report.metadata.get(key).map(String::as_str), Some(value));
    }
}

#[test]
fn disconnect_report_distinguishes_unknown_usage_from_zero() {
    let ended = |usage| {
        event(EventKind::Disconnected(Disconnected {
            at: UNIX_EPOCH,
            reason: DisconnectReason::IdleTimeout,
            usage,
            duration: Some(Duration::from_secs(77)),
        }))
    };
    let EventReport::Disconnect(known) = event_report(&ended(Some(Usage { received: 5, sent: 6 })), "a1")
    else {
        panic!("not a disconnect")
    };
    let stats = known.stats.unwrap();
    assert_eq!(
        (stats.duration_seconds, stats.bytes_received, stats.bytes_sent),
        (77, 5, 6)
    );
    assert_eq!(known.reason, i32::from(wire::DisconnectReason::IdleTimeout));

    let EventReport::Disconnect(unknown) = event_report(&ended(None), "a1") else {
        panic!("not a disconnect")
    };
    assert_eq!(unknown.stats, None);
    assert_eq!(unknown.metadata["duration_seconds"], "77");
}
