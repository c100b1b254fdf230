use std::{collections::BTreeMap, ffi::OsStr, net::Ipv6Addr, os::unix::ffi::OsStrExt, path::Path};

use super::*;

type Variables = BTreeMap<String, OsString>;

fn request(variables: &Variables) -> Result<Request, EnvError> {
    request_from(|name| variables.get(name).cloned())
}

fn login() -> Variables {
    [
        ("REASON", "connect"),
        ("USERNAME", "alice"),
        ("ID", "4711"),
        ("GROUPNAME", ""),
        ("IP_REAL", "10.77.0.2"),
    ]
    .map(|(name, value)| (name.to_owned(), OsString::from(value)))
    .into()
}

fn with(name: &str, value: &[u8]) -> Variables {
    let mut variables = login();
    variables.insert(name.to_owned(), OsStr::from_bytes(value).to_owned());
    variables
}

/// The recorded sessions, the same in every version: user, group, client, address, device, virtual
/// host.
const RECORDED: [(&str, [&str; 6]); 12] = [
    (
        "ipv4-only",
        ["alice", "staff", "10.77.0.2", "10.88.63.50", "bvpn0", "default"],
    ),
    (
        "ipv6-only",
        [
            "alice",
            "staff",
            "10.77.0.2",
            "fd88::1:9a7c:c09f:b76e:58ef",
            "bvpn0",
            "default",
        ],
    ),
    (
        "ipv6-outside",
        ["dave", "", "fd77::2", "10.88.161.46", "bvpn6", "default"],
    ),
    (
        "no-routes",
        ["carol", "", "10.77.0.2", "10.88.33.36", "bvpn3", "default"],
    ),
    (
        "odd-q1",
        ["a\"q", "", "10.77.0.2", "10.88.169.76", "bvpn0", "default"],
    ),
    (
        "odd-q2",
        ["b\\s", "", "10.77.0.2", "10.88.118.185", "bvpn1", "default"],
    ),
    (
        "odd-q3",
        ["x@y.org", "", "10.77.0.2", "10.88.215.222", "bvpn2", "default"],
    ),
    (
        "odd-q4",
        ["o'k<&>", "", "10.77.0.2", "10.88.158.102", "bvpn3", "default"],
    ),
    (
        "restricted",
        ["rita", "", "10.77.0.2", "10.88.43.229", "bvpn8", "default"],
    ),
    (
        "space",
        ["sp ace", "", "10.77.0.2", "10.88.233.30", "bvpn5", "default"],
    ),
    (
        "utf8",
        ["zoë", "", "10.77.0.2", "10.88.231.99", "bvpn4", "default"],
    ),
    (
        "vhost",
        ["vera", "", "10.77.0.2", "10.90.0.55", "bvpn7", "vh.example.com"],
    ),
];

/// The session of the file without a suffix.
const PLAIN: [&str; 6] = ["alice", "staff", "10.77.0.2", "10.88.63.50", "bvpn0", "default"];

#[test]
fn every_recorded_environment_becomes_its_request() {
    let mut seen = 0;
    for version in ["1.1.6", "1.3.0", "1.5.0"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(version);
        for file in std::fs::read_dir(directory).expect("fixtures") {
            let path = file.expect("entry").path();
            check_recorded(&path, &std::fs::read_to_string(&path).expect("UTF-8"));
            seen += 1;
        }
    }
    assert_eq!(seen, 63);
}

fn check_recorded(path: &Path, text: &str) {
    let variables: Variables = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let recorded = |name: &str| {
        variables
            .get(name)
            .and_then(|v| v.to_str())
            .filter(|v| !v.is_empty())
    };
    let owned = |name: &str| recorded(name).map(str::to_owned);

    let stem = path.file_stem().and_then(OsStr::to_str).expect("name");
    let reason = ["connect", "disconnect", "host-update"]
        .into_iter()
        .find(|reason| stem.starts_with(reason))
        .expect("reason");
    let session = stem[reason.len()..].trim_start_matches('-');
    let expected = RECORDED
        .iter()
        .find(|(name, _)| *name == session)
        .map_or(PLAIN, |(_, fields)| *fields);

    let request = request(&variables).unwrap_or_else(|error| panic!("{stem}: {error}"));
    let got = [
        &request.username,
        &request.groupname,
        &request.ip_real,
        &request.ip_remote,
        &request.device,
        request.vhost.as_ref().expect("vhost"),
    ];
    assert_eq!(got, expected.each_ref(), "{stem}");
    assert_eq!(request.reason, reason, "{stem}");
    assert_eq!(Some(request.session_id.as_str()), recorded("ID"), "{stem}");
    assert_eq!(request.version, Some(1));
    assert_eq!(request.deadline_ms, None, "set by the client");
    assert_eq!(request.hostname, owned("HOSTNAME"), "{stem}");
    assert_eq!(request.user_agent, owned("USER_AGENT"), "{stem}");
    assert_eq!(request.device_type, None, "empty is absent: {stem}");
    assert_eq!(request.device_platform, None, "empty is absent: {stem}");
    assert_eq!(request.ip_local, owned("IP_LOCAL"), "{stem}");
    assert_eq!(request.ip_real_local, owned("IP_REAL_LOCAL"), "{stem}");
    assert_eq!(request.ipv6_remote, owned("IPV6_REMOTE"), "{stem}");
    assert_eq!(
        request.ipv6_local.is_some(),
        recorded("IPV6_LOCAL").is_some(),
        "{stem}"
    );
    if let Some(address) = &request.ipv6_local {
        assert!(address.parse::<Ipv6Addr>().is_ok(), "{stem}: {address}");
    }
    let number = |name: &str| recorded(name).map(|value| value.parse::<u64>().expect("number"));
    assert_eq!(request.bytes_in, number("STATS_BYTES_IN"), "{stem}");
    assert_eq!(request.bytes_out, number("STATS_BYTES_OUT"), "{stem}");
    assert_eq!(request.duration_seconds, number("STATS_DURATION"), "{stem}");
    assert_eq!(request.bytes_in.is_some(), reason == "disconnect", "{stem}");
}

