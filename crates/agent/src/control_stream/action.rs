//! The actions that the portal may demand.

use std::collections::BTreeMap;
use std::time::Duration;

use ocserv_agent_model::{Username, one_line};
use resilience::FailMode;

use crate::operations::runtime_switches::MAX_SWITCH;

/// Longest reason, in characters.
const MAX_REASON: usize = 200;

/// An action with checked parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Disconnects a user.
    DisconnectUser {
        username: Username,
        reason: String,
        /// Fails for a user with several sessions.
        only_one: bool,
    },
    /// Drops the cached decisions about a user.
    InvalidateUser(Username),
    /// Drops all cached decisions.
    InvalidateAll,
    /// Switches the fail mode for a time; `None` goes back to the configured one.
    SetFailMode(Option<(FailMode, Duration)>),
    /// Forces logins online for a time; `None` ends that.
    ForceOnline(Option<Duration>),
    /// Compares the sessions with ocserv's list.
    Resync,
    /// Reads the configuration and the certificates again.
    Reload,
    /// Makes the agent not ready; logins are decided.
    Drain,
    /// Ends a drain.
    Resume,
}

/// Why an action cannot be executed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ActionError {
    #[error("action {0:?} is unknown")]
    UnknownAction(String),
    #[error("parameter {0:?} is unknown to {1}")]
    UnknownParameter(String, &'static str),
    #[error("parameter {0:?} is missing")]
    Missing(&'static str),
    #[error("parameter {0:?} {1}")]
    Invalid(&'static str, String),
}

/// The parameters that are not read yet.
struct Parameters(BTreeMap<String, String>);

impl Action {
    /// Parses an action; every parameter must be known.
    pub(super) fn parse(name: &str, parameters: BTreeMap<String, String>) -> Result<Self, ActionError> {
        let mut parameters = Parameters(parameters);
        let action = match name {
            "disconnect_user" => Self::DisconnectUser {
                username: parameters.username()?,
                reason: one_line(&parameters.take("reason").unwrap_or_default(), MAX_REASON),
                only_one: !parameters.flag("disconnect_all_sessions", true)?,
            },
            "invalidate_user" => Self::InvalidateUser(parameters.username()?),
            "invalidate_all" => Self::InvalidateAll,
            "set_fail_mode" => Self::SetFailMode(parameters.fail_mode()?),
            "force_online" => {
                let duration = parameters.duration()?;
                Self::ForceOnline(Some(duration).filter(|duration| !duration.is_zero()))
            }
            "resync" => Self::Resync,
            "reload" => Self::Reload,
            "drain" => Self::Drain,
            "resume" => Self::Resume,
            unknown => return Err(ActionError::UnknownAction(unknown.to_owned())),
        };
        match parameters.0.into_keys().next() {
            Some(unknown) => Err(ActionError::UnknownParameter(
                one_line(&unknown, 64),
                action.name(),
            )),
            None => Ok(action),
        }
    }

    /// The names of all actions, which are what the agent can be asked for.
    pub(super) const NAMES: [&'static str; 9] = [
        "disconnect_user",
        "invalidate_user",
        "invalidate_all",
        "set_fail_mode",
        "force_online",
        "resync",
        "reload",
        "drain",
        "resume",
    ];

    /// Returns the name on the wire.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::DisconnectUser { .. } => "disconnect_user",
            Self::InvalidateUser(_) => "invalidate_user",
            Self::InvalidateAll => "invalidate_all",
            Self::SetFailMode(_) => "set_fail_mode",
            Self::ForceOnline(_) => "force_online",
            Self::Resync => "resync",
            Self::Reload => "reload",
            Self::Drain => "drain",
            Self::Resume => "resume",
        }
    }

    /// Returns the user that the action is about.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::DisconnectUser { username, .. } | Self::InvalidateUser(username) => Some(username.as_str()),
            Self::InvalidateAll
            | Self::SetFailMode(_)
            | Self::ForceOnline(_)
            | Self::Resync
            | Self::Reload
            | Self::Drain
            | Self::Resume => None,
        }
    }

    /// Returns the name, with the mode of `set_fail_mode`, on which its role depends.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::SetFailMode(Some((mode, _))) => format!("set_fail_mode to {mode}"),
            other => other.name().to_owned(),
        }
    }
}

