use super::*;

fn parse_line(line: &str) -> Result<Command, ArgsError> {
    parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn without_flags_the_defaults_of_the_help_apply() {
    let Ok(Command::Run(args)) = parse_line("") else {
        panic!("no run")
    };
    assert_eq!(args.socket.to_str(), Some(DEFAULT_SOCKET));
    assert_eq!(args.deadline, Duration::from_secs(4));
    assert_eq!(args.on_agent_down, OnAgentDown::Deny);
    assert!(HELP.contains(DEFAULT_SOCKET));
}

#[test]
fn each_flag_sets_its_value() {
    let Ok(Command::Run(args)) = parse_line("--socket /a/b --deadline 250ms --on-agent-down allow") else {
        panic!("no run")
    };
    assert_eq!(args.socket.to_str(), Some("/a/b"));
    assert_eq!(args.deadline, Duration::from_millis(250));
    assert_eq!(args.on_agent_down, OnAgentDown::Allow);
    assert_eq!(parse_line("--help"), Ok(Command::Help));
    assert_eq!(parse_line("--version"), Ok(Command::Version));
}

#[test]
fn times_are_whole_numbers_with_a_unit() {
    let cases = [
        ("4s", Some(4000)),
        ("500ms", Some(500)),
        ("1m", Some(60_000)),
        ("60m", Some(3_600_000)),
    ];
    for (text, expected) in cases {
        assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
    }
    let refused = [
        "",
        "4",
        "s",
        "0s",
        "0ms",
        "-1s",
        "+1s",
        "1.5s",
        "4 s",
        "4S",
        "1h",
        "61m",
        "٤s",
        "99999999999999999999s",
    ];
    for text in refused.into_iter().chain(["18446744073709551615m"]) {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn an_invalid_command_line_is_an_error() {
    for line in [
        "connect",
        "--sockets /x",
        "--socket",
        "--socket ipc.sock",
        "--deadline",
        "--deadline soon",
        "--on-agent-down",
        "--on-agent-down maybe",
        "--on-agent-down ALLOW",
        "--on-agent-down=allow",
        "-x",
        "--",
    ] {
        assert!(parse_line(line).is_err(), "{line}");
    }
}
