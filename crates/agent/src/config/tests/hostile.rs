//! Configurations that are hard on the parser or on the terminal.

use super::*;

#[test]
fn a_variable_with_many_levels_is_a_located_error() {
    let name = format!("OCSERV_AGENT{}", "__A".repeat(10_000));
    let problems = ConfigDir::new().load(MINIMAL, &[(&name, "1")]).unwrap_err();
    assert_eq!(
        problems,
        "environment variable OCSERV_AGENT__A__A__A__A__A__A__A__A…: has 10000 levels, more than 8"
    );
}

#[test]
fn a_file_with_many_levels_is_a_located_error() {
    let deep = "a.".repeat(10_000) + "a";
    for text in [
        format!("{deep} = 1\n"),
        format!("[{deep}]\n"),
        format!("x = {}1{}\n", "[".repeat(10_000), "]".repeat(10_000)),
        format!("x = {}1{}\n", "{ a = ".repeat(10_000), "}".repeat(10_000)),
    ] {
        let problems = ConfigDir::new().load(&text, &[]).unwrap_err();
        let is_located = problems.starts_with("DIR/config.toml") && problems.lines().count() == 1;
        assert!(is_located && problems.contains("recur"), "{problems}");
    }
}

#[test]
fn of_thousands_of_problems_the_first_hundred_are_listed() {
    let unknown: String = (0..4_000).map(|n| format!("key{n} = 1\n")).collect();
    let problems = ConfigDir::new()
        .load(&format!("{unknown}{MINIMAL}"), &[])
        .unwrap_err();
    let lines: Vec<_> = problems.lines().collect();
    assert_eq!(lines.len(), 101);
    assert!(
        lines[0].starts_with("DIR/config.toml:1: key0: unknown key"),
        "{}",
        lines[0]
    );
    assert!(
        lines[100].starts_with("DIR/config.toml: has more problems"),
        "{}",
        lines[100]
    );
}

#[test]
fn control_characters_are_escaped_where_problems_are_printed() {
    let text = "\"a\\u001b[31m\\nDIR/config.toml:9: forged\" = 1\nenvironment = \"x\\u001b\\ny\"\n\
                agent_id = \"a\\u0007\\nb\"\n[resilience]\nfail_mode = \"x\\ny\"\n";
    let problems = ConfigDir::new()
        .load(text, &[("OCSERV_AGENT__B\u{1b}", "1")])
        .unwrap_err();
    assert!(
        !problems.chars().any(|c| c.is_control() && c != '\n'),
        "{problems:?}"
    );
    assert!(
        problems
            .lines()
            .all(|line| !line.starts_with("DIR/config.toml:9")),
        "{problems}"
    );
    assert!(
        problems.contains("a\\u{1b}[31m\\nDIR/config.toml:9: forged: unknown key"),
        "{problems}"
    );
    let bad_path = format!("state_dir = \"/a\\nb\"\n{MINIMAL}");
    let problems = ConfigDir::new().load(&bad_path, &[]).unwrap_err();
    assert_eq!(
        problems,
        "DIR/config.toml:1: state_dir: \"/a\\nb\" contains a control character"
    );
}

#[test]
fn a_file_that_is_too_large_is_not_read_whole_and_is_named() {
    let dir = ConfigDir::new();
    let path = dir.write("");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(2 << 20).unwrap();
    let error = load(&path, std::iter::empty()).unwrap_err().to_string();
    let expected = format!("{}: is larger than 1048576 bytes", path.display());
    assert_eq!(error, expected);
}
