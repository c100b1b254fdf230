//! The demo on real ocserv.

use serde_json::Value;
use testkit::lab::{AGENT_GRPC, AgentOptions, Lab, PORTAL};
use testkit::wait::{self, BOUND};

use crate::transcript::{Failure, Transcript, ensure};

pub(crate) const POLICY: &str = r#"version = 1
default = "deny"

[[rules]]
verdict = "allow"
users = ["alice"]

[[rules]]
verdict = "deny"
users = ["mallory"]
reason = "the account is suspended"
"#;

pub(crate) fn run(keep: bool) -> Result<(), Failure> {
    let transcript = Transcript::start();
    let lab = Lab::builder("demo")
        .users(&["alice", "mallory"])
        .portal_dev(POLICY)
        .agent(AgentOptions {
            log_level: "info".to_owned(),
            ..AgentOptions::default()
        })
        .start()?;
    transcript.step(
        "portal-dev, ocserv-agent and ocserv run, portal, server and clients each in a network namespace",
    );
    transcript.step(&format!(
        "the agent calls the portal at {PORTAL} and serves it at {AGENT_GRPC}: mutual TLS 1.3, both ways"
    ));
    transcript.step("the portal's policy allows alice and denies mallory");

    let alice = lab.server().connect("alice")?;
    transcript.step(&format!(
        "alice logs in with openconnect and gets {}; the agent's log:",
        alice.vpn_ip()
    ));
    transcript.quote(&decision(&lab, "alice", "allow")?);

    let Err(rejected) = lab.server().connect("mallory") else {
        return Err("mallory was not denied".into());
    };
    ensure(
        rejected.is_session_denied(),
        "mallory was denied by something else than the agent",
    )?;
    ensure(lab.sessions_of("mallory")?.is_empty(), "mallory has a session")?;
    transcript
        .step("mallory logs in with the right password and is denied (\"Cookie was rejected by server\"):");
    transcript.quote(&decision(&lab, "mallory", "deny")?);

    let list = lab.portal_dev().call_agent(&["sessions"])?;
    ensure(
        list.contains("alice") && !list.contains("mallory"),
        "the portal's list is not alice alone",
    )?;
    transcript.step("the portal lists the sessions (portal-dev sessions):");
    transcript.quote(&list);

    if keep {
        wait_for_user(&lab, &transcript)?;
        drop(lab);
        transcript.step("everything is stopped and removed");
        return Ok(());
    }

    let ended = lab.portal_dev().call_agent(&["disconnect", "alice"])?;
    alice.wait_ended(BOUND)?;
    lab.wait_for_sessions("alice", 0)?;
    transcript.step("the portal disconnects alice (portal-dev disconnect alice), and the client exits:");
    transcript.quote(&ended);

    let connect = event(&lab, "connect")?;
    let disconnect = event(&lab, "disconnect")?;
    ensure(
        connect["session_uid"] == disconnect["session_uid"],
        "the two events are not about one session",
    )?;
    ensure(
        disconnect["reason"] == "admin_forced",
        "the disconnect has another reason",
    )?;
    ensure(
        !lab.portal_dev()
            .events()
            .iter()
            .any(|e| e["kind"] == "connect" && e["username"] == "mallory"),
        "an event about mallory",
    )?;
    transcript.step("the events that the portal received:");
    for event in [&connect, &disconnect] {
        transcript.quote(&summary(event));
    }
    drop(lab);
    transcript.step("everything is stopped and removed");
    Ok(())
}

/// Returns the agent's audit line about a decision, in short.
fn decision(lab: &Lab, user: &str, outcome: &str) -> Result<String, Failure> {
    let line = wait::until(&format!("the decision on {user}"), BOUND, || {
        let logs = lab.agent().logs();
        let mut lines = logs
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == "login decided" && line["user"] == user)
    })?;
    ensure(line["outcome"] == outcome, "the agent decided otherwise")?;
    let keys = ["user", "client_ip", "outcome", "source", "reason", "duration_ms"];
    let fields = keys
        .iter()
        .filter(|key| !line[**key].is_null())
        .map(|key| format!("{key}={}", line[*key]));
    Ok(fields.collect::<Vec<_>>().join(" "))
}

fn event(lab: &Lab, kind: &str) -> Result<Value, Failure> {
    let wanted = |event: &Value| event["kind"] == kind && event["username"] == "alice";
    Ok(lab
        .portal_dev()
        .wait_for_event(&format!("the {kind} of alice"), BOUND, wanted)?)
}

pub(crate) fn summary(event: &Value) -> String {
    let keys = [
        "username",
        "session_uid",
        "client_ip",
        "vpn_ip",
        "decision_source",
        "reason",
        "stats",
    ];
    let fields = keys
        .iter()
        .filter(|key| !event[**key].is_null())
        .map(|key| format!("{key}={}", event[*key]));
    format!(
        "{}: {}",
        event["kind"].as_str().unwrap_or_default(),
        fields.collect::<Vec<_>>().join(" ")
    )
}

/// Keeps everything running until the user presses Enter.
fn wait_for_user(lab: &Lab, transcript: &Transcript) -> Result<(), Failure> {
    let [server, portal, client] = ["s", "p", "c0"].map(|suffix| {
        let names = lab.namespaces();
        names
            .into_iter()
            .find(|name| name.ends_with(suffix))
            .unwrap_or_default()
    });
    let directory = lab.directory().display();
    let as_portal = |command: &str| {
        format!(
            "ip netns exec {portal} {} {command} --agent https://{AGENT_GRPC} --server-name agent.lab \
             --ca {directory}/pki/ca.pem --cert {directory}/pki/portal.pem --key {directory}/pki/portal.key",
            program("portal-dev")
        )
    };
    transcript.step("everything keeps running; in another terminal, as root:");
    println!(
        r"
  sessions as the portal sees them
    {sessions}
  disconnect alice
    {disconnect}
  sessions as ocserv sees them
    ip netns exec {server} occtl -s {directory}/occtl.sock show users
  decisions of the agent, with their reasons
    {agent} decisions --socket {socket}
  log in again (the password is {password:?}; for users that ocserv does not know, it does not run the agent)
    ip netns exec {client} openconnect --cafile {directory}/pki/ca.pem --user alice --no-dtls --script {directory}/tunnel https://10.77.0.1
  watch
    tail -f {directory}/agent.0.log {directory}/events.jsonl

  change the policy in {directory}/policy.toml: portal-dev reloads it
",
        sessions = as_portal("sessions"),
        disconnect = as_portal("disconnect alice"),
        agent = program("ocserv-agent"),
        socket = lab.agent().socket().display(),
        password = testkit::lab::PASSWORD,
    );
    transcript.step("press Enter to stop and remove everything");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

pub(crate) fn program(name: &str) -> String {
    std::env::var("OCSERV_AGENT_BIN_DIR")
        .map_or_else(|_| name.to_owned(), |directory| format!("{directory}/{name}"))
}
