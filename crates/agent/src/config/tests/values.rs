//! Values that cannot be meant.

use super::*;

/// What is said about [`MINIMAL`] with `more` at its end.
fn problems(more: &str) -> String {
    match ConfigDir::new().load(&format!("{MINIMAL}{more}"), &[]) {
        Ok(_) => "nothing".to_owned(),
        Err(problems) => problems.replace("DIR/config.toml:", ""),
    }
}

fn address_problems(address: &str) -> String {
    let text = MINIMAL.replace("https://portal.test:8443", address);
    match ConfigDir::new().load(&text, &[]) {
        Ok(_) => "nothing".to_owned(),
        Err(problems) => problems,
    }
}

#[test]
fn an_address_that_would_be_dialled_otherwise_than_it_reads_is_refused() {
    for (address, what) in [
        ("https://portal.test:99999", "has no port from 1 to 65535"),
        ("https://portal.test:0", "has no port from 1 to 65535"),
        ("https://portal.test:", "has no port from 1 to 65535"),
        ("https://portal.test#top", "has a fragment"),
        ("https://a..b", "names a host that cannot be in a certificate"),
        ("https://-x.test", "names a host that cannot be in a certificate"),
        (
            "https://1.2.3.999",
            "names a host that cannot be in a certificate",
        ),
    ] {
        let problems = address_problems(address);
        assert!(
            problems.contains(what) && problems.contains("portal.address"),
            "{address}: {problems}"
        );
    }
    for good in ["https://[::1]:8443", "https://10.0.0.1", "https://portal.test/"] {
        assert_eq!(address_problems(good), "nothing", "{good}");
    }
    let problems = address_problems("https://agent:secret@portal.test");
    assert!(
        problems.contains("\"…@portal.test\" carries a user name") && !problems.contains("secret"),
        "{problems}"
    );
    // The name in the certificate is another matter where it is given.
    let text = format!("{MINIMAL}server_name = \"portal.test\"\n").replace("portal.test:8443", "a..b:8443");
    assert!(ConfigDir::new().load(&text, &[]).is_ok());
}

#[test]
fn times_that_no_clock_or_network_can_keep_are_refused() {
    for (more, what) in [
        (
            "[ipc]\nhelper_deadline = \"1ns\"",
            "ipc.helper_deadline: 1ns is not between 10ms and 2m",
        ),
        (
            "[sessions]\nsync_interval = \"1ms\"",
            "sessions.sync_interval: 1ms is not between 100ms and 1day",
        ),
        (
            "[ocserv]\nocctl_timeout = \"0s\"",
            "ocserv.occtl_timeout: 0s is not between 10ms and 1m",
        ),
    ] {
        let problems = problems(more);
        assert!(problems.contains(what), "{problems}");
    }
}

#[test]
fn a_call_that_leaves_no_time_for_the_way_back_is_refused() {
    // The pipeline keeps 100 ms of a login's time: with this little, nobody would ever be asked.
    insta::assert_snapshot!(
        problems("[ipc]\ndeadline = \"2050ms\""),
        @"2: portal.timeout: 2s leaves less than 100ms of ipc.deadline (2s 50ms) for the way back"
    );
    assert_eq!(problems("[ipc]\ndeadline = \"2100ms\""), "nothing");
}

#[test]
fn without_a_portal_its_timeout_is_in_nobodys_way() {
    let dir = ConfigDir::new();
    let policy = dir.path().join("policy.toml");
    let mut file = std::fs::File::create(&policy).unwrap();
    file.write_all(b"version = 1\n").unwrap();
    let text = format!(
        "agent_id = \"a1\"\n[portal]\nmode = \"embedded\"\npolicy_file = {policy:?}\n[ipc]\ndeadline = \"1s\"\n"
    );
    assert_eq!(
        dir.load(&text, &[]).map(|config| config.ipc.deadline),
        Ok(Period::seconds(1))
    );
}

