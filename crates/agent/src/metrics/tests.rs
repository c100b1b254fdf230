use std::collections::BTreeSet;
use std::path::Path;

use ::occtl::ControlSocket;
use testkit::fake_control::{FakeControl, Fault};

use super::*;

/// `docs/reference/metrics.md` as the declarations make it.
fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\nWhat `/metrics` shows (`[http] listen`). Made of the declarations in `crates/agent/src/metrics.rs`;\n\
         a test compares the two, and `UPDATE_DOCS=1 cargo test -p agent metrics` writes this page. No label\n\
         holds a user name or an address.\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in DECLARED {
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
#[expect(
    clippy::disallowed_methods,
    reason = "the page is written on demand, by a developer"
)]
fn the_page_of_metrics_is_what_the_declarations_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    if std::env::var("UPDATE_DOCS").is_ok() {
        std::fs::write(&page, documentation()).unwrap();
    }
    let found = std::fs::read_to_string(&page).unwrap_or_default();
    assert_eq!(
        found,
        documentation(),
        "run UPDATE_DOCS=1 cargo test -p agent metrics"
    );
}

#[tokio::test]
async fn what_ocserv_is_asked_is_counted_by_how_it_ends_and_the_last_answer_says_whether_it_is_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("occtl.sock");
    let metrics = Metrics::new("vpn1").unwrap();
    let shows = |lines: &[&str]| {
        let text = metrics.registry().render();
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{line} is missing in:\n{text}");
        }
    };
    let control =
        ControlSocket::new(path.clone(), Duration::from_secs(20)).with_observer(metrics.control_observer());
    shows(&["ocserv_agent_ocserv_up 0"]);
    control.list().await.unwrap_err();
    let fake = FakeControl::start(&path).unwrap();
    control.disconnect_id(7).await.unwrap();
    shows(&[
        "ocserv_agent_ocserv_up 1",
        "ocserv_agent_occtl_requests_total{command=\"list\",status=\"not_reachable\"} 1",
        "ocserv_agent_occtl_requests_total{command=\"disconnect\",status=\"answered\"} 1",
        "ocserv_agent_occtl_request_duration_seconds_count{command=\"disconnect\"} 1",
    ]);
    for (fault, status) in [(Fault::Refuse, "refused"), (Fault::Torn(3), "malformed")] {
        fake.set_fault(Some(fault));
        control.list().await.unwrap_err();
        let line = format!("ocserv_agent_occtl_requests_total{{command=\"list\",status=\"{status}\"}} 1");
        shows(&["ocserv_agent_ocserv_up 0", &line]);
    }
}

#[test]
fn the_names_that_dashboards_know_are_declared() {
    let names: BTreeSet<_> = DECLARED.iter().map(|metric| metric.name).collect();
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
fn the_declarations_do_not_contradict_each_other_and_zeros_are_shown_from_the_start() {
    let metrics = Metrics::new("vpn1").unwrap();
    let text = metrics.registry().render();
    for line in [
        "ocserv_agent_decisions_total{source=\"fail_open\",outcome=\"allow\"} 0",
        "ocserv_disconnect_total{reason=\"policy_violation\"} 0",
        "ocserv_total_sessions 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}
