use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use occtl::ControlSocket;
use telemetry::Kind;
use testkit::fake_control::{FakeControl, Fault};

use super::*;

/// Generates `docs/reference/metrics.md` from the declarations.
fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\nWhat `/metrics` shows (`[http] listen`). Generated from `crates/agent/src/metrics/`; a test\n\
         compares the two, and `UPDATE_DOCS=1 cargo test -p agent metrics` writes this page. No label holds a\n\
         user name or an address.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in declared() {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram, seconds",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        text.push_str(&format!(
            "| `{}` | {kind} | {} | {} |\n",
            metric.name,
            labels.join(", "),
            metric.help
        ));
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a developer writes the page on demand")]
fn the_metrics_page_equals_the_declarations() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    if std::env::var("UPDATE_DOCS").is_ok() {
        std::fs::write(&page, documentation()).unwrap();
    }
    let committed = std::fs::read_to_string(&page).unwrap_or_default();
    assert_eq!(
        committed,
        documentation(),
        "run UPDATE_DOCS=1 cargo test -p agent metrics"
    );
}

#[tokio::test]
async fn requests_to_ocserv_are_counted_by_status_and_the_last_one_sets_ocserv_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("occtl.sock");
    let metrics = Metrics::new("vpn1").unwrap();
    let assert_rendered = |lines: &[&str]| {
        let text = metrics.registry().render();
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{line} is missing in:\n{text}");
        }
    };
    let control =
        ControlSocket::new(path.clone(), Duration::from_secs(20)).with_observer(metrics.control_observer());
    assert_rendered(&["ocserv_agent_ocserv_up 0"]);
    control.list().await.unwrap_err();
    let fake = FakeControl::start(&path).unwrap();
    control.disconnect_id(7).await.unwrap();
    assert_rendered(&[
        "ocserv_agent_ocserv_up 1",
        "ocserv_agent_occtl_requests_total{command=\"list\",status=\"not_reachable\"} 1",
        "ocserv_agent_occtl_requests_total{command=\"disconnect\",status=\"answered\"} 1",
        "ocserv_agent_occtl_request_duration_seconds_count{command=\"disconnect\"} 1",
    ]);
    for (fault, status) in [(Fault::Refuse, "refused"), (Fault::Torn(3), "malformed")] {
        fake.set_fault(Some(fault));
        control.list().await.unwrap_err();
        let line = format!("ocserv_agent_occtl_requests_total{{command=\"list\",status=\"{status}\"}} 1");
        assert_rendered(&["ocserv_agent_ocserv_up 0", &line]);
    }
}

#[test]
fn the_names_that_dashboards_use_are_declared() {
    let names: BTreeSet<_> = declared().iter().map(|metric| metric.name).collect();
    for name in [
        "ocserv_agent_active_sessions",
        "ocserv_agent_portal_requests_total",
        "ocserv_agent_portal_request_duration_seconds",
        "ocserv_agent_circuit_breaker_state",
        "ocserv_agent_cache_size",
        "ocserv_agent_cache_hit_ratio",
        "ocserv_total_sessions",
        "ocserv_bytes_in_total",
        "ocserv_bytes_out_total",
        "ocserv_disconnect_total",
    ] {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn declarations_are_consistent_and_zeros_are_rendered_from_the_start() {
    let metrics = Metrics::new("vpn1").unwrap();
    let _series = DecisionMetrics::new(&metrics);
    let text = metrics.registry().render();
    for line in [
        "ocserv_agent_decisions_total{source=\"fail_open\",outcome=\"allow\"} 0",
        "ocserv_disconnect_total{reason=\"policy_violation\"} 0",
        "ocserv_total_sessions 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn cache_and_breaker_are_rendered_with_all_their_counters() {
    let metrics = Metrics::new("vpn1").unwrap();
    metrics.set_cache(&resilience::CacheStats {
        hits: 30,
        misses: 10,
        stale_hits: 3,
        evictions: 4,
        forgotten_denies: 5,
        size: 6,
        denied_users: 7,
    });
    metrics.set_breaker(
        resilience::BreakerState::Open,
        &resilience::BreakerStats {
            requests: 20,
            successes: 11,
            failures: 8,
            refused: 2,
            ..resilience::BreakerStats::default()
        },
    );
    let text = metrics.registry().render();
    for (name, value) in [
        ("cache_hits_total", "30"),
        ("cache_misses_total", "10"),
        ("cache_hit_ratio", "0.75"),
        ("cache_stale_hits_total", "3"),
        ("cache_evictions_total", "4"),
        ("cache_forgotten_denies_total", "5"),
        ("cache_size", "6"),
        ("cache_denied_users", "7"),
        ("circuit_breaker_state{service=\"portal\"}", "2"),
        ("circuit_breaker_requests_total{service=\"portal\"}", "20"),
        ("circuit_breaker_successes_total{service=\"portal\"}", "11"),
        ("circuit_breaker_failures_total{service=\"portal\"}", "8"),
        ("circuit_breaker_refused_total{service=\"portal\"}", "2"),
    ] {
        let line = format!("ocserv_agent_{name} {value}");
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}
