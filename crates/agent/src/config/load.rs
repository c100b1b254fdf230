//! Reading the file and the environment into a checked [`Config`].

use std::collections::BTreeMap;
use std::path::Path;

use figment::error::{Actual, Kind};
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};
use toml::de::DeTable;

use super::locate::Lines;
use super::{Config, ConfigError, ENV_PREFIX, Place, Problem, check};

/// Reads the config at `path`, lays `environment` (name and value; other names are ignored) over it, and checks it.
///
/// # Errors
/// Everything that is wrong, with its place: bad TOML, unknown keys, wrong types, missing keys, then values that make
/// no sense and files that cannot be read.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let text = read(path)?;
    Loader {
        path,
        lines: Lines::new(&text),
        environment: variables(environment),
    }
    .load(&text)
}

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|err| ConfigError {
        problems: vec![Problem {
            place: Place::File {
                path: path.to_owned(),
                line: None,
            },
            key: String::new(),
            what: format!("cannot be read: {err}"),
        }],
    })
}

/// The variables that set keys, by the path of the key.
pub(super) fn variables(
    environment: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<Vec<String>, String> {
    let key = |name: &str| -> Option<Vec<String>> {
        Some(
            name.strip_prefix(ENV_PREFIX)?
                .split("__")
                .map(str::to_ascii_lowercase)
                .collect(),
        )
    };
    environment
        .into_iter()
        .filter_map(|(name, value)| Some((key(&name)?, value)))
        .collect()
}

fn variable_name(path: &[String]) -> String {
    format!("{ENV_PREFIX}{}", path.join("__").to_ascii_uppercase())
}

struct Loader<'a> {
    path: &'a Path,
    lines: Lines<'a>,
    environment: BTreeMap<Vec<String>, String>,
}

impl Loader<'_> {
    fn load(&self, text: &str) -> Result<Config, ConfigError> {
        self.syntax(text)?;
        let mut values = self.layers(text)?;
        // One pass finds one problem, so what it stumbled over is put out of the way and the next pass finds the next.
        // No key is stumbled over twice, so that this ends.
        let mut problems = Vec::new();
        let mut seen: Vec<Vec<String>> = Vec::new();
        let mut retyped: Vec<Vec<String>> = Vec::new();
        loop {
            let error = match Value::from(values.clone()).deserialize::<Config>() {
                Ok(config) if problems.is_empty() => return self.sense(config),
                Ok(_) => break,
                Err(error) => error,
            };
            let path = culprit(&error.path, &error.kind);
            if let Some(typed) = self.typed(&path, &error.kind)
                && !retyped.contains(&path)
                && replace(&mut values, &path, Some(typed))
            {
                retyped.push(path);
                continue;
            }
            if seen.contains(&path) {
                // A required key whose value was refused is missing now: that has been said.
                break;
            }
            problems.push(self.problem(&path, in_words(&error.kind) + hint(&path, &error.kind)));
            match error.kind {
                Kind::MissingField(_) => insert(&mut values, &path, Value::from("")),
                _ if replace(&mut values, &path, None) => {}
                _ => break,
            }
            seen.push(path);
        }
        Err(self.sorted(problems))
    }

    fn syntax(&self, text: &str) -> Result<(), ConfigError> {
        let (_, errors) = DeTable::parse_recoverable(text);
        // What reads like TOML may still be none, such as a number that is too large.
        let beyond = text.parse::<toml::Table>().err().filter(|_| errors.is_empty());
        let problems: Vec<Problem> = errors
            .iter()
            .chain(&beyond)
            .map(|err| Problem {
                place: self.in_file(err.span().map(|span| self.lines.line_at(span.start))),
                key: String::new(),
                what: format!("is not TOML: {}{}", err.message(), syntax_hint(err, text)),
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(self.sorted(problems))
        }
    }

    fn layers(&self, text: &str) -> Result<Dict, ConfigError> {
        let mut environment = Dict::new();
        for (path, value) in &self.environment {
            insert(&mut environment, path, Value::from(value.as_str()));
        }
        let figment = Figment::from(Toml::string(text)).merge(Variables(environment));
        figment
            .extract::<Dict>()
            .map_err(|err| self.sorted(vec![self.problem(&err.path, in_words(&err.kind))]))
    }

    /// What a variable's text means where a text is not wanted: `256`, `[0, 1000]`, `true`.
    fn typed(&self, path: &[String], kind: &Kind) -> Option<Value> {
        let text = self.environment.get(path)?;
        if !matches!(kind, Kind::InvalidType(Actual::Str(_), _)) {
            return None;
        }
        let table: toml::Table = format!("value = {text}").parse().ok()?;
        let typed = Value::serialize(table.get("value")?).ok()?;
        (table.len() == 1 && typed.as_str().is_none()).then_some(typed)
    }

    fn sense(&self, config: Config) -> Result<Config, ConfigError> {
        let problems: Vec<Problem> = check::check(&config)
            .into_iter()
            .map(|(key, what)| self.problem(&key.split('.').map(str::to_owned).collect::<Vec<_>>(), what))
            .collect();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(self.sorted(problems))
        }
    }

    fn problem(&self, path: &[String], what: String) -> Problem {
        let variable = (1..=path.len())
            .rev()
            .find(|n| self.environment.contains_key(&path[..*n]));
        let place = match variable {
            Some(n) => Place::Env(variable_name(&path[..n])),
            None => self.in_file(self.lines.of(path)),
        };
        Problem {
            place,
            key: path.join("."),
            what,
        }
    }

    fn in_file(&self, line: Option<usize>) -> Place {
        Place::File {
            path: self.path.to_owned(),
            line,
        }
    }

    fn sorted(&self, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        ConfigError { problems }
    }
}

