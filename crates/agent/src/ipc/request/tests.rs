use super::*;

fn request() -> ipc::Request {
    ipc::Request {
        reason: "connect".to_owned(),
        username: "alice".to_owned(),
        groupname: "staff".to_owned(),
        ip_real: "10.77.0.2".to_owned(),
        ip_remote: "10.88.63.50".to_owned(),
        device: "vpns0".to_owned(),
        session_id: "27015".to_owned(),
        ..ipc::Request::default()
    }
}

fn login_of(request: &ipc::Request) -> Login {
    match parse_request(request) {
        Ok(Command::Connect(login)) => Arc::unwrap_or_clone(login),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_with_the_required_fields_alone_is_a_login() {
    let login = login_of(&request());
    assert_eq!(login.username.as_str(), "alice");
    assert_eq!(login.group.as_ref().map(GroupName::as_str), Some("staff"));
    assert_eq!(login.client_ip.to_string(), "10.77.0.2");
    assert_eq!(
        login.vpn_ip.map(|ip| ip.to_string()).as_deref(),
        Some("10.88.63.50")
    );
    assert_eq!(login.vhost, None);
    assert_eq!(login.id.get(), 27015);
    assert_eq!(login.device, "vpns0");
}

#[test]
fn an_empty_field_is_an_unset_one() {
    let mut request = request();
    request.groupname.clear();
    request.ip_remote.clear();
    request.device.clear();
    request.vhost = Some(String::new());
    request.ipv6_remote = Some("fd88::1:9a7c".to_owned());
    let login = login_of(&request);
    assert_eq!(
        (login.group, login.vhost, login.device.as_str()),
        (None, None, "")
    );
    assert_eq!(
        login.vpn_ip.map(|ip| ip.to_string()).as_deref(),
        Some("fd88::1:9a7c"),
        "an IPv6-only session"
    );
}

#[test]
fn an_address_is_canonicalised() {
    for (text, canonical) in [
        ("::ffff:10.77.0.2", "10.77.0.2"),
        ("fd77::2", "fd77::2"),
        ("fd77:0:0:0::2%4095080704", "fd77::2"),
        ("fe80::1%eth0", "fe80::1"),
    ] {
        let login = login_of(&ipc::Request {
            ip_real: text.to_owned(),
            ..request()
        });
        assert_eq!(login.client_ip.to_string(), canonical, "{text}");
    }
}

#[test]
fn a_disconnect_has_byte_counts_and_duration_where_ocserv_reports_them() {
    let disconnect = ipc::Request {
        reason: "disconnect".to_owned(),
        bytes_in: Some(102_992),
        bytes_out: Some(680),
        duration_seconds: Some(79),
        ..request()
    };
    let report_of = |request: &ipc::Request| match parse_request(request) {
        Ok(Command::Disconnect(report)) => (report.usage, report.duration),
        other => panic!("{other:?}"),
    };
    let usage = Usage {
        received: 102_992,
        sent: 680,
    };
    let duration = Duration::from_secs(79);
    assert_eq!(report_of(&disconnect), (Some(usage), Some(duration)));

    let partial = ipc::Request {
        bytes_out: None,
        duration_seconds: None,
        ..disconnect
    };
    assert_eq!(
        report_of(&partial),
        (None, None),
        "a missing count is unknown, not zero"
    );
}

#[test]
fn an_invalid_field_is_rejected_by_name() {
    type Change = fn(&mut ipc::Request);
    let cases: [(&str, Change); 13] = [
        ("reason", |r| r.reason = "reconnect".to_owned()),
        ("reason", |r| r.reason.clear()),
        ("username", |r| r.username = "../evil".to_owned()),
        ("username", |r| r.username.clear()),
        ("username", |r| r.username = "u".repeat(64)),
        ("groupname", |r| r.groupname = "a\nb".to_owned()),
        ("ip_real", |r| r.ip_real.clear()),
        ("ip_real", |r| r.ip_real = "10.77.0.2:443".to_owned()),
        ("ip_remote", |r| r.ip_remote = "10.88.0.0/24".to_owned()),
        ("ipv6_remote", |r| r.ipv6_remote = Some("fd88".to_owned())),
        ("vhost", |r| r.vhost = Some("a/b".to_owned())),
        ("session_id", |r| r.session_id = "-1".to_owned()),
        ("device", |r| r.device = "a device with a long name".to_owned()),
    ];
    for (field, change) in cases {
        let mut request = request();
        change(&mut request);
        let error = parse_request(&request).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
}
