//! The helper against agents whose response is valid, invalid, late or absent.

use std::{io::Write, os::unix::net::UnixListener, path::Path, thread, time::Duration};

use crate::stub::{Agent, code_and_line, helper, run};
use ipc::{MAX_FRAME, encode_frame};

const ALLOW: &str = r#"{"allowed":true,"source":"portal"}"#;
const DENY: &str = r#"{"allowed":false,"source":"portal","deny_code":"policy","error":"not in the group"}"#;

/// `--on-agent-down` does not change the result of a response.
const ON_AGENT_DOWN: [&str; 2] = ["--on-agent-down deny", "--on-agent-down allow"];

fn frame(json: &str) -> Vec<u8> {
    encode_frame(json.as_bytes()).expect("frame")
}

fn exit_code(agent: &Agent, flags: &str) -> i32 {
    let output = run(&mut helper(agent.socket(), flags));
    let (code, line) = code_and_line(&output);
    assert!(
        line.starts_with("vpn-auth: outcome=") && line.ends_with('\n'),
        "{line:?}"
    );
    assert_eq!(line.lines().count(), 1, "{line:?}");
    assert!(output.stdout.is_empty());
    assert_eq!(line.contains("outcome=allow"), code == 0, "{line:?}");
    code
}

#[test]
fn the_decision_is_the_exit_code() {
    for flags in ON_AGENT_DOWN {
        assert_eq!(exit_code(&Agent::sending(frame(ALLOW)), flags), 0);
        assert_eq!(exit_code(&Agent::sending(frame(DENY)), flags), 1);
    }
    let agent = Agent::sending(frame(DENY));
    let (_, line) = code_and_line(&run(&mut helper(agent.socket(), "")));
    for part in [
        "reason=connect",
        r#"id="4711""#,
        r#"source="portal""#,
        r#"error="not in the group""#,
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_response_in_the_old_format_is_accepted() {
    assert_eq!(exit_code(&Agent::sending(frame(r#"{"allowed":true}"#)), ""), 0);
    assert_eq!(
        exit_code(&Agent::sending(frame(r#"{"allowed":false,"error":"no"}"#)), ""),
        1
    );
}

#[test]
fn every_reason_is_sent_and_the_byte_counts_of_a_disconnect() {
    for reason in ["connect", "host-update", "disconnect"] {
        let agent = Agent::sending(frame(ALLOW));
        let mut command = helper(agent.socket(), "");
        command
            .env("REASON", reason)
            .envs([("STATS_BYTES_IN", "102992"), ("STATS_BYTES_OUT", "680")]);
        assert_eq!(code_and_line(&run(command.env("STATS_DURATION", "79"))).0, 0);
        let request = agent.request();
        let ended = reason == "disconnect";
        assert_eq!(
            (request.reason.as_str(), request.username.as_str()),
            (reason, "alice")
        );
        assert_eq!(request.bytes_in, ended.then_some(102_992));
        assert_eq!(request.bytes_out, ended.then_some(680));
        assert_eq!(request.duration_seconds, ended.then_some(79));
        assert_eq!(request.version, Some(1));
        assert!(
            request.deadline_ms.is_some_and(|left| left <= 4000),
            "{:?}",
            request.deadline_ms
        );
    }
}

#[test]
fn without_an_agent_the_flag_decides_and_is_logged() {
    let nowhere = Path::new("/nonexistent/ipc.sock");
    let (code, line) = code_and_line(&run(&mut helper(nowhere, "--deadline 100ms")));
    assert_eq!(code, 2);
    assert!(line.contains("agent is not reachable"), "{line}");
    let (code, line) = code_and_line(&run(&mut helper(nowhere, "--on-agent-down allow")));
    assert_eq!(code, 0);
    assert!(
        line.contains("outcome=allow") && line.contains("source=on_agent_down"),
        "{line}"
    );
}

#[test]
fn an_agent_that_sends_nothing_times_out() {
    for (flags, code) in [("--on-agent-down deny", 2), ("--on-agent-down allow", 0)] {
        assert_eq!(
            exit_code(&Agent::silent(), &format!("--deadline 100ms {flags}")),
            code
        );
    }
}

#[test]
fn a_response_within_the_deadline_counts() {
    let agent = Agent::new(|peer| {
        // Well within the deadline.
        thread::sleep(Duration::from_millis(200));
        drop(peer.write_all(&frame(ALLOW)));
    });
    assert_eq!(exit_code(&agent, "--deadline 60s"), 0);
}

#[test]
fn an_agent_that_never_accepts_times_out_even_when_its_backlog_is_full() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("ipc.sock");
    let listener = UnixListener::bind(&path).expect("listener");
    assert_eq!(code_and_line(&run(&mut helper(&path, "--deadline 100ms"))).0, 2);

    // The first request still waits in the backlog and takes its only slot.
    rustix::net::listen(&listener, 0).expect("no backlog");
    let (code, line) = code_and_line(&run(&mut helper(&path, "--deadline 100ms")));
    assert_eq!(code, 2);
    assert!(line.contains("no answer within 100ms"), "{line}");
}

#[test]
fn deny_in_two_pieces_is_a_deny() {
    let whole = frame(DENY);
    for cut in [1, 4, 5, whole.len() / 2, whole.len() - 1] {
        let whole = whole.clone();
        let agent = Agent::new(move |peer| {
            drop(peer.write_all(&whole[..cut]));
            thread::sleep(Duration::from_millis(20));
            drop(peer.write_all(&whole[cut..]));
        });
        assert_eq!(exit_code(&agent, "--on-agent-down allow"), 1, "cut at {cut}");
    }
}

#[test]
fn an_allow_truncated_at_any_byte_is_never_an_allow() {
    let whole = frame(ALLOW);
    for cut in 1..whole.len() {
        assert_eq!(
            exit_code(&Agent::sending(whole[..cut].to_vec()), ON_AGENT_DOWN[1]),
            3,
            "cut at {cut}"
        );
    }
}

#[test]
fn an_agent_that_closes_without_an_answer_is_an_agent_that_is_down() {
    for (flags, code) in ON_AGENT_DOWN.into_iter().zip([2, 0]) {
        assert_eq!(exit_code(&Agent::sending(""), flags), code, "{flags}");
    }
}

#[test]
fn a_truncated_response_is_not_an_agent_that_is_down() {
    for json in [ALLOW, DENY] {
        let agent = Agent::new(move |peer| {
            let whole = frame(json);
            drop(peer.write_all(&whole[..whole.len() - 1]));
            drop(std::io::Read::read_to_end(peer, &mut Vec::new()));
        });
        assert_eq!(
            exit_code(&agent, "--deadline 100ms --on-agent-down allow"),
            3,
            "{json}"
        );
    }
}

#[test]
fn an_invalid_response_denies() {
    let over = u32::try_from(MAX_FRAME + 1)
        .expect("small")
        .to_be_bytes()
        .to_vec();
    let huge = [over.clone(), vec![b' '; MAX_FRAME + 1]].concat();
    let allow_padded = [frame(ALLOW), vec![0]].concat();
    for (what, bytes) in [
        ("two replies", [frame(ALLOW), frame(ALLOW)].concat()),
        ("an allow, then a deny", [frame(ALLOW), frame(DENY)].concat()),
        ("one byte too many", allow_padded),
        ("1 MiB and a byte", huge),
        ("the header of 1 MiB and a byte", over),
        ("length zero", vec![0; 4]),
        ("no JSON", frame("allowed")),
        ("no object", frame("[true,null,null,null,null]")),
        ("no key", frame("{}")),
        ("a string", frame(r#"{"allowed":"true"}"#)),
        ("a number", frame(r#"{"allowed":1}"#)),
        ("null", frame(r#"{"allowed":null}"#)),
        ("a key twice", frame(r#"{"allowed":false,"allowed":true}"#)),
        ("another protocol", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    ] {
        for flags in ON_AGENT_DOWN {
            assert_eq!(exit_code(&Agent::sending(bytes.clone()), flags), 3, "{what}");
        }
    }
}
