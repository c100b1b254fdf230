use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use ocserv_agent_model::{DisconnectReason, Disconnected, Event, EventKind, OcservId, SessionUid, Username};

use super::*;

fn rejected(number: i32) -> Rejected {
    let id = OcservId::new(number).unwrap();
    let uid = SessionUid::new("a1", id, 1_700_000_000);
    let kind = EventKind::Disconnected(Disconnected {
        at: UNIX_EPOCH,
        reason: DisconnectReason::UserInitiated,
        usage: None,
        is_sampled: false,
        duration: None,
    });
    let event = Event {
        event_id: EventId::new(&uid, &kind),
        username: Username::parse("alice").unwrap(),
        id,
        uid,
        decision_source: None,
        vhost: None,
        reconciled: None,
        kind,
    };
    Rejected {
        sequence: 1,
        event: QueuedEvent {
            event,
            queued: SystemTime::UNIX_EPOCH,
        },
        problem: "no \"such\" user\n".to_owned(),
        is_in_file: false,
    }
}

fn numbers(letters: &DeadLetters) -> Vec<i32> {
    let read = letters.read().unwrap();
    read.iter().map(|letter| letter.event.event.id.get()).collect()
}

#[test]
fn a_dead_letter_is_read_as_it_was_written_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::in_directory(dir.path());
    assert_eq!(letters.read().unwrap(), []);
    letters.remove(&[]).unwrap();
    assert_eq!(letters.append(&mut [rejected(1), rejected(2)]).unwrap(), 0);
    assert_eq!(letters.append(&mut [rejected(3)]).unwrap(), 0);
    assert_eq!(numbers(&letters), [1, 2, 3]);
    let second = &letters.read().unwrap()[1];
    assert_eq!(
        (&second.event, &second.problem),
        (&rejected(2).event, &rejected(2).problem)
    );
    letters
        .remove(std::slice::from_ref(&second.event.event.event_id))
        .unwrap();
    assert_eq!(numbers(&letters), [1, 3]);
    let mode = fs::metadata(letters.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_torn_line_costs_no_other_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::in_directory(dir.path());
    letters.append(&mut [rejected(1), rejected(2)]).unwrap();
    let file = fs::OpenOptions::new().write(true).open(letters.path()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    letters.append(&mut [rejected(3)]).unwrap();
    assert_eq!(numbers(&letters), [1, 3]);
    letters.remove(&[rejected(1).event.event.event_id]).unwrap();
    assert_eq!(numbers(&letters), [3]);
    assert_eq!(fs::read_to_string(letters.path()).unwrap().lines().count(), 2);
}

#[test]
fn a_full_file_takes_no_more_events_and_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut letters = DeadLetters::in_directory(dir.path());
    letters.append(&mut [rejected(1)]).unwrap();
    letters.max_len = fs::metadata(letters.path()).unwrap().len() + 10;
    assert_eq!(letters.append(&mut [rejected(2), rejected(3)]).unwrap(), 2);
    assert_eq!(numbers(&letters), [1]);
}

#[test]
fn a_letter_that_came_after_the_reading_is_not_removed_with_its_predecessor() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::in_directory(dir.path());
    letters.append(&mut [rejected(1), rejected(2)]).unwrap();
    let ids: Vec<EventId> = letters.read().unwrap().into_iter().map(id).collect();
    // Sent again, and rejected again before the letters are removed.
    letters.append(&mut [rejected(1)]).unwrap();
    letters.remove(&ids).unwrap();
    assert_eq!(numbers(&letters), [1]);
}

#[test]
fn a_letter_is_in_the_file_once_however_often_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let letters = DeadLetters::in_directory(dir.path());
    let mut rejected = [rejected(1)];
    letters.append(&mut rejected).unwrap();
    letters.append(&mut rejected).unwrap();
    assert_eq!(numbers(&letters), [1]);
}

fn id(letter: DeadLetter) -> EventId {
    letter.event.event.event_id
}
