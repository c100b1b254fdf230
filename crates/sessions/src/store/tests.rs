use std::time::UNIX_EPOCH;

use ocserv_agent_model::{EventKind, GroupName, Usage, Username, VhostName};

use super::*;
use crate::listed::ListedSession;

mod reused_ids;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn id(number: i32) -> OcservId {
    OcservId::new(number).unwrap()
}

fn login(number: i32, name: &str) -> Arc<Login> {
    Arc::new(Login {
        username: Username::parse(name).unwrap(),
        group: Some(GroupName::parse("staff").unwrap()),
        client_ip: [10, 77, 0, 2].into(),
        vhost: None,
        id: id(number),
        vpn_ip: Some([10, 88, 0, 5].into()),
        device: "vpns0".to_owned(),
    })
}

fn report(number: i32, name: &str, duration: Option<u64>) -> DisconnectReport {
    DisconnectReport {
        id: id(number),
        username: Username::parse(name).unwrap(),
        usage: Some(Usage { received: 7, sent: 9 }),
        duration: duration.map(Duration::from_secs),
        vhost: None,
        group: None,
        client_ip: Some([10, 77, 0, 2].into()),
        vpn_ip: None,
        device: String::new(),
    }
}

/// The stored row of a session that ocserv listed.
fn stored(number: i32, name: &str, connected_at: u64, vhost: Option<&str>) -> Vec<u8> {
    let mut earlier = SessionStore::new("a1");
    let row = ListedSession {
        id: id(number),
        username: name,
        connected_at,
        is_connected: true,
        group: None,
        vhost,
        client_ip: None,
        vpn_ip: None,
        device: None,
    };
    let mark = earlier.mark();
    let plan = earlier.reconcile([row], mark, None, at(connected_at));
    plan.changes.rows[0].row.clone().unwrap()
}

/// A change of the store; a login is settled by its id.
enum Step {
    Import(i32, &'static str, u64),
    Started(i32, &'static str, u64),
    Denied(i32),
    Undelivered(i32),
    Delivered(i32, Option<u64>),
    Ended(i32, &'static str, Option<u64>, u64),
    EndedUnused(i32, &'static str, Option<u64>, u64),
    Expect(i32, DisconnectReason),
}

use Step::{Delivered, Denied, Ended, EndedUnused, Expect, Import, Started, Undelivered};

/// When logins are answered without a session.
const ANSWERED: u64 = 102;

/// Runs the steps and returns the events as short lines.
fn events_of(steps: Vec<Step>) -> Vec<String> {
    let mut store = SessionStore::with_max("a1", 100);
    let mut handles: Vec<LoginHandle> = Vec::new();
    let mut events = Vec::new();
    for step in steps {
        let handle = |number: i32, handles: &mut Vec<LoginHandle>| {
            let position = handles.iter().position(|handle| handle.id == id(number)).unwrap();
            handles.remove(position)
        };
        match step {
            Import(number, name, connected_at) => {
                store.restore(&stored(number, name, connected_at, None)).unwrap();
            }
            Started(number, name, now) => {
                let (handle, changes) = store.login_started(&login(number, name), at(now));
                handles.push(handle);
                events.extend(changes.events);
            }
            Denied(number) => store.login_denied(handle(number, &mut handles), at(ANSWERED)),
            Undelivered(number) => store.answer_undelivered(handle(number, &mut handles), at(ANSWERED)),
            Delivered(number, connected_at) => {
                let handle = handle(number, &mut handles);
                let changes = store.session_started(handle, Source::Portal, connected_at);
                events.extend(changes.events);
            }
            Ended(number, name, duration, now) => {
                let changes = store.session_ended(report(number, name, duration), at(now));
                events.extend(changes.events);
            }
            EndedUnused(number, name, duration, now) => {
                let unused = DisconnectReport {
                    usage: Some(Usage::default()),
                    ..report(number, name, duration)
                };
                events.extend(store.session_ended(unused, at(now)).events);
            }
            Expect(number, reason) => drop(store.expect_end(id(number), reason)),
        }
    }
    events
        .iter()
        .map(|event| {
            let source = event.decision_source.map_or("-", Source::as_str);
            let kind = match &event.kind {
                EventKind::Connected(connected) => format!("connect at {}", seconds(connected.at)),
                EventKind::Disconnected(end) => {
                    let usage = if end.usage.is_some() { "usage" } else { "no usage" };
                    format!("disconnect at {} {} {usage}", seconds(end.at), end.reason)
                }
                EventKind::Updated(update) => format!("update at {}", seconds(update.at)),
            };
            format!("{} {} {source} {kind}", event.username, event.uid)
        })
        .collect()
}

#[test]
fn a_session_has_a_connect_event_once_its_allow_is_read_and_a_disconnect_event() {
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Delivered(5, Some(98)),
            Ended(5, "alice", Some(60), 158)
        ]),
        [
            "alice a1/5/98 portal connect at 98",
            "alice a1/5/98 portal disconnect at 158 unspecified usage"
        ]
    );
}

#[test]
fn an_end_that_is_reported_late_has_the_time_that_follows_from_its_duration() {
    let end_of = |duration, reported| {
        let steps = vec![Import(5, "alice", 98), Ended(5, "alice", duration, reported)];
        events_of(steps).remove(0)
    };
    let at = |seconds| format!("alice a1/5/98 - disconnect at {seconds} unspecified usage");
    // The agent was stopped meanwhile.
    assert_eq!(end_of(Some(60), 900), at(158));
    // The script's own time, a clock that was set back, an unknown duration.
    assert_eq!(end_of(Some(60), 161), at(161));
    assert_eq!(end_of(Some(600), 161), at(161));
    assert_eq!(end_of(Some(u64::MAX), 161), at(161));
    assert_eq!(end_of(None, 900), at(900));
}

#[test]
fn without_ocservs_connect_time_the_uid_has_the_logins_time() {
    assert_eq!(
        events_of(vec![Started(5, "alice", 100), Delivered(5, None)]),
        ["alice a1/5/100 portal connect at 100"]
    );
}

#[test]
fn a_denied_login_has_no_event() {
    assert!(events_of(vec![Started(5, "alice", 100), Denied(5)]).is_empty());
    assert!(
        events_of(vec![
            Started(5, "alice", 100),
            Ended(5, "alice", None, 101),
            Denied(5)
        ])
        .is_empty()
    );
}

#[test]
fn an_allow_that_is_not_read_has_neither_event() {
    assert!(
        events_of(vec![
            Started(5, "alice", 100),
            Undelivered(5),
            EndedUnused(5, "alice", Some(3), 103)
        ])
        .is_empty()
    );
    assert!(
        events_of(vec![
            Started(5, "alice", 100),
            Ended(5, "alice", Some(3), 103),
            Undelivered(5)
        ])
        .is_empty()
    );
}

#[test]
fn an_end_reported_before_the_allow_is_confirmed_follows_the_connect_event() {
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Ended(5, "alice", Some(4), 103),
            Delivered(5, Some(99))
        ]),
        [
            "alice a1/5/99 portal connect at 99",
            "alice a1/5/99 portal disconnect at 103 unspecified usage"
        ]
    );
}

