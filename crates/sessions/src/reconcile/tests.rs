use std::sync::Arc;

use ocserv_agent_model::{Event, EventKind, Login, Source, Usage};

use super::*;
use crate::report::DisconnectReport;

mod model;

fn at(seconds: u64) -> SystemTime {
    at_second(seconds)
}

fn id(number: i32) -> OcservId {
    OcservId::new(number).unwrap()
}

fn listed(number: i32, username: &str, connected_at: u64) -> ListedSession<'_> {
    ListedSession {
        id: id(number),
        username,
        connected_at,
        is_connected: true,
        group: Some("staff"),
        vhost: Some("default"),
        client_ip: Some([10, 77, 0, 2].into()),
        vpn_ip: Some([10, 88, 0, 5].into()),
        device: Some("vpns0"),
    }
}

fn login(number: i32, name: &str) -> Arc<Login> {
    Arc::new(Login {
        username: Username::parse(name).unwrap(),
        group: None,
        client_ip: [10, 77, 0, 2].into(),
        vhost: None,
        id: id(number),
        vpn_ip: Some([10, 88, 0, 5].into()),
        device: "vpns0".to_owned(),
    })
}

fn report(number: i32, name: &str, duration: u64, usage: Usage) -> DisconnectReport {
    DisconnectReport {
        id: id(number),
        username: Username::parse(name).unwrap(),
        usage: Some(usage),
        duration: Some(Duration::from_secs(duration)),
        vhost: None,
        group: None,
        client_ip: None,
        vpn_ip: None,
        device: String::new(),
    }
}

