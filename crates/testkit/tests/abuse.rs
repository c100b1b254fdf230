//! Whatever a portal answers and whoever knocks at the agent's socket: nobody gets in by it, and logins of others go on.
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
use testkit::lab::{AgentOptions, Lab, Question};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::scene::{eager, lab, last_decision, reload};
use testkit::wait::{self, BOUND};
use tonic::Code;

/// How a deny by status reads: the portal works and says no, which no fail mode overrules.
const NO: [Code; 3] = [Code::InvalidArgument, Code::NotFound, Code::PermissionDenied];

/// Every answer that is none.
fn no_answers() -> Vec<Reply<CheckPolicyResponse>> {
    // An allow with something to say, cut after each of its bytes.
    let allow = [8, 1, 26, 10]
        .iter()
        .copied()
        .chain(*b"10.0.0.0/8")
        .collect::<Vec<u8>>();
    let mut replies: Vec<_> = (0..allow.len())
        .map(|end| Reply::Torn(allow[..end].to_vec()))
        .collect();
    replies.extend((0..17).map(|number| Reply::code(Code::from(number))));
    // An allow with a field that nobody knows, which would be nothing to object to, were it not so long.
    let mut too_large = vec![8, 1, 122, 0x81, 0x80, 0x40];
    too_large.resize(too_large.len() + (1 << 20) + 1, b'x');
    replies.extend([
        Reply::Torn(allow),
        Reply::NoMessage,
        Reply::empty(),
        Reply::contradictory(),
        Reply::Message(CheckPolicyResponse {
            allowed: true,
            deny_reason: "and yet not".to_owned(),
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
        Reply::Http(503),
        Reply::CloseConnection,
    ]);
    replies
}

/// The connect-script's exit code for a login of `user`.
fn script(lab: &Lab, user: &str) -> i32 {
    let output = Question::login(user).run_script(lab).unwrap();
    output.status.code().unwrap()
}

#[test]
fn no_answer_but_a_whole_allow_lets_anyone_in_and_none_overrules_what_the_portal_said_before() {
    let options = |mode: &str| {
        eager(&format!(
            r#"
            resilience.fail_mode = "{mode}"
            resilience.cache = {{ ttl = "1ms", deny_ttl = "1ms" }}
            resilience.circuit_breaker.failure_threshold = 1000
            "#
        ))
    };
    let lab = Lab::builder("no-answers")
        .agent(options("close"))
        .deployed_script()
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for reply in no_answers() {
        portal.on_check(reply.clone());
        assert_eq!(script(&lab, "newcomer"), 1, "close, {reply:?}");
    }

    reload(&lab, &options("open"));
    for reply in no_answers() {
        decide(&lab, &portal, "mallory", Reply::deny("never"));
        portal.on_check(reply.clone());
        assert_eq!(script(&lab, "mallory"), 1, "open, {reply:?}");
    }

    reload(&lab, &options("stale"));
    for reply in no_answers() {
        decide(&lab, &portal, "alice", Reply::allow());
        let is_no = NO.iter().any(|code| reply == Reply::code(*code));
        portal.on_check(reply.clone());
        assert_eq!(script(&lab, "alice"), i32::from(is_no), "stale, {reply:?}");
        let decision = last_decision(&lab, "alice");
        let source = if is_no { "portal" } else { "stale" };
        assert_eq!(decision["source"], source, "{reply:?}: {decision}");
    }
}

/// Has the portal decide about a user, so that this is what is remembered.
fn decide(lab: &Lab, portal: &PortalDouble, user: &str, reply: Reply<CheckPolicyResponse>) {
    portal.on_check(reply);
    // The answer before may have taken the connection with it.
    wait::until("an answer of the portal", BOUND, || {
        let answer = Question::login(user).ask(lab).unwrap();
        (answer["source"] == "portal").then_some(())
    })
    .unwrap();
}

#[test]
fn a_no_of_the_portal_is_remembered_in_an_outage_in_whatever_words_it_came() {
    let options =
        eager("resilience.fail_mode = \"open\"\nresilience.cache = { ttl = \"1ms\", deny_ttl = \"1ms\" }");
    let lab = Lab::builder("no-is-no")
        .agent(options)
        .deployed_script()
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    let words = [
        ("said", Reply::deny("never")),
        ("not-to-be-kept", Reply::deny_for("never", Duration::ZERO)),
        ("missing", Reply::code(Code::NotFound)),
        ("forbidden", Reply::code(Code::PermissionDenied)),
    ];
    for (user, reply) in words.clone() {
        portal.on_check_of(user, reply);
        assert_eq!(script(&lab, user), 1, "{user}");
    }
    portal.stop();
    for (user, _) in words {
        assert_eq!(script(&lab, user), 1, "{user}: {}", last_decision(&lab, user));
    }
}

#[test]
fn an_allow_that_comes_too_late_lets_nobody_in_and_is_not_kept() {
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(300),
        ..eager("resilience.circuit_breaker.failure_threshold = 1000")
    };
    let lab = Lab::builder("too-late")
        .agent(options)
        .deployed_script()
        .start()
        .unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    portal.delay(Duration::from_millis(900));
    assert_eq!(script(&lab, "alice"), 1);
    portal.delay(Duration::ZERO);
    portal.on_check(Reply::Hang);
    // The late answer has arrived at the agent before the second one is due.
    for _ in 0..4 {
        assert_eq!(script(&lab, "alice"), 1, "{}", last_decision(&lab, "alice"));
    }
}

/// A way to be a nuisance on the socket until it is over.
type Nuisance = fn(&Path, &Progress);

/// How far a nuisance has come.
#[derive(Default)]
struct Progress {
    /// It is as bad as it gets.
    under_way: AtomicBool,
    /// It shall end.
    over: AtomicBool,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn is_under_way(&self) {
        self.under_way.store(true, Ordering::Relaxed);
    }
}

/// Ends a nuisance, also when the test fails meanwhile.
struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn logins_go_on_whatever_else_knocks_at_the_socket() {
    let nuisances: [(&str, Nuisance); 4] = [
        ("slow loris", slow_loris),
        ("a thousand idle connections", idle),
        ("peers that never read", deaf),
        ("garbage at line speed", garbage),
    ];
    allow_many_files();
    let lab = lab("nuisances").start().unwrap();
    let socket = lab.agent().socket();
    for (what, nuisance) in nuisances {
        let progress = Progress::default();
        thread::scope(|scope| {
            scope.spawn(|| nuisance(&socket, &progress));
            let _end = End(&progress);
            wait::until(what, BOUND, || {
                progress.under_way.load(Ordering::Relaxed).then_some(())
            })
            .unwrap();
            for user in ["alice", "bob"] {
                let login = lab.server().connect(user);
                login.unwrap_or_else(|rejected| panic!("{what}: {rejected}"));
            }
            let rejected = lab.server().connect("mallory").unwrap_err();
            assert!(rejected.is_by_script(), "{what}: {rejected}");
            assert_eq!(last_decision(&lab, "mallory")["deny_code"], "policy", "{what}");
        });
    }
    let helper = lab.server().process().unwrap().logs();
    assert!(!helper.contains("exit=2"), "{helper}");
}

/// Lets this program have a thousand connections where the system's default does not.
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

/// Two hundred connections that send a request byte by byte; one that is thrown out begins again.
fn slow_loris(socket: &Path, progress: &Progress) {
    let frame = Question::login("loris").frame();
    let mut open: Vec<(UnixStream, usize)> = Vec::new();
    while !progress.is_over() {
        while open.len() < 200 {
            open.push((UnixStream::connect(socket).unwrap(), 0));
        }
        open.retain_mut(|(stream, sent)| {
            let byte = frame.get(*sent..=*sent).unwrap_or_default();
            *sent += 1;
            !byte.is_empty() && stream.write_all(byte).is_ok()
        });
        progress.is_under_way();
        thread::sleep(Duration::from_millis(50));
    }
}

/// A thousand connections that say nothing; one that is thrown out is not noticed and stays open on this side.
fn idle(socket: &Path, progress: &Progress) {
    let mut open = Vec::new();
    while !progress.is_over() {
        if open.len() < 1_000 {
            open.push(UnixStream::connect(socket).unwrap());
        } else {
            progress.is_under_way();
            // In their place come others, so that there are always some that the agent has to wait for.
            open.drain(..100);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whole questions whose answers nobody reads.
fn deaf(socket: &Path, progress: &Progress) {
    let mut open = Vec::new();
    while !progress.is_over() {
        if open.len() == 100 {
            progress.is_under_way();
            open.drain(..50);
        }
        open.push(Question::login("deaf").put(socket).unwrap());
        thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes without a meaning, as fast as they are taken.
fn garbage(socket: &Path, progress: &Progress) {
    let bytes: Vec<u8> = (0..1 << 16)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    while !progress.is_over() {
        let mut stream = UnixStream::connect(socket).unwrap();
        // Announced as less than a mebibyte, so that all of it is read.
        let _ = stream.write_all(&(1_u32 << 19).to_be_bytes());
        while !progress.is_over() && stream.write_all(&bytes).is_ok() {
            progress.is_under_way();
        }
    }
}

#[test]
fn a_helper_that_knows_only_the_first_seven_keys_gets_an_answer_that_it_understands() {
    let lab = lab("seven-keys").start().unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for (user, allowed) in [("alice", true), ("mallory", false)] {
        let question = Question::login(user).without("vhost");
        let answer = question.ask(&lab).unwrap();
        assert_eq!(answer["allowed"], allowed, "{answer}");
        for key in ["error", "message"] {
            assert!(
                matches!(answer.get(key), None | Some(Value::String(_))),
                "{answer}"
            );
        }
        let answer = question.end().ask(&lab).unwrap();
        assert_eq!(answer["allowed"], true, "{answer}");
    }
}

#[test]
fn a_user_or_an_address_that_asks_too_often_is_refused_and_others_are_not() {
    let options = |limit: &str| {
        eager(&format!(
            "resilience.rate_limit.{limit} = {{ burst = 2, every = \"1h\" }}"
        ))
    };
    let lab = lab("rate-limit").agent(options("per_user")).start().unwrap();
    lab.server().connect("alice").unwrap();
    lab.server().connect("alice").unwrap();
    let rejected = lab.server().connect("alice").unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
    assert_eq!(last_decision(&lab, "alice")["deny_code"], "rate_limited");
    lab.server().connect("bob").unwrap();

    reload(&lab, &options("per_address"));
    let ask = |user: &str, address: &str| {
        let answer = Question::login(user).with("ip_real", address).ask(&lab).unwrap();
        (answer["allowed"] == true, answer["deny_code"].clone())
    };
    assert_eq!(ask("alice", "192.0.2.1"), (true, Value::Null));
    assert_eq!(ask("bob", "192.0.2.1"), (true, Value::Null));
    assert_eq!(ask("carol", "192.0.2.1"), (false, "rate_limited".into()));
    assert_eq!(ask("carol", "192.0.2.2"), (true, Value::Null));
}
