use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use testkit::pki::{Pki, Validity};

use super::*;

mod documents;
mod every_problem;
mod hostile;
mod ipc_socket;
mod reloading;
mod values;

/// A directory with good certificates, in which configs are written.
pub(crate) struct ConfigDir {
    pub(crate) dir: tempfile::TempDir,
    tls: String,
}

impl ConfigDir {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Pki::create(dir.path()).unwrap().agent().unwrap();
        let tls = format!(
            "ca = {:?}\ncert = {:?}\nkey = {:?}\n",
            files.ca, files.cert, files.key
        );
        Self { dir, tls }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("config.toml");
        std::fs::File::create(&path)
            .unwrap()
            .write_all(text.replace("@TLS", &self.tls).as_bytes())
            .unwrap();
        path
    }

    fn load(&self, text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let path = self.write(text);
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let directory = self.dir.path().to_str().unwrap();
        load(&path, environment).map_err(|err| err.to_string().replace(directory, "DIR"))
    }
}

/// The shortest good configuration.
pub(crate) const MINIMAL: &str =
    "agent_id = \"a1\"\nportal.address = \"https://portal.test:8443\"\n[portal.tls]\n@TLS";

#[test]
fn a_minimal_config_is_good_and_other_keys_have_their_default() {
    let config = ConfigDir::new().load(MINIMAL, &[]).unwrap();
    assert_eq!(config.ipc, Ipc::default());
    assert_eq!(config.portal.timeout, Period::seconds(2));
    assert_eq!(config.portal.connect_timeout(), std::time::Duration::from_secs(2));
    assert_eq!(config.grpc, None);
    assert!(!config.hostname().is_empty());
}