#[test]
fn an_imported_session_keeps_its_uid() {
    assert_eq!(
        events_of(vec![Import(5, "alice", 42), Ended(5, "alice", Some(116), 158)]),
        ["alice a1/5/42 - disconnect at 158 unspecified usage"]
    );
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Delivered(5, Some(99)),
            Import(5, "alice", 42),
            Ended(5, "alice", None, 101)
        ])[1],
        "alice a1/5/99 portal disconnect at 101 unspecified usage",
        "a stored session is not replaced"
    );
}

#[test]
fn the_end_of_another_users_session_with_the_same_id_ends_both() {
    assert_eq!(
        events_of(vec![Import(5, "alice", 42), Ended(5, "bob", Some(60), 158)]),
        [
            "alice a1/5/42 - disconnect at 158 unspecified no usage",
            "bob a1/5/98 - connect at 98",
            "bob a1/5/98 - disconnect at 158 unspecified usage"
        ]
    );
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Ended(5, "bob", Some(60), 158),
            Delivered(5, Some(99))
        ]),
        [
            "bob a1/5/98 - connect at 98",
            "bob a1/5/98 - disconnect at 158 unspecified usage",
            "alice a1/5/99 portal connect at 99"
        ],
        "a login in progress is kept"
    );
}

#[test]
fn an_expected_end_has_its_reason() {
    let forced = DisconnectReason::AdminForced;
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Delivered(5, Some(99)),
            Expect(5, forced),
            Ended(5, "alice", None, 150)
        ])[1],
        "alice a1/5/99 portal disconnect at 150 admin_forced usage"
    );
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Expect(5, forced),
            Ended(5, "alice", None, 101),
            Delivered(5, Some(99))
        ])[1],
        "alice a1/5/99 portal disconnect at 101 admin_forced usage",
        "it was live before its allow was confirmed"
    );
    assert_eq!(
        events_of(vec![
            Expect(5, forced),
            Started(5, "alice", 100),
            Delivered(5, Some(99)),
            Ended(5, "alice", None, 150)
        ])[1],
        "alice a1/5/99 portal disconnect at 150 unspecified usage",
        "the id was unknown"
    );
}

#[test]
fn a_full_store_evicts_the_oldest() {
    let mut store = SessionStore::with_max("a1", 3);
    for number in 1..=4 {
        store.restore(&stored(number, "alice", 1, None)).unwrap();
    }
    assert_eq!(store.live_count(), 3);
    let mut uid_of = |number| {
        store
            .session_ended(report(number, "alice", Some(60)), at(158))
            .events[0]
            .uid
            .to_string()
    };
    assert_eq!(uid_of(1), "a1/1/98", "evicted: the uid comes from the duration");
    assert_eq!([2, 3, 4].map(&mut uid_of), ["a1/2/1", "a1/3/1", "a1/4/1"]);
}

#[test]
fn events_have_the_virtual_host_of_the_login_the_list_or_the_report() {
    let vhost = |name: &str| Some(VhostName::parse(name).unwrap());
    let mut store = SessionStore::with_max("a1", 3);
    let login = Arc::new(Login {
        vhost: vhost("vh.example.com"),
        ..(*login(1, "alice")).clone()
    });
    let (handle, _) = store.login_started(&login, at(100));
    store.restore(&stored(2, "alice", 1, Some("default"))).unwrap();
    let of_report = DisconnectReport {
        vhost: vhost("other.example.com"),
        ..report(3, "alice", None)
    };
    let mut events = store.session_started(handle, Source::Portal, None).events;
    for report in [report(1, "alice", None), report(2, "alice", None), of_report] {
        events.extend(store.session_ended(report, at(158)).events);
    }

    let vhosts: Vec<_> = events
        .iter()
        .map(|event| event.vhost.as_ref().map_or("-", VhostName::as_str))
        .collect();
    assert_eq!(
        vhosts,
        [
            "vh.example.com",
            "vh.example.com",
            "default",
            "other.example.com",
            "other.example.com"
        ]
    );
}
