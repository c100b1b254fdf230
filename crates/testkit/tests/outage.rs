//! No outage allows a login, and none delays one beyond the helper's deadline.

use std::time::Duration;

use testkit::harness::{POLICY, decisions, lab, wait_until_empty};
use testkit::lab::{AgentOptions, ConnectOptions, Lab, OnAgentDown, Script};
use testkit::pki::{AGENT_NAMES, Validity};
use testkit::portal_double::{AcceptMode, PortalDouble, Reply};
use testkit::wait::{self, BOUND};

#[test]
fn without_an_agent_a_login_is_denied() {
    let lab = Lab::builder("no-agent")
        .users(&["alice"])
        .deployed_script()
        .start()
        .unwrap();
    let rejected = lab.server().connect("alice").unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    wait_until_empty(&lab);
}

#[test]
fn without_an_agent_a_login_is_allowed_where_the_operator_says_so() {
    let lab = Lab::builder("no-agent-allow")
        .users(&["alice"])
        .on_agent_down_allow()
        .start()
        .unwrap();
    lab.server().connect("alice").unwrap();
}

#[test]
fn on_agent_down_allow_does_not_override_a_deny() {
    let lab = lab("deny-wins").on_agent_down_allow().start().unwrap();
    let rejected = lab.server().connect("mallory").unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    lab.server().connect("alice").unwrap();
}

#[test]
fn without_a_portal_a_login_is_denied_and_with_the_portal_it_is_allowed() {
    let extra = "resilience.circuit_breaker.timeout = \"2s\"".to_owned();
    let agent = AgentOptions {
        extra,
        ..AgentOptions::default()
    };
    let lab = Lab::builder("no-portal")
        .users(&["alice"])
        .agent(agent)
        .start()
        .unwrap();
    let rejected = lab.server().connect("alice").unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    let decision = &decisions(&lab, "alice")[0];
    assert_eq!(decision["deny_code"], "outage", "{decision}");
    let options = testkit::lab::PortalOptions {
        policy: POLICY.to_owned(),
        ..Default::default()
    };
    lab.portal_dev().start(&options).unwrap();
    wait::until("login after the start of the portal", BOUND, || {
        lab.server().connect("alice").ok()
    })
    .unwrap();
}

#[test]
fn a_portal_that_hangs_at_any_stage_means_a_deny_within_the_helpers_deadline() {
    let extra = "portal.reconnect = { initial_delay = \"20ms\", max_delay = \"50ms\" }".to_owned();
    let agent = AgentOptions {
        extra,
        ..Default::default()
    };
    let lab = Lab::builder("hang")
        .users(&["alice"])
        .agent(agent)
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    let exits_of_helper = || {
        let log = lab.server().process().unwrap().logs();
        let lines = log
            .lines()
            .filter_map(|line| line.split_once("vpn-auth: ")?.1.split(' ').nth(1));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for (stage, mode, reply) in [
        ("accepts and sends nothing", AcceptMode::Silent, Reply::allow()),
        (
            "completes the handshake and sends nothing",
            AcceptMode::HandshakeOnly,
            Reply::allow(),
        ),
        (
            "reads the request and does not reply",
            AcceptMode::Serve,
            Reply::Hang,
        ),
    ] {
        portal.stop();
        portal.set_accept_mode(mode);
        portal.on_check(reply);
        portal.resume().unwrap();
        wait::until("a connection of the agent", BOUND, || {
            (portal.connections() > 0).then_some(())
        })
        .unwrap();
        let rejected = lab.server().connect("alice").unwrap_err();
        assert!(rejected.is_session_denied(), "{stage}: {rejected}");
    }
    // The agent responded each time: the helper never reached its deadline.
    assert_eq!(decisions(&lab, "alice").len(), 3);
    assert_eq!(exits_of_helper(), ["exit=1"; 3]);
    for decision in decisions(&lab, "alice") {
        assert_eq!(decision["deny_code"], "outage", "{decision}");
    }
}

#[test]
fn an_agent_that_hangs_means_a_deny_within_the_helpers_deadline() {
    let deadline = Duration::from_millis(500);
    let script = Script::Deployed {
        on_agent_down: OnAgentDown::Deny,
        deadline,
    };
    let lab = lab("agent-hangs").script(script).start().unwrap();
    lab.agent()
        .process()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGSTOP);
    let rejected = lab.server().connect("alice").unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    let log = lab.server().process().unwrap().logs();
    assert!(
        log.contains("exit=2") && log.contains("no answer within 500ms"),
        "{log}"
    );
    lab.agent()
        .process()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGCONT);
    wait::until("login after the agent continues", BOUND, || {
        lab.server().connect("bob").ok()
    })
    .unwrap();
}

