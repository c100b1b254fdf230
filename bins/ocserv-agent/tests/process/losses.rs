//! What is lost under pressure is counted, and the log says so without a flood.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use testkit::portal_double::Reply;
use testkit::wait::{BOUND, until};

use super::harness::{Harness, PROGRAM, RunningAgent};

#[test]
fn many_lost_events_are_one_line_a_second_that_counts_the_others() {
    let harness = Harness::new();
    harness.portal.on_event(Reply::Hang);
    let agent = harness.start("[outbox]\nmax_bytes = 65536\n[log]\nformat = \"json\"\n");
    let lost = || -> Vec<Value> {
        let log = fs::read_to_string(&agent.log).unwrap();
        log.lines()
            .filter(|line| line.contains("event lost: more than outbox.max_bytes"))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let (start, mut id) = (Instant::now(), 0);
    let lines = until("a line that counts others", BOUND, || {
        for _ in 0..20 {
            id += 1;
            assert!(harness.login("alice", id).allowed);
        }
        let lines = lost();
        lines.iter().any(|line| line["suppressed"] != 0).then_some(lines)
    })
    .unwrap();
    let suppressed: u64 = lines
        .iter()
        .map(|line| line["suppressed"].as_u64().unwrap())
        .sum();
    let last = lines.last().unwrap();
    assert_eq!(last["level"], "ERROR");
    assert_eq!(last["dropped"], suppressed + lines.len() as u64, "{lines:?}");
    let seconds = start.elapsed().as_secs();
    assert!(lines.len() as u64 <= seconds + 1, "{seconds} s: {lines:?}");
}

#[test]
fn log_lines_that_a_stalled_reader_loses_are_counted_and_logins_are_decided() {
    let harness = Harness::new();
    harness.portal.on_check(Reply::deny(&"because ".repeat(500)));
    harness.configure("[log]\nlevel = \"debug\"\n");
    let port = harness.choose_http_port();
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(harness.path("config.toml"));
    // Nobody reads its log.
    let _agent = RunningAgent {
        child: command.stderr(Stdio::piped()).spawn().unwrap(),
        log: harness.path("no.log"),
    };
    let dropped = || -> Option<u64> {
        let page = harness.http(port, "/metrics")?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("ocserv_agent_log_lines_dropped_total "));
        line?.parse().ok()
    };
    assert_eq!(until("the metric", BOUND, dropped).unwrap(), 0);
    let mut id = 0;
    until("dropped log lines", BOUND, || {
        for _ in 0..100 {
            id += 1;
            assert!(!harness.login("mallory", id).allowed);
        }
        (dropped()? > 0).then_some(())
    })
    .unwrap();
}
