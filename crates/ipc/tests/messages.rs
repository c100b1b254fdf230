//! Which bytes are a request or a response, from old peers and new ones.

use ipc::{MessageError, Request, Response};
use proptest::prelude::*;

/// The body of a frame.
fn body(frame: &[u8]) -> &[u8] {
    &frame[4..]
}

#[test]
fn an_old_request_of_seven_keys_is_parsed() {
    let old = br#"{"reason":"connect","username":"alice","groupname":"staff","ip_real":"10.77.0.2",
        "ip_remote":"10.88.63.50","device":"bvpn0","session_id":"21660"}"#;
    let expected = Request {
        reason: "connect".into(),
        username: "alice".into(),
        groupname: "staff".into(),
        ip_real: "10.77.0.2".into(),
        ip_remote: "10.88.63.50".into(),
        device: "bvpn0".into(),
        session_id: "21660".into(),
        ..Request::default()
    };
    assert_eq!(Request::from_json(old).unwrap(), expected);
}

#[test]
fn a_request_without_added_keys_has_the_old_seven_keys_and_no_other() {
    let plain = Request {
        reason: "connect".into(),
        username: "alice".into(),
        ..Request::default()
    };
    let text = String::from_utf8(body(&plain.to_frame().unwrap()).to_vec()).unwrap();
    assert_eq!(
        text,
        r#"{"reason":"connect","username":"alice","groupname":"","ip_real":"","ip_remote":"","device":"","session_id":""}"#
    );
}

