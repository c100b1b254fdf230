use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn uid() -> SessionUid {
    SessionUid::new("a1", OcservId::new(42).unwrap(), 1_700_000_000)
}

fn event_of(kind: EventKind) -> Event {
    Event {
        event_id: EventId::new(&uid(), &kind),
        username: Username::parse("zoë").unwrap(),
        id: OcservId::new(42).unwrap(),
        uid: uid(),
        decision_source: Some(Source::Stale),
        vhost: Some(VhostName::parse("vpn.example").unwrap()),
        reconciled: Some(Reconciled {
            time_accuracy: Duration::from_millis(1_500),
        }),
        kind,
    }
}

fn at(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn kinds() -> impl Strategy<Value = EventKind> {
    let usage = || {
        proptest::option::of(
            (any::<u64>(), any::<u64>()).prop_map(|(received, sent)| Usage { received, sent }),
        )
    };
    prop_oneof![
        (any::<u64>(), any::<u32>(), any::<bool>(), ".{0,20}").prop_map(|(time, ip, grouped, device)| {
            EventKind::Connected(Connected {
                at: at(time),
                client_ip: Some(IpAddr::V4(Ipv4Addr::from(ip))),
                vpn_ip: grouped.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                device,
                group: grouped.then(|| GroupName::parse("staff").unwrap()),
            })
        }),
        (
            any::<u64>(),
            0..9_usize,
            usage(),
            proptest::option::of(any::<u64>())
        )
            .prop_map(
                |(time, reason, usage, duration)| EventKind::Disconnected(Disconnected {
                    at: at(time),
                    reason: DisconnectReason::ALL[reason],
                    usage,
                    is_sampled: usage.is_some(),
                    duration: duration.map(Duration::from_nanos),
                })
            ),
        (any::<u64>(), usage(), any::<bool>()).prop_map(|(time, usage, idle)| EventKind::Updated(Updated {
            at: at(time),
            usage,
            duration: Duration::from_nanos(time),
            status: if idle {
                SessionStatus::Idle
            } else {
                SessionStatus::Active
            },
        })),
    ]
}

proptest! {
    #[test]
    fn an_event_is_read_as_it_was_written(kind in kinds(), sequence: u64, queued: u64) {
        let stored = QueuedEvent { event: event_of(kind), queued: at(queued) };
        let bytes = encode(sequence, &stored.event, stored.queued);
        prop_assert_eq!(decode(sequence, &bytes), Some(stored));
    }

    #[test]
    fn a_changed_byte_or_another_sequence_is_detected(kind in kinds(), place: usize, bit in 0..8_u32) {
        let mut bytes = encode(7, &event_of(kind), at(0));
        prop_assert!(!is_intact(8, &bytes));
        let place = place % bytes.len();
        bytes[place] ^= 1 << bit;
        prop_assert_eq!(decode(7, &bytes), None);
        bytes.truncate(place);
        prop_assert_eq!(decode(7, &bytes), None);
    }
}
