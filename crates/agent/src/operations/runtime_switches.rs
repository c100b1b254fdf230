//! Switches the fail mode, and forces logins online, for a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use authz::{ActiveSwitches, Authorizer};
use resilience::FailMode;
use tokio::sync::Notify;

use super::notifications::Notifications;
use super::role::Role;
use crate::live::Live;

/// The longest time of a switch.
pub(crate) const MAX_SWITCH: Duration = Duration::from_hours(24);

/// What the configuration says about the fail mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailModeRules {
    /// The mode that is configured.
    pub(crate) configured: FailMode,
    /// Whether `open` is permitted on this server.
    pub(crate) open_permitted: bool,
    /// What the portal may do.
    pub(crate) portal_role: Role,
}

impl FailModeRules {
    /// The role that may switch to `mode`: one that is more lenient than the configured mode needs
    /// the highest.
    fn required_role(&self, mode: FailMode) -> Role {
        match lenience(mode) > lenience(self.configured) {
            true => Role::Admin,
            false => Role::Operator,
        }
    }

    /// Whether a switch to `mode` may last. One that is as strict as the configured mode may,
    /// whoever set it.
    fn permit(&self, mode: FailMode) -> bool {
        let is_permitted = mode != FailMode::Open || self.open_permitted;
        is_permitted && (self.portal_role == Role::Admin || self.required_role(mode) != Role::Admin)
    }
}

/// Switches what decides logins; clones share everything.
#[derive(Clone)]
pub(crate) struct RuntimeSwitches {
    authorizer: Authorizer,
    rules: Live<FailModeRules>,
    notifications: Notifications,
    /// The switches whose start was announced, and whose end was not.
    announced: Arc<Mutex<ActiveSwitches>>,
    changed: Arc<Notify>,
}

/// Why a mode was not switched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SwitchError {
    #[error(
        "mode \"open\" is not permitted on a production server: \
         resilience.allow_fail_open_in_production is not set"
    )]
    OpenInProduction,
}