struct Variables(Dict);

impl Provider for Variables {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named("environment")
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, Dict>, figment::Error> {
        Ok(figment::Profile::Default.collect(self.0.clone()))
    }
}

/// The key that an error is about: of a missing one serde names the section.
fn culprit(path: &[String], kind: &Kind) -> Vec<String> {
    let mut path = path.to_vec();
    if let Kind::MissingField(name) = kind {
        path.push(name.to_string());
    }
    // A value inside a list is named by its position; the key is what people look for.
    path.retain(|word| word.parse::<usize>().is_err());
    path
}

fn in_words(kind: &Kind) -> String {
    match kind {
        Kind::UnknownField(_, known) => format!("unknown key, known here are {}", known.join(", ")),
        Kind::MissingField(_) => "is required and missing".to_owned(),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("expected {}, found {}", wanted(expected), there(found))
        }
        Kind::UnknownVariant(found, known) => {
            format!("expected one of {}, found \"{found}\"", known.join(", "))
        }
        Kind::Message(what) if what == "invalid socket address syntax" => {
            format!("expected {}", wanted("socket address"))
        }
        Kind::Message(what) => what.clone(),
        other => other.to_string(),
    }
}

/// What else people should hear about text that is no TOML.
fn syntax_hint(error: &toml::de::Error, text: &str) -> String {
    let there = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    match error.message() {
        "duplicate key" => format!(" \"{}\"", there.trim_matches(['"', '\''])),
        message if message.contains("leading zero") => "; a mode stands in quotes: \"0600\"".to_owned(),
        _ => String::new(),
    }
}

/// What else people should hear about a value that is none.
fn hint(path: &[String], kind: &Kind) -> &'static str {
    let is_role = path.len() > 2 && path[..2] == ["grpc", "roles"];
    match kind {
        Kind::InvalidType(Actual::Map, _) if is_role => "; a name with dots stands in quotes",
        _ => "",
    }
}

/// serde's word for a type, in the words of the documentation.
fn wanted(expected: &str) -> &str {
    match expected {
        "u32" | "usize" => "a whole number",
        "a nonzero u32" => "a whole number from 1",
        "f64" => "a number",
        "a string" => "a text",
        "path string" => "a path",
        "socket address" => "an address and a port such as \"127.0.0.1:9090\"",
        "a sequence" => "a list",
        "a map" => "a section",
        "enum" => "a word",
        section if section.starts_with("struct ") => "a section",
        other => other,
    }
}

fn there(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(text) => format!("the text \"{text}\""),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}

fn insert(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            dict.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = dict
                .entry(first.clone())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Puts `value` where `path` leads, or takes out what is there. Says whether there was something.
fn replace(dict: &mut Dict, path: &[String], value: Option<Value>) -> bool {
    match path {
        [] => false,
        [last] => match value {
            Some(value) => dict.get_mut(last).map(|old| *old = value).is_some(),
            None => dict.remove(last).is_some(),
        },
        [first, rest @ ..] => match dict.get_mut(first) {
            Some(Value::Dict(_, inner)) => replace(inner, rest, value),
            _ => false,
        },
    }
}