#[test]
fn a_role_that_no_caller_can_have_is_refused() {
    let roles = |keys: &[&str]| {
        let lines: String = keys
            .iter()
            .map(|key| format!("\"{key}\" = \"viewer\"\n"))
            .collect();
        problems(&format!("[grpc.tls]\n@TLS[grpc.roles]\n{lines}"))
    };
    let good = [
        "portal.test",
        "dns:second.test",
        "uri:spiffe://corp/portal",
        "ip:10.9.8.7",
        "email:ops@portal.test",
    ];
    assert_eq!(roles(&good), "nothing");
    insta::assert_snapshot!(
        roles(&[
            "CN=portal, O=x", "10.9.8.7", "2001:db8::1", "uri:portal.test", "ip:portal.test", "email:ops",
            "portal.test", "dns:Portal.test",
        ]),
        @r#"
    11: grpc.roles: "10.9.8.7" is an IP address: write it as "ip:…"
    11: grpc.roles: "2001:db8::1" is an IP address: write it as "ip:…"
    11: grpc.roles: "CN=portal, O=x" is not a DNS name: write a name of another type as "uri:…", "ip:…" or "email:…"
    11: grpc.roles: "email:ops" is not an email address in printable ASCII
    11: grpc.roles: "ip:portal.test" is not an IP address
    11: grpc.roles: "dns:Portal.test" and "portal.test" are one name
    11: grpc.roles: "uri:portal.test" is not a URI with its scheme in printable ASCII
    "#
    );
    insta::assert_snapshot!(
        problems("[grpc.tls]\n@TLS[grpc.roles]\nportal.test = \"operator\"\n"),
        @r#"
    12: grpc.roles.portal.test: expected one of viewer, operator, admin, found "test"
    12: grpc.roles.portal: expected a keyword, found a section; a name with dots is written in quotes
    "#
    );
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    for (more, what) in [
        (
            "[grpc]\nlisten = \"127.0.0.1:9090\"\n[grpc.tls]\n@TLS",
            "http.listen: 127.0.0.1:9090 is grpc.listen, too",
        ),
        (
            "[ipc]\nsocket = \"/run/occtl.socket\"",
            "ipc.socket: \"/run/occtl.socket\" is ocserv.occtl_socket, too",
        ),
        (
            "[ipc]\nsocket = \"/run/agent/\"",
            "ipc.socket: \"/run/agent/\" names a directory",
        ),
    ] {
        let problems = problems(more);
        assert!(problems.contains(what), "{problems}");
    }
}

#[test]
fn what_a_type_does_not_hold_is_reported_in_plain_words_with_its_line() {
    for (more, what) in [
        (
            "[http]\nlisten = \"localhost:9090\"",
            "8: http.listen: expected an address and a port such as \"127.0.0.1:9090\"",
        ),
        (
            "[http]\nlisten = 9090",
            "8: http.listen: expected an address and a port such as \"127.0.0.1:9090\", found 9090",
        ),
        (
            "[ipc]\nsocket_mode = 384",
            "8: ipc.socket_mode: expected octal digits in quotes such as \"0600\" or \"0660\", found 384",
        ),
        (
            "[ipc]\nsocket_mode = 0600",
            "8: is not TOML: unexpected leading zero, expected nothing; a mode is written in quotes: \"0600\"",
        ),
        (
            "[resilience.rate_limit]\nper_user = { burst = 0, every = \"1s\" }",
            "8: resilience.rate_limit.per_user.burst: expected a whole number from 1, found 0",
        ),
        ("[outbox]\nmax_bytes = 99999999999999999999", "8: is not TOML: "),
    ] {
        let problems = problems(more);
        assert!(
            problems.starts_with(what) && problems.lines().count() == 1,
            "{problems}"
        );
    }
}

