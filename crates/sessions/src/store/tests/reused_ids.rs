//! Ids that are reused, and sessions that are not stored.

use super::*;

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
    assert!(superseded.is_empty(), "it has no connect event yet");
    let pair = store.session_started(old, Source::Portal, Some(99)).events;
    let uids: Vec<_> = pair.iter().map(|event| event.uid.as_str()).collect();
    assert_eq!(uids, ["a1/5/99", "a1/5/99"], "its connect and its end");
    assert_eq!(store.session_started(new, Source::Portal, None).events.len(), 1);
    assert_eq!(store.live_count(), 1);
}

#[test]
fn an_id_that_is_reused_before_the_registration_loses_no_event() {
    assert_eq!(
        events_of(vec![
            Started(5, "alice", 100),
            Ended(5, "alice", Some(4), 103),
            Started(5, "bob", 104),
            Delivered(5, Some(99)),
            Delivered(5, Some(104)),
        ]),
        [
            "alice a1/5/99 portal connect at 99",
            "alice a1/5/99 portal disconnect at 103 unspecified usage",
            "bob a1/5/104 portal connect at 104",
        ]
    );
    assert!(
        events_of(vec![
            Started(5, "alice", 100),
            Started(5, "bob", 104),
            Denied(5),
            Denied(5)
        ])
        .is_empty()
    );
}

#[test]
fn the_end_of_an_unknown_session_has_both_events_with_a_uid_from_its_duration() {
    assert_eq!(
        events_of(vec![Ended(5, "alice", Some(60), 158)]),
        [
            "alice a1/5/98 - connect at 98",
            "alice a1/5/98 - disconnect at 158 unspecified usage"
        ]
    );
    assert_eq!(
        events_of(vec![Ended(5, "alice", None, 158)]),
        [
            "alice a1/5/158 - connect at 158",
            "alice a1/5/158 - disconnect at 158 unspecified usage"
        ]
    );
}

#[test]
fn an_end_is_reported_once() {
    assert_eq!(
        events_of(vec![
            Import(5, "alice", 42),
            Ended(5, "alice", Some(60), 102),
            Ended(5, "alice", Some(60), 102),
        ])
        .len(),
        1
    );
}
