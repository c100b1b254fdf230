//! Decisions of `portal-dev serve` by its policy file.

mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, ReportDisconnectRequest, ReportSessionUpdateRequest, SessionStats,
    ValidateSessionRequest,
};
use policy::Policy;
use support::Portal;
use tonic::Code;

/// How often portal-dev reads its policy file.
const READ_INTERVAL: Duration = Duration::from_millis(500);

const POLICY: &str = r#"
version = 1

[[rules]]
verdict = "deny"
users = ["mallory"]
reason = "the account is suspended"
ttl = "0s"

[[rules]]
verdict = "allow"
users = ["alice"]
routes = ["10.0.0.0/8"]
dns = ["10.0.0.53"]
ttl = "5m"

[[rules]]
verdict = "allow"
groups = ["staff"]
"#;

fn login(user: &str, group: &str) -> CheckPolicyRequest {
    CheckPolicyRequest {
        username: user.to_owned(),
        groupname: group.to_owned(),
        client_ip: "192.0.2.7".to_owned(),
        vpn_ip: "10.99.0.2".to_owned(),
        session_id: "27015".to_owned(),
        device: "vpns0".to_owned(),
        request_time: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        vhost: String::new(),
    }
}

fn session(user: &str) -> ValidateSessionRequest {
    ValidateSessionRequest {
        username: user.to_owned(),
        session_id: "27015".to_owned(),
        client_ip: "192.0.2.7".to_owned(),
        request_time: None,
    }
}

