//! The control stream of an agent that the portal cannot dial: there is no `[grpc]` section.

use std::fs;

use nix::sys::signal::Signal;
use testkit::fake_control::{FakeSession, command};
use testkit::portal_double::PortalEvent;
use testkit::portal_double::agent_api::agent_message::Payload;
use testkit::portal_double::agent_api::{AgentStatus, CommandInstruction, ServerMessage, server_message};
use testkit::wait::{BOUND, until};

use super::harness::{Harness, RunningAgent};

/// An agent with a control stream and the page of its readiness.
struct Control {
    harness: Harness,
    agent: RunningAgent,
    http: u16,
}

impl Control {
    /// Starts an agent with these keys in `[portal]` and this environment.
    fn start(portal: &str, environment: &str) -> Self {
        let harness = Harness::new();
        harness.portal.serve_control_streams(true);
        Self::start_in(harness, portal, environment)
    }

    fn start_in(harness: Harness, portal: &str, environment: &str) -> Self {
        harness.configure("");
        let http = harness.choose_http_port();
        let config = harness.path("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        let (before, rest) = text.split_once("[grpc]").unwrap();
        let (_, after) = rest.split_once("[ipc]").unwrap();
        let reconnect = "reconnect = { initial_delay = \"10ms\", max_delay = \"50ms\" }\n";
        let before = before.replace("[portal]\n", &format!("[portal]\n{reconnect}{portal}\n"));
        let heartbeat = "[health]\nheartbeat_interval = \"100ms\"\n";
        fs::write(
            &config,
            format!("environment = \"{environment}\"\n{before}{heartbeat}[ipc]{after}"),
        )
        .unwrap();
        let agent = harness.start_configured();
        Self { harness, agent, http }
    }

    /// Executes an action; returns whether it succeeded, and its error or message.
    fn execute(&self, id: &str, action: &str, parameters: &[(&str, &str)]) -> (bool, String) {
        let result = self.harness.portal.execute(id, action, parameters).unwrap();
        let error = result.metadata.get("error").cloned();
        (
            result.metadata["success"] == "true",
            error.unwrap_or(result.message),
        )
    }

    /// How many events of this kind the portal has received, repetitions included.
    fn count(&self, kind: &str) -> usize {
        let events = self.harness.portal.agent_events();
        events.iter().filter(|event| event.event_type == kind).count()
    }

    fn wait_for_count(&self, kind: &str, count: usize) {
        until(&format!("{count} of {kind}"), BOUND, || {
            (self.count(kind) >= count).then_some(())
        })
        .unwrap();
    }

    /// The page `/readyz`: whether it is 200, and its text.
    fn readyz(&self) -> (bool, String) {
        let page = self.harness.http(self.http, "/readyz").unwrap();
        (page.starts_with("HTTP/1.1 200"), page)
    }

    fn has_metric(&self, line: &str) -> bool {
        let page = self.harness.http(self.http, "/metrics").unwrap();
        page.lines().any(|found| found == line)
    }
}

#[test]
fn an_agent_registers_and_sends_heartbeats_and_metrics() {
    let harness = Harness::new();
    harness
        .control
        .set_sessions(vec![FakeSession::connected(4242, "alice")]);
    harness.portal.serve_control_streams(true);
    let control = Control::start_in(harness, "", "production");
    let portal = &control.harness.portal;
    let registered = portal.wait_for_agent_event("registered", |_| true).unwrap();
    for (key, value) in [
        ("version", env!("CARGO_PKG_VERSION")),
        ("role", "operator"),
        ("environment", "production"),
        ("state", "serving"),
        ("fail_mode", "stale"),
        ("sessions", "1"),
    ] {
        assert_eq!(registered.metadata[key], value, "{key}");
    }
    assert!(registered.metadata["capabilities"].contains("disconnect_user"));
    assert_eq!(registered.metadata["boot_id"].len(), 36);
    let heartbeat = until("a heartbeat", BOUND, || {
        portal
            .agent_messages()
            .into_iter()
            .find_map(|message| match message.payload {
                Some(Payload::Heartbeat(heartbeat)) => Some(heartbeat),
                _ => None,
            })
    })
    .unwrap();
    assert_eq!(heartbeat.status, i32::from(AgentStatus::Healthy));
    assert!(heartbeat.ocserv.unwrap().is_running);
    assert!(heartbeat.system.unwrap().memory_total_bytes > 0);
    until("a report of metrics", BOUND, || {
        let messages = portal.agent_messages();
        let mut reports = messages.into_iter().filter_map(|message| match message.payload {
            Some(Payload::Metrics(report)) => Some(report),
            _ => None,
        });
        reports
            .any(|report| report.custom_metrics["fail_mode"] == "stale")
            .then_some(())
    })
    .unwrap();
    assert!(control.has_metric("ocserv_agent_control_stream_connected 1"));
    // What is not ocserv is healthy.
    control
        .harness
        .control
        .set_fault(Some(testkit::fake_control::Fault::Refuse));
    until("an unhealthy heartbeat", BOUND, || {
        portal.agent_messages().into_iter().any(|message| {
            matches!(message.payload, Some(Payload::Heartbeat(beat)) if beat.status() == AgentStatus::Unhealthy)
        })
        .then_some(())
    })
    .unwrap();
}

#[test]
fn a_repeated_request_has_one_effect_and_one_result_across_streams() {
    let control = Control::start("", "production");
    let (harness, portal) = (&control.harness, &control.harness.portal);
    harness
        .control
        .set_sessions(vec![FakeSession::connected(4242, "alice")]);
    let disconnect = [("username", "alice"), ("reason", "left")];
    let first = portal.execute("r1", "disconnect_user", &disconnect).unwrap();
    assert_eq!(first.metadata["sessions_disconnected"], "1", "{first:?}");
    assert!(harness.control.sessions().is_empty());
    let line = control.agent.wait_for_log("request_id=\"r1\"");
    for part in [
        "action=\"disconnect_user\"",
        "user=\"alice\"",
        "caller=\"portal\"",
        "result=\"done\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    // The same user again, who must not be disconnected by a repetition.
    harness
        .control
        .set_sessions(vec![FakeSession::connected(4243, "alice")]);
    assert!(portal.send_action("r1", "disconnect_user", &disconnect));
    control.wait_for_count("action_result", 2);
    portal.cut_connections();
    control.wait_for_count("registered", 2);
    until("the repeated request", BOUND, || {
        portal
            .send_action("r1", "disconnect_user", &disconnect)
            .then_some(())
    })
    .unwrap();
    control.wait_for_count("action_result", 3);
    let results = portal.agent_events();
    let results = results.iter().filter(|event| event.event_type == "action_result");
    for result in results {
        assert_eq!(result.metadata, first.metadata);
    }
    assert_eq!(harness.control.sessions().len(), 1);
    assert!(harness.control.count(command::DISCONNECT_ID) <= 1);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_on_the_next_stream() {
    let harness = Harness::new();
    harness.portal.serve_control_streams(false);
    let control = Control::start_in(harness, "", "production");
    assert!(control.execute("r1", "drain", &[]).0);
    control.harness.portal.end_control_stream();
    control.wait_for_count("draining", 2);
    control.wait_for_count("action_result", 2);
    let draining = control.harness.portal.agent_events();
    let ids: Vec<_> = draining
        .iter()
        .filter(|event| event.event_type == "draining")
        .map(|event| event.metadata["event_id"].clone())
        .collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn unknown_actions_and_bad_parameters_are_refused_by_name() {
    let control = Control::start("", "production");
    for (id, action, parameters, error) in [
        ("1", "reboot", vec![], "action \"reboot\" is unknown"),
        (
            "2",
            "drain",
            vec![("now", "1")],
            "parameter \"now\" is unknown to drain",
        ),
        (
            "3",
            "disconnect_user",
            vec![],
            "parameter \"username\" is missing",
        ),
        (
            "4",
            "set_fail_mode",
            vec![("mode", "close"), ("duration", "long")],
            "parameter \"duration\"",
        ),
    ] {
        let (success, refusal) = control.execute(id, action, &parameters);
        assert!(!success && refusal.starts_with(error), "{refusal}");
    }
    assert!(control.readyz().0);
    let portal = &control.harness.portal;
    assert!(portal.send_instruction(ServerMessage {
        request_id: "c1".to_owned(),
        payload: Some(server_message::Payload::Command(CommandInstruction::default())),
    }));
    until("the response to a command", BOUND, || {
        portal
            .agent_messages()
            .into_iter()
            .find_map(|message| match message.payload {
                Some(Payload::CommandResponse(response)) => Some(response),
                _ => None,
            })
    })
    .map(|response| assert!(!response.success && response.request_id == "c1"))
    .unwrap();
}

#[test]
fn the_role_decides_what_the_portal_may_do_and_a_reload_changes_it() {
    let control = Control::start("role = \"viewer\"", "test");
    let (success, error) = control.execute("1", "drain", &[]);
    assert!(!success, "{error}");
    assert_eq!(error, "portal.role is viewer; drain needs operator");
    let set_role = |from: &str, to: &str| {
        control
            .harness
            .edit_config(&format!("role = \"{from}\""), &format!("role = \"{to}\""));
        control.agent.signal(Signal::SIGHUP);
    };
    set_role("viewer", "operator");
    control.wait_for_count("reloaded", 1);
    let open = [("mode", "open"), ("duration", "1m")];
    let (success, error) = control.execute("2", "set_fail_mode", &open);
    assert!(!success, "{error}");
    assert_eq!(
        error,
        "portal.role is operator; set_fail_mode to open needs admin"
    );
    let close = [("mode", "close"), ("duration", "1m")];
    assert!(control.execute("3", "set_fail_mode", &close).0);
    set_role("operator", "admin");
    control.wait_for_count("reloaded", 2);
    assert!(control.execute("4", "set_fail_mode", &open).0);
    assert!(control.has_metric("ocserv_agent_fail_mode{mode=\"open\"} 1"));
    let (ready, page) = control.readyz();
    assert!(
        ready && page.contains("switched the fail mode to open until"),
        "{page}"
    );
}

#[test]
fn open_in_production_obeys_the_guard_of_the_configuration() {
    let control = Control::start("role = \"admin\"", "production");
    let open = [("mode", "open"), ("duration", "1m")];
    let (success, error) = control.execute("1", "set_fail_mode", &open);
    assert!(
        !success && error.contains("allow_fail_open_in_production"),
        "{error}"
    );
    control.harness.portal.stop();
    let denied = control.harness.login("alice", 7);
    assert_eq!(denied.source.as_deref(), Some("fail_close"));
}

#[test]
fn a_reload_that_does_not_permit_open_any_more_ends_the_switch_and_announces_it() {
    let control = Control::start("role = \"admin\"", "test");
    let open = [("mode", "open"), ("duration", "24h")];
    assert!(control.execute("1", "set_fail_mode", &open).0);
    let is_open = |line: &str| control.has_metric(&format!("ocserv_agent_fail_mode{{mode=\"open\"}} {line}"));
    // What concerns another key ends nothing.
    control.agent.signal(Signal::SIGHUP);
    control.wait_for_count("reloaded", 1);
    assert!(is_open("1"));
    control
        .harness
        .edit_config("role = \"admin\"", "role = \"operator\"");
    control.agent.signal(Signal::SIGHUP);
    control.wait_for_count("reloaded", 2);
    assert!(is_open("0"));
    control.wait_for_count("fail_mode_changed", 2);
    control.harness.portal.stop();
    let denied = control.harness.login("alice", 7);
    assert_eq!(denied.source.as_deref(), Some("fail_close"));
}

#[test]
fn instructions_that_arrive_together_are_executed_in_their_order() {
    let control = Control::start("role = \"admin\"", "test");
    let portal = &control.harness.portal;
    control.wait_for_count("registered", 1);
    let open = [("mode", "open"), ("duration", "24h")];
    for round in 0..20 {
        for (number, (action, parameters)) in [
            ("drain", &[][..]),
            ("resume", &[]),
            ("set_fail_mode", &open),
            ("set_fail_mode", &[("mode", "configured")]),
            ("force_online", &[("duration", "10m")]),
            ("force_online", &[("duration", "0s")]),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(portal.send_action(&format!("{round}/{number}"), action, parameters));
        }
        control.wait_for_count("action_result", 6 * (round + 1));
        let (ready, page) = control.readyz();
        assert!(ready && !page.contains("degraded"), "{page}");
    }
}

#[test]
fn a_switched_fail_mode_ends_by_itself_and_both_are_announced() {
    let control = Control::start("role = \"admin\"", "test");
    let open = [("mode", "open"), ("duration", "3s")];
    assert!(control.execute("1", "set_fail_mode", &open).0);
    control.harness.portal.stop();
    let source = || control.harness.login("alice", 7).source.unwrap();
    assert_eq!(source(), "fail_open");
    until("the end of the switch", BOUND, || {
        (source() == "fail_close").then_some(())
    })
    .unwrap();
    control
        .agent
        .wait_for_log("fail mode is the configured one again");
    control.harness.portal.resume().unwrap();
    control.wait_for_count("fail_mode_changed", 2);
    let events = control.harness.portal.agent_events();
    let modes: Vec<_> = events
        .iter()
        .filter(|event| event.event_type == "fail_mode_changed")
        .map(|event| event.metadata["fail_mode"].as_str())
        .collect();
    assert_eq!(modes, ["open", "stale"]);
}

#[test]
fn forced_online_a_fresh_cached_allow_decides_nothing() {
    let control = Control::start("", "production");
    assert!(control.harness.login("alice", 1).allowed);
    let again = control.harness.login("alice", 2);
    assert_eq!(again.source.as_deref(), Some("cache"));
    assert!(control.execute("1", "force_online", &[("duration", "10m")]).0);
    let asked = control.harness.login("alice", 3);
    assert_eq!((asked.allowed, asked.source.as_deref()), (true, Some("portal")));
    assert!(control.has_metric("ocserv_agent_force_online 1"));
    assert!(control.readyz().1.contains("forces logins online"));
    control.harness.portal.stop();
    let denied = control.harness.login("alice", 4);
    assert_eq!(
        (denied.allowed, denied.source.as_deref()),
        (false, Some("fail_close"))
    );
    until("not ready without the portal", BOUND, || {
        (!control.readyz().0).then_some(())
    })
    .unwrap();
    control.harness.portal.resume().unwrap();
    assert!(control.execute("2", "force_online", &[("duration", "0s")]).0);
    control.wait_for_count("force_online_changed", 2);
    until("a decision from the cache", BOUND, || {
        let decided = control.harness.login("alice", 5);
        (decided.allowed && decided.source.as_deref() == Some("cache")).then_some(())
    })
    .unwrap();
}

#[test]
fn a_drained_agent_is_not_ready_and_decides_logins_until_it_resumes() {
    let control = Control::start("", "production");
    assert!(control.harness.login("alice", 1).allowed);
    let (success, message) = control.execute("1", "drain", &[]);
    assert!(success, "{message}");
    let (ready, page) = control.readyz();
    assert!(!ready && page.contains("draining"), "{page}");
    assert!(control.has_metric("ocserv_agent_draining 1"));
    assert!(control.harness.login("bob", 2).allowed);
    control.wait_for_count("draining", 1);
    let connects = control.harness.portal.events();
    assert!(
        connects
            .iter()
            .any(|event| matches!(event, PortalEvent::Connect(_))),
        "a drain delivers what is pending"
    );
    assert!(control.execute("2", "resume", &[]).0);
    assert!(control.readyz().0);
    control.wait_for_count("resumed", 1);
}

#[test]
fn invalidations_have_the_portal_asked_again() {
    let control = Control::start("", "production");
    let portal = &control.harness.portal;
    assert!(control.harness.login("alice", 1).allowed && control.harness.login("bob", 1).allowed);
    assert!(
        control
            .execute("1", "invalidate_user", &[("username", "alice")])
            .0
    );
    assert!(control.harness.login("alice", 2).allowed && control.harness.login("bob", 2).allowed);
    assert_eq!(
        (portal.checks_of("alice").len(), portal.checks_of("bob").len()),
        (2, 1)
    );
    let all = portal.execute("2", "invalidate_all", &[]).unwrap();
    assert_eq!(all.metadata["decisions"], "2");
    assert!(control.harness.login("bob", 3).allowed);
    assert_eq!(portal.checks_of("bob").len(), 2);
    let resync = portal.execute("3", "resync", &[]).unwrap();
    assert_eq!(resync.metadata["sessions"], "0", "{resync:?}");
}

#[test]
fn a_reload_answers_with_what_was_refused() {
    let control = Control::start("", "production");
    assert!(control.execute("1", "reload", &[]).0);
    control.harness.edit_config("[health]", "[wealth]");
    let (success, error) = control.execute("2", "reload", &[]);
    assert!(!success && error.contains("wealth"), "{error}");
    control.wait_for_count("reload_failed", 1);
}

#[test]
fn a_stop_deregisters_first() {
    let mut control = Control::start("", "production");
    control.wait_for_count("registered", 1);
    control.agent.signal(Signal::SIGTERM);
    assert_eq!(control.agent.exit_code(), Some(0));
    control.wait_for_count("deregistered", 1);
}

#[test]
fn the_breaker_and_ocserv_are_announced() {
    let control = Control::start("", "production");
    control.wait_for_count("registered", 1);
    control
        .harness
        .portal
        .on_check(testkit::portal_double::Reply::code(tonic::Code::Unavailable));
    for id in 1..=5 {
        control.harness.login("alice", id);
    }
    let portal = &control.harness.portal;
    let opened = portal.wait_for_agent_event("breaker_changed", |_| true).unwrap();
    assert_eq!(
        (opened.metadata["from"].as_str(), opened.metadata["to"].as_str()),
        ("closed", "open")
    );
}

#[test]
fn a_portal_without_control_streams_costs_one_line() {
    let harness = Harness::new();
    let control = Control::start_in(harness, "", "production");
    control.agent.wait_for_log("portal serves no control stream");
    until("three attempts", BOUND, || {
        (control.harness.portal.control_streams() >= 3).then_some(())
    })
    .unwrap();
    let log = fs::read_to_string(&control.agent.log).unwrap();
    assert_eq!(log.matches("control stream").count(), 1, "{log}");
    assert!(control.harness.login("alice", 1).allowed);
}
