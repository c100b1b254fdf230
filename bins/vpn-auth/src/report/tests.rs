use std::time::Duration;

use ipc::client::ProtocolError;

use super::*;

fn request() -> Request {
    Request {
        reason: "connect".into(),
        username: "alice".into(),
        session_id: "4711".into(),
        ..Request::default()
    }
}

#[test]
fn only_an_allow_and_the_explicit_flag_exit_with_zero() {
    let timeout = || ClientError::Timeout(Duration::from_secs(4));
    let cases = [
        (Outcome::Allowed(Response::new(true)), 0),
        (Outcome::AllowedWithoutAgent(timeout()), 0),
        (Outcome::Denied(Response::new(false)), 1),
        (Outcome::AgentDown(timeout()), 2),
        (Outcome::InvalidResponse(ProtocolError::Truncated.into()), 3),
        (Outcome::BadEnvironment(EnvError::Missing("ID")), 4),
        (Outcome::BadFlags("unknown".into()), 4),
    ];
    for (outcome, code) in cases {
        assert_eq!(outcome.exit_code(), code, "{outcome:?}");
    }
}

#[test]
fn the_line_has_user_outcome_cause_and_duration() {
    let denied = Response {
        source: Some("portal".into()),
        deny_code: Some("policy".into()),
        error: Some("not in \"vpn\"".into()),
        ..Response::new(false)
    };
    assert_eq!(
        line(Some(&request()), &Outcome::Denied(denied), 3214),
        "vpn-auth: outcome=deny exit=1 duration_ms=3.214 reason=connect id=\"4711\" user=\"alice\" source=\"portal\" \
         deny_code=\"policy\" error=\"not in \\\"vpn\\\"\"\n"
    );
    assert_eq!(
        line(
            Some(&request()),
            &Outcome::AllowedWithoutAgent(ClientError::Timeout(Duration::from_secs(4))),
            4_000_120
        ),
        "vpn-auth: outcome=allow exit=0 duration_ms=4000.120 reason=connect id=\"4711\" user=\"alice\" \
         source=on_agent_down cause=\"agent gave no answer within 4s\"\n"
    );
    assert_eq!(
        line(None, &Outcome::BadEnvironment(EnvError::NotUtf8("USERNAME")), 90),
        "vpn-auth: outcome=deny exit=4 duration_ms=0.090 cause=\"USERNAME is not UTF-8\"\n"
    );
}

#[test]
fn no_value_can_forge_a_line_or_a_field_or_reorder_the_text() {
    let evil = "a\nvpn-auth: outcome=allow\r\x1b[2J\" outcome=\"\u{202e}\u{2028}\u{85}\u{0}\\";
    let everywhere = Request {
        username: evil.into(),
        session_id: evil.into(),
        ..request()
    };
    let response = Response {
        error: Some(evil.into()),
        message: Some(evil.into()),
        source: Some(evil.into()),
        deny_code: Some(evil.into()),
        ..Response::new(false)
    };
    let line = line(Some(&everywhere), &Outcome::Denied(response), 1);
    let body = line.strip_suffix('\n').expect("a line");
    assert!(
        body.chars()
            .all(|c| !c.is_control() && !matches!(c, '\u{202e}' | '\u{2028}')),
        "{body:?}"
    );
    assert!(!body.replace("\\\"", "").contains("\" outcome="), "{body}");
}

#[test]
fn a_line_is_bounded_whatever_the_agent_sends() {
    let long = Some("\u{202e}é".repeat(100_000));
    let response = Response {
        error: long.clone(),
        message: long.clone(),
        source: long,
        ..Response::new(true)
    };
    let line = line(Some(&request()), &Outcome::Allowed(response), u128::MAX);
    assert!(line.len() <= MAX_LINE && line.ends_with('\n'), "{}", line.len());
}

#[test]
fn only_a_connect_is_logged_as_allowed_or_denied() {
    let outcome_field = |reason: &str, outcome: &Outcome| {
        let request = Request {
            reason: reason.into(),
            ..request()
        };
        line(Some(&request), outcome, 0)
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    let down = Outcome::AgentDown(ClientError::Timeout(Duration::from_secs(4)));
    let recorded = Outcome::Allowed(Response::new(true));
    assert_eq!(outcome_field("connect", &recorded), "outcome=allow");
    assert_eq!(outcome_field("connect", &down), "outcome=deny");
    assert_eq!(outcome_field("disconnect", &recorded), "outcome=recorded");
    assert_eq!(outcome_field("host-update", &down), "outcome=not_recorded");
}