#[test]
fn the_added_keys_have_the_names_and_types_of_the_contract() {
    let text = |s: &str| Some(s.to_owned());
    let full = Request {
        reason: "disconnect".into(),
        username: "alice".into(),
        version: Some(1),
        deadline_ms: Some(3999),
        answer_by_boottime_ms: Some(7_203_999),
        vhost: text("default"),
        hostname: text("pc"),
        user_agent: text("Open AnyConnect"),
        device_type: text("t"),
        device_platform: text("linux"),
        ip_local: text("10.88.0.1"),
        ip_real_local: text("10.77.0.1"),
        ipv6_local: text("fd88::1"),
        ipv6_remote: text("fd88::2"),
        bytes_in: Some(u64::MAX),
        bytes_out: Some(0),
        duration_seconds: Some(79),
        ..Request::default()
    };
    let frame = full.to_frame().unwrap();
    let json: serde_json::Value = serde_json::from_slice(body(&frame)).unwrap();
    for (key, value) in [
        ("version", serde_json::json!(1)),
        ("deadline_ms", serde_json::json!(3999)),
        ("answer_by_boottime_ms", serde_json::json!(7_203_999)),
        ("vhost", serde_json::json!("default")),
        ("hostname", serde_json::json!("pc")),
        ("user_agent", serde_json::json!("Open AnyConnect")),
        ("device_type", serde_json::json!("t")),
        ("device_platform", serde_json::json!("linux")),
        ("ip_local", serde_json::json!("10.88.0.1")),
        ("ip_real_local", serde_json::json!("10.77.0.1")),
        ("ipv6_local", serde_json::json!("fd88::1")),
        ("ipv6_remote", serde_json::json!("fd88::2")),
        ("bytes_in", serde_json::json!(u64::MAX)),
        ("bytes_out", serde_json::json!(0)),
        ("duration_seconds", serde_json::json!(79)),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!(json.as_object().unwrap().len(), 22);
    assert_eq!(Request::from_json(body(&frame)).unwrap(), full);
}

#[test]
fn an_old_response_of_two_keys_is_parsed() {
    let denied = Response::from_json(br#"{"allowed":false,"error":"no"}"#).unwrap();
    assert_eq!(
        denied,
        Response {
            error: Some("no".into()),
            ..Response::new(false)
        }
    );
    assert_eq!(
        Response::from_json(br#"{"allowed":true}"#).unwrap(),
        Response::new(true)
    );
    assert_eq!(
        body(&Response::new(true).to_frame().unwrap()),
        br#"{"allowed":true}"#
    );
}

#[test]
fn unknown_keys_are_ignored_whatever_their_value() {
    let json = br#" { "x": {"allowed": true, "y": [1, {"allowed": 1}]}, "allowed" : false, "X": null, "Allowed": true } "#;
    assert_eq!(Response::from_json(json).unwrap(), Response::new(false));
    let request = br#"{"reason":"connect","username":"a","routes":[1,2],"new":{"deep":[]}}"#;
    assert_eq!(Request::from_json(request).unwrap().username, "a");
}

#[test]
fn anything_without_one_boolean_allowed_is_no_response() {
    for json in [
        "{}",
        r#"{"error":"x"}"#,
        r#"{"allowed":"true"}"#,
        r#"{"allowed":1}"#,
        r#"{"allowed":1.0}"#,
        r#"{"allowed":null}"#,
        r#"{"allowed":[true]}"#,
        r#"{"allowed":{"allowed":true}}"#,
        r#"{"Allowed":true}"#,
        r#"{"allowed ":true}"#,
        r#"{"allowed":True}"#,
        r#"{"allowed":true,"allowed":true}"#,
        r#"{"allowed":false,"allowed":true}"#,
        r#"{"allowed":true,"\u0061llowed":true}"#,
        r#"{"allowed":true,"error":"a","error":"b"}"#,
        r#"{"allowed":true,"error":1}"#,
        r#"{"allowed":true,"deny_code":[]}"#,
        r#"{"allowed":true"#,
        r#"{"allowed":true,}"#,
        r#"{"allowed":true}{"#,
        r#"{"allowed":true}{"allowed":true}"#,
        r#"{"allowed":true} x"#,
        r#"[true]"#,
        r#"[true,null,null,null,null]"#,
        r#"[{"allowed":true}]"#,
        r#""{\"allowed\":true}""#,
        "true",
        "null",
        "",
        " ",
        "\u{feff}{\"allowed\":true}",
    ] {
        assert!(Response::from_json(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn text_that_is_not_utf8_is_rejected_even_in_an_ignored_value() {
    for json in [
        &b"{\"allowed\":true,\"x\":\"\xff\"}"[..],
        b"{\"allowed\":true,\"error\":\"\xc3\"}",
    ] {
        assert!(
            matches!(Response::from_json(json), Err(MessageError::NotUtf8)),
            "{json:?}"
        );
    }
}

#[test]
fn a_request_requires_reason_and_username_as_text() {
    for request in [
        r#"{"username":"a"}"#,
        r#"{"reason":"connect"}"#,
        r#"{"reason":"connect","username":null}"#,
        r#"{"reason":"connect","username":7}"#,
        r#"{"reason":"connect","username":"a","username":"b"}"#,
        r#"{"reason":"connect","username":"a","bytes_in":-1}"#,
        r#"{"reason":"connect","username":"a","deadline_ms":"5"}"#,
        r#"["connect","a","","","","",""]"#,
    ] {
        assert!(Request::from_json(request.as_bytes()).is_err(), "{request}");
    }
}

#[test]
fn nesting_depth_is_bounded() {
    let json = format!("{{\"allowed\":true,\"x\":{}", "[".repeat(500_000));
    assert!(Response::from_json(json.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn garbage_is_rejected_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Response::from_json(&bytes).is_err());
        prop_assert!(Request::from_json(&bytes).is_err());
    }

    #[test]
    fn a_truncated_allow_is_no_response(error in ".{0,40}", cut in any::<prop::sample::Index>()) {
        let frame = Response { error: Some(error), ..Response::new(true) }.to_frame().unwrap();
        let whole = body(&frame);
        prop_assert!(Response::from_json(&whole[..cut.index(whole.len())]).is_err());
    }

    #[test]
    fn any_text_survives_a_round_trip(username in ".{0,80}", groupname in ".{0,80}", agent in prop::option::of(".{0,80}")) {
        let request = Request { reason: "connect".into(), username, groupname, user_agent: agent, ..Request::default() };
        prop_assert_eq!(Request::from_json(body(&request.to_frame().unwrap())).unwrap(), request);
    }
}
