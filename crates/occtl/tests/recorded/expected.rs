//! Reads the expected values beside a recording.

use std::fs;
use std::path::Path;

/// `key: value` lines, in order.
#[derive(Default)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        let of_key = self.0.iter().filter(|(found, _)| found == key);
        of_key.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).first().copied()
    }

    pub(crate) fn one(&self, key: &str) -> &str {
        self.get(key)
            .unwrap_or_else(|| panic!("no {key} in {:?}", self.0))
    }

    /// Whole seconds of a time.
    pub(crate) fn seconds(&self, key: &str) -> u64 {
        whole_seconds(self.one(key))
    }

    /// The values of `key` in the per-user file.
    pub(crate) fn own_config(&self, key: &str) -> Vec<&str> {
        let lines = self.all("per-user-file");
        let pairs = lines.into_iter().filter_map(|line| line.split_once(" = "));
        pairs
            .filter(|(found, _)| *found == key)
            .map(|(_, value)| value)
            .collect()
    }
}

fn whole_seconds(text: &str) -> u64 {
    text.split('.').next().unwrap().parse().unwrap()
}

pub(crate) struct Expected {
    /// Values of the server, with the lines of `occtl`'s text.
    pub(crate) about: Facts,
    /// Values of each session.
    pub(crate) sessions: Vec<Facts>,
    text: String,
}

impl Expected {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut about = Facts::default();
        let mut sessions: Vec<Facts> = Vec::new();
        let mut in_session = false;
        for line in text.lines() {
            if line == "[session]" {
                in_session = true;
                sessions.push(Facts::default());
            } else if line.starts_with("--- ") {
                in_session = false;
            } else if let Some((key, value)) = line.split_once(": ") {
                let facts = if in_session {
                    sessions.last_mut().unwrap()
                } else {
                    &mut about
                };
                facts.0.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Self {
            about,
            sessions,
            text,
        }
    }

    /// The second in which the recording ended.
    pub(crate) fn taken_at(&self) -> u64 {
        whole_seconds(self.about.one("taken-between").split(' ').nth(1).unwrap())
    }

    /// The rows of `occtl`'s table of cookies, if recorded.
    pub(crate) fn logins(&self) -> Vec<&str> {
        let lines = self
            .text
            .lines()
            .skip_while(|line| !line.starts_with("--- occtl show sessions"));
        lines.skip(2).collect()
    }
}