impl Parameters {
    fn take(&mut self, key: &'static str) -> Option<String> {
        self.0.remove(key)
    }

    fn required(&mut self, key: &'static str) -> Result<String, ActionError> {
        self.take(key).ok_or(ActionError::Missing(key))
    }

    fn username(&mut self) -> Result<Username, ActionError> {
        let text = self.required("username")?;
        Username::parse(&text).map_err(|error| ActionError::Invalid("username", error.to_string()))
    }

    fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ActionError> {
        match self.take(key).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(ActionError::Invalid(key, "is not true or false".to_owned())),
        }
    }

    fn fail_mode(&mut self) -> Result<Option<(FailMode, Duration)>, ActionError> {
        let mode = self.required("mode")?;
        if mode == "configured" {
            return Ok(None);
        }
        let mode = mode
            .parse()
            .map_err(|error| ActionError::Invalid("mode", format!("{error}, or \"configured\"")))?;
        match self.duration()? {
            Duration::ZERO => Err(ActionError::Invalid("duration", "is zero".to_owned())),
            duration => Ok(Some((mode, duration))),
        }
    }

    fn duration(&mut self) -> Result<Duration, ActionError> {
        let invalid = |problem: &str| ActionError::Invalid("duration", problem.to_owned());
        let text = self.required("duration")?;
        let duration = humantime::parse_duration(&text)
            .map_err(|_| invalid("is not a time with its unit such as \"10m\""))?;
        match duration <= MAX_SWITCH {
            true => Ok(duration),
            false => Err(invalid("is longer than 24h")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, parameters: &[(&str, &str)]) -> Result<Action, String> {
        let parameters = parameters.iter();
        let parameters = parameters.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Action::parse(name, parameters.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_name_is_parsed_to_the_action_of_that_name() {
        for name in Action::NAMES {
            let all = [("username", "alice"), ("mode", "close"), ("duration", "10m")];
            let needed: Vec<_> = all
                .into_iter()
                .filter(|(key, _)| match *key {
                    "username" => name.ends_with("_user"),
                    "mode" => name == "set_fail_mode",
                    _ => matches!(name, "set_fail_mode" | "force_online"),
                })
                .collect();
            assert_eq!(parse(name, &needed).unwrap().name(), name);
        }
    }

    #[test]
    fn what_is_unknown_missing_or_invalid_is_named() {
        for (name, parameters, error) in [
            ("reboot", vec![], "action \"reboot\" is unknown"),
            (
                "drain",
                vec![("now", "yes")],
                "parameter \"now\" is unknown to drain",
            ),
            ("disconnect_user", vec![], "parameter \"username\" is missing"),
            (
                "invalidate_user",
                vec![("username", "")],
                "parameter \"username\" is empty",
            ),
            (
                "disconnect_user",
                vec![("username", "a"), ("disconnect_all_sessions", "1")],
                "parameter \"disconnect_all_sessions\" is not true or false",
            ),
            (
                "set_fail_mode",
                vec![("mode", "open")],
                "parameter \"duration\" is missing",
            ),
            (
                "force_online",
                vec![("duration", "10")],
                "parameter \"duration\" is not a time",
            ),
            (
                "force_online",
                vec![("duration", "25h")],
                "parameter \"duration\" is longer than 24h",
            ),
        ] {
            let refused = parse(name, &parameters).unwrap_err();
            assert!(refused.starts_with(error), "{refused}");
        }
        let refused = parse("set_fail_mode", &[("mode", "fine"), ("duration", "1m")]).unwrap_err();
        assert!(refused.contains("is not a fail mode"), "{refused}");
    }

    #[test]
    fn a_switch_can_be_ended_early() {
        assert_eq!(
            parse("set_fail_mode", &[("mode", "configured")]),
            Ok(Action::SetFailMode(None))
        );
        assert_eq!(
            parse("force_online", &[("duration", "0s")]),
            Ok(Action::ForceOnline(None))
        );
    }
}
