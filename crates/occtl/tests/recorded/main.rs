//! Every recorded reply of every version, against other sources of the same moment.
//!
//! `fixtures/VERSION/native/NAME.bin` is the whole reply; `NAME.txt` beside it has the expected
//! values: from the client's output, the environment of ocserv's scripts and `occtl`'s text.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod expected;

use std::fs;
use std::path::{Path, PathBuf};

use expected::{Expected, Facts};
use occtl::{
    Command, Cookie, DecodeError, LoginState, PortProtocol, Session, State, decode_bool, decode_cookies,
    decode_list, decode_status, reports_session_start,
};

const VERSIONS: [&str; 3] = ["1.1.6", "1.3.0", "1.5.0"];
const SITUATIONS: [&str; 5] = [".", "empty", "ipv4-only", "ipv6-only", "odd-names"];

struct Recording {
    version: &'static str,
    name: String,
    path: PathBuf,
    reply: Vec<u8>,
    expected: Expected,
}

fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for version in VERSIONS {
        for situation in SITUATIONS {
            for entry in fs::read_dir(root.join(version).join(situation).join("native")).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "bin") {
                    found.push(Recording {
                        version,
                        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                        reply: fs::read(&path).unwrap(),
                        expected: Expected::read(&path.with_extension("txt")),
                        path,
                    });
                }
            }
        }
    }
    found
}

#[test]
fn every_recorded_reply_decodes_to_what_other_sources_say() {
    let recordings = recordings();
    assert_eq!(recordings.len(), VERSIONS.len() * 30, "recordings are missing");
    for recording in recordings {
        println!("{}", recording.path.display());
        let Recording {
            name, reply, version, ..
        } = &recording;
        match name.as_str() {
            "list" | "user-info-alice" | "user-info-utf8" | "user-info-nobody" | "id-info"
            | "id-info-999999" => {
                check_list(&recording);
            }
            "status" => check_status(&recording),
            "list-cookies" => check_cookies(&recording),
            "disconnect-id-999999" => assert!(!decode_bool(reply, Command::DisconnectId).unwrap()),
            "disconnect-name-nobody" => assert!(!decode_bool(reply, Command::DisconnectUser).unwrap()),
            "terminate-user-nobody" if *version == "1.5.0" => {
                assert!(!decode_bool(reply, Command::TerminateUser).unwrap());
            }
            // Older servers do not know the first, and none the second: they closed the connection.
            "terminate-user-nobody" | "unknown-command" => {
                assert!(reply.is_empty());
                let decoded = decode_bool(reply, Command::TerminateUser);
                assert!(matches!(
                    decoded,
                    Err(DecodeError::Truncated { have: 0, need: 5 })
                ));
            }
            "top" | "top-denied" => check_top(&recording),
            "reload" => check_other_command(reply, 102),
            "unban-unknown" => check_other_command(reply, 107),
            "list-banned" => check_other_command(reply, 108),
            other => panic!("no check for {other}"),
        }
    }
}

fn check_other_command(reply: &[u8], number: u8) {
    for decoded in [
        decode_list(reply).err(),
        decode_status(reply).err(),
        decode_bool(reply, Command::DisconnectId).err(),
    ] {
        assert!(matches!(decoded, Some(DecodeError::WrongCommand { got, .. }) if got == number));
    }
}

/// The list, then one update for each event: more than one frame, of which the first is a list.
fn check_top(recording: &Recording) {
    let reply = &recording.reply;
    assert!(matches!(decode_list(reply), Err(DecodeError::TrailingBytes)));
    let first = occtl::frame::frame_end(reply).unwrap().unwrap();
    assert!(!decode_list(&reply[..first]).unwrap().is_empty());
}

fn check_list(recording: &Recording) {
    let sessions = decode_list(&recording.reply).unwrap();
    assert_eq!(sessions.len(), recording.expected.sessions.len());
    let newer = recording.version == "1.5.0";
    assert_eq!(
        reports_session_start(&sessions),
        (!sessions.is_empty()).then_some(newer)
    );
    for facts in &recording.expected.sessions {
        let id: i32 = facts.one("id").parse().unwrap();
        let session = sessions.iter().find(|session| session.id == id).unwrap();
        check_identity(session, facts);
        check_times(session, facts, recording);
        if facts.one("state") == "connected" {
            check_tunnel(session, facts);
            check_own_config(session, facts);
        }
    }
}

