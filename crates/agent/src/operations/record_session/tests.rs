use std::sync::Barrier;
use std::thread;

use ocserv_agent_model::{OcservId, Username};

use super::*;
use crate::fixture::login;

/// Enough for a race between a connect and its disconnect to show.
const SESSIONS: i32 = 16_000;

#[test]
fn no_disconnect_enters_the_outbox_before_its_connect() {
    let outbox = SharedOutbox::without_disk();
    let recorder = SessionRecorder::new("a1", Some(outbox.clone()), Metrics::new("a1").unwrap());
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=SESSIONS {
                let handle = recorder.login_started(&Arc::new(login(number, "alice")));
                start.wait();
                recorder.session_started(handle, Source::Portal, Some(1));
            }
        });
        scope.spawn(|| {
            for number in 1..=SESSIONS {
                start.wait();
                let _pushed = recorder.session_ended(DisconnectReport {
                    id: OcservId::new(number).unwrap(),
                    username: Username::parse("alice").unwrap(),
                    usage: None,
                    duration: None,
                    vhost: None,
                    group: None,
                    client_ip: None,
                    vpn_ip: None,
                    device: String::new(),
                });
            }
        });
    });
    let recorded = outbox.in_memory();
    assert_eq!(recorded.len(), 2 * usize::try_from(SESSIONS).unwrap());
    for pair in recorded.chunks(2) {
        let (first, second) = (&pair[0], &pair[1]);
        assert!(
            matches!(first.kind, EventKind::Connected(_)),
            "{first:?} before {second:?}"
        );
        assert_eq!(first.uid, second.uid);
    }
}
