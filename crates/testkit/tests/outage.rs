//! Nobody gets in because something is down, and nobody waits longer than the helper's deadline.

use std::time::Duration;

use testkit::lab::{AgentOptions, ConnectOptions, Lab, OnAgentDown, Script};
use testkit::pki::{AGENT_NAMES, Validity};
use testkit::portal_double::{Door, PortalDouble, Reply};
use testkit::scene::{POLICY, decisions, lab, wait_for_nobody};
use testkit::wait::{self, BOUND};

#[test]
fn without_an_agent_a_client_is_denied() {
    let lab = Lab::builder("no-agent")
        .users(&["alice"])
        .deployed_script()
        .start()
        .unwrap();
    let rejected = lab.server().connect("alice").unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
    wait_for_nobody(&lab);
}

#[test]
fn without_an_agent_a_client_gets_in_where_the_operator_says_so() {
    let lab = Lab::builder("no-agent-allow")
        .users(&["alice"])
        .on_agent_down_allow()
        .start()
        .unwrap();
    lab.server().connect("alice").unwrap();
}

#[test]
fn an_explicit_deny_stays_a_deny_where_the_operator_lets_clients_in_without_an_agent() {
    let lab = lab("deny-wins").on_agent_down_allow().start().unwrap();
    let rejected = lab.server().connect("mallory").unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
    lab.server().connect("alice").unwrap();
}

#[test]
fn without_a_portal_a_client_is_denied_and_gets_in_once_the_portal_is_there() {
    let patience = "resilience.circuit_breaker.timeout = \"2s\"".to_owned();
    let agent = AgentOptions {
        extra: patience,
        ..AgentOptions::default()
    };
    let lab = Lab::builder("no-portal")
        .users(&["alice"])
        .agent(agent)
        .start()
        .unwrap();
    let rejected = lab.server().connect("alice").unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
    let decision = &decisions(&lab, "alice")[0];
    assert_eq!(decision["deny_code"], "outage", "{decision}");
    let options = testkit::lab::PortalOptions {
        policy: POLICY.to_owned(),
        ..Default::default()
    };
    lab.portal_dev().start(&options).unwrap();
    wait::until("a login after the portal came", BOUND, || {
        lab.server().connect("alice").ok()
    })
    .unwrap();
}

#[test]
fn a_portal_that_hangs_at_any_stage_costs_a_deny_within_the_helpers_deadline() {
    let eager = "portal.reconnect = { initial_delay = \"20ms\", max_delay = \"50ms\" }".to_owned();
    let agent = AgentOptions {
        extra: eager,
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
    for (stage, door, reply) in [
        ("accepts and says nothing", Door::Mute, Reply::allow()),
        (
            "shakes hands and says nothing",
            Door::HandshakeOnly,
            Reply::allow(),
        ),
        ("takes the question and does not answer", Door::Open, Reply::Hang),
    ] {
        portal.stop();
        portal.set_door(door);
        portal.on_check(reply);
        portal.resume().unwrap();
        wait::until("a connection of the agent", BOUND, || {
            (portal.connections() > 0).then_some(())
        })
        .unwrap();
        let rejected = lab.server().connect("alice").unwrap_err();
        assert!(rejected.is_by_script(), "{stage}: {rejected}");
    }
    // The agent answered each time: the helper never gave up on it.
    assert_eq!(decisions(&lab, "alice").len(), 3);
    assert_eq!(exits_of_helper(), ["exit=1"; 3]);
    for decision in decisions(&lab, "alice") {
        assert_eq!(decision["deny_code"], "outage", "{decision}");
    }
}

#[test]
fn an_agent_that_hangs_costs_a_deny_within_the_helpers_deadline() {
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
    assert!(rejected.is_by_script(), "{rejected}");
    let log = lab.server().process().unwrap().logs();
    assert!(
        log.contains("exit=2") && log.contains("no answer within 500ms"),
        "{log}"
    );
    lab.agent()
        .process()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGCONT);
    wait::until("a login once the agent goes on", BOUND, || {
        lab.server().connect("bob").ok()
    })
    .unwrap();
}

#[test]
fn a_portal_of_a_foreign_authority_is_refused_and_the_log_says_so() {
    let lab = Lab::builder("foreign-portal")
        .users(&["alice"])
        .agent(AgentOptions::default())
        .start()
        .unwrap();
    let foreign = lab.pki().foreign().unwrap().portal().unwrap();
    let portal = PortalDouble::in_lab(&lab, &foreign).unwrap();
    assert!(lab.server().connect("alice").unwrap_err().is_by_script());
    lab.agent().wait_for_log("a CA we do not trust", BOUND).unwrap();
    assert!(portal.checks().is_empty());
}

#[test]
fn a_portal_that_refuses_our_certificate_is_an_outage_and_the_log_says_so() {
    let lab = Lab::builder("foreign-agent")
        .users(&["alice"])
        .deployed_script()
        .start()
        .unwrap();
    let good = lab.pki().portal().unwrap();
    let identity = lab.pki().foreign().unwrap().agent().unwrap().trusting(&good.ca);
    let portal = PortalDouble::in_lab(&lab, &good).unwrap();
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
fn a_caller_of_a_foreign_authority_is_refused_and_the_log_says_so() {
    let lab = lab("foreign-caller").start().unwrap();
    let ours = lab.pki().portal().unwrap().ca;
    let stranger = lab.pki().foreign().unwrap().portal().unwrap().trusting(&ours);
    assert!(lab.portal_dev().call_agent_as(&stranger, &["sessions"]).is_err());
    lab.agent().wait_for_log("a CA we do not trust", BOUND).unwrap();
}

#[test]
fn twenty_logins_under_way_when_the_agent_is_told_to_stop_get_an_answer_each() {
    let lab = Lab::builder("drain")
        .numbered_users(20)
        .agent(AgentOptions::default())
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    portal.delay(Duration::from_millis(1000));
    let options = ConnectOptions::default();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    let begun: Vec<_> = (1..=20)
        .map(|i| lab.server().begin(&format!("u{i}"), &options).unwrap())
        .collect();
    portal.wait_for_checks(20, BOUND).unwrap();
    // The twenty answers are on their way; what follows need not wait as long.
    portal.delay(Duration::ZERO);
    lab.agent().stop().unwrap();
    for client in begun {
        client.wait(BOUND).unwrap_or_else(|rejected| panic!("{rejected}"));
    }
    let begun = portal.events();
    assert_eq!(
        begun.len(),
        20,
        "the beginning of each session was told before the agent ended"
    );
}

#[test]
fn a_reload_takes_in_new_certificates_and_a_broken_file_keeps_the_old_ones() {
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
    assert!(lab.server().connect("alice").unwrap_err().is_by_script());

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