fn check_identity(session: &Session, facts: &Facts) {
    let username = facts.one("username");
    let state = facts.one("state");
    assert_eq!(session.client_ip, Some(facts.one("remote-ip").parse().unwrap()));
    if state == "pre-auth" {
        assert_eq!(username, "(none)");
        assert_eq!(session.state, State::PreAuth);
        assert_eq!(
            (session.username.as_deref(), session.username_bytes.len()),
            (None, 0)
        );
        assert_eq!(
            (&session.group, &session.vhost, &session.safe_id),
            (&None, &None, &None)
        );
        assert_eq!(
            (&session.device, session.vpn_ipv4, session.vpn_ipv6),
            (&None, None, None)
        );
        assert!(!session.is_connected());
        return;
    }
    let expected = if state == "connected" {
        State::Connected
    } else {
        State::AuthFailed
    };
    assert_eq!(session.state, expected);
    assert_eq!(session.is_connected(), state == "connected");
    assert_eq!(session.username.as_deref(), Some(username));
    assert_eq!(session.username_bytes, username.as_bytes());
    assert_eq!(
        session.group.as_deref(),
        Some(facts.one("group")).filter(|group| *group != "(none)")
    );
    assert_eq!(session.vhost.as_deref(), Some(facts.one("vhost")));
    assert_eq!(session.device.as_deref(), Some(facts.one("device")));
    assert_eq!(
        session.server_ip,
        Some(facts.one("script-ip-real-local").parse().unwrap())
    );
    let address = |key| facts.get(key).map(|text| text.parse().unwrap());
    assert_eq!(session.vpn_ipv4, address("script-ip-remote"));
    assert_eq!(session.vpn_server_ipv4, address("script-ip-local"));
    assert_eq!(
        session.vpn_ipv6,
        facts.get("script-ipv6-remote").map(|text| text.parse().unwrap())
    );
    assert_eq!(session.vpn_server_ipv6.is_some(), session.vpn_ipv6.is_some());
    assert_eq!(session.user_agent.as_deref(), Some(facts.one("user-agent")));
    assert_eq!(session.hostname.as_deref(), Some(facts.one("hostname")));
    assert_eq!(
        session.safe_id.as_ref().unwrap().as_str(),
        facts.one("full-session (occtl -j show id)")
    );
    assert_eq!(session.tls_cipher.as_deref(), Some(facts.one("tls-ciphersuite")));
    assert_eq!(session.dtls_cipher.as_deref(), facts.get("dtls-ciphersuite"));
}

fn check_times(session: &Session, facts: &Facts, recording: &Recording) {
    let connected = session.connected_at.unwrap();
    assert!(connected <= recording.expected.taken_at());
    if facts.one("state") == "pre-auth" {
        assert_eq!(session.session_started_at, None);
        return;
    }
    assert!(connected >= facts.seconds("client-started-epoch"));
    assert!(connected <= facts.seconds("connect-script-started-epoch"));
    if recording.version == "1.5.0" {
        let started = session.session_started_at.unwrap();
        assert!(started >= facts.seconds("client-started-epoch") && started <= recording.expected.taken_at());
    } else {
        assert_eq!(session.session_started_at, None);
    }
}

/// What was sent to the client.
fn check_tunnel(session: &Session, facts: &Facts) {
    assert_eq!(session.dns, facts.all("dns"));
    assert_eq!(session.nbns, facts.all("nbns"));
    assert_eq!(session.no_routes, facts.all("no-route"));
    if facts.own_config("route").as_slice() == ["default"] {
        assert_eq!(session.routes, ["default"]);
    } else {
        assert_eq!(session.routes, facts.all("route"));
    }
    // ocserv reports the virtual host's split-dns, never a per-user value.
    if facts.own_config("split-dns").is_empty() {
        assert_eq!(session.split_dns, facts.all("split-dns"));
    }
    let number = |key: &str| Some(facts.one(key).parse::<u32>().unwrap());
    assert_eq!(session.mtu, number("cstp-mtu"));
    assert_eq!(session.dpd, number("dpd"));
    assert_eq!(session.keepalive, number("keepalive"));
}

/// The values of the per-user file.
fn check_own_config(session: &Session, facts: &Facts) {
    let limit = |key: &str| {
        Some(
            facts
                .own_config(key)
                .first()
                .map_or(0, |text| text.parse::<u32>().unwrap()),
        )
    };
    assert_eq!(session.upload_limit, limit("rx-data-per-sec"));
    assert_eq!(session.download_limit, limit("tx-data-per-sec"));
    let networks: Vec<_> = session
        .iroutes
        .iter()
        .map(|route| route.split_once('/').unwrap().0)
        .collect();
    let own = facts.own_config("iroute");
    let expected: Vec<_> = own.iter().map(|route| route.split_once('/').unwrap().0).collect();
    assert_eq!(networks, expected);
    let restricted = facts.own_config("restrict-user-to-routes").as_slice() == ["true"];
    assert_eq!(session.restricted_to_routes, Some(restricted));
    let rules: Vec<_> = session
        .port_rules
        .iter()
        .map(|rule| (rule.protocol, rule.port, rule.denies))
        .collect();
    if facts.own_config("restrict-user-to-ports").is_empty() {
        assert_eq!(rules, []);
    } else {
        // tcp(443), udp(53), icmp()
        assert_eq!(
            rules,
            [
                (PortProtocol::Tcp, 443, false),
                (PortProtocol::Udp, 53, false),
                (PortProtocol::Icmp, 0, false)
            ]
        );
    }
}