#[tokio::test]
async fn an_allowed_login_gets_routes_name_servers_and_a_ttl() {
    let portal = Portal::start(POLICY);
    let answer = portal
        .client()
        .await
        .auth
        .check_policy(login("alice", ""))
        .await
        .unwrap()
        .into_inner();
    assert!(answer.allowed && !answer.should_disconnect && answer.deny_reason.is_empty());
    assert_eq!(
        (answer.routes, answer.dns_servers),
        (vec!["10.0.0.0/8".to_owned()], vec!["10.0.0.53".to_owned()])
    );
    assert_eq!(answer.metadata["cache_ttl_seconds"], "300");

    let line = &portal.wait_for_events("check_policy", 1).await[0];
    assert_eq!(line["policy_version"], answer.metadata["policy_version"].as_str());
    for (field, expected) in [
        ("peer", "agent"),
        ("username", "alice"),
        ("client_ip", "192.0.2.7"),
        ("vpn_ip", "10.99.0.2"),
        ("session_id", "27015"),
        ("device", "vpns0"),
        ("request_time", "2023-11-14T22:13:20.000Z"),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    assert_eq!(
        (&line["allowed"], &line["rule"], &line["ttl_seconds"]),
        (&true.into(), &1.into(), &300.into())
    );
    assert!(line["groupname"].is_null() && line["deny_reason"].is_null());
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_denied_login_gets_the_reason_and_no_routes() {
    let portal = Portal::start(POLICY);
    let mut client = portal.client().await;
    let answer = client
        .auth
        .check_policy(login("mallory", "staff"))
        .await
        .unwrap()
        .into_inner();
    assert!(!answer.allowed && answer.routes.is_empty() && answer.dns_servers.is_empty());
    assert_eq!(answer.deny_reason, "the account is suspended");
    assert_eq!(answer.metadata["cache_ttl_seconds"], "0");

    let unknown = client
        .auth
        .check_policy(login("eve", ""))
        .await
        .unwrap()
        .into_inner();
    assert!(!unknown.allowed && !unknown.metadata.contains_key("cache_ttl_seconds"));
    let lines = portal.wait_for_events("check_policy", 2).await;
    assert_eq!(
        (&lines[0]["allowed"], &lines[0]["deny_reason"]),
        (&false.into(), &"the account is suspended".into())
    );
    assert!(lines[1]["rule"].is_null() && lines[1]["ttl_seconds"].is_null());
}

#[tokio::test]
async fn an_invalid_request_is_rejected_with_the_name_of_its_field() {
    let portal = Portal::start(POLICY);
    let mut client = portal.client().await;
    for (request, field) in [
        (
            CheckPolicyRequest {
                username: String::new(),
                ..login("x", "")
            },
            "username: is empty",
        ),
        (login("a/b", ""), "username: contains a slash"),
        (login("alice", "../x"), "groupname: contains a slash"),
        (
            CheckPolicyRequest {
                client_ip: String::new(),
                ..login("alice", "")
            },
            "client_ip: is empty",
        ),
        (
            CheckPolicyRequest {
                vpn_ip: "x".to_owned(),
                ..login("alice", "")
            },
            "vpn_ip: is not an IP address",
        ),
        (
            CheckPolicyRequest {
                session_id: "x".to_owned(),
                ..login("alice", "")
            },
            "session_id: is not a positive",
        ),
    ] {
        let status = client.auth.check_policy(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{}", status.message());
    }
    let negative = ReportDisconnectRequest {
        username: "alice".to_owned(),
        session_id: "1".to_owned(),
        stats: Some(SessionStats {
            duration_seconds: -1,
            ..SessionStats::default()
        }),
        ..ReportDisconnectRequest::default()
    };
    let status = client.events.report_disconnect(negative).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "stats.duration_seconds: is negative")
    );
    let lines = portal.wait_for_events("bad_request", 7).await;
    assert_eq!(
        (&lines[0]["rpc"], &lines[0]["error"]),
        (&"CheckPolicy".into(), &"username: is empty".into())
    );
}

#[tokio::test]
async fn a_changed_policy_takes_effect_and_an_invalid_one_does_not() {
    let portal = Portal::start(POLICY);
    let mut client = portal.client().await;
    assert!(
        client
            .auth
            .check_policy(login("alice", ""))
            .await
            .unwrap()
            .into_inner()
            .allowed
    );

    portal.set_policy("version = 1\ndefault = \"deny\"\n");
    portal.wait_for_events("policy_loaded", 2).await;
    let changed = client
        .auth
        .check_policy(login("alice", ""))
        .await
        .unwrap()
        .into_inner();
    assert!(!changed.allowed);

    portal.set_policy("version = 1\n\n[[rules]]\nverdict = \"allow\"\nnetworks = [\"10.1.2.3/8\"]\n");
    let log = portal.wait_for_log("stays in effect");
    let place = "policy.toml:5: rules[0].networks[0]: \"10.1.2.3/8\" has bits set behind its mask";
    assert!(log.contains(place), "{log}");
    let refused = &portal.wait_for_events("policy_refused", 1).await[0];
    assert!(refused["error"].as_str().unwrap().starts_with(place), "{refused}");
    let kept = client
        .auth
        .check_policy(login("alice", ""))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(kept, changed);
    assert_eq!(
        refused["policy_version"],
        kept.metadata["policy_version"].as_str()
    );

    std::fs::remove_file(portal.dir.path().join("policy.toml")).unwrap();
    portal.wait_for_log("policy.toml: cannot be read: No such file");
    assert_eq!(
        client
            .auth
            .check_policy(login("alice", ""))
            .await
            .unwrap()
            .into_inner(),
        kept
    );

    portal.set_policy(POLICY);
    portal.wait_for_events("policy_loaded", 3).await;
    assert!(
        client
            .auth
            .check_policy(login("alice", ""))
            .await
            .unwrap()
            .into_inner()
            .allowed
    );
}

/// Writes a file in place, in two halves with a pause. Returns whether at most one read of
/// portal-dev can have found the first half alone.
async fn write_in_two_halves(path: &Path, first: &str, second: &str) -> std::io::Result<bool> {
    let start = Instant::now();
    let mut file = File::create(path)?;
    file.write_all(first.as_bytes())?;
    tokio::time::sleep(READ_INTERVAL / 2).await;
    file.write_all(second.as_bytes())?;
    Ok(start.elapsed() < READ_INTERVAL)
}

#[tokio::test]
async fn a_half_written_policy_is_never_in_effect() {
    let portal = Portal::start(POLICY);
    let path = portal.dir.path().join("policy.toml");
    let version = |text: &str| Policy::parse(text, "policy").unwrap().fingerprint().to_owned();
    for round in 0..6 {
        // The first half is a policy too, which allows a user that the second half denies.
        let half = format!("version = 1 # {round}\ndefault = \"allow\"\n");
        let rest = "[[rules]]\nverdict = \"deny\"\nusers = [\"mallory\"]\n";
        let in_time = write_in_two_halves(&path, &half, rest).await.unwrap();
        let loaded = portal.wait_for_policy(&version(&(half.clone() + rest))).await;
        assert!(!in_time || !loaded.contains(&version(&half)), "round {round}");
    }
}

#[tokio::test]
async fn a_session_is_valid_while_the_policy_allows_its_user() {
    let portal = Portal::start(POLICY);
    let mut client = portal.client().await;
    client.auth.check_policy(login("bob", "staff")).await.unwrap();
    let valid = client
        .auth
        .validate_session(session("bob"))
        .await
        .unwrap()
        .into_inner();
    assert!(valid.valid && !valid.force_disconnect && valid.invalid_reason.is_empty());
    let mallory = client
        .auth
        .validate_session(session("mallory"))
        .await
        .unwrap()
        .into_inner();
    assert!(!mallory.valid && mallory.force_disconnect);
    assert_eq!(mallory.invalid_reason, "the account is suspended");

    portal.set_policy(&POLICY.replace("\"staff\"", "\"others\""));
    portal.wait_for_events("policy_loaded", 2).await;
    let gone = client
        .auth
        .validate_session(session("bob"))
        .await
        .unwrap()
        .into_inner();
    assert!(!gone.valid && gone.force_disconnect && !gone.invalid_reason.is_empty());
    let update = ReportSessionUpdateRequest {
        username: "bob".to_owned(),
        session_id: "27015".to_owned(),
        ..ReportSessionUpdateRequest::default()
    };
    let update = client
        .events
        .report_session_update(update)
        .await
        .unwrap()
        .into_inner();
    assert!(update.success && update.should_disconnect && update.disconnect_reason == gone.invalid_reason);
    let empty = client.auth.validate_session(session("")).await.unwrap_err();
    assert_eq!(
        (empty.code(), empty.message()),
        (Code::InvalidArgument, "username: is empty")
    );
}

#[tokio::test]
async fn a_session_of_unknown_group_is_invalid_only_when_every_group_is_denied() {
    let portal = Portal::start(POLICY);
    let mut client = portal.client().await;
    assert!(
        client
            .auth
            .validate_session(session("bob"))
            .await
            .unwrap()
            .into_inner()
            .valid
    );
    assert!(
        !client
            .auth
            .validate_session(session("mallory"))
            .await
            .unwrap()
            .into_inner()
            .valid
    );
    let lines = portal.wait_for_events("validate_session", 2).await;
    assert_eq!(lines[0]["session_known"], false);
}

#[tokio::test]
async fn the_virtual_host_of_a_login_decides_it() {
    let on = |vhost: &str| {
        format!("version = 1\n[[rules]]\nverdict = \"allow\"\nusers = [\"alice\"]\nvhosts = [\"{vhost}\"]\n")
    };
    for (vhost, sent) in [("default", ""), ("vh.example.com", "vh.example.com")] {
        for (policy_vhost, allowed) in [(vhost, true), ("other.example.com", false)] {
            let portal = Portal::start(&on(policy_vhost));
            let mut client = portal.client().await;
            let request = CheckPolicyRequest {
                vhost: sent.to_owned(),
                ..login("alice", "")
            };
            let answer = client.auth.check_policy(request).await.unwrap().into_inner();
            assert_eq!(answer.allowed, allowed, "{policy_vhost} for {vhost}");
            let line = &portal.wait_for_events("check_policy", 1).await[0];
            assert_eq!(line["vhost"], vhost);
        }
    }
}