#[test]
fn a_portal_of_an_untrusted_authority_is_rejected_and_the_log_says_so() {
    let lab = Lab::builder("foreign-portal")
        .users(&["alice"])
        .agent(AgentOptions::default())
        .start()
        .unwrap();
    let foreign = lab.pki().foreign().unwrap().portal().unwrap();
    let portal = PortalDouble::in_lab(&lab, &foreign).unwrap();
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());
    lab.agent().wait_for_log("a CA we do not trust", BOUND).unwrap();
    assert!(portal.checks().is_empty());
}

#[test]
fn a_portal_that_rejects_the_agents_certificate_is_an_outage_and_the_log_says_so() {
    let lab = Lab::builder("foreign-agent")
        .users(&["alice"])
        .deployed_script()
        .start()
        .unwrap();
    let portal_identity = lab.pki().portal().unwrap();
    let identity = lab
        .pki()
        .foreign()
        .unwrap()
        .agent()
        .unwrap()
        .trusting(&portal_identity.ca);
    let portal = PortalDouble::in_lab(&lab, &portal_identity).unwrap();
    lab.agent()
        .start(&AgentOptions {
            identity: Some(identity),
            ..Default::default()
        })
        .unwrap();
    lab.agent()
        .wait_for_log("refused our certificate", BOUND)
        .unwrap();
    assert!(portal.checks().is_empty());
    assert!(!portal.handshake_failures().is_empty());
}

#[test]
fn a_caller_of_an_untrusted_authority_is_rejected_and_the_log_says_so() {
    let lab = lab("foreign-caller").start().unwrap();
    let trusted = lab.pki().portal().unwrap().ca;
    let untrusted = lab.pki().foreign().unwrap().portal().unwrap().trusting(&trusted);
    assert!(lab.portal_dev().call_agent_as(&untrusted, &["sessions"]).is_err());
    lab.agent().wait_for_log("a CA we do not trust", BOUND).unwrap();
}

#[test]
fn twenty_logins_in_progress_at_a_stop_of_the_agent_get_a_response_each() {
    let lab = Lab::builder("drain")
        .numbered_users(20)
        .agent(AgentOptions::default())
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    portal.delay(Duration::from_millis(1000));
    let options = ConnectOptions::default();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    let clients: Vec<_> = (1..=20)
        .map(|i| lab.server().start_client(&format!("u{i}"), &options).unwrap())
        .collect();
    portal.wait_for_checks(20, BOUND).unwrap();
    // The twenty replies are already delayed; the events need not be.
    portal.delay(Duration::ZERO);
    lab.agent().stop().unwrap();
    for client in clients {
        client.wait(BOUND).unwrap_or_else(|rejected| panic!("{rejected}"));
    }
    let events = portal.events();
    assert_eq!(
        events.len(),
        20,
        "each connect was delivered before the agent exited"
    );
}

#[test]
fn a_reload_replaces_certificates_and_a_broken_file_keeps_the_old_ones() {
    let lab = Lab::builder("reload")
        .users(&["alice", "bob"])
        .deployed_script()
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    let identity = lab
        .pki()
        .issue("renewed", &AGENT_NAMES, Validity::Expired)
        .unwrap();
    let options = AgentOptions {
        identity: Some(identity.clone()),
        ..Default::default()
    };
    lab.agent().start(&options).unwrap();
    assert!(lab.server().connect("alice").unwrap_err().is_session_denied());

    lab.pki().issue("renewed", &AGENT_NAMES, Validity::Now).unwrap();
    lab.agent().reload().unwrap();
    lab.agent().wait_for_log("\"reloaded\"", BOUND).unwrap();
    wait::until("a login with the new certificate", BOUND, || {
        lab.server().connect("alice").ok()
    })
    .unwrap();

    std::fs::write(&identity.cert, "no certificate").unwrap();
    lab.agent().reload().unwrap();
    lab.agent().wait_for_log("could not reload", BOUND).unwrap();
    lab.server().connect("bob").unwrap();
    assert!(!portal.checks_of("bob").is_empty());
}