impl RuntimeSwitches {
    pub(crate) fn new(
        authorizer: Authorizer,
        rules: Live<FailModeRules>,
        notifications: Notifications,
    ) -> Self {
        Self {
            authorizer,
            rules,
            notifications,
            announced: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// Returns the role that may switch to `mode`.
    pub(crate) fn required_role(&self, mode: FailMode) -> Role {
        self.rules.current().required_role(mode)
    }

    /// Decides by `mode` for `duration`, in place of the configured mode. Returns the end.
    ///
    /// # Errors
    /// Where the configuration does not permit the mode.
    pub(crate) fn set_fail_mode(&self, mode: FailMode, duration: Duration) -> Result<String, SwitchError> {
        if mode == FailMode::Open && !self.rules.current().open_permitted {
            return Err(SwitchError::OpenInProduction);
        }
        self.authorizer.switch_fail_mode(Some((mode, duration)));
        let until = self.set_announced().fail_mode.map(|(_, end)| text(end));
        let until = until.unwrap_or_default();
        tracing::warn!(%mode, until, "fail mode switched");
        self.notifications.fail_mode_changed(mode, Some(&until));
        // A reload since the checks may not permit it.
        self.end_unpermitted();
        Ok(until)
    }

    /// Ends a switch to a fail mode that the configuration does not permit any more. For a reload.
    pub(crate) fn end_unpermitted(&self) {
        let rules = self.rules.current();
        if let Some((mode, _)) = self.active().fail_mode.filter(|(mode, _)| !rules.permit(*mode)) {
            tracing::warn!(%mode, "the configuration does not permit the switched fail mode any more");
            self.reset_fail_mode();
        }
    }

    /// Decides by the configured mode again.
    pub(crate) fn reset_fail_mode(&self) {
        self.authorizer.switch_fail_mode(None);
        self.announce_ended();
    }

    /// Has every login asked about or denied for `duration`. Returns the end.
    pub(crate) fn force_online(&self, duration: Duration) -> String {
        self.authorizer.force_online(Some(duration));
        let until = self.set_announced().force_online.map(text).unwrap_or_default();
        tracing::warn!(until, "logins are forced online: nothing cached decides");
        self.notifications.force_online_changed(Some(&until));
        until
    }

    /// Lets cached decisions decide again.
    pub(crate) fn end_force_online(&self) {
        self.authorizer.force_online(None);
        self.announce_ended();
    }

    /// Returns the switches that hold now.
    pub(crate) fn active(&self) -> ActiveSwitches {
        self.authorizer.switches()
    }

    /// Returns the mode that decides logins without an answer now.
    pub(crate) fn fail_mode(&self) -> FailMode {
        let ActiveSwitches {
            fail_mode,
            force_online,
        } = self.active();
        match (force_online, fail_mode) {
            (Some(_), _) => FailMode::Close,
            (None, Some((mode, _))) => mode,
            (None, None) => self.rules.current().configured,
        }
    }

    /// Returns a sentence for each switch that holds.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let active = self.active();
        let mode = active.fail_mode.map(|(mode, end)| {
            let end = text(end);
            format!("the portal switched the fail mode to {mode} until {end}")
        });
        let online = active.force_online.map(|end| {
            let end = text(end);
            format!("the portal forces logins online until {end}: nothing cached decides")
        });
        mode.into_iter().chain(online).collect()
    }

    /// Waits until a switch was set since the last call. For the job.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Announces the end of each switch that does not hold any more; returns whether one holds.
    pub(crate) fn announce_ended(&self) -> bool {
        let now = self.active();
        let before = std::mem::replace(&mut *self.announced(), now);
        if before.fail_mode.is_some() && now.fail_mode.is_none() {
            let mode = self.rules.current().configured;
            tracing::warn!(%mode, "fail mode is the configured one again");
            self.notifications.fail_mode_changed(mode, None);
        }
        if before.force_online.is_some() && now.force_online.is_none() {
            tracing::warn!("logins are not forced online any more");
            self.notifications.force_online_changed(None);
        }
        now != ActiveSwitches::default()
    }

    /// Remembers that a switch was set, for the announcement of its end.
    fn set_announced(&self) -> ActiveSwitches {
        let now = self.active();
        *self.announced() = now;
        self.changed.notify_one();
        now
    }

    fn announced(&self) -> std::sync::MutexGuard<'_, ActiveSwitches> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many logins a mode allows, compared with the others.
fn lenience(mode: FailMode) -> u8 {
    match mode {
        FailMode::Close => 0,
        FailMode::Stale => 1,
        FailMode::Open => 2,
    }
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn switches(configured: FailMode, open_permitted: bool) -> RuntimeSwitches {
        let rules = FailModeRules {
            configured,
            open_permitted,
            portal_role: Role::Admin,
        };
        let authorizer = fixture::authorizer(fixture::AllowingPortal::default());
        RuntimeSwitches::new(authorizer, Live::fixed(rules), Notifications::default())
    }

    #[tokio::test]
    async fn open_obeys_the_guard_of_the_configuration() {
        let minute = Duration::from_secs(60);
        let guarded = switches(FailMode::Stale, false);
        assert_eq!(
            guarded.set_fail_mode(FailMode::Open, minute),
            Err(SwitchError::OpenInProduction)
        );
        assert_eq!(guarded.fail_mode(), FailMode::Stale);
        assert!(guarded.sentences().is_empty());
        let permitted = switches(FailMode::Stale, true);
        assert!(permitted.set_fail_mode(FailMode::Open, minute).is_ok());
        assert_eq!(permitted.fail_mode(), FailMode::Open);
        assert!(permitted.sentences()[0].contains("to open until "));
        permitted.force_online(minute);
        assert_eq!(permitted.fail_mode(), FailMode::Close);
        permitted.end_force_online();
        permitted.reset_fail_mode();
        assert_eq!(permitted.fail_mode(), FailMode::Stale);
    }

    #[tokio::test]
    async fn a_switch_ends_once_the_rules_do_not_permit_it() {
        use FailMode::{Close, Open, Stale};
        let rules = |configured, open_permitted, portal_role| FailModeRules {
            configured,
            open_permitted,
            portal_role,
        };
        for (mode, reloaded, lasts) in [
            (Open, rules(Stale, true, Role::Admin), true),
            (Open, rules(Stale, false, Role::Admin), false),
            (Open, rules(Stale, true, Role::Operator), false),
            (Open, rules(Open, true, Role::Operator), true),
            (Stale, rules(Close, true, Role::Operator), false),
            (Stale, rules(Stale, false, Role::Viewer), true),
            (Close, rules(Stale, false, Role::Viewer), true),
        ] {
            let current = Arc::new(Mutex::new(Arc::new(rules(Stale, true, Role::Admin))));
            let (published, authorizer) = (
                Arc::clone(&current),
                fixture::authorizer(fixture::AllowingPortal::default()),
            );
            let live = Live::new(move || Arc::clone(&published.lock().unwrap()));
            let switches = RuntimeSwitches::new(authorizer, live, Notifications::default());
            assert!(switches.set_fail_mode(mode, MAX_SWITCH).is_ok());
            *current.lock().unwrap() = Arc::new(reloaded);
            switches.end_unpermitted();
            assert_eq!(
                switches.active().fail_mode.is_some(),
                lasts,
                "{mode} {reloaded:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_mode_that_is_more_lenient_than_configured_needs_the_highest_role() {
        use FailMode::{Close, Open, Stale};
        for (configured, mode, role) in [
            (Stale, Close, Role::Operator),
            (Stale, Stale, Role::Operator),
            (Stale, Open, Role::Admin),
            (Close, Stale, Role::Admin),
            (Open, Open, Role::Operator),
        ] {
            assert_eq!(
                switches(configured, true).required_role(mode),
                role,
                "{configured} {mode}"
            );
        }
    }
}
