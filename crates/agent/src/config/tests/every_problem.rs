//! One problem hides no other.

use super::*;

/// The problems of `text`, one a line.
fn problems_of(text: &str, environment: &[(&str, &str)]) -> String {
    let problems = ConfigDir::new().load(text, environment).unwrap_err();
    problems.replace("DIR/config.toml:", "")
}

#[test]
fn a_missing_key_hides_nothing_after_it() {
    let text = format!(
        "{MINIMAL}[ocserv]\nsocket = \"/run/x\"\n[sessions]\nsync_interval = 5\n\
         [resilience.rate_limit]\nper_user = {{ burst = 3 }}\nper_address = {{ every = \"1s\" }}\n\
         [grpc]\nlisten = 7\n[log]\nlevel = \"loud\"\n"
    );
    let problems = problems_of(&text, &[]);
    for expected in [
        "ocserv.socket: unknown key",
        "sessions.sync_interval: expected a time",
        "resilience.rate_limit.per_user.every: is required and missing",
        "resilience.rate_limit.per_address.burst: is required and missing",
        "grpc.listen: expected an address",
        "grpc.tls: is required and missing",
        "log.level: ",
    ] {
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
    assert_eq!(problems.lines().count(), 7, "{problems}");
}

#[test]
fn a_required_key_of_a_wrong_type_hides_nothing_after_it() {
    let text = "agent_id = 5\nhostnme = \"x\"\n[portal]\naddress = \"http://portal.test\"\n";
    let problems = problems_of(text, &[]);
    for expected in [
        "agent_id: expected a text, found 5",
        "hostnme: unknown key",
        "portal.address: \"http://portal.test\" does not begin with https://",
        "portal.tls: ",
    ] {
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
    assert_eq!(problems.lines().count(), 4, "{problems}");
}

#[test]
fn a_section_that_is_missing_is_one_problem() {
    assert_eq!(
        problems_of("[log]\nlevl = \"info\"\n", &[]),
        " agent_id: is required and missing\n portal: is required and missing\n\
         2: log.levl: unknown key, known here are level, format"
    );
}

#[test]
fn a_bad_role_does_not_hide_a_bad_name() {
    let text = format!(
        "{MINIMAL}[grpc]\ntls = {{ ca = \"/x\", cert = \"/x\", key = \"/x\" }}\n\
         roles = {{ portal = \"boss\", \"10.9.8.7\" = \"operator\" }}\n"
    );
    let problems = problems_of(&text, &[]);
    for expected in [
        "grpc.roles.portal: expected one of viewer, operator, admin, found \"boss\"",
        "grpc.roles: \"10.9.8.7\" is an IP address",
    ] {
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
}
