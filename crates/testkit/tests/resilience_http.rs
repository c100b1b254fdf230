//! Metrics and health checks in an outage.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use testkit::harness::{fast_reconnect, http_get, lab, last_decision, reload};
use testkit::wait::{self, BOUND};

const NAMES: [&str; 10] = [
    "ocserv_agent_active_sessions{server_id=\"lab-agent\"}",
    "ocserv_agent_portal_requests_total{method=\"CheckPolicy\",status=",
    "ocserv_agent_portal_request_duration_seconds_bucket{method=\"CheckPolicy\",le=",
    "ocserv_agent_circuit_breaker_state{service=",
    "ocserv_agent_cache_size",
    "ocserv_agent_cache_hit_ratio",
    "ocserv_total_sessions",
    "ocserv_bytes_in_total",
    "ocserv_bytes_out_total",
    "ocserv_disconnect_total{reason=",
];

#[test]
fn an_agent_with_stale_decisions_is_live_and_ready_and_its_metrics_name_no_user() {
    let options = |mode: &str| {
        fast_reconnect(&format!(
            r#"
            resilience.fail_mode = "{mode}"
            resilience.cache.ttl = "100ms"
            resilience.circuit_breaker = {{ failure_threshold = 2, timeout = "1h" }}
            "#
        ))
    };
    let lab = lab("probes").agent(options("stale")).start().unwrap();
    let alice = lab.server().connect("alice").unwrap();
    lab.server().connect("mallory").unwrap_err();
    let ready = || http_get(&lab, "/readyz").unwrap();
    wait::until("ready", BOUND, || (ready().0 == 200).then_some(())).unwrap();
    assert!(metric(&lab, "ocserv_agent_circuit_breaker_state") < 0.5);

    lab.portal_dev().kill();
    wait::until("an open breaker", BOUND, || {
        lab.server().connect("alice").unwrap();
        (metric(&lab, "ocserv_agent_circuit_breaker_state") > 1.5).then_some(())
    })
    .unwrap();
    assert_eq!(last_decision(&lab, "alice")["source"], "stale");
    assert_eq!(ready().0, 200, "{}", ready().1);
    assert_eq!(http_get(&lab, "/livez").unwrap().0, 200);
    lab.wait_for_sessions("alice", 1).unwrap();
    wait::until("one session in the metrics", BOUND, || {
        let sessions = metric(&lab, "ocserv_agent_active_sessions");
        (0.5 < sessions && sessions < 1.5).then_some(())
    })
    .unwrap();

    let (status, text) = http_get(&lab, "/metrics").unwrap();
    assert_eq!(status, 200);
    for name in NAMES {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name} is not in\n{text}"
        );
    }
    let vpn_ip = alice.vpn_ip().to_string();
    for secret in ["alice", "mallory", "10.77.0.2", "10.78.0.2", vpn_ip.as_str()] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }

    reload(&lab, &options("close"));
    assert_eq!(ready().0, 503, "every new user is denied now: {}", ready().1);
    assert_eq!(http_get(&lab, "/livez").unwrap().0, 200);
    reload(&lab, &options("open"));
    assert_eq!(ready().0, 200, "{}", ready().1);
}

/// Returns the value of a metric's first series.
fn metric(lab: &testkit::lab::Lab, name: &str) -> f64 {
    let (_, text) = http_get(lab, "/metrics").unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
}
