//! The story on real ocserv.

use serde_json::Value;
use testkit::lab::{AGENT_GRPC, AgentOptions, Lab, PORTAL};
use testkit::wait::{self, BOUND};

use crate::account::{Account, Failure, ensure};

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

pub(crate) fn tell(keep: bool) -> Result<(), Failure> {
    let account = Account::begin();
    let lab = Lab::builder("demo")
        .users(&["alice", "mallory"])
        .portal_dev(POLICY)
        .agent(AgentOptions {
            log_level: "info".to_owned(),
            ..AgentOptions::default()
        })
        .start()?;
    account.tell("portal-dev, ocserv-agent and ocserv run, each side in a network namespace of its own");
    account.tell(&format!(
        "the agent asks the portal at {PORTAL} and answers it at {AGENT_GRPC}: TLS 1.3, both ways"
    ));
    account.tell("the portal's policy: alice may come in, mallory may not");

    let alice = lab.server().connect("alice")?;
    account.tell(&format!(
        "alice logs in with openconnect and gets {}; the agent's log:",
        alice.vpn_ip()
    ));
    account.quote(&decision(&lab, "alice", "allow")?);

    let Err(rejected) = lab.server().connect("mallory") else {
        return Err("mallory got in".into());
    };
    ensure(
        rejected.is_by_script(),
        "mallory was kept out by something else than the agent",
    )?;
    ensure(lab.sessions_of("mallory")?.is_empty(), "mallory has a session")?;
    account.tell("mallory logs in with the right password and is told \"Cookie was rejected by server\":");
    account.quote(&decision(&lab, "mallory", "deny")?);

    let list = lab.portal_dev().call_agent(&["sessions"])?;
    ensure(
        list.contains("alice") && !list.contains("mallory"),
        "the portal's list is not alice alone",
    )?;
    account.tell("the portal lists the sessions (portal-dev sessions):");
    account.quote(&list);

    if keep {
        stay(&lab, &account)?;
        drop(lab);
        account.tell("everything is stopped and removed");
        return Ok(());
    }

    let ended = lab.portal_dev().call_agent(&["disconnect", "alice"])?;
    alice.wait_ended(BOUND)?;
    lab.wait_for_sessions("alice", 0)?;
    account.tell("the portal ends alice's session (portal-dev disconnect alice), and her client ends:");
    account.quote(&ended);

    let begin = heard(&lab, "connect")?;
    let end = heard(&lab, "disconnect")?;
    ensure(
        begin["session_uid"] == end["session_uid"],
        "the two events are not about one session",
    )?;
    ensure(
        end["reason"] == "admin_forced",
        "the end does not say who ended it",
    )?;
    ensure(
        !lab.portal_dev()
            .events()
            .iter()
            .any(|e| e["kind"] == "connect" && e["username"] == "mallory"),
        "an event about mallory",
    )?;
    account.tell("what the portal heard of it:");
    for event in [&begin, &end] {
        account.quote(&summary(event));
    }
    drop(lab);
    account.tell("everything is stopped and removed");
    Ok(())
}

/// The agent's line about a decision, in a form to read.
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
    let said = keys
        .iter()
        .filter(|key| !line[**key].is_null())
        .map(|key| format!("{key}={}", line[*key]));
    Ok(said.collect::<Vec<_>>().join(" "))
}

fn heard(lab: &Lab, kind: &str) -> Result<Value, Failure> {
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
    let said = keys
        .iter()
        .filter(|key| !event[**key].is_null())
        .map(|key| format!("{key}={}", event[*key]));
    format!(
        "{}: {}",
        event["kind"].as_str().unwrap_or_default(),
        said.collect::<Vec<_>>().join(" ")
    )
}

/// Leaves everything up until the operator presses Enter.
fn stay(lab: &Lab, account: &Account) -> Result<(), Failure> {
    let [server, portal, client] = ["s", "p", "c0"].map(|suffix| {
        let names = lab.namespaces();
        names
            .into_iter()
            .find(|name| name.ends_with(suffix))
            .unwrap_or_default()
    });
    let directory = lab.directory().display();
    let as_portal = |words: &str| {
        format!(
            "ip netns exec {portal} {} {words} --agent https://{AGENT_GRPC} --server-name agent.lab \
             --ca {directory}/pki/ca.pem --cert {directory}/pki/portal.pem --key {directory}/pki/portal.key",
            program("portal-dev")
        )
    };
    account.tell("it stays up; in another terminal, as root:");
    println!(
        r"
  sessions as the portal sees them
    {sessions}
  end alice's session
    {disconnect}
  sessions as ocserv sees them
    ip netns exec {server} occtl -s {directory}/occtl.sock show users
  what the agent decided, and why
    {agent} decisions --socket {socket}
  log in again (the password is {password:?}; users that ocserv does not know never get to the agent)
    ip netns exec {client} openconnect --cafile {directory}/pki/ca.pem --user alice --no-dtls --script {directory}/tunnel https://10.77.0.1
  watch
    tail -f {directory}/agent.0.log {directory}/events.jsonl

  change the policy in {directory}/policy.toml: it is read again by itself
",
        sessions = as_portal("sessions"),
        disconnect = as_portal("disconnect alice"),
        agent = program("ocserv-agent"),
        socket = lab.agent().socket().display(),
        password = testkit::lab::PASSWORD,
    );
    account.tell("press Enter to stop and remove everything");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

pub(crate) fn program(name: &str) -> String {
    std::env::var("OCSERV_AGENT_BIN_DIR")
        .map_or_else(|_| name.to_owned(), |directory| format!("{directory}/{name}"))
}
