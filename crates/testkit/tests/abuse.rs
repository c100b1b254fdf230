//! Invalid replies of a portal allow no login, and abuse of the IPC socket does not delay other
//! logins.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ocserv_agent_proto::vpn::v1::CheckPolicyResponse;
use serde_json::Value;
use testkit::harness::{fast_reconnect, lab, last_decision, reload};
use testkit::lab::{AgentOptions, IpcRequest, Lab};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::wait::{self, BOUND};
use tonic::Code;

/// Statuses that are a deny: the portal is up, so no fail mode applies.
const DENY_CODES: [Code; 3] = [Code::InvalidArgument, Code::NotFound, Code::PermissionDenied];

/// Whether a reply denies the login in every fail mode, although it is no decision.
fn is_denial(reply: &Reply<CheckPolicyResponse>) -> bool {
    let is_contradiction = matches!(reply, Reply::Message(message)
        if message.allowed && (message.should_disconnect || !message.deny_reason.is_empty()));
    is_contradiction || DENY_CODES.iter().any(|code| *reply == Reply::code(*code))
}

/// Replies that are no complete, valid allow.
fn invalid_replies() -> Vec<Reply<CheckPolicyResponse>> {
    // An allow with a route, truncated after each of its bytes.
    let allow = [8, 1, 26, 10]
        .iter()
        .copied()
        .chain(*b"10.0.0.0/8")
        .collect::<Vec<u8>>();
    let mut replies: Vec<_> = (0..allow.len())
        .map(|end| Reply::Torn(allow[..end].to_vec()))
        .collect();
    replies.extend((0..17).map(|number| Reply::code(Code::from(number))));
    // An allow with an unknown field, valid except for its length.
    let mut too_large = vec![8, 1, 122, 0x81, 0x80, 0x40];
    too_large.resize(too_large.len() + (1 << 20) + 1, b'x');
    replies.extend([
        Reply::Torn(allow),
        Reply::NoMessage,
        Reply::empty(),
        Reply::contradictory(),
        Reply::Message(CheckPolicyResponse {
            allowed: true,
            deny_reason: "contradiction".to_owned(),
            ..CheckPolicyResponse::default()
        }),
        Reply::Message(CheckPolicyResponse {
            allowed: true,
            routes: vec!["nowhere".to_owned()],
            ..CheckPolicyResponse::default()
        }),
        Reply::Bytes(vec![0xff; 9]),
        Reply::Bytes(b"HTTP/1.1 200 OK\r\n\r\n{\"allowed\":true}".to_vec()),
        Reply::Bytes(too_large),
        Reply::Http(200),
        Reply::Http(403),
        Reply::Http(503),
        Reply::CloseConnection,
    ]);
    replies
}

/// Runs the connect-script for a login and returns its exit code.
fn run_script(lab: &Lab, user: &str) -> i32 {
    let output = IpcRequest::login(user).run_script(lab).unwrap();
    output.status.code().unwrap()
}

#[test]
fn only_a_complete_allow_allows_and_no_invalid_reply_replaces_an_earlier_decision() {
    let options = |mode: &str| {
        fast_reconnect(&format!(
            r#"
            resilience.fail_mode = "{mode}"
            resilience.cache = {{ ttl = "1ms", deny_ttl = "1ms" }}
            resilience.circuit_breaker.failure_threshold = 1000
            "#
        ))
    };
    let lab = Lab::builder("invalid-replies")
        .agent(options("close"))
        .deployed_script()
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for reply in invalid_replies() {
        portal.on_check(reply.clone());
        assert_eq!(run_script(&lab, "newcomer"), 1, "close, {reply:?}");
    }

    reload(&lab, &options("open"));
    for reply in invalid_replies() {
        decide(&lab, &portal, "mallory", Reply::deny("never"));
        portal.on_check(reply.clone());
        assert_eq!(run_script(&lab, "mallory"), 1, "open, {reply:?}");
        let is_allowed = !is_denial(&reply);
        assert_eq!(
            run_script(&lab, "newcomer"),
            i32::from(!is_allowed),
            "open, {reply:?}"
        );
    }

    reload(&lab, &options("stale"));
    for reply in invalid_replies() {
        decide(&lab, &portal, "alice", Reply::allow());
        let is_deny = is_denial(&reply);
        portal.on_check(reply.clone());
        assert_eq!(run_script(&lab, "alice"), i32::from(is_deny), "stale, {reply:?}");
        let decision = last_decision(&lab, "alice");
        let source = if is_deny { "portal" } else { "stale" };
        assert_eq!(decision["source"], source, "{reply:?}: {decision}");
        // Nothing of it was kept: the earlier allow still decides in an outage.
        portal.on_check(Reply::code(Code::Unavailable));
        assert_eq!(run_script(&lab, "alice"), 0, "after {reply:?}");
    }
}

