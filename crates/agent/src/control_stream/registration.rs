//! The registration: what the agent is, as the first message of every stream.

use std::sync::Arc;

use futures_util::FutureExt as _;
use ocserv::Ocserv;
use portal::{Notification, Register};

use super::action::Action;
use crate::live::Live;
use crate::operations::drain::DrainState;
use crate::operations::role::Role;
use crate::operations::runtime_switches::RuntimeSwitches;

/// What does not change while the process runs.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    /// The agent's version.
    pub(crate) version: &'static str,
    pub(crate) hostname: String,
    pub(crate) environment: &'static str,
    /// Identifies the run of the machine.
    pub(crate) boot_id: String,
}

/// Where the registration takes its values from.
#[derive(Clone)]
pub(crate) struct RegistrationSources {
    pub(crate) registration: Registration,
    pub(crate) ocserv: Ocserv,
    pub(crate) switches: RuntimeSwitches,
    pub(crate) drain: DrainState,
    pub(crate) role: Live<Role>,
}

impl RegistrationSources {
    /// Returns what makes the registration.
    pub(crate) fn register(self) -> Register {
        Box::new(move || {
            let sources = self.clone();
            async move { sources.notification().await }.boxed()
        })
    }

    async fn notification(&self) -> Notification {
        let fixed = &self.registration;
        let (sessions, version) = tokio::join!(self.ocserv.sessions(), self.ocserv_version());
        let state = if self.drain.is_draining() {
            "draining"
        } else {
            "serving"
        };
        let mut event = Notification::new("registered", format!("the agent is {state}"))
            .with("version", fixed.version)
            .with("hostname", &fixed.hostname)
            .with("environment", fixed.environment)
            .with("boot_id", &fixed.boot_id)
            .with("capabilities", Action::NAMES.join(","))
            .with("role", self.role.current().as_str())
            .with("state", state)
            .with("fail_mode", self.switches.fail_mode())
            .with("ocserv_up", sessions.is_ok());
        if let Ok(sessions) = sessions {
            event = event.with("sessions", sessions.len());
        }
        if let Some(version) = version {
            event = event.with("ocserv_version", version);
        }
        event
    }

    async fn ocserv_version(&self) -> Option<Arc<str>> {
        let status = self.ocserv.status().await.ok()?;
        self.ocserv.version(&status).await
    }
}
