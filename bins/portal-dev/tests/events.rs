//! Events reported to `portal-dev serve`.

mod support;

use ocserv_agent_proto::vpn::v1::{
    CheckPolicyRequest, ReportConnectRequest, ReportDisconnectRequest, SessionStats,
};
use support::Portal;
use tonic::Code;

const POLICY: &str = "version = 1\ndefault = \"allow\"\n";

#[tokio::test]
async fn events_are_written_before_they_are_acknowledged_and_repetitions_are_marked() {
    let portal = Portal::start(POLICY);
    let mut client = portal.client().await;
    let metadata = |id: &str| {
        [
            ("event_id", id),
            ("session_uid", "vpn1/27015/1"),
            ("agent_id", "vpn1"),
            ("decision_source", "portal"),
            ("vhost", ""),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    };
    let connect = ReportConnectRequest {
        username: "alice".to_owned(),
        session_id: "27015".to_owned(),
        client_ip: "192.0.2.7".to_owned(),
        vpn_ip: "10.99.0.2".to_owned(),
        device: "vpns0".to_owned(),
        connected_at: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        groupname: "staff".to_owned(),
        metadata: metadata("vpn1/27015/1/connect"),
    };
    for _ in 0..2 {
        assert!(
            client
                .events
                .report_connect(connect.clone())
                .await
                .unwrap()
                .into_inner()
                .success
        );
    }
    let disconnect = ReportDisconnectRequest {
        username: "alice".to_owned(),
        session_id: "27015".to_owned(),
        disconnected_at: Some(prost_types::Timestamp {
            seconds: 1_700_000_300,
            nanos: 0,
        }),
        reason: ocserv_agent_proto::vpn::v1::DisconnectReason::UserInitiated.into(),
        stats: Some(SessionStats {
            duration_seconds: 300,
            bytes_received: 1,
            bytes_sent: 2,
            ..SessionStats::default()
        }),
        metadata: metadata("vpn1/27015/1/disconnect"),
    };
    assert!(
        client
            .events
            .report_disconnect(disconnect)
            .await
            .unwrap()
            .into_inner()
            .success
    );

    // Without waiting: acknowledged events have been written.
    let lines: Vec<_> = portal
        .events()
        .into_iter()
        .filter(|line| line["kind"] != "policy_loaded")
        .collect();
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| (line["kind"].as_str().unwrap(), line["duplicate"] == true))
        .collect();
    assert_eq!(
        kinds,
        [("connect", false), ("connect", true), ("disconnect", false)]
    );
    for (field, expected) in [
        ("peer", "agent"),
        ("username", "alice"),
        ("session_id", "27015"),
        ("event_id", "vpn1/27015/1/connect"),
        ("session_uid", "vpn1/27015/1"),
        ("agent_id", "vpn1"),
        ("decision_source", "portal"),
        ("connected_at", "2023-11-14T22:13:20.000Z"),
        ("client_ip", "192.0.2.7"),
        ("groupname", "staff"),
        ("vhost", "default"),
    ] {
        assert_eq!(lines[0][field], expected, "{field}");
    }
    assert_eq!(lines[2]["reason"], "user_initiated");
    assert_eq!(
        (
            &lines[2]["stats"]["duration_seconds"],
            &lines[2]["stats"]["bytes_sent"]
        ),
        (&300.into(), &2.into())
    );
}

#[tokio::test]
async fn a_full_disk_leaves_events_unacknowledged_and_logins_decided() {
    let portal = Portal::start_with(POLICY, "/dev/full");
    let mut client = portal.client().await;
    let connect = ReportConnectRequest {
        username: "alice".to_owned(),
        session_id: "27015".to_owned(),
        client_ip: "192.0.2.7".to_owned(),
        ..ReportConnectRequest::default()
    };
    let status = client.events.report_connect(connect).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        client
            .auth
            .check_policy(CheckPolicyRequest {
                username: "alice".to_owned(),
                session_id: "27015".to_owned(),
                client_ip: "192.0.2.7".to_owned(),
                ..CheckPolicyRequest::default()
            })
            .await
            .unwrap()
            .into_inner()
            .allowed
    );
}
