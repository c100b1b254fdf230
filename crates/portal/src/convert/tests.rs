use std::time::UNIX_EPOCH;

use ocserv_agent_model::{
    Connected, Disconnected, EventId, OcservId, Reconciled, SessionStatus, SessionUid, Source, Updated,
    Usage, Username,
};

use super::*;
use crate::error::Meaning;

fn wire(change: impl FnOnce(&mut wire::CheckPolicyResponse)) -> wire::CheckPolicyResponse {
    let mut response = wire::CheckPolicyResponse::default();
    change(&mut response);
    response
}

const LIMITS: Limits = Limits {
    max_routes: 10,
    max_dns: 4,
    max_text: 64,
};

fn policy_reply(wire: &wire::CheckPolicyResponse) -> Result<PolicyReply, CheckError> {
    super::policy_reply(wire, &LIMITS)
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
            policy_version: None,
            disconnect: false,
            ignored: String::new(),
        }
    );

    let deny = policy_reply(&wire(|w| w.deny_reason = "account\ndisabled".into())).unwrap();
    assert_eq!(deny.verdict, Verdict::deny(DenyCode::Policy, "account disabled"));
    assert!(!deny.disconnect);
    let deny = policy_reply(&wire(|w| w.should_disconnect = true)).unwrap();
    assert!(deny.disconnect);
    assert_eq!(deny.verdict, Verdict::deny(DenyCode::Policy, ""));
    let deny = policy_reply(&wire(|w| w.metadata = metadata("policy_version", "7"))).unwrap();
    assert_eq!(deny.verdict, Verdict::deny(DenyCode::Policy, ""));
    assert_eq!(deny.policy_version.as_deref(), Some("7"));
}

#[test]
fn empty_and_unusable_replies_are_the_outage_of_one_login() {
    for response in [
        wire(|_| {}),
        wire(|w| (w.allowed, w.routes) = (true, vec!["everything".into()])),
    ] {
        let error = policy_reply(&response).unwrap_err();
        assert_eq!(error.meaning(), Meaning::InvalidAnswer, "{response:?}: {error}");
    }
}

#[test]
fn contradictory_replies_are_a_denial() {
    for response in [
        wire(|w| (w.allowed, w.should_disconnect) = (true, true)),
        wire(|w| (w.allowed, w.deny_reason) = (true, "no".into())),
    ] {
        let error = policy_reply(&response).unwrap_err();
        assert!(
            matches!(error.meaning(), Meaning::Denied(_)),
            "{response:?}: {error}"
        );
    }
}

#[test]
fn an_allow_over_a_limit_names_the_field_and_a_deny_stays_a_deny() {
    type Change = fn(&mut wire::CheckPolicyResponse);
    let over: [(&str, Change); 3] = [
        ("routes", |w| w.routes = vec!["10.0.0.0/8".to_owned(); 11]),
        ("dns_servers", |w| w.dns_servers = vec!["10.0.0.53".to_owned(); 5]),
        ("metadata", |w| w.metadata = metadata("note", &"x".repeat(65))),
    ];
    for (field, change) in over {
        let response = |allowed| {
            wire(|w| {
                w.allowed = allowed;
                change(w);
            })
        };
        let error = policy_reply(&response(true)).unwrap_err();
        assert_eq!(error.meaning(), Meaning::InvalidAnswer, "{error}");
        assert!(error.to_string().contains(field), "{error}");
        assert!(
            !policy_reply(&response(false)).unwrap().verdict.is_allow(),
            "{field}"
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
            " 172.16.0.0/255.240.0.0 ",
            "default",
        ]
        .map(str::to_owned)
        .to_vec();
        w.dns_servers = ["10.0.0.53", "dns.test", "fd00::53"].map(str::to_owned).to_vec();
    });
    let reply = policy_reply(&response).unwrap();
    assert_eq!(
        reply.ignored,
        "4 invalid routes, the first is \"10.0.0.0/33\"; \
         1 invalid dns_servers, the first is \"dns.test\""
    );
    let Verdict::Allow(grant) = reply.verdict else {
        panic!("not an allow")
    };
    assert_eq!(
        *grant.routes,
        [
            "10.0.0.0/8",
            "fd00::/8",
            "192.0.2.7/32",
            "172.16.0.0/12",
            "default"
        ]
    );
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
    session_validity(&wire(true, true)).unwrap_err();
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
        vhost: None,
        reconciled: None,
        kind,
    }
}