#[test]
fn every_problem_is_reported_at_once_with_its_location_and_key() {
    let problems = ConfigDir::new()
        .load(
            "agent_id = 5\n\
             colour = \"red\"\n\
             [portal]\n\
             address = \"http://portal.test\"\n\
             timeout = 2\n\
             [portal.tls]\n\
             cert = \"/nowhere\"\n\
             [ipc]\n\
             deadline = \"soon\"\n\
             allowed_uids = [0, \"root\"]\n\
             socket_mode = \"0999\"\n\
             sock = \"/run/x\"\n\
             [log]\n\
             format = \"xml\"\n",
            &[],
        )
        .unwrap_err();
    insta::assert_snapshot!(problems, @r#"
    DIR/config.toml:1: agent_id: expected a text, found 5
    DIR/config.toml:2: colour: unknown key, known here are agent_id, hostname, environment, state_dir, portal, resilience, ipc, grpc, ocserv, sessions, outbox, health, http, log
    DIR/config.toml:4: portal.address: "http://portal.test" does not begin with https://, expected a URL such as "https://portal.example.com:8443"
    DIR/config.toml:5: portal.timeout: expected a time with its unit such as "2s" or "500ms", found 2
    DIR/config.toml:6: portal.tls.ca: is required and missing
    DIR/config.toml:6: portal.tls.key: is required and missing
    DIR/config.toml:7: portal.tls.cert: /nowhere cannot be read: No such file or directory (os error 2)
    DIR/config.toml:9: ipc.deadline: expected a time with its unit such as "2s" or "500ms", found the text "soon"
    DIR/config.toml:10: ipc.allowed_uids: expected a whole number, found the text "root"
    DIR/config.toml:11: ipc.socket_mode: "0999" is no mode for a socket, expected octal digits in quotes such as "0600" or "0660"
    DIR/config.toml:12: ipc.sock: unknown key, known here are socket, socket_mode, deadline, helper_deadline, allowed_uids, max_connections
    DIR/config.toml:14: log.format: expected one of json, text, found "xml"
    "#);
}

#[test]
fn bad_values_are_reported_at_once_with_their_line() {
    let text = format!(
        "{MINIMAL}server_name = \"no name\"\n\
         [portal.reconnect]\n\
         initial_delay = \"2m\"\n\
         multiplier = 0.5\n\
         [ipc]\n\
         socket = \"ipc.sock\"\n\
         allowed_uids = []\n\
         max_connections = 0\n\
         [outbox]\n\
         max_bytes = 0\n\
         [log]\n\
         level = \"loud\"\n"
    )
    .replace("a1", "a 1");
    insta::assert_snapshot!(ConfigDir::new().load(&text, &[]).unwrap_err(), @r#"
    DIR/config.toml:1: agent_id: "a 1" is no name of 1 to 64 letters, digits, dots, underscores or dashes
    DIR/config.toml:7: portal.tls.server_name: "no name" is neither a DNS name nor an IP address
    DIR/config.toml:9: portal.reconnect.initial_delay: 2m is longer than portal.reconnect.max_delay (1m)
    DIR/config.toml:10: portal.reconnect.multiplier: 0.5 is not between 1.0 and 10.0
    DIR/config.toml:12: ipc.socket: "ipc.sock" does not begin with a slash
    DIR/config.toml:13: ipc.allowed_uids: is empty: nobody could ask, and every login would be denied
    DIR/config.toml:14: ipc.max_connections: 0 is not between 1 and 65536
    DIR/config.toml:16: outbox.max_bytes: 0 is not between 65536 and 68719476736
    DIR/config.toml:18: log.level: "loud" is not `error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,h2=warn`
    "#);
}

#[test]
fn budgets_that_do_not_nest_are_refused_with_both_values() {
    for (text, what) in [
        (
            "[ipc]\ndeadline = \"2s\"",
            "portal.timeout: 2s is not shorter than ipc.deadline (2s)",
        ),
        (
            "[ipc]\nhelper_deadline = \"1s\"",
            "ipc.deadline: 3s is not shorter than ipc.helper_deadline (1s)",
        ),
    ] {
        let problems = ConfigDir::new()
            .load(&format!("{MINIMAL}{text}"), &[])
            .unwrap_err();
        assert!(problems.contains(what), "{problems}");
    }
}

#[test]
fn a_file_that_is_missing_is_reported_with_the_key_that_names_it() {
    let dir = ConfigDir::new();
    let problems = dir
        .load(
            &MINIMAL.replace("@TLS", "ca = \"/no/ca\"\ncert = \"/\"\nkey = \"/no/key\""),
            &[],
        )
        .unwrap_err();
    insta::assert_snapshot!(problems, @r#"
    DIR/config.toml:4: portal.tls.ca: /no/ca cannot be read: No such file or directory (os error 2)
    DIR/config.toml:5: portal.tls.cert: / is not a file
    DIR/config.toml:6: portal.tls.key: /no/key cannot be read: No such file or directory (os error 2)
    "#);
    let problems = load(&dir.path().join("none"), []).unwrap_err().to_string();
    assert!(
        problems.ends_with("cannot be read: No such file or directory (os error 2)"),
        "{problems}"
    );
}

#[test]
fn a_file_that_is_no_certificate_is_reported_with_its_section() {
    let dir = ConfigDir::new();
    let junk = dir.path().join("junk.pem");
    std::fs::File::create(&junk)
        .unwrap()
        .write_all(b"not PEM")
        .unwrap();
    let lines: String = dir
        .tls
        .lines()
        .map(|line| {
            if line.starts_with("ca") {
                format!("ca = {junk:?}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    let problems = dir.load(&MINIMAL.replace("@TLS", &lines), &[]).unwrap_err();
    assert!(
        problems.starts_with("DIR/config.toml:3: portal.tls: DIR/junk.pem: no usable"),
        "{problems}"
    );
}

#[test]
fn text_that_is_no_toml_is_reported_with_its_line() {
    let problems = ConfigDir::new()
        .load("agent_id = \"a1\"\n[portal\naddress = 1\n", &[])
        .unwrap_err();
    assert!(
        problems.starts_with("DIR/config.toml:2: is not TOML: "),
        "{problems}"
    );
}

#[test]
fn a_variable_wins_over_the_file_and_is_named_where_it_is_wrong() {
    let dir = ConfigDir::new();
    let environment = [
        ("OCSERV_AGENT__AGENT_ID", "007"),
        ("OCSERV_AGENT__PORTAL__TIMEOUT", "1s"),
        ("OCSERV_AGENT__IPC__ALLOWED_UIDS", "[0, 990]"),
        ("OCSERV_AGENT__IPC__SOCKET_MODE", "0660"),
        ("OCSERV_AGENT__OUTBOX__MAX_BYTES", "70000"),
        ("OCSERV_AGENT__PORTAL__RECONNECT__MULTIPLIER", "1.5"),
        ("HOME", "/root"),
    ];
    let config = dir.load(MINIMAL, &environment).unwrap();
    assert_eq!(config.agent_id, "007", "a text stays a text");
    assert_eq!(config.portal.timeout, Period::seconds(1));
    assert_eq!(config.ipc.allowed_uids, [0, 990]);
    assert_eq!(config.ipc.socket_mode, SocketMode(0o660));
    assert_eq!(config.outbox.max_bytes, 70_000);

    let environment = [
        ("OCSERV_AGENT__PORTAL__TIMEOUT", "9s"),
        ("OCSERV_AGENT__IPC__MAX_CONNECTIONS", "0"),
    ];
    insta::assert_snapshot!(dir.load(MINIMAL, &environment).unwrap_err(), @r#"
    environment variable OCSERV_AGENT__IPC__MAX_CONNECTIONS: ipc.max_connections: 0 is not between 1 and 65536
    environment variable OCSERV_AGENT__PORTAL__TIMEOUT: portal.timeout: 9s is not shorter than ipc.deadline (3s)
    "#);
    let environment = [
        ("OCSERV_AGENT__IPC__MAX_CONNECTIONS", "many"),
        ("OCSERV_AGENT__IPC__MAXIMUM", "1"),
        ("OCSERV_AGENT__PORTAL", "x"),
    ];
    insta::assert_snapshot!(dir.load(MINIMAL, &environment).unwrap_err(), @r#"
    environment variable OCSERV_AGENT__IPC__MAXIMUM: ipc.maximum: unknown key, known here are socket, socket_mode, deadline, helper_deadline, allowed_uids, max_connections
    environment variable OCSERV_AGENT__IPC__MAX_CONNECTIONS: ipc.max_connections: expected a whole number, found the text "many"
    environment variable OCSERV_AGENT__PORTAL: portal: expected a section, found the text "x"
    "#);
}

#[test]
fn check_config_lists_every_effective_key() {
    let dir = ConfigDir::new();
    let config = dir.load(MINIMAL, &[]).unwrap();
    let shown = config.summary(&dir.path().join("config.toml"), &preflight(&config));
    assert!(
        shown.contains("config is good")
            && shown.contains("ipc.deadline = \"3s\"")
            && shown.contains("portal.connect_timeout = \"2s\""),
        "{shown}"
    );
    assert!(shown.contains("off: the gRPC server"), "{shown}");
    let recommended = "recommended in production: resilience.fail_mode = \"stale\"";
    assert!(shown.contains(recommended), "{shown}");
}

#[test]
fn check_config_lists_warnings_and_refuses_expired_certificates() {
    let dir = ConfigDir::new();
    let other = tempfile::tempdir().unwrap();
    let pki = Pki::create(other.path()).unwrap();
    let file = dir.write("");
    let check = |validity| {
        let files = pki.issue("agent", &["agent.test"], validity).unwrap();
        let tls = format!(
            "ca = {:?}\ncert = {:?}\nkey = {:?}\n",
            files.ca, files.cert, files.key
        );
        let path = dir.write(&format!("state_dir = {file:?}\n{MINIMAL}[grpc.tls]\n{tls}"));
        check_file(&path, [])
    };
    let soon = Validity::For(std::time::Duration::from_hours(36));
    let shown = check(soon).unwrap();
    assert!(shown.contains("config is good, with 3 warnings"), "{shown}");
    let warnings: Vec<_> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("  warning: "))
        .collect();
    let [expiry, roles, state_dir] = warnings[..] else {
        panic!("{shown}")
    };
    assert!(
        state_dir.starts_with("state_dir: ") && state_dir.contains("config.toml is not a directory"),
        "{state_dir}"
    );
    assert!(
        expiry.starts_with("grpc.tls.cert: ") && expiry.contains("agent.pem expires in a day, on "),
        "{expiry}"
    );
    assert!(roles.starts_with("grpc.roles is empty"), "{roles}");

    let error = check(Validity::Expired).unwrap_err().to_string();
    assert!(
        error.contains("config.toml:10: grpc.tls.cert: ") && error.contains("agent.pem expired on "),
        "{error}"
    );
    let path = dir.path().join("config.toml");
    assert!(load(&path, []).is_ok(), "the agent starts all the same");
}
