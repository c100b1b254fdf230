//! Exact limits of frames, identities and values.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::time::Duration;

use occtl::frame::{HEADER, MAX_REPLY, MAX_REQUEST, encode_reply, encode_request, frame_end};
use occtl::prost::Message as _;
use occtl::wire::{FwPort, UserInfo, UserList};
use occtl::{
    Command, ControlError, ControlSocket, DecodeError, PortProtocol, SafeId, SafeIdError, decode_list,
};

#[test]
fn a_request_of_256_bytes_is_sent_and_a_longer_one_is_not() {
    let frame = encode_request(Command::User, &[7; MAX_REQUEST]).unwrap();
    assert_eq!(frame.len(), HEADER + 256);
    assert_eq!(frame[..HEADER], [&[5][..], &256_u32.to_ne_bytes()].concat());
    let error = encode_request(Command::User, &[7; MAX_REQUEST + 1]).unwrap_err();
    assert!(matches!(error, ControlError::Invalid(_)), "{error:?}");
}

#[test]
fn a_reply_of_64_mib_is_read_and_a_longer_one_is_not() {
    let header = |length: usize| [&[104][..], &u32::try_from(length).unwrap().to_ne_bytes()].concat();
    assert_eq!(MAX_REPLY, 64 * 1024 * 1024);
    assert_eq!(frame_end(&header(MAX_REPLY)).unwrap(), Some(HEADER + MAX_REPLY));
    assert!(matches!(
        frame_end(&header(MAX_REPLY + 1)),
        Err(DecodeError::TooLong { .. })
    ));
    assert_eq!(frame_end(&header(0)[..4]).unwrap(), None);
}

#[test]
fn a_login_is_28_characters_of_base64_and_not_the_id_of_no_login() {
    for good in ["493QXRGitRB0evhV9UecXq8PDMo=", "jAyNX0ZFWBhjAsvj+h6g/N+Eaok="] {
        let login = SafeId::parse(good).unwrap();
        assert_eq!((login.as_str(), login.to_string().as_str()), (good, good));
    }
    for bad in [
        "",
        "493QXRGitRB0evhV9UecXq8PDMo",
        "493QXRGitRB0evhV9UecXq8PDMo=\0",
        "493QXRGitRB0evhV9UecXq8PDM-=",
        "493QXRGitRB0evhV9UecXq8PDM =",
        "3oqEe/+MND1puFOiFebud17y75Y=",
    ] {
        assert_eq!(SafeId::parse(bad), Err(SafeIdError), "{bad:?}");
    }
}

fn decoded(row: UserInfo) -> occtl::Session {
    let row = UserInfo { id: Some(1), ..row };
    let list = UserList { user: vec![row] };
    decode_list(&encode_reply(104, &list.encode_to_vec()))
        .unwrap()
        .remove(0)
}

#[test]
fn the_virtual_host_unknown_is_a_name_except_before_the_login() {
    let vhost = |status, name: &str| {
        let row = UserInfo {
            status: Some(status),
            vhost: Some(name.into()),
            ..UserInfo::default()
        };
        decoded(row).vhost
    };
    assert_eq!(vhost(0, "unknown"), None);
    assert_eq!(vhost(0, "default").as_deref(), Some("default"));
    assert_eq!(vhost(4, "unknown").as_deref(), Some("unknown"));
}

#[test]
fn a_login_in_a_list_may_end_with_a_nul_and_text_may_be_absent() {
    let id = "493QXRGitRB0evhV9UecXq8PDMo=";
    for sent in [id.to_owned(), format!("{id}\0")] {
        let row = UserInfo {
            safe_id: Some(sent.into_bytes()),
            hostname: Some(Vec::new()),
            user_agent: Some(b"agent \xff".to_vec()),
            ..UserInfo::default()
        };
        let session = decoded(row);
        assert_eq!(session.safe_id.unwrap().as_str(), id);
        assert_eq!(session.hostname, None);
        assert_eq!(session.user_agent.as_deref(), Some("agent \u{fffd}"));
    }
}

#[test]
fn each_protocol_of_a_port_rule_has_its_number_and_zero_allows() {
    use PortProtocol::{Esp, Icmp, Icmpv6, Sctp, Tcp, Udp, Unknown};
    for (number, protocol) in [Udp, Tcp, Sctp, Esp, Icmp, Icmpv6, Unknown(6)]
        .into_iter()
        .enumerate()
    {
        let rule = FwPort {
            port: Some(443),
            proto: Some(u32::try_from(number).unwrap()),
            negate: Some(0),
        };
        let session = decoded(UserInfo {
            fw_ports: vec![rule],
            ..UserInfo::default()
        });
        let rule = session.port_rules[0];
        assert_eq!((rule.protocol, rule.port, rule.denies), (protocol, 443, false));
    }
}

#[test]
fn a_client_shows_its_path_and_timeout() {
    let socket = ControlSocket::new(PathBuf::from("/run/occtl.socket"), Duration::from_secs(2));
    assert_eq!(socket.path(), "/run/occtl.socket");
    let shown = format!("{socket:?}");
    assert!(
        shown.contains("/run/occtl.socket") && shown.contains("2s"),
        "{shown}"
    );
}