#[test]
fn a_path_that_depends_on_where_the_agent_is_started_is_refused() {
    for (text, key) in [
        (
            MINIMAL.replace("agent_id", "state_dir = \"lib\"\nagent_id"),
            "state_dir",
        ),
        (format!("{MINIMAL}[ipc]\nsocket = \"run/ipc.sock\""), "ipc.socket"),
        (
            format!("{MINIMAL}[ocserv]\nocctl_socket = \"occtl.sock\""),
            "ocserv.occtl_socket",
        ),
        (
            "agent_id = \"a1\"\n[portal]\nmode = \"embedded\"\npolicy_file = \"Cargo.toml\"".to_owned(),
            "portal.policy_file",
        ),
    ] {
        let problems = ConfigDir::new().load(&text, &[]).unwrap_err();
        assert!(
            problems.contains(&format!("{key}: \"")) && problems.contains("does not begin with a slash"),
            "{problems}"
        );
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
    // Files that are there, from where this test runs.
    let tls = "ca = \"Cargo.toml\"\ncert = \"Cargo.toml\"\nkey = \"Cargo.toml\"\n";
    let text = format!("{MINIMAL}[grpc.tls]\n@TLS").replace("@TLS", tls);
    insta::assert_snapshot!(ConfigDir::new().load(&text, &[]).unwrap_err(), @r#"
    DIR/config.toml:4: portal.tls.ca: "Cargo.toml" does not begin with a slash
    DIR/config.toml:5: portal.tls.cert: "Cargo.toml" does not begin with a slash
    DIR/config.toml:6: portal.tls.key: "Cargo.toml" does not begin with a slash
    DIR/config.toml:8: grpc.tls.ca: "Cargo.toml" does not begin with a slash
    DIR/config.toml:9: grpc.tls.cert: "Cargo.toml" does not begin with a slash
    DIR/config.toml:10: grpc.tls.key: "Cargo.toml" does not begin with a slash
    "#);
}

#[test]
fn a_key_that_is_there_twice_is_named_with_the_line_of_the_second() {
    insta::assert_snapshot!(problems("[ipc]\ndeadline = \"3s\"\ndeadline = \"4s\"\n[portal]\n"), @r#"
    9: is not TOML: duplicate key "deadline"
    10: is not TOML: duplicate key "portal"
    "#);
}

#[test]
fn an_environment_is_one_of_four_so_that_no_other_spelling_skips_the_guard_on_open() {
    for environment in ["prod", "Production", "", "live"] {
        let dir = ConfigDir::new();
        let text = format!("environment = \"{environment}\"\n{MINIMAL}[resilience]\nfail_mode = \"open\"\n");
        let problems = dir.load(&text, &[]).expect_err(environment);
        let expected = format!(
            "DIR/config.toml:1: environment: expected one of production, staging, development, test, \
             found \"{environment}\""
        );
        assert_eq!(problems, expected);
    }
    for environment in ["staging", "development", "test"] {
        let text = format!("environment = \"{environment}\"\n{MINIMAL}[resilience]\nfail_mode = \"open\"\n");
        assert!(ConfigDir::new().load(&text, &[]).is_ok(), "{environment}");
    }
}

#[test]
fn a_wrong_type_does_not_hide_bad_values_and_missing_files() {
    let text = MINIMAL.replace(
        "agent_id = \"a1\"\n",
        "agent_id = \"a1\"\nstate_dir = \"relative\"\n",
    );
    let text = format!(
        "{text}[ipc]\nmax_connections = \"many\"\nhelper_deadline = \"1ns\"\n\
         [grpc.tls]\nca = \"/missing/ca\"\ncert = \"/missing/cert\"\nkey = \"/missing/key\"\n"
    );
    let problems = ConfigDir::new().load(&text, &[]).unwrap_err();
    for expected in [
        "state_dir: \"relative\" does not begin with a slash",
        "ipc.max_connections: expected a whole number",
        "ipc.helper_deadline: 1ns is not between",
        "grpc.tls.ca: /missing/ca cannot be read",
    ] {
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
}

#[test]
fn nothing_is_said_about_a_stand_in_for_a_malformed_value() {
    for (more, problem) in [
        ("[ipc]\ndeadline = 3\nhelper_deadline = \"2s\"\n", "ipc.deadline"),
        (
            "[http]\nlisten = 9090\n[grpc]\nlisten = 7\n[grpc.tls]\n@TLS",
            ".listen",
        ),
    ] {
        let problems = problems(more);
        assert!(
            problems
                .lines()
                .all(|line| line.contains(problem) && line.contains("expected")),
            "{problems}"
        );
    }
    let text = MINIMAL
        .replace("[portal.tls]\n@TLS", "portal.mode = \"embeded\"\n")
        .replace("portal.address = \"https://portal.test:8443\"\n", "");
    let problems = ConfigDir::new().load(&text, &[]).unwrap_err();
    assert_eq!(problems.lines().count(), 1, "{problems}");
}
