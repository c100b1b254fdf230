use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use model::{Grant, OcservId, Username};

use super::*;

/// Enough for an end to overtake its beginning, were it possible.
const SESSIONS: i32 = 20_000;

fn login(number: i32) -> Login {
    Login {
        username: Username::parse("alice").unwrap(),
        group: None,
        client_ip: [10, 77, 0, 2].into(),
        vhost: None,
        id: OcservId::new(number).unwrap(),
        vpn_ip: None,
        device: String::new(),
    }
}

fn allow() -> Decision {
    Decision {
        verdict: Verdict::Allow(Grant::default()),
        source: Source::Portal,
        age: Duration::ZERO,
        outage: None,
    }
}

#[test]
fn no_end_overtakes_its_beginning_on_the_way_to_the_portal() {
    let events = Events::new(2 * usize::try_from(SESSIONS).unwrap());
    let desk = Desk::new(
        Arc::new(|_, _| Box::pin(async { allow() })),
        Arc::new(Sessions::new("a1")),
        Some(events.clone()),
        ControlSocket::new("/nonexistent".into(), Duration::from_secs(1)),
        Metrics::new("a1").unwrap(),
    );
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for number in 1..=SESSIONS {
                let login = login(number);
                let (ticket, _) = desk.sessions.begin(&login, clock::wall());
                let decided = Decided {
                    took: Duration::ZERO,
                    waiting: 1,
                    login,
                    decision: allow(),
                    ticket,
                    connected_at: Some(Some(1)),
                };
                start.wait();
                runtime.block_on(desk.settle(decided, true));
            }
        });
        scope.spawn(|| {
            for number in 1..=SESSIONS {
                start.wait();
                desk.disconnect(Ended {
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
            matches!(first.happening, model::Happening::Connected(_)),
            "{first:?} before {second:?}"
        );
        assert_eq!(first.uid, second.uid);
    }
}
