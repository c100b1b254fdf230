use proptest::prelude::*;

use super::*;

fn session() -> Session {
    Session {
        id: OcservId::new(27_015).unwrap(),
        username: Username::parse("zoë").unwrap(),
        uid: SessionUid::restore("a1/27015/1000"),
        uid_second: 1000,
        connected_at: Some(999),
        group: Some(GroupName::parse("staff").unwrap()),
        client_ip: Some("2001:db8::1".parse().unwrap()),
        vpn_ip: Some("10.0.0.1".parse().unwrap()),
        device: "vpns0".to_owned(),
        vhost: Some(VhostName::parse("vh.example.com").unwrap()),
        source: Some(Source::FailOpen),
        reason: DisconnectReason::AdminForced,
        usage: Some(Usage {
            received: u64::MAX,
            sent: 0,
        }),
        last_activity: UNIX_EPOCH + Duration::from_millis(1_000_123),
        confirmed_at: UNIX_EPOCH + Duration::from_millis(1_000_456),
        missing_since: None,
    }
}

#[test]
fn a_row_is_read_as_it_was_written() {
    let bare = Session {
        connected_at: None,
        group: None,
        client_ip: None,
        vpn_ip: None,
        device: String::new(),
        vhost: None,
        source: None,
        usage: None,
        ..session()
    };
    for session in [session(), bare] {
        assert_eq!(decode(&encode(&session)), Ok(session));
    }
}

#[test]
fn a_row_of_a_newer_program_is_named_as_such() {
    let mut row = encode(&session());
    row[0] = VERSION + 1;
    assert_eq!(decode(&row), Err(RowError::Version(VERSION + 1)));
}

#[test]
fn every_cut_of_a_row_is_damage() {
    let row = encode(&session());
    for length in 0..row.len() {
        assert_eq!(decode(&row[..length]), Err(RowError::Damaged), "{length}");
    }
    let longer = [row, vec![0]].concat();
    assert_eq!(decode(&longer), Err(RowError::Damaged));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(mut row: Vec<u8>) {
        if let Some(version) = row.first_mut() {
            *version = VERSION;
        }
        let _session_or_error = decode(&row);
    }
}
