use std::sync::Barrier;
use std::thread;

use ocserv_agent_model::{OcservId, Username};

use super::*;
use crate::example::login;

/// Enough for an end to overtake its beginning, were it possible.
const SESSIONS: i32 = 20_000;

#[test]
fn no_end_overtakes_its_beginning_on_the_way_to_the_portal() {
    let events = Events::new(2 * usize::try_from(SESSIONS).unwrap());
    let ledger = Ledger::new(
        Arc::new(Sessions::new("a1")),
        Some(events.clone()),
        Metrics::new("a1").unwrap(),
    );
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=SESSIONS {
                let ticket = ledger.asks(&Arc::new(login(number, "alice")));
                start.wait();
                ledger.began(&ticket, Source::Portal, Some(1));
            }
        });
        scope.spawn(|| {
            for number in 1..=SESSIONS {
                start.wait();
                ledger.ended(Ended {
                    id: OcservId::new(number).unwrap(),
                    username: Username::parse("alice").unwrap(),
                    usage: None,
                    duration: None,
                });
            }
        });
    });
    let told = events.waiting();
    assert_eq!(told.len(), 2 * usize::try_from(SESSIONS).unwrap());
    for pair in told.chunks(2) {
        let (first, second) = (&pair[0], &pair[1]);
        assert!(
            matches!(first.kind, EventKind::Connected(_)),
            "{first:?} before {second:?}"
        );
        assert_eq!(first.uid, second.uid);
    }
}