/// A store that saw a list with these sessions at second 100.
fn store_with(rows: &[ListedSession<'_>]) -> SessionStore {
    let mut store = SessionStore::new("a1");
    let plan = list(&mut store, rows, 100);
    assert_eq!(plan.changes.events.len(), rows.len());
    store
}

fn list(store: &mut SessionStore, rows: &[ListedSession<'_>], second: u64) -> Plan {
    let mark = store.mark();
    store.reconcile(rows.iter().copied(), mark, None, at(second))
}

/// The events as short lines.
fn lines(changes: &Changes) -> Vec<String> {
    changes.events.iter().map(line).collect()
}

fn line(event: &Event) -> String {
    let accuracy = event.reconciled.map_or("reported".to_owned(), |reconciled| {
        format!("±{}", reconciled.time_accuracy.as_secs())
    });
    let second = |time: SystemTime| time.duration_since(at(0)).unwrap().as_secs();
    let what = match &event.kind {
        EventKind::Connected(connected) => format!("connect at {}", second(connected.at)),
        EventKind::Disconnected(end) => {
            let usage = end.usage.map_or("?".to_owned(), |usage| {
                format!(
                    "{}/{}{}",
                    usage.received,
                    usage.sent,
                    if end.is_sampled { " sampled" } else { "" }
                )
            });
            format!("disconnect at {} {} {usage}", second(end.at), end.reason)
        }
        EventKind::Updated(update) => {
            let usage = update.usage.map_or("?".to_owned(), |usage| {
                format!("{}/{}", usage.received, usage.sent)
            });
            format!("update at {} {usage} {:?}", second(update.at), update.status)
        }
    };
    format!("{} {accuracy} {what}", event.uid)
}

#[test]
fn a_listed_session_that_nobody_reported_begins_once() {
    let mut store = SessionStore::new("a1");
    let rows = [listed(5, "alice", 98)];
    assert_eq!(
        lines(&list(&mut store, &rows, 100).changes),
        ["a1/5/98 ±1 connect at 98"]
    );
    assert_eq!(list(&mut store, &rows, 110), Plan::default());
    let ended = store.session_ended(report(5, "alice", 20, Usage { received: 1, sent: 2 }), at(118));
    assert_eq!(
        lines(&ended),
        ["a1/5/98 reported disconnect at 118 unspecified 1/2"]
    );
}

#[test]
fn a_missing_session_ends_with_the_second_list_that_lacks_it() {
    let mut store = store_with(&[listed(5, "alice", 98)]);
    let first = list(&mut store, &[], 110);
    assert_eq!((first.missing, first.changes.is_empty()), (1, true));
    assert_eq!(list(&mut store, &[], 111).missing, 1, "within the grace");
    assert_eq!(
        lines(&list(&mut store, &[], 113).changes),
        ["a1/5/98 ±10 disconnect at 110 unspecified ?"]
    );
    assert_eq!(list(&mut store, &[], 120), Plan::default());
}

#[test]
fn a_script_that_reports_within_the_grace_has_the_figures_and_a_later_one_changes_nothing() {
    let usage = Usage { received: 3, sent: 4 };
    let mut store = store_with(&[listed(5, "alice", 98)]);
    let _waiting = list(&mut store, &[], 110);
    let ended = store.session_ended(report(5, "alice", 12, usage), at(110));
    assert_eq!(
        lines(&ended),
        ["a1/5/98 reported disconnect at 110 unspecified 3/4"]
    );
    assert_eq!(list(&mut store, &[], 113), Plan::default());

    let mut store = store_with(&[listed(5, "alice", 98)]);
    let _waiting = list(&mut store, &[], 110);
    let _ended = list(&mut store, &[], 113);
    assert!(
        store
            .session_ended(report(5, "alice", 12, usage), at(114))
            .is_empty()
    );
}

#[test]
fn an_id_that_is_another_connections_ends_its_session_at_once() {
    let mut store = store_with(&[listed(5, "alice", 98)]);
    assert_eq!(
        lines(&list(&mut store, &[listed(5, "alice", 107)], 110).changes),
        [
            "a1/5/98 ±10 disconnect at 110 unspecified ?",
            "a1/5/107 ±1 connect at 107"
        ]
    );
}

#[test]
fn connections_without_a_session_are_neither_a_session_nor_an_end() {
    let running_script = ListedSession {
        is_connected: false,
        ..listed(5, "alice", 98)
    };
    let before_login = ListedSession {
        username: "",
        is_connected: false,
        ..listed(6, "", 99)
    };
    let mut store = SessionStore::new("a1");
    assert_eq!(
        list(&mut store, &[running_script, before_login], 100),
        Plan::default()
    );
    // The helper read the allow, and ocserv still runs the script.
    let (handle, _) = store.login_started(&login(5, "alice"), at(100));
    let _connected = store.session_started(handle, Source::Portal, Some(98));
    assert_eq!(list(&mut store, &[running_script], 110), Plan::default());
    assert_eq!(list(&mut store, &[running_script], 120), Plan::default());
    // It never became a session.
    let _waiting = list(&mut store, &[], 130);
    assert_eq!(
        lines(&list(&mut store, &[], 133).changes),
        ["a1/5/98 ±10 disconnect at 130 unspecified ?"]
    );
}

#[test]
fn a_list_says_nothing_about_what_changed_after_it_was_asked_for() {
    let mut store = store_with(&[listed(5, "alice", 98)]);
    let mark = store.mark();
    let (handle, _) = store.login_started(&login(6, "bob"), at(109));
    let _connected = store.session_started(handle, Source::Portal, Some(108));
    let usage = Usage { received: 1, sent: 1 };
    let _ended = store.session_ended(report(5, "alice", 11, usage), at(109));
    let plan = store.reconcile([listed(5, "alice", 98)], mark, None, at(110));
    assert_eq!(plan, Plan::default());
    assert_eq!(store.live_count(), 1);
}

#[test]
fn a_login_that_was_denied_and_is_connected_all_the_same_is_a_session() {
    let mut store = SessionStore::new("a1");
    let (late, _) = store.login_started(&login(5, "alice"), at(100));
    store.login_denied(late, at(101));
    let (unread, _) = store.login_started(&login(6, "bob"), at(100));
    store.answer_undelivered(unread, at(101));
    let mut lines = lines(&list(&mut store, &[listed(5, "alice", 99), listed(6, "bob", 99)], 110).changes);
    lines.sort();
    assert_eq!(lines, ["a1/5/99 ±1 connect at 99", "a1/6/99 ±1 connect at 99"]);
}

#[test]
fn roaming_is_two_sessions_with_one_address() {
    let mut store = store_with(&[listed(5, "alice", 98)]);
    let roamed = ListedSession {
        device: Some("vpns1"),
        ..listed(6, "alice", 108)
    };
    let plan = list(&mut store, &[listed(5, "alice", 98), roamed], 110);
    assert_eq!(lines(&plan.changes), ["a1/6/108 ±1 connect at 108"]);
    assert_eq!(store.by_vpn_ip([10, 88, 0, 5].into()).count(), 2);
    let usage = Usage { received: 1, sent: 1 };
    let ended = store.session_ended(report(5, "alice", 12, usage), at(110));
    assert_eq!(
        lines(&ended),
        ["a1/5/98 reported disconnect at 110 unspecified 1/1"]
    );
    assert_eq!(list(&mut store, &[roamed], 120), Plan::default());
}

#[test]
fn a_session_with_its_logins_time_keeps_its_uid_when_ocserv_tells_the_connect_time() {
    let mut store = SessionStore::new("a1");
    let (handle, _) = store.login_started(&login(5, "alice"), at(100));
    let _connected = store.session_started(handle, Source::Portal, None);
    let plan = list(&mut store, &[listed(5, "alice", 97)], 110);
    assert_eq!(lines(&plan.changes), Vec::<String>::new());
    assert_eq!(plan.changes.rows.len(), 1, "the connect time is stored");
    let usage = Usage { received: 1, sent: 1 };
    let ended = store.session_ended(report(5, "alice", 20, usage), at(117));
    assert_eq!(
        lines(&ended),
        ["a1/5/100 reported disconnect at 117 unspecified 1/1"]
    );
}

#[test]
fn sessions_that_are_older_than_ocserv_ended_with_the_one_before_it() {
    let mut store = store_with(&[listed(5, "alice", 98), listed(6, "bob", 99)]);
    let mark = store.mark();
    let _waiting = store.reconcile([], mark, Some(105), at(110));
    let plan = store.reconcile([], mark, Some(105), at(113));
    assert_eq!(
        lines(&plan.changes),
        [
            "a1/5/98 ±5 disconnect at 105 server_shutdown ?",
            "a1/6/99 ±5 disconnect at 105 server_shutdown ?"
        ]
    );
}

#[test]
fn only_what_ocserv_did_not_confirm_for_the_ttl_expires() {
    let ttl = Duration::from_secs(50);
    let mut store = store_with(&[listed(5, "alice", 98), listed(6, "bob", 99)]);
    assert_eq!(
        list(&mut store, &[listed(5, "alice", 98), listed(6, "bob", 99)], 140),
        Plan::default()
    );
    assert!(store.expire(ttl, at(189)).is_empty());
    assert_eq!(
        lines(&store.expire(ttl, at(190))),
        [
            "a1/5/98 ±50 disconnect at 190 unspecified ?",
            "a1/6/99 ±50 disconnect at 190 unspecified ?"
        ]
    );
}

#[test]
fn a_session_survives_a_restart_with_its_source_and_its_last_sample() {
    let mut store = SessionStore::new("a1");
    let (handle, _) = store.login_started(&login(5, "alice"), at(100));
    let _connected = store.session_started(handle, Source::Portal, Some(98));
    let _confirmed = list(&mut store, &[listed(5, "alice", 98)], 110);
    let sampled = store.sample(
        |_| Some(Usage { received: 7, sent: 8 }),
        Duration::from_secs(60),
        at(110),
    );
    let row = sampled.rows[0].row.clone().unwrap();

    let mut restarted = SessionStore::new("a1");
    restarted.restore(&row).unwrap();
    let _waiting = list(&mut restarted, &[], 400);
    let plan = list(&mut restarted, &[], 403);
    assert_eq!(
        lines(&plan.changes),
        ["a1/5/98 ±290 disconnect at 400 unspecified 7/8 sampled"]
    );
    assert_eq!(plan.changes.events[0].decision_source, Some(Source::Portal));
    assert_eq!(plan.changes.rows[0].row, None);
}

#[test]
fn zeros_of_the_script_count_only_where_no_sample_contradicts_them() {
    let zero = Usage::default();
    let end_with = |sample: Option<Usage>, reported: Usage| {
        let mut store = store_with(&[listed(5, "alice", 98)]);
        let _updates = store.sample(|_| sample, Duration::from_secs(60), at(100));
        let ended = store.session_ended(report(5, "alice", 12, reported), at(110));
        lines(&ended)
            .remove(0)
            .rsplit("unspecified ")
            .next()
            .unwrap()
            .to_owned()
    };
    let some = Usage { received: 5, sent: 6 };
    let more = Usage {
        received: 50,
        sent: 60,
    };
    assert_eq!(end_with(Some(some), more), "50/60");
    assert_eq!(end_with(Some(some), zero), "5/6 sampled");
    assert_eq!(end_with(Some(zero), zero), "0/0");
    assert_eq!(end_with(None, zero), "?");
}

#[test]
fn a_session_is_idle_when_no_byte_moved_for_long_and_unknown_usage_is_no_zero() {
    let idle_after = Duration::from_secs(60);
    let mut store = store_with(&[listed(5, "alice", 98)]);
    let mut sample = |usage: Option<(u64, u64)>, second| {
        let usage = usage.map(|(received, sent)| Usage { received, sent });
        let changes = store.sample(
            |device| usage.filter(|_| device == "vpns0"),
            idle_after,
            at(second),
        );
        let moved = (changes.traffic.received, changes.traffic.sent);
        (
            lines(&changes)
                .remove(0)
                .split(" update ")
                .nth(1)
                .unwrap()
                .to_owned(),
            moved,
        )
    };
    assert_eq!(
        sample(Some((5, 6)), 110),
        ("at 110 5/6 Active".to_owned(), (5, 6))
    );
    assert_eq!(
        sample(Some((5, 6)), 169),
        ("at 169 5/6 Active".to_owned(), (0, 0))
    );
    assert_eq!(sample(Some((5, 6)), 170), ("at 170 5/6 Idle".to_owned(), (0, 0)));
    assert_eq!(
        sample(Some((5, 9)), 180),
        ("at 180 5/9 Active".to_owned(), (0, 3))
    );
    assert_eq!(sample(None, 300), ("at 300 ? Active".to_owned(), (0, 0)));
    assert_eq!(
        sample(Some((1, 1)), 310),
        ("at 310 ? Active".to_owned(), (0, 0)),
        "another session has the device"
    );
}