#[test]
fn a_missing_variable_is_named() {
    for name in ["REASON", "USERNAME", "ID"] {
        let mut variables = login();
        variables.remove(name);
        assert_eq!(request(&variables), Err(EnvError::Missing(name)));
        assert_eq!(request(&with(name, b"")), Err(EnvError::Missing(name)));
    }
    assert_eq!(
        request(&with("REASON", b"reconnect")),
        Err(EnvError::UnknownReason)
    );
}

#[test]
fn variables_that_decide_are_taken_exactly_or_are_an_error() {
    for name in ["REASON", "USERNAME", "ID", "GROUPNAME", "IP_REAL"] {
        assert_eq!(request(&with(name, b"al\xffice")), Err(EnvError::NotUtf8(name)));
        assert_eq!(
            request(&with(name, &[b'a'; MAX_VALUE + 1])),
            Err(EnvError::TooLong(name))
        );
    }
    for name in ["alice ", "../../etc", "a\nb", "-rf", &"u".repeat(63)] {
        assert_eq!(
            request(&with("USERNAME", name.as_bytes()))
                .expect("request")
                .username,
            name
        );
    }
}

#[test]
fn descriptive_variables_are_never_an_error() {
    let descriptive = [
        "REMOTE_HOSTNAME",
        "USER_AGENT",
        "DEVICE_TYPE",
        "DEVICE_PLATFORM",
        "DEVICE",
        "VHOST",
        "IP_REMOTE",
        "IP_LOCAL",
        "IP_REAL_LOCAL",
        "IPV6_LOCAL",
        "IPV6_REMOTE",
        "STATS_BYTES_IN",
        "STATS_BYTES_OUT",
        "STATS_DURATION",
    ];
    for name in descriptive {
        for value in [
            &b"\xff\xfe"[..],
            b"",
            b"%",
            &[0xff; 5000],
            "é".repeat(3000).as_bytes(),
        ] {
            let mut variables = with(name, value);
            variables.insert("REASON".to_owned(), "disconnect".into());
            let request = request(&variables).unwrap_or_else(|error| panic!("{name}: {error}"));
            let frame = request.to_frame().expect("frame");
            assert!(
                frame.len() < 8192,
                "{name} makes a frame of {} bytes",
                frame.len()
            );
        }
    }
    let agent = request(&with("USER_AGENT", b"Any\xffConnect"))
        .expect("request")
        .user_agent;
    assert_eq!(agent.as_deref(), Some("Any\u{fffd}Connect"));
    // U+FFFD is three bytes: the converted text is truncated again.
    let agent = request(&with("USER_AGENT", &[0xff; 5000]))
        .expect("request")
        .user_agent
        .expect("agent");
    assert!(agent.len() <= MAX_VALUE, "{}", agent.len());
}

#[test]
fn malformed_statistics_are_unknown_not_zero() {
    let mut variables = with("REASON", b"disconnect");
    for (value, expected) in [
        ("102992", Some(102_992)),
        ("-1", None),
        ("1e3", None),
        ("", None),
        ("99999999999999999999", None),
    ] {
        variables.insert("STATS_BYTES_IN".to_owned(), value.into());
        assert_eq!(
            request(&variables).expect("request").bytes_in,
            expected,
            "{value}"
        );
    }
    assert_eq!(request(&variables).expect("request").bytes_out, None);
}

#[test]
fn only_named_variables_are_read() {
    let read = std::cell::RefCell::new(Vec::new());
    let _ = request_from(|name| {
        read.borrow_mut().push(name.to_owned());
        login().get(name).cloned()
    });
    let unexpected: Vec<_> = read
        .into_inner()
        .into_iter()
        .filter(|name| name.starts_with("OCSERV_") || name == "HOSTNAME")
        .collect();
    assert_eq!(unexpected, [""; 0]);
}

#[test]
fn the_uninitialised_scope_of_the_server_address_is_removed() {
    for (value, expected) in [
        ("fd88:0:0:1::1%4095080704", Some("fd88:0:0:1::1")),
        ("fd88::1", Some("fd88::1")),
        ("%12", None),
        ("", None),
    ] {
        let got = request(&with("IPV6_LOCAL", value.as_bytes()))
            .expect("request")
            .ipv6_local;
        assert_eq!(got.as_deref(), expected, "{value}");
    }
}
