//! Reading the file and the environment into a checked [`Config`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};
use toml::de::DeTable;

use super::check;
use super::environment::{read, variable_name, variables};
use super::error::{ConfigError, Location, Problem};
use super::locate::Lines;
use super::nested::{insert, replace};
use super::preflight::preflight;
use super::schema::Config;

/// Most problems that are listed: each takes a pass over the configuration.
const MAX_PROBLEMS: usize = 100;

/// Most levels of a key that a variable may set; the schema has four.
const MAX_LEVELS: usize = 8;

/// Reads the configuration at `path`, lays `environment` (name and value; other names are ignored)
/// over it, and checks its values and the files that it names. Blocks on the disk.
///
/// # Errors
/// Every problem with its location: bad TOML; or unknown keys, wrong types, missing keys, bad
/// values and files that cannot be used. Values are compared with each other when all have their
/// type.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let document = Document::read(path, environment)?;
    let config = document.deserialize(of_files_and_values)?;
    let mut problems = check::check(&config);
    problems.extend(preflight(&config).problems);
    document.verdict(config, problems)
}

/// Checks the configuration as [`load`] does, and its certificates; returns every key with its
/// effective value, and the warnings. Blocks on the disk.
///
/// # Errors
/// As [`load`], and when a certificate has expired or the policy file cannot be used.
pub fn check_file(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<String, ConfigError> {
    let document = Document::read(path, environment)?;
    let config = document.deserialize(of_files_and_values)?;
    let mut problems = check::check(&config);
    let mut preflight = preflight(&config);
    problems.append(&mut preflight.problems);
    problems.append(&mut preflight.tolerated);
    let config = document.verdict(config, problems)?;
    Ok(config.summary(path, &preflight))
}

/// The text of a configuration file and the environment variables that are laid over it.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
    environment: BTreeMap<Vec<String>, String>,
}

impl Document {
    /// Reads the file at `path`. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            path: path.to_owned(),
            text: read(path)?,
            environment: variables(environment),
        })
    }

    /// The configuration that the document describes, with its values checked; does no I/O.
    ///
    /// # Errors
    /// As [`load`], without the files.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        let config = self.deserialize(check::check_each)?;
        let problems = check::check(&config);
        self.verdict(config, problems)
    }

    /// `config` when `problems` (key and text) is empty, else the problems with their locations.
    fn verdict(&self, config: Config, problems: Vec<(String, String)>) -> Result<Config, ConfigError> {
        if problems.is_empty() {
            return Ok(config);
        }
        let by_path = problems.into_iter().map(|(key, what)| (words(&key), what));
        Err(self.error(by_path))
    }

    /// Returns the configuration, or the problems of its form and those that `others` finds in the
    /// rest of it.
    fn deserialize(&self, others: fn(&Config) -> Vec<(String, String)>) -> Result<Config, ConfigError> {
        self.check_syntax()?;
        self.check_levels()?;
        let mut values = self.layers()?;
        // serde stops at the first error: the bad value is removed or replaced, and the next pass
        // finds the next one. No key is reported twice and stand-ins run out, so the loop ends.
        let mut problems = Vec::new();
        let mut seen: Vec<Vec<String>> = Vec::new();
        let mut retyped: Vec<Vec<String>> = Vec::new();
        let mut stand_ins = BTreeMap::new();
        while problems.len() <= MAX_PROBLEMS {
            let error = match Value::from(values.clone()).deserialize::<Config>() {
                Ok(config) if problems.is_empty() => return Ok(config),
                Ok(config) => {
                    let by_path = others(&config).into_iter().map(|(key, what)| (words(&key), what));
                    let is_meant = |path: &[String]| !seen.iter().any(|bad| depends_on(path, bad));
                    problems.extend(by_path.filter(|(path, _)| is_meant(path)));
                    break;
                }
                Err(error) => error,
            };
            let path = error_path(&error.path, &error.kind);
            if let Some(typed) = self.typed(&path, &error.kind)
                && !retyped.contains(&path)
                && replace(&mut values, &path, Some(typed))
            {
                retyped.push(path);
                continue;
            }
            let is_required = matches!(error.kind, Kind::MissingField(_)) || seen.contains(&path);
            // What is missing in the stand-in for a section was reported with the section.
            if !seen.iter().any(|bad| path.starts_with(bad)) {
                let what = describe(&error.kind) + hint(&path, &error.kind);
                problems.push((path.clone(), what));
                seen.push(path.clone());
            }
            if is_required {
                let left = stand_ins.entry(path.clone()).or_insert_with(of_every_type);
                let Some(value) = left.next() else { break };
                insert(&mut values, &path, value);
            } else if !replace(&mut values, &path, None) {
                break;
            }
        }
        Err(self.error(problems))
    }

    /// Refuses keys that no schema has, before the functions that descend into them.
    fn check_levels(&self) -> Result<(), ConfigError> {
        let deep = self.environment.keys().filter(|path| path.len() > MAX_LEVELS);
        let problem = |path: &Vec<String>| Problem {
            location: Location::Env(variable_name(&path[..MAX_LEVELS]) + "…"),
            key: String::new(),
            what: format!("has {} levels, more than {MAX_LEVELS}", path.len()),
        };
        let problems: Vec<Problem> = deep.map(problem).collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(self.listed(problems))
        }
    }

    fn check_syntax(&self) -> Result<(), ConfigError> {
        let text = self.text.as_str();
        let lines = Lines::new(text);
        let (_, errors) = DeTable::parse_recoverable(text);
        // Some errors, such as a number out of range, are not found by the recovering parser.
        let beyond = text.parse::<toml::Table>().err().filter(|_| errors.is_empty());
        let problems: Vec<Problem> = errors
            .iter()
            .chain(&beyond)
            .map(|err| Problem {
                location: self.in_file(err.span().map(|span| lines.line_at(span.start))),
                key: String::new(),
                what: format!("is not TOML: {}{}", err.message(), syntax_hint(err, text)),
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(self.listed(problems))
        }
    }

    fn layers(&self) -> Result<Dict, ConfigError> {
        let mut environment = Dict::new();
        for (path, value) in &self.environment {
            insert(&mut environment, path, Value::from(value.as_str()));
        }
        let figment = Figment::from(Toml::string(&self.text)).merge(Variables(environment));
        figment
            .extract::<Dict>()
            .map_err(|err| self.error([(err.path.clone(), describe(&err.kind))]))
    }

    /// The value of a variable whose key is no text: `256`, `[0, 1000]`, `true`.
    fn typed(&self, path: &[String], kind: &Kind) -> Option<Value> {
        let text = self.environment.get(path)?;
        if !matches!(kind, Kind::InvalidType(Actual::Str(_), _)) {
            return None;
        }
        let table: toml::Table = format!("value = {text}").parse().ok()?;
        let typed = Value::serialize(table.get("value")?).ok()?;
        (table.len() == 1 && typed.as_str().is_none()).then_some(typed)
    }

    /// The problems by the path of their key, with their locations.
    fn error(&self, problems: impl IntoIterator<Item = (Vec<String>, String)>) -> ConfigError {
        let lines = Lines::new(&self.text);
        let located = problems
            .into_iter()
            .map(|(path, what)| self.problem(&lines, &path, what));
        self.listed(located.collect())
    }

    fn problem(&self, lines: &Lines<'_>, path: &[String], what: String) -> Problem {
        let variable = (1..=path.len())
            .rev()
            .find(|n| self.environment.contains_key(&path[..*n]));
        let location = match variable {
            Some(n) => Location::Env(variable_name(&path[..n])),
            None => self.in_file(lines.of(path)),
        };
        Problem {
            location,
            key: path.join("."),
            what,
        }
    }

    /// The first of `problems` in the order of the file.
    fn listed(&self, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort_by(|a, b| a.location.cmp(&b.location));
        if problems.len() > MAX_PROBLEMS {
            problems.truncate(MAX_PROBLEMS);
            problems.push(Problem {
                location: self.in_file(None),
                key: String::new(),
                what: "has more problems, which are not listed".to_owned(),
            });
        }
        ConfigError { problems }
    }

    fn in_file(&self, line: Option<usize>) -> Location {
        Location::File {
            path: self.path.clone(),
            line,
        }
    }
}