/// Logs a user in until the portal has decided, so that its reply is cached.
fn decide(lab: &Lab, portal: &PortalDouble, user: &str, reply: Reply<CheckPolicyResponse>) {
    portal.on_check(reply);
    // The reply before may have closed the connection.
    wait::until("decision of the portal", BOUND, || {
        let response = IpcRequest::login(user).call(lab).unwrap();
        (response["source"] == "portal").then_some(())
    })
    .unwrap();
}

#[test]
fn a_deny_outlasts_an_outage_and_a_status_denies_one_login_alone() {
    let options = fast_reconnect(
        "resilience.fail_mode = \"open\"\nresilience.cache = { ttl = \"1ms\", deny_ttl = \"1ms\" }",
    );
    let lab = Lab::builder("deny-forms")
        .agent(options)
        .deployed_script()
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    // The exit code of the script in an outage after the reply.
    let denies = [
        ("denied", Reply::deny("never"), 1),
        ("not-cached", Reply::deny_for("never", Duration::ZERO), 1),
        // Nothing of a status is kept, so the user is new to the outage.
        ("missing", Reply::code(Code::NotFound), 0),
        ("forbidden", Reply::code(Code::PermissionDenied), 0),
    ];
    for (user, reply, _) in denies.clone() {
        portal.on_check_of(user, reply);
        assert_eq!(run_script(&lab, user), 1, "{user}");
    }
    portal.stop();
    for (user, _, outage) in denies {
        let exit_code = run_script(&lab, user);
        assert_eq!(exit_code, outage, "{user}: {}", last_decision(&lab, user));
    }
}

#[test]
fn a_late_allow_allows_no_login_and_is_not_cached() {
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(300),
        ..fast_reconnect("resilience.circuit_breaker.failure_threshold = 1000")
    };
    let lab = Lab::builder("too-late")
        .agent(options)
        .deployed_script()
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    portal.delay(Duration::from_millis(900));
    assert_eq!(run_script(&lab, "alice"), 1);
    portal.delay(Duration::ZERO);
    portal.on_check(Reply::Hang);
    // The late reply reaches the agent before the second check times out.
    for _ in 0..4 {
        assert_eq!(run_script(&lab, "alice"), 1, "{}", last_decision(&lab, "alice"));
    }
}

/// Abuses the socket until told to stop.
type Abuse = fn(&Path, &Progress);

/// The state of an abuse.
#[derive(Default)]
struct Progress {
    /// It has reached its full extent.
    established: AtomicBool,
    /// It must stop.
    stopped: AtomicBool,
}

impl Progress {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn set_established(&self) {
        self.established.store(true, Ordering::Relaxed);
    }
}

/// Stops an abuse, also when the test fails.
struct StopOnDrop<'a>(&'a Progress);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }
}

#[test]
fn abuse_of_the_socket_does_not_stop_logins() {
    let abuses: [(&str, Abuse); 4] = [
        ("slow loris", slow_loris),
        ("a thousand idle connections", idle),
        ("peers that never read", send_only),
        ("garbage at line speed", garbage),
    ];
    allow_many_files();
    let lab = lab("abuse").start().unwrap();
    let socket = lab.agent().socket();
    for (what, abuse) in abuses {
        let progress = Progress::default();
        thread::scope(|scope| {
            scope.spawn(|| abuse(&socket, &progress));
            let _stop = StopOnDrop(&progress);
            wait::until(what, BOUND, || {
                progress.established.load(Ordering::Relaxed).then_some(())
            })
            .unwrap();
            for user in ["alice", "bob"] {
                let login = lab.server().connect(user);
                login.unwrap_or_else(|rejected| panic!("{what}: {rejected}"));
            }
            let rejected = lab.server().connect("mallory").unwrap_err();
            assert!(rejected.is_session_denied(), "{what}: {rejected}");
            assert_eq!(last_decision(&lab, "mallory")["deny_code"], "policy", "{what}");
        });
    }
    let helper = lab.server().process().unwrap().logs();
    assert!(!helper.contains("exit=2"), "{helper}");
}

