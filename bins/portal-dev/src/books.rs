//! `books`: finds the sessions without exactly one beginning and one end in the lines of JSON.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use ocserv_agent_model::one_line;
use serde::{Deserialize, Serialize};

use crate::cli::{self, BooksArgs};
use crate::columns;

/// Exit code when a session lacks something.
const NOT_BALANCED: u8 = 1;
/// Longest text of a line in the table, in characters.
const MAX_TEXT: usize = 100;

/// The fields of a line that count.
#[derive(Debug, Deserialize)]
struct Line {
    kind: String,
    username: Option<String>,
    event_id: Option<String>,
    session_uid: Option<String>,
    connected_at: Option<String>,
    disconnected_at: Option<String>,
}

/// One session.
#[derive(Debug, Default)]
struct Session {
    usernames: Vec<String>,
    beginnings: Vec<Option<String>>,
    ends: Vec<Option<String>>,
}

/// The books: how many sessions there are, and those that are not balanced.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Books {
    /// Sessions with exactly one beginning and one end.
    balanced: usize,
    /// Sessions with a beginning only, which may be connected.
    open: usize,
    /// Repetitions of events, which count once.
    duplicates: usize,
    /// Lines that are not JSON of portal-dev.
    unreadable: usize,
    /// Every session that is not balanced.
    sessions: Vec<Unbalanced>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Unbalanced {
    session_uid: Option<String>,
    username: Option<String>,
    beginnings: usize,
    ends: usize,
    problem: &'static str,
}

pub(crate) fn run(args: &BooksArgs) -> anyhow::Result<ExitCode> {
    let read_failed = || format!("could not read {}", args.events.display());
    let books = if args.events == Path::new("-") {
        read(io::stdin().lock()).with_context(read_failed)?
    } else {
        let file = File::open(&args.events).with_context(read_failed)?;
        read(BufReader::new(file)).with_context(read_failed)?
    };
    let text = if args.json {
        serde_json::to_string_pretty(&books).context("could not write JSON")? + "\n"
    } else {
        table(&books)
    };
    cli::print(&text)?;
    let faults = books.sessions.iter();
    let faults = faults.filter(|session| !(args.allow_open && session.problem == OPEN));
    Ok(match faults.count() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(NOT_BALANCED),
    })
}

const OPEN: &str = "has no end";

fn read(lines: impl BufRead) -> io::Result<Books> {
    let (mut books, mut seen) = (Books::default(), HashSet::new());
    let mut sessions: BTreeMap<Option<String>, Session> = BTreeMap::new();
    for line in lines.lines() {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        let Ok(line) = serde_json::from_str::<Line>(&line) else {
            books.unreadable += 1;
            continue;
        };
        if !matches!(line.kind.as_str(), "connect" | "disconnect") {
            continue;
        }
        if let Some(event_id) = line.event_id
            && !seen.insert(event_id)
        {
            books.duplicates += 1;
            continue;
        }
        let session = sessions.entry(line.session_uid).or_default();
        if let Some(username) = line.username
            && !session.usernames.contains(&username)
        {
            session.usernames.push(username);
        }
        match line.kind.as_str() {
            "connect" => session.beginnings.push(line.connected_at),
            _ => session.ends.push(line.disconnected_at),
        }
    }
    for (uid, session) in sessions {
        let Some(problem) = session.problem(uid.is_some()) else {
            books.balanced += 1;
            continue;
        };
        books.open += usize::from(problem == OPEN);
        books.sessions.push(Unbalanced {
            session_uid: uid,
            username: session.usernames.first().cloned(),
            beginnings: session.beginnings.len(),
            ends: session.ends.len(),
            problem,
        });
    }
    Ok(books)
}

impl Session {
    /// Returns why the session is not balanced.
    fn problem(&self, has_uid: bool) -> Option<&'static str> {
        match (self.beginnings.as_slice(), self.ends.as_slice()) {
            _ if !has_uid => Some("has events without session_uid"),
            _ if self.usernames.len() > 1 => Some("has events of several users"),
            // Both have the same format, in which text sorts as time does.
            ([Some(beginning)], [Some(end)]) if end < beginning => Some("ends before it begins"),
            ([_], [_]) => None,
            ([_], []) => Some(OPEN),
            ([], _) => Some("has no beginning"),
            ([_], _) => Some("has several ends"),
            (_, _) => Some("has several beginnings"),
        }
    }
}

fn table(books: &Books) -> String {
    let mut text = String::new();
    if !books.sessions.is_empty() {
        let mut rows = vec![["SESSION", "USER", "BEGINNINGS", "ENDS", "PROBLEM"].map(str::to_owned)];
        for session in &books.sessions {
            rows.push([
                one_line(session.session_uid.as_deref().unwrap_or("-"), MAX_TEXT),
                one_line(session.username.as_deref().unwrap_or("-"), MAX_TEXT),
                session.beginnings.to_string(),
                session.ends.to_string(),
                session.problem.to_owned(),
            ]);
        }
        text = columns::render(&rows);
    }
    let Books {
        balanced,
        open,
        duplicates,
        unreadable,
        sessions,
    } = books;
    let count = sessions.len();
    text.push_str(&format!(
        "{balanced} balanced, {count} not balanced ({open} without an end); {duplicates} duplicates\n"
    ));
    if *unreadable > 0 {
        text.push_str(&format!("{unreadable} lines cannot be read\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(lines: &[&str]) -> Books {
        read(lines.join("\n").as_bytes()).unwrap()
    }

    fn line(kind: &str, id: &str, uid: &str, user: &str, second: u32) -> String {
        let at = if kind == "connect" {
            "connected_at"
        } else {
            "disconnected_at"
        };
        format!(
            r#"{{"kind":"{kind}","event_id":"{id}","session_uid":"{uid}","username":"{user}","{at}":"2026-03-01T12:00:{second:02}.000Z"}}"#
        )
    }

    #[test]
    fn a_session_needs_exactly_one_beginning_and_one_end() {
        let lines = [
            line("connect", "1", "a", "alice", 1),
            line("disconnect", "2", "a", "alice", 2),
            // A repetition.
            line("disconnect", "2", "a", "alice", 2),
            line("connect", "3", "b", "bob", 1),
            line("disconnect", "4", "c", "carol", 1),
            line("connect", "5", "d", "dave", 1),
            line("disconnect", "6", "d", "dave", 2),
            line("disconnect", "7", "d", "dave", 3),
            line("connect", "8", "e", "erin", 5),
            line("disconnect", "9", "e", "erin", 4),
            line("connect", "10", "f", "frank", 1),
            line("disconnect", "11", "f", "mallory", 4),
            "{\"kind\":\"policy_loaded\"}".to_owned(),
            "half a li".to_owned(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let books = books(&lines);
        assert_eq!((books.balanced, books.open), (1, 1));
        assert_eq!((books.duplicates, books.unreadable), (1, 1));
        let problems = books.sessions.iter();
        let problems: Vec<_> = problems
            .map(|session| (session.session_uid.as_deref().unwrap(), session.problem))
            .collect();
        assert_eq!(
            problems,
            [
                ("b", "has no end"),
                ("c", "has no beginning"),
                ("d", "has several ends"),
                ("e", "ends before it begins"),
                ("f", "has events of several users"),
            ]
        );
    }
}
