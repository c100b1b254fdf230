//! No bytes make the decoders panic, and only a whole reply decodes.

use std::time::{Duration, UNIX_EPOCH};

use occtl::frame::{HEADER, MAX_REPLY, MAX_ROWS, encode_reply, frame_end};
use occtl::prost::Message as _;
use occtl::wire::{BoolReply, CookieInfo, CookieList, FwPort, UserInfo, UserList};
use occtl::{Command, DecodeError, State, decode_bool, decode_cookies, decode_list, decode_status};
use proptest::prelude::*;

const LIST: &[u8] = include_bytes!("fixtures/1.5.0/native/list.bin");
const COOKIES: &[u8] = include_bytes!("fixtures/1.1.6/native/list-cookies.bin");
const STATUS: &[u8] = include_bytes!("fixtures/1.1.6/native/status.bin");
const BOOL: &[u8] = include_bytes!("fixtures/1.5.0/native/disconnect-id-999999.bin");

fn decode_all(bytes: &[u8]) -> [Option<DecodeError>; 4] {
    [
        decode_list(bytes).err(),
        decode_cookies(bytes).err(),
        decode_status(bytes).err(),
        decode_bool(bytes, Command::DisconnectId).err(),
    ]
}

#[test]
fn every_command_has_the_numbers_of_the_protocol_and_a_name_for_errors() {
    for (command, number, reply, name) in [
        (Command::Status, 1, 101, "status"),
        (Command::List, 4, 104, "list"),
        (Command::User, 5, 104, "user"),
        (Command::Id, 6, 104, "id"),
        (Command::DisconnectUser, 7, 105, "disconnect user"),
        (Command::DisconnectId, 8, 106, "disconnect id"),
        (Command::ListCookies, 12, 110, "list cookies"),
        (Command::TerminateUser, 13, 111, "terminate user"),
        (Command::TerminateSession, 15, 113, "terminate session"),
    ] {
        assert_eq!((command.number(), command.reply_number()), (number, reply));
        assert_eq!(command.to_string(), name);
    }
}