/// The problems of single values and of files.
fn of_files_and_values(config: &Config) -> Vec<(String, String)> {
    let mut problems = check::check_each(config);
    problems.extend(preflight(config).problems);
    problems
}

/// The words of a key.
fn words(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

/// Stand-ins for a required value: serde does not say which type it needs.
fn of_every_type() -> impl Iterator<Item = Value> {
    let section = Value::from(Dict::new());
    [Value::from(""), Value::from("1s"), Value::from(1_u32), section].into_iter()
}

/// Whether what is said about `path` follows from the stand-in for the value of `bad`.
fn depends_on(path: &[String], bad: &[String]) -> bool {
    // The mode says which keys its section needs.
    let section = if bad == ["portal", "mode"] { &bad[..1] } else { bad };
    // A role that was removed leaves the names of the others as they were.
    let is_section_of = |bad: &[String]| bad.starts_with(path) && path != ["grpc", "roles"];
    path.starts_with(section) || is_section_of(bad)
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

/// The key that an error is about; serde names the section of a missing key.
fn error_path(path: &[String], kind: &Kind) -> Vec<String> {
    let mut path = path.to_vec();
    if let Kind::MissingField(name) = kind {
        path.push(name.to_string());
    }
    // serde appends the index of a list's element; operators look for the key.
    path.retain(|word| word.parse::<usize>().is_err());
    path
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::UnknownField(_, known) => format!("unknown key, known here are {}", known.join(", ")),
        Kind::MissingField(_) => "is required and missing".to_owned(),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!(
                "expected {}, found {}",
                expected_text(expected),
                found_text(found)
            )
        }
        Kind::UnknownVariant(found, known) => {
            format!("expected one of {}, found \"{found}\"", known.join(", "))
        }
        Kind::Message(what) if what == "invalid socket address syntax" => {
            format!("expected {}", expected_text("socket address"))
        }
        Kind::Message(what) => what.clone(),
        other => other.to_string(),
    }
}

/// An explanation that some TOML errors need.
fn syntax_hint(error: &toml::de::Error, text: &str) -> String {
    let there = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    match error.message() {
        "duplicate key" => format!(" \"{}\"", there.trim_matches(['"', '\''])),
        message if message.contains("leading zero") => "; a mode is written in quotes: \"0600\"".to_owned(),
        _ => String::new(),
    }
}

/// An explanation that some bad values need.
fn hint(path: &[String], kind: &Kind) -> &'static str {
    let is_role = path.len() > 2 && path[..2] == ["grpc", "roles"];
    match kind {
        Kind::InvalidType(Actual::Map, _) if is_role => "; a name with dots is written in quotes",
        _ => "",
    }
}

/// serde's name of a type in the documentation's words.
fn expected_text(expected: &str) -> &str {
    match expected {
        "u32" | "usize" => "a whole number",
        "a nonzero u32" => "a whole number from 1",
        "f64" => "a number",
        "a string" => "a text",
        "path string" => "a path",
        "socket address" => "an address and a port such as \"127.0.0.1:9090\"",
        "a sequence" => "a list",
        "a map" => "a section",
        "enum" => "a keyword",
        section if section.starts_with("struct ") => "a section",
        other => other,
    }
}

fn found_text(found: &Actual) -> String {
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
