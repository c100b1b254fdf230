use ocserv_agent_model::GroupName;

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

fn ended(number: i32, name: &str, duration: Option<u64>) -> Ended {
    Ended {
        id: id(number),
        username: Username::parse(name).unwrap(),
        usage: Some(Usage { received: 7, sent: 9 }),
        duration: duration.map(Duration::from_secs),
    }
}

/// What befalls the notes; a login's answer finds its ticket by the session number.
enum Step {
    Adopt(i32, &'static str, u64),
    Asks(i32, &'static str, u64),
    Denied(i32),
    Unheard(i32),
    Heard(i32, Option<u64>),
    Ends(i32, &'static str, Option<u64>, u64),
    Expect(i32, DisconnectReason),
}

use Step::{Adopt, Asks, Denied, Ends, Expect, Heard, Unheard};

/// Runs the steps and gives the events as short lines.
fn told(steps: Vec<Step>) -> Vec<String> {
    let mut notes = Notes::new("a1", 100);
    let mut tickets: Vec<Ticket> = Vec::new();
    let mut events = Vec::new();
    for step in steps {
        let ticket = |number: i32, tickets: &mut Vec<Ticket>| {
            let position = tickets.iter().position(|ticket| ticket.id == id(number)).unwrap();
            tickets.remove(position)
        };
        match step {
            Adopt(number, name, connected_at) => {
                let username = Username::parse(name).unwrap();
                notes.adopt(Found {
                    id: id(number),
                    username,
                    connected_at,
                });
            }
            Asks(number, name, now) => {
                let (ticket, event) = notes.begin(&login(number, name), at(now));
                tickets.push(ticket);
                events.extend(event);
            }
            Denied(number) => notes.forget(&ticket(number, &mut tickets)),
            Unheard(number) => notes.undelivered(&ticket(number, &mut tickets)),
            Heard(number, connected_at) => {
                events.extend(notes.delivered(&ticket(number, &mut tickets), Source::Portal, connected_at));
            }
            Ends(number, name, duration, now) => {
                events.extend(notes.ended(ended(number, name, duration), at(now)));
            }
            Expect(number, reason) => notes.expect_end(id(number), reason),
        }
    }
    events
        .iter()
        .map(|event| {
            let source = event.decision_source.map_or("-", Source::as_str);
            let what = match &event.kind {
                EventKind::Connected(connected) => format!("connect at {}", seconds(connected.at)),
                EventKind::Disconnected(end) => {
                    let usage = if end.usage.is_some() { "usage" } else { "no usage" };
                    format!("disconnect at {} {} {usage}", seconds(end.at), end.reason)
                }
            };
            format!("{} {} {source} {what}", event.username, event.uid)
        })
        .collect()
}

#[test]
fn a_session_is_told_when_its_answer_was_heard_and_when_it_ended() {
    assert_eq!(
        told(vec![
            Asks(5, "alice", 100),
            Heard(5, Some(98)),
            Ends(5, "alice", Some(60), 158)
        ]),
        [
            "alice a1/5/98 portal connect at 98",
            "alice a1/5/98 portal disconnect at 158 unspecified usage"
        ]
    );
}

#[test]
fn a_session_whose_beginning_ocserv_does_not_tell_is_named_by_its_arrival() {
    assert_eq!(
        told(vec![Asks(5, "alice", 100), Heard(5, None)]),
        ["alice a1/5/100 portal connect at 100"]
    );
}

#[test]
fn a_denied_login_is_never_told() {
    assert!(told(vec![Asks(5, "alice", 100), Denied(5)]).is_empty());
    assert!(
        told(vec![
            Asks(5, "alice", 100),
            Ends(5, "alice", None, 101),
            Denied(5)
        ])
        .is_empty()
    );
}

#[test]
fn an_answer_that_nobody_heard_is_told_neither_as_a_beginning_nor_as_an_end() {
    assert!(
        told(vec![
            Asks(5, "alice", 100),
            Unheard(5),
            Ends(5, "alice", Some(3), 103)
        ])
        .is_empty()
    );
    assert!(
        told(vec![
            Asks(5, "alice", 100),
            Ends(5, "alice", Some(3), 103),
            Unheard(5)
        ])
        .is_empty()
    );
}

#[test]
fn an_end_that_overtakes_its_answer_is_told_after_the_beginning() {
    assert_eq!(
        told(vec![
            Asks(5, "alice", 100),
            Ends(5, "alice", Some(4), 103),
            Heard(5, Some(99))
        ]),
        [
            "alice a1/5/99 portal connect at 99",
            "alice a1/5/99 portal disconnect at 103 unspecified usage"
        ]
    );
}

#[test]
fn a_reused_number_ends_the_session_that_bore_it() {
    assert_eq!(
        told(vec![
            Asks(5, "alice", 100),
            Heard(5, Some(99)),
            Asks(5, "bob", 200),
            Heard(5, Some(199))
        ]),
        [
            "alice a1/5/99 portal connect at 99",
            "alice a1/5/99 portal disconnect at 200 unspecified no usage",
            "bob a1/5/199 portal connect at 199",
        ]
    );
}

#[test]
fn an_answer_to_a_login_that_was_superseded_says_nothing_about_the_newer_one() {
    let mut notes = Notes::new("a1", 100);
    let (old, _) = notes.begin(&login(5, "alice"), at(100));
    let (new, superseded) = notes.begin(&login(5, "bob"), at(101));
    assert_eq!(superseded, None, "nobody heard of a beginning");
    assert!(notes.delivered(&old, Source::Portal, None).is_empty());
    assert_eq!(notes.delivered(&new, Source::Portal, None).len(), 1);
}

#[test]
fn the_end_of_a_session_that_nobody_noted_is_told_under_the_name_that_its_duration_gives() {
    assert_eq!(
        told(vec![Ends(5, "alice", Some(60), 158)]),
        ["alice a1/5/98 - disconnect at 158 unspecified usage"]
    );
    assert_eq!(
        told(vec![Ends(5, "alice", None, 158)]),
        ["alice a1/5/158 - disconnect at 158 unspecified usage"]
    );
}

#[test]
fn a_session_that_was_there_before_us_keeps_its_name() {
    assert_eq!(
        told(vec![Adopt(5, "alice", 42), Ends(5, "alice", Some(60), 158)]),
        ["alice a1/5/42 - disconnect at 158 unspecified usage"]
    );
    assert_eq!(
        told(vec![
            Asks(5, "alice", 100),
            Heard(5, Some(99)),
            Adopt(5, "alice", 42),
            Ends(5, "alice", None, 101)
        ])[1],
        "alice a1/5/99 portal disconnect at 101 unspecified usage",
        "a note that is there is not replaced"
    );
}

#[test]
fn the_end_of_another_user_under_the_same_number_ends_both() {
    assert_eq!(
        told(vec![Adopt(5, "alice", 42), Ends(5, "bob", Some(60), 158)]),
        [
            "alice a1/5/42 - disconnect at 158 unspecified no usage",
            "bob a1/5/98 - disconnect at 158 unspecified usage"
        ]
    );
    assert_eq!(
        told(vec![
            Asks(5, "alice", 100),
            Ends(5, "bob", Some(60), 158),
            Heard(5, Some(99))
        ]),
        [
            "bob a1/5/98 - disconnect at 158 unspecified usage",
            "alice a1/5/99 portal connect at 99"
        ],
        "a login under way is left alone"
    );
}

#[test]
fn an_end_that_was_announced_bears_its_reason() {
    let forced = DisconnectReason::AdminForced;
    assert_eq!(
        told(vec![
            Asks(5, "alice", 100),
            Heard(5, Some(99)),
            Expect(5, forced),
            Ends(5, "alice", None, 150)
        ])[1],
        "alice a1/5/99 portal disconnect at 150 admin_forced usage"
    );
    assert_eq!(
        told(vec![
            Asks(5, "alice", 100),
            Expect(5, forced),
            Ends(5, "alice", None, 101),
            Heard(5, Some(99))
        ])[1],
        "alice a1/5/99 portal disconnect at 101 admin_forced usage",
        "it was up before its answer counted as heard"
    );
    assert_eq!(
        told(vec![
            Expect(5, forced),
            Asks(5, "alice", 100),
            Heard(5, Some(99)),
            Ends(5, "alice", None, 150)
        ])[1],
        "alice a1/5/99 portal disconnect at 150 unspecified usage",
        "what is not noted expects nothing"
    );
}

#[test]
fn the_notes_are_bounded_and_the_oldest_goes_first() {
    let mut notes = Notes::new("a1", 3);
    for number in 1..=4 {
        let username = Username::parse("alice").unwrap();
        notes.adopt(Found {
            id: id(number),
            username,
            connected_at: 1,
        });
    }
    assert_eq!(notes.count(), 3);
    let mut named = |number| {
        notes.ended(ended(number, "alice", Some(60)), at(158))[0]
            .uid
            .to_string()
    };
    assert_eq!(named(1), "a1/1/98", "named anew, by its duration");
    assert_eq!([2, 3, 4].map(&mut named), ["a1/2/1", "a1/3/1", "a1/4/1"]);
}
