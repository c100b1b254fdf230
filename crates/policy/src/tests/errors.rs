//! Errors of invalid files and their text.

use proptest::prelude::*;

use super::{EXAMPLE, error, policy};
use crate::Policy;

#[test]
fn an_error_names_the_line_the_key_and_the_correction() {
    for (body, expected) in [
        ("ttl = ", "policy.toml:2: "),
        (
            "default = \"maybe\"",
            "policy.toml:2: default: unknown variant `maybe`, expected `allow` or `deny`",
        ),
        (
            "defualt = \"deny\"",
            "policy.toml:2: defualt: unknown field `defualt`, expected one of",
        ),
        (
            "default = \"deny\"\ndefault = \"allow\"",
            "policy.toml:3: duplicate key",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nuser = [\"alice\"]",
            "policy.toml:4: rules[0].user: unknown field `user`",
        ),
        (
            "[[rules]]\nusers = [\"alice\"]",
            "policy.toml:2: rules[0]: missing field `verdict`",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nusers = \"alice\"",
            "policy.toml:4: rules[0].users: invalid type: string",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nusers = [1]",
            "policy.toml:4: rules[0].users[0]: invalid type: integer",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nusers = [\n  \"ok\",\n  \"../evil\",\n]",
            "policy.toml:6: rules[0].users[1]: \"../evil\" contains a slash",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\ngroups = [\"\"]",
            "policy.toml:4: rules[0].groups[0]: \"\" is empty",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nusers = []",
            "policy.toml:4: rules[0].users: is an empty list",
        ),
        ("ttl = \"5\"", "policy.toml:2: ttl: \"5\" is not a time"),
        (
            "ttl = \"500ms\"",
            "policy.toml:2: ttl: \"500ms\" is not a time of whole seconds",
        ),
        (
            "ttl = \"5M\"",
            "policy.toml:2: ttl: \"5M\" is not a time of whole seconds up to 24h",
        ),
        (
            "[[rules]]\nverdict = \"allow\"\nreason = \"x\"",
            "policy.toml:4: rules[0].reason: means nothing in a rule that allows",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nroutes = [\"default\"]",
            "policy.toml:4: rules[0].routes: means nothing in a rule that denies",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nreason = \"a\\nb\"",
            "policy.toml:4: rules[0].reason: must be one line",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\nreason = \" \"",
            "policy.toml:4: rules[0].reason: must be one line",
        ),
        (
            "[[rules]]\nverdict = \"allow\"\ndns = [\"1.1.1\"]",
            "policy.toml:4: rules[0].dns[0]: \"1.1.1\" is not an IP address",
        ),
        (
            "[[rules]]\nverdict = \"deny\"\n[[rules]]\nverdict = \"allow\"\nusers = [\"alice\"]",
            "policy.toml:4: rules[1]: is never reached: rules[0] matches every login",
        ),
    ] {
        let found = error(body);
        assert!(
            found.starts_with(expected),
            "{body:?}\nfound    {found}\nexpected {expected}"
        );
        assert!(!found.contains('\n'), "more than one line: {found:?}");
    }
}

#[test]
fn the_version_is_checked_before_the_keys() {
    for (text, expected) in [
        (
            "",
            "p: version: is missing: this program reads version 1, write `version = 1`",
        ),
        (
            "default = \"deny\"",
            "p: version: is missing: this program reads version 1, write `version = 1`",
        ),
        (
            "shiny = true\nversion = 2",
            "p:2: version: is 2, this program reads version 1",
        ),
        ("version = 0", "p:1: version: is 0, this program reads version 1"),
        ("version = \"1\"", "p:1: version: is not a whole number"),
        ("version = 1.0", "p:1: version: is not a whole number"),
    ] {
        assert_eq!(
            Policy::parse(text, "p").unwrap_err().to_string(),
            expected,
            "{text:?}"
        );
    }
    assert!(Policy::parse("version = 0x1", "p").is_ok());
}

#[test]
fn an_error_has_no_control_characters_of_the_file() {
    for (body, expected) in [
        (
            r#"default = "d\u001b[31meny""#,
            r"policy.toml:2: default: unknown variant `d\u{1b}[31meny`",
        ),
        (
            r#""a\u001b[31m" = 1"#,
            r"policy.toml:2: a\u{1b}[31m: unknown field `a\u{1b}[31m`",
        ),
    ] {
        let found = error(body);
        assert!(found.starts_with(expected), "{found:?}");
        assert!(!found.contains(char::is_control), "{found:?}");
    }
}

#[test]
fn a_ttl_of_a_day_is_valid_and_one_second_more_is_an_error() {
    for good in ["24h", "1day", "86400s"] {
        policy(&format!("ttl = {good:?}"));
    }
    for bad in ["24h 1s", "86401s", "25h"] {
        let found = error(&format!("ttl = {bad:?}"));
        assert!(
            found.contains("is not a time of whole seconds up to 24h"),
            "{found}"
        );
    }
}

#[test]
fn a_reason_has_at_most_200_characters() {
    let with = |length| {
        format!(
            "[[rules]]\nverdict = \"deny\"\nreason = \"{}\"",
            "é".repeat(length)
        )
    };
    policy(&with(200));
    for length in [201, 202, 10_000] {
        assert_eq!(
            error(&with(length)),
            "policy.toml:4: rules[0].reason: must be one line of 1 to 200 characters",
            "{length}"
        );
    }
}

#[test]
fn a_route_that_ocserv_would_reject_or_misread_is_an_error() {
    let with = |route: &str| format!("[[rules]]\nverdict = \"allow\"\nroutes = [{route}]");
    for good in [
        "\"default\"",
        "\"10.0.0.0/8\", \"192.0.2.7/32\", \"128.0.0.0/1\"",
        "\"2001:db8::/32\", \"2001:db8::1/128\"",
        "",
    ] {
        policy(&with(good));
    }
    for (bad, expected) in [
        (
            "\"10.1.2.3\"",
            "\"10.1.2.3\" has no mask, ocserv would deny the session: write \"10.1.2.3/32\"",
        ),
        (
            "\"2001:db8::1\"",
            "\"2001:db8::1\" has no mask, ocserv would deny the session: write \"2001:db8::1/128\"",
        ),
        (
            "\"0.0.0.0/0\"",
            "\"0.0.0.0/0\" makes ocserv deny the session: write \"default\" to route everything",
        ),
        (
            "\"10.0.0.0/0\"",
            "\"10.0.0.0/0\" makes ocserv deny the session: write \"default\" to route everything",
        ),
        (
            "\"::/0\"",
            "\"::/0\" makes ocserv deny the session: write \"default\" to route everything",
        ),
        (
            "\"10.1.2.3/8\"",
            "\"10.1.2.3/8\" has bits set behind its mask: write \"10.0.0.0/8\"",
        ),
        (
            "\"2001:db8::1/32\"",
            "\"2001:db8::1/32\" has bits set behind its mask: write \"2001:db8::/32\"",
        ),
        (
            "\"::ffff:10.0.0.0/104\"",
            "\"::ffff:10.0.0.0/104\" is an IPv4 network written as IPv6: write it as IPv4",
        ),
        (
            "\"default\", \"10.0.0.0/8\"",
            "\"default\" must be the only route: ocserv drops the others",
        ),
    ] {
        let found = error(&with(bad));
        assert_eq!(found, format!("policy.toml:4: rules[0].routes[0]: {expected}"));
    }
    for bad in [
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "10.0.0.0/-1",
        "10.0.0.0/256",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0 /8",
        " 10.0.0.0/8",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "010.0.0.0/8",
        "999.1.0.0/16",
        "2001:db8::/129",
        "fe80::1%eth0/64",
        "foo",
        "Default",
    ] {
        let found = error(&with(&format!("{bad:?}")));
        assert!(
            found.ends_with("is neither \"default\" nor a network such as 10.0.0.0/8"),
            "{found}"
        );
    }
}

#[test]
fn a_client_network_with_host_bits_or_invalid_syntax_is_an_error() {
    let with = |network: &str| format!("[[rules]]\nverdict = \"allow\"\nnetworks = [{network:?}]");
    for good in [
        "0.0.0.0/0",
        "::/0",
        "192.0.2.0/24",
        "192.0.2.7/32",
        "2001:db8::/32",
    ] {
        policy(&with(good));
    }
    for (bad, expected) in [
        (
            "192.0.2.7/24",
            "\"192.0.2.7/24\" has bits set behind its mask: write \"192.0.2.0/24\"",
        ),
        (
            "2001:db8::7/64",
            "\"2001:db8::7/64\" has bits set behind its mask: write \"2001:db8::/64\"",
        ),
        (
            "192.0.2.0/33",
            "\"192.0.2.0/33\" is neither an IP address nor a network such as 192.0.2.0/24",
        ),
        (
            "office",
            "\"office\" is neither an IP address nor a network such as 192.0.2.0/24",
        ),
        (
            "::ffff:0:0/96",
            "\"::ffff:0:0/96\" is an IPv4 network written as IPv6: write it as IPv4",
        ),
    ] {
        assert_eq!(
            error(&with(bad)),
            format!("policy.toml:4: rules[0].networks[0]: {expected}")
        );
    }
}

proptest! {
    #[test]
    fn garbage_is_an_error_and_never_a_panic(text in "\\PC*") {
        let _ = Policy::parse(&text, "p");
    }

    #[test]
    fn a_damaged_example_is_valid_or_an_error_within_the_file(
        at in 0..EXAMPLE.len(), with in prop::sample::select(vec!["", "\"", "[", "]", "=", "\n", "x", "é", "0"]),
    ) {
        let mut text = EXAMPLE.to_owned();
        text.replace_range(at..=at, with);
        if let Err(error) = Policy::parse(&text, "p") {
            prop_assert!(error.line.is_none_or(|line| (1..=text.lines().count() + 1).contains(&line)), "{error}");
        }
    }
}