fn check_status(recording: &Recording) {
    let status = decode_status(&recording.reply).unwrap();
    let expected = &recording.expected.about;
    let first_word = |text: &str| text.split(' ').next().unwrap().to_owned();
    assert_eq!(status.online, Some(true));
    assert_eq!(
        status.main_pid.unwrap().to_string(),
        first_word(expected.one("server-main-pid"))
    );
    let sec_mods: Vec<_> = expected
        .one("children-of-main")
        .split(' ')
        .filter_map(|child| child.strip_suffix(":ocserv-sm"))
        .map(|pid| pid.parse::<u32>().unwrap())
        .collect();
    assert_eq!(status.sec_mod_pids, sec_mods);
    let connections = expected.get("connections").or(expected.get("sessions")).unwrap();
    assert_eq!(status.connections.unwrap().to_string(), first_word(connections));
    let started = status.started_at.unwrap();
    assert!(
        started >= expected.seconds("server-launched-epoch")
            && started <= expected.seconds("server-ready-by-epoch")
    );
    assert_eq!(status.last_reset_at, status.started_at);
    let closed = expected
        .get("sessions-closed-since-start")
        .map_or(0, |text| first_word(text).parse().unwrap());
    assert_eq!(status.sessions_closed_ever, Some(closed));
    assert_eq!(status.sessions_closed, Some(closed));
    if let Some(banned) = expected.get("IPs in ban list").or(expected.get("banned")) {
        assert_eq!(status.banned_addresses.unwrap().to_string(), banned);
    }
    if let Some(mtu) = expected.get("Max MTU") {
        assert_eq!(status.max_mtu.unwrap().to_string(), mtu);
    }
    if let Some(sent) = expected.get("RX") {
        // 1.3.0 writes "kB".
        let shown = |kilobytes: Option<u64>| format!("{}.0 kb", kilobytes.unwrap());
        assert_eq!(shown(status.kilobytes_in), sent.to_lowercase());
        assert_eq!(shown(status.kilobytes_out), expected.one("TX").to_lowercase());
    }
    // Only Debian's build takes latency samples.
    assert_eq!(status.latency_samples.is_some(), recording.version == "1.1.6");
}

fn check_cookies(recording: &Recording) {
    let cookies = decode_cookies(&recording.reply).unwrap();
    let table = recording.expected.logins();
    // The short recordings have no table: all their logins are live.
    let expected = if table.is_empty() {
        recording.expected.sessions.len()
    } else {
        table.len()
    };
    assert_eq!(cookies.len(), expected);
    for cookie in &cookies {
        let id = cookie.safe_id.as_ref().unwrap().as_str();
        if !table.is_empty() {
            check_row(
                cookie,
                table.iter().find(|row| row.starts_with(&id[..6])).unwrap(),
            );
        }
        assert!(cookie.created_at.unwrap() <= recording.expected.taken_at());

        let live = recording
            .expected
            .sessions
            .iter()
            .find(|facts| facts.get("full-session (occtl -j show id)") == Some(id));
        assert_eq!(cookie.in_use, Some(live.is_some()));
        assert_eq!(cookie.expires_at.is_some(), live.is_none());
        if let Some(facts) = live {
            assert_eq!(cookie.username.as_deref(), Some(facts.one("username")));
            assert_eq!(
                cookie.group.as_deref(),
                Some(facts.one("group")).filter(|group| *group != "(none)")
            );
            assert_eq!(cookie.user_agent.as_deref(), Some(facts.one("user-agent")));
            assert_eq!(cookie.client_ip, Some(facts.one("remote-ip").parse().unwrap()));
            assert!(cookie.created_at.unwrap() >= facts.seconds("client-started-epoch"));
        }
        if cookie.username.as_deref() == Some("frank") {
            // Logged in, never connected; cookie-timeout is 300 s, to which ocserv adds some slack.
            assert_eq!(cookie.state, LoginState::Authenticated);
            assert!((300..=330).contains(&(cookie.expires_at.unwrap() - cookie.created_at.unwrap())));
        }
    }
}

fn check_row(cookie: &Cookie, row: &str) {
    assert!(
        row[6..]
            .trim_start()
            .starts_with(cookie.username.as_deref().unwrap()),
        "{row}"
    );
    assert!(row.contains(cookie.vhost.as_deref().unwrap()), "{row}");
    assert!(row.contains(&cookie.client_ip.unwrap().to_string()), "{row}");
    let state = match cookie.state {
        LoginState::Authenticated => " authenticated",
        LoginState::Authenticating => " authenticating",
        LoginState::Failed => " auth failed",
        other => panic!("{other:?}"),
    };
    assert!(row.ends_with(state), "{row}: {state}");
}