/// Raises this process's limit of open files where it is below a thousand connections.
fn allow_many_files() {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let soft: u64 = line
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap_or(u64::MAX);
    if soft < 4096 {
        let pid = format!("--pid={}", std::process::id());
        let status = Command::new("prlimit").args([&pid, "--nofile=4096:"]).status();
        assert!(status.unwrap().success());
    }
}

/// Keeps two hundred connections open that send a request byte by byte; replaces evicted ones.
fn slow_loris(socket: &Path, progress: &Progress) {
    let frame = IpcRequest::login("loris").frame();
    let mut open: Vec<(UnixStream, usize)> = Vec::new();
    while !progress.is_stopped() {
        while open.len() < 200 {
            open.push((UnixStream::connect(socket).unwrap(), 0));
        }
        open.retain_mut(|(stream, sent)| {
            let byte = frame.get(*sent..=*sent).unwrap_or_default();
            *sent += 1;
            !byte.is_empty() && stream.write_all(byte).is_ok()
        });
        progress.set_established();
        thread::sleep(Duration::from_millis(50));
    }
}

/// Keeps a thousand connections open that send nothing; evicted ones stay open on this side.
fn idle(socket: &Path, progress: &Progress) {
    let mut open = Vec::new();
    while !progress.is_stopped() {
        if open.len() < 1_000 {
            open.push(UnixStream::connect(socket).unwrap());
        } else {
            progress.set_established();
            // Others replace them, so that some are always younger than the agent's timeout.
            open.drain(..100);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Sends complete requests and reads no response.
fn send_only(socket: &Path, progress: &Progress) {
    let mut open = Vec::new();
    while !progress.is_stopped() {
        if open.len() == 100 {
            progress.set_established();
            open.drain(..50);
        }
        open.push(IpcRequest::login("unread").send(socket).unwrap());
        thread::sleep(Duration::from_millis(2));
    }
}

/// Sends meaningless bytes as fast as they are read.
fn garbage(socket: &Path, progress: &Progress) {
    let bytes: Vec<u8> = (0..1 << 16)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    while !progress.is_stopped() {
        let mut stream = UnixStream::connect(socket).unwrap();
        // Announces less than a mebibyte, so that all of it is read.
        let _ = stream.write_all(&(1_u32 << 19).to_be_bytes());
        while !progress.is_stopped() && stream.write_all(&bytes).is_ok() {
            progress.set_established();
        }
    }
}

#[test]
fn a_helper_of_the_first_protocol_version_gets_a_response_that_it_can_read() {
    let lab = lab("seven-keys").start().unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for (user, allowed) in [("alice", true), ("mallory", false)] {
        let request = IpcRequest::login(user).without("vhost");
        let response = request.call(&lab).unwrap();
        assert_eq!(response["allowed"], allowed, "{response}");
        for key in ["error", "message"] {
            assert!(
                matches!(response.get(key), None | Some(Value::String(_))),
                "{response}"
            );
        }
        let response = request.into_disconnect().call(&lab).unwrap();
        assert_eq!(response["allowed"], true, "{response}");
    }
}

#[test]
fn a_rate_limited_user_or_address_is_denied_and_others_are_not() {
    let options = |limit: &str| {
        fast_reconnect(&format!(
            "resilience.rate_limit.{limit} = {{ burst = 2, every = \"1h\" }}"
        ))
    };
    let lab = lab("rate-limit").agent(options("per_user")).start().unwrap();
    lab.server().connect("alice").unwrap();
    lab.server().connect("alice").unwrap();
    let rejected = lab.server().connect("alice").unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    assert_eq!(last_decision(&lab, "alice")["deny_code"], "rate_limited");
    lab.server().connect("bob").unwrap();

    reload(&lab, &options("per_address"));
    let log_in = |user: &str, address: &str| {
        let response = IpcRequest::login(user)
            .with("ip_real", address)
            .call(&lab)
            .unwrap();
        (response["allowed"] == true, response["deny_code"].clone())
    };
    assert_eq!(log_in("alice", "192.0.2.1"), (true, Value::Null));
    assert_eq!(log_in("bob", "192.0.2.1"), (true, Value::Null));
    assert_eq!(log_in("carol", "192.0.2.1"), (false, "rate_limited".into()));
    assert_eq!(log_in("carol", "192.0.2.2"), (true, Value::Null));
}