#[test]
fn connect_report_carries_user_addresses_and_decision_source() {
    let at = UNIX_EPOCH + Duration::from_secs(1000);
    let event = event(EventKind::Connected(Connected {
        at,
        client_ip: Some("192.0.2.1".parse().unwrap()),
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
fn a_report_has_the_virtual_host_where_it_is_known_and_none_for_the_default_one() {
    let disconnected = Disconnected {
        at: UNIX_EPOCH,
        reason: DisconnectReason::Unspecified,
        usage: None,
        is_sampled: false,
        duration: None,
    };
    for (vhost, expected) in [
        (None, None),
        (Some("default"), Some("")),
        (Some("vh.example.com"), Some("vh.example.com")),
    ] {
        let event = Event {
            vhost: vhost.map(|name| VhostName::parse(name).unwrap()),
            ..event(EventKind::Disconnected(disconnected.clone()))
        };
        let EventReport::Disconnect(report) = event_report(&event, "a1") else {
            panic!("not a disconnect")
        };
        assert_eq!(report.metadata.get("vhost").map(String::as_str), expected);
    }
}

#[test]
fn disconnect_report_distinguishes_unknown_usage_from_zero() {
    let ended = |usage| {
        event(EventKind::Disconnected(Disconnected {
            at: UNIX_EPOCH,
            reason: DisconnectReason::IdleTimeout,
            usage,
            is_sampled: false,
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

#[test]
fn an_update_says_when_the_usage_is_unknown_and_never_passes_it_off_as_zero() {
    let report_of = |usage| {
        let event = event(EventKind::Updated(Updated {
            at: UNIX_EPOCH + Duration::from_secs(2000),
            usage,
            duration: Duration::from_secs(1000),
            status: SessionStatus::Idle,
        }));
        match event_report(&event, "a1") {
            EventReport::Update(report) => report,
            other => panic!("not an update: {other:?}"),
        }
    };
    let sampled = report_of(Some(Usage { received: 5, sent: 0 }));
    assert_eq!(sampled.metadata["usage"], "sampled");
    assert_eq!(sampled.metadata["event_id"], "a1/42/1000/update/2000");
    let stats = sampled.current_stats.unwrap();
    assert_eq!(
        (stats.duration_seconds, stats.bytes_received, stats.bytes_sent),
        (1000, 5, 0)
    );
    assert_eq!(sampled.status, i32::from(wire::SessionStatus::Idle));
    let unknown = report_of(None);
    assert_eq!(unknown.metadata["usage"], "unknown");
    assert_eq!(unknown.current_stats, None);
}

#[test]
fn a_reconciled_event_says_so_and_how_exact_its_time_is() {
    let ended = Event {
        reconciled: Some(Reconciled {
            time_accuracy: Duration::from_millis(9_001),
        }),
        ..event(EventKind::Disconnected(Disconnected {
            at: UNIX_EPOCH,
            reason: DisconnectReason::Unspecified,
            usage: Some(Usage { received: 5, sent: 6 }),
            is_sampled: true,
            duration: None,
        }))
    };
    let EventReport::Disconnect(report) = event_report(&ended, "a1") else {
        panic!("not a disconnect")
    };
    assert_eq!(report.metadata["reconciled"], "true");
    assert_eq!(report.metadata["time_accuracy_seconds"], "10");
    assert_eq!(report.metadata["usage"], "sampled");
}
