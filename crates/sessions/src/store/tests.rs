use ocserv_agent_model::{GroupName, VhostName};

use super::*;

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
    }
}

/// A change of the store; a login is settled by its id.
enum Step {
    Import(i32, &'static str, u64),
    Started(i32, &'static str, u64),
    Denied(i32),
    Undelivered(i32),
    Delivered(i32, Option<u64>),
    Ended(i32, &'static str, Option<u64>, u64),
    Expect(i32, DisconnectReason),
}

use Step::{Delivered, Denied, Ended, Expect, Import, Started, Undelivered};

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
                let username = Username::parse(name).unwrap();
                store.import(ExistingSession {
                    id: id(number),
                    username,
                    connected_at,
                    vhost: None,
                });
            }
            Started(number, name, now) => {
                let (handle, event) = store.login_started(&login(number, name), at(now));
                handles.push(handle);
                events.extend(event);
            }
            Denied(number) => store.login_denied(handle(number, &mut handles)),
            Undelivered(number) => store.answer_undelivered(handle(number, &mut handles)),
            Delivered(number, connected_at) => {
                events.extend(store.session_started(
                    handle(number, &mut handles),
                    Source::Portal,
                    connected_at,
                ));
            }
            Ended(number, name, duration, now) => {
                events.extend(store.session_ended(report(number, name, duration), at(now)));
            }
            Expect(number, reason) => store.expect_end(id(number), reason),
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
            Ended(5, "alice", Some(3), 103)
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
fn a_reused_id_supersedes_the_session_that_had_it() {
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Delivered(5, Some(99)),
            Started(5, "bob", 200),
            Delivered(5, Some(199))
        ]),
        [
            "alice a1/5/99 portal connect at 99",
            "alice a1/5/99 portal disconnect at 200 unspecified no usage",
            "bob a1/5/199 portal connect at 199",
        ]
    );
}

#[test]
fn an_answer_to_a_superseded_login_does_not_change_the_newer_one() {
    let mut store = SessionStore::with_max("a1", 100);
    let (old, _) = store.login_started(&login(5, "alice"), at(100));
    let (new, superseded) = store.login_started(&login(5, "bob"), at(101));
    assert_eq!(superseded, None, "it had no connect event");
    assert!(store.session_started(old, Source::Portal, None).is_empty());
    assert_eq!(store.session_started(new, Source::Portal, None).len(), 1);
}

#[test]
fn the_end_of_an_unknown_session_has_a_uid_from_its_duration() {
    assert_eq!(
        events_of(vec![Ended(5, "alice", Some(60), 158)]),
        ["alice a1/5/98 - disconnect at 158 unspecified usage"]
    );
    assert_eq!(
        events_of(vec![Ended(5, "alice", None, 158)]),
        ["alice a1/5/158 - disconnect at 158 unspecified usage"]
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
        let username = Username::parse("alice").unwrap();
        store.import(ExistingSession {
            id: id(number),
            username,
            connected_at: 1,
            vhost: None,
        });
    }
    assert_eq!(store.live_count(), 3);
    let mut uid_of = |number| {
        store.session_ended(report(number, "alice", Some(60)), at(158))[0]
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
    store.import(ExistingSession {
        id: id(2),
        username: Username::parse("alice").unwrap(),
        connected_at: 1,
        vhost: vhost("default"),
    });
    let of_report = DisconnectReport {
        vhost: vhost("other.example.com"),
        ..report(3, "alice", None)
    };
    let mut events = store.session_started(handle, Source::Portal, None);
    for report in [report(1, "alice", None), report(2, "alice", None), of_report] {
        events.extend(store.session_ended(report, at(158)));
    }
    let vhosts: Vec<_> = events
        .iter()
        .map(|event| event.vhost.as_ref().map_or("-", VhostName::as_str))
        .collect();
    assert_eq!(
        vhosts,
        ["vh.example.com", "vh.example.com", "default", "other.example.com"]
    );
}