#[test]
fn every_truncation_of_every_kind_of_reply_is_an_error() {
    for whole in [LIST, COOKIES, STATUS, BOOL] {
        assert!(decode_all(whole).iter().any(Option::is_none));
        for cut in 0..whole.len() {
            assert!(
                decode_all(&whole[..cut]).iter().all(Option::is_some),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn a_truncated_body_under_a_matching_header_is_an_error_or_a_shorter_list() {
    let body = &LIST[HEADER..];
    let all = decode_list(LIST).unwrap();
    for cut in 0..body.len() {
        // A cut between two entries is a shorter list; anywhere else it must be an
        // error.
        if let Ok(some) = decode_list(&encode_reply(104, &body[..cut])) {
            assert_eq!(some, all[..some.len()]);
        }
    }
}

#[test]
fn bytes_after_the_reply_are_an_error() {
    for whole in [LIST, COOKIES, STATUS, BOOL] {
        let longer = [whole, b"\0"].concat();
        let errors = decode_all(&longer);
        assert!(
            errors
                .iter()
                .any(|error| matches!(error, Some(DecodeError::TrailingBytes)))
        );
        assert!(errors.iter().all(Option::is_some));
    }
}

#[test]
fn an_oversize_length_is_refused_from_the_header_alone() {
    let length = u32::try_from(MAX_REPLY + 1).unwrap();
    let header = [&[104][..], &length.to_ne_bytes()].concat();
    assert!(matches!(frame_end(&header), Err(DecodeError::TooLong { .. })));
    assert!(matches!(decode_list(&header), Err(DecodeError::TooLong { .. })));
    let largest = [&[104][..], &(length - 1).to_ne_bytes()].concat();
    assert_eq!(frame_end(&largest).unwrap(), Some(HEADER + MAX_REPLY));
}

#[test]
fn a_list_of_more_entries_than_the_limit_is_refused() {
    let row = [&[10, 2][..], &[8, 2]].concat();
    assert_eq!(
        decode_list(&encode_reply(104, &row.repeat(MAX_ROWS)))
            .unwrap()
            .len(),
        MAX_ROWS
    );
    let over = decode_list(&encode_reply(104, &row.repeat(MAX_ROWS + 1)));
    assert!(matches!(over, Err(DecodeError::TooManyRows(MAX_ROWS))));
}

#[test]
fn an_entry_without_an_id_is_an_error_and_a_result_that_is_absent_is_not_false() {
    let nameless = UserList {
        user: vec![UserInfo {
            username: Some(b"alice".to_vec()),
            ..UserInfo::default()
        }],
    };
    let list = decode_list(&encode_reply(104, &nameless.encode_to_vec()));
    assert!(matches!(list, Err(DecodeError::Missing(_))));
    let answer = decode_bool(&encode_reply(106, &[]), Command::DisconnectId);
    assert!(matches!(answer, Err(DecodeError::Missing(_))));
    let yes = BoolReply { status: Some(true) }.encode_to_vec();
    assert!(decode_bool(&encode_reply(106, &yes), Command::DisconnectId).unwrap());
}

#[test]
fn absent_fields_are_unknown_and_unknown_fields_are_ignored() {
    // Fields 77 (varint), 78 (bytes) and 79 (fixed64) in the entry, and 5 (bytes) beside it.
    let mut row = UserInfo {
        id: Some(7),
        ..UserInfo::default()
    }
    .encode_to_vec();
    row.extend_from_slice(&[
        0xe8, 4, 1, 0xf2, 4, 2, b'h', b'i', 0xf9, 4, 1, 2, 3, 4, 5, 6, 7, 8,
    ]);
    let mut body = vec![10, u8::try_from(row.len()).unwrap()];
    body.extend_from_slice(&row);
    body.extend_from_slice(&[0x2a, 1, 0]);
    let sessions = decode_list(&encode_reply(104, &body)).unwrap();
    let [session] = sessions.as_slice() else { panic!() };
    assert_eq!((session.id, session.state), (7, State::Unreported));
    assert_eq!(
        (session.connected_at, session.mtu, session.restricted_to_routes),
        (None, None, None)
    );
    let status = decode_status(&encode_reply(101, &[])).unwrap();
    assert_eq!(
        (status.online, status.connections, status.sessions_closed),
        (None, None, None)
    );
}

#[test]
fn a_username_that_is_not_utf8_leaves_the_list_decodable_and_equals_no_other() {
    let named = |id, name: &[u8]| UserInfo {
        id: Some(id),
        username: Some(name.to_vec()),
        hostname: Some(name.to_vec()),
        ..UserInfo::default()
    };
    let list = UserList {
        user: vec![
            named(1, b"zo\xeb"),
            named(2, "zo\u{fffd}".as_bytes()),
            named(3, b"(none)"),
        ],
    };
    let sessions = decode_list(&encode_reply(104, &list.encode_to_vec())).unwrap();
    assert_eq!(sessions[0].username, None);
    assert_eq!(sessions[0].username_bytes, b"zo\xeb");
    assert_eq!(sessions[0].hostname.as_deref(), Some("zo\u{fffd}"));
    assert_eq!(sessions[1].username.as_deref(), Some("zo\u{fffd}"));
    // "(none)" is how occtl prints the empty name; on the wire it is a name like any other.
    assert_eq!(sessions[2].username.as_deref(), Some("(none)"));
}

#[test]
fn an_ipv4_mapped_client_address_is_canonicalised() {
    let from = |address: &str| {
        let row = UserInfo {
            id: Some(1),
            ip: Some(address.as_bytes().to_vec()),
            ..UserInfo::default()
        };
        let list = UserList { user: vec![row] };
        decode_list(&encode_reply(104, &list.encode_to_vec())).unwrap()[0].client_ip
    };
    assert_eq!(from("::ffff:10.77.0.2"), Some([10, 77, 0, 2].into()));
    assert_eq!(from("::ffff:10.77.0.2"), from("10.77.0.2"));
    assert_eq!(from("fd77::2%7"), Some("fd77::2".parse().unwrap()));
}

#[test]
fn a_time_out_of_range_is_unknown() {
    for (sent, decoded) in [
        (0, None),
        (u64::MAX, None),
        (1 << 63, None),
        (1_795_223_060, Some(1_795_223_060)),
    ] {
        let row = UserInfo {
            id: Some(1),
            conn_time: Some(sent),
            ..UserInfo::default()
        };
        let list = UserList { user: vec![row] };
        let session = &decode_list(&encode_reply(104, &list.encode_to_vec())).unwrap()[0];
        assert_eq!(session.connected_at, decoded);
        // What a caller does with it must not panic.
        let at = session.connected_at.map(|s| UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at.is_some(), decoded.is_some());
        let login = CookieInfo {
            safe_id: Some(Vec::new()),
            created: Some(sent),
            ..CookieInfo::default()
        };
        let logins = CookieList { cookies: vec![login] };
        let login = &decode_cookies(&encode_reply(110, &logins.encode_to_vec())).unwrap()[0];
        assert_eq!(login.created_at, decoded);
    }
}

#[test]
fn an_unknown_state_number_is_kept() {
    let list = UserList {
        user: vec![UserInfo {
            id: Some(1),
            status: Some(9),
            fw_ports: vec![FwPort {
                port: Some(0),
                proto: Some(99),
                negate: Some(1),
            }],
            ..UserInfo::default()
        }],
    };
    let sessions = decode_list(&encode_reply(104, &list.encode_to_vec())).unwrap();
    assert_eq!(sessions[0].state, State::Unknown(9));
    assert!(sessions[0].port_rules[0].denies);
}

proptest! {
    #[test]
    fn garbage_never_panics(number in 99_u8..115, body in prop::collection::vec(any::<u8>(), 0..600)) {
        decode_all(&body);
        decode_all(&encode_reply(number, &body));
    }

    #[test]
    fn damaged_replies_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for whole in [LIST, COOKIES, STATUS, BOOL] {
            let mut damaged = whole.to_vec();
            for (place, value) in &flips {
                let place = place.index(damaged.len());
                damaged[place] = *value;
            }
            decode_all(&damaged);
        }
    }

    /// However the bytes are split, the frame is complete at its last byte and not before.
    #[test]
    fn a_frame_ends_at_the_same_byte_however_it_is_split(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(LIST.len())).collect();
        ends.extend([0, LIST.len()]);
        ends.sort_unstable();
        for have in ends {
            let whole = frame_end(&LIST[..have]).unwrap().is_some_and(|end| have >= end);
            prop_assert_eq!(whole, have == LIST.len());
        }
    }

    #[test]
    fn a_username_of_any_bytes_is_returned_exactly(name in prop::collection::vec(any::<u8>(), 0..80), id in any::<i32>()) {
        let list = UserList { user: vec![UserInfo { id: Some(id), username: Some(name.clone()), ..UserInfo::default() }] };
        let sessions = decode_list(&encode_reply(104, &list.encode_to_vec())).unwrap();
        prop_assert_eq!(sessions[0].id, id);
        prop_assert_eq!(&sessions[0].username_bytes, &name);
        let text = String::from_utf8(name).ok().filter(|text| !text.is_empty());
        prop_assert_eq!(&sessions[0].username, &text);
    }
}
