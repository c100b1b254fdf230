//! Starts the control stream, and what works without one: the switches and the drain.

use std::sync::Arc;

use authz::Authorizer;
use ocserv::Ocserv;
use portal::{ControlSender, Portal};

use super::build::{Context, grpc_role};
use super::status::ReadinessCheck;
use crate::config::Environment;
use crate::control_stream::{
    Endpoint, Operations, Registration, RegistrationSources, ReportSources, Reporter, instructions,
};
use crate::jobs::announce_switches::announce_switches;
use crate::operations::disconnect_user::DisconnectUser;
use crate::operations::drain::{Drain, DrainState};
use crate::operations::invalidate_decisions::InvalidateDecisions;
use crate::operations::record_session::SessionRecorder;
use crate::operations::request_reload::RequestReload;
use crate::operations::resync::{Resync, ValidationRequest};
use crate::operations::runtime_switches::{FailModeRules, RuntimeSwitches};
use crate::operations::shared_outbox::SharedOutbox;
use crate::operations::store_status::StoreStatus;

/// What the portal can change while the agent runs.
#[derive(Clone)]
pub(super) struct RuntimeState {
    pub(super) switches: RuntimeSwitches,
    pub(super) drain: DrainState,
    pub(super) reload: RequestReload,
    pub(super) validation: ValidationRequest,
}

/// The parts that the control stream acts on and reports of.
pub(super) struct ControlParts<'a> {
    pub(super) ocserv: &'a Ocserv,
    pub(super) recorder: &'a Arc<SessionRecorder>,
    pub(super) authorizer: &'a Authorizer,
    pub(super) outbox: &'a SharedOutbox,
    pub(super) store: Option<StoreStatus>,
    pub(super) disconnect_user: DisconnectUser,
    pub(super) readiness: Arc<ReadinessCheck>,
}

impl Context {
    /// Creates the state that the portal can change, and announces what ends by itself. A reload
    /// ends what the new configuration does not permit.
    pub(super) fn start_runtime_state(
        &mut self,
        authorizer: &Authorizer,
        reload: RequestReload,
    ) -> RuntimeState {
        let rules = self.config.view(|config| FailModeRules {
            configured: config.resilience.fail_mode.0,
            open_permitted: config.environment != Environment::Production
                || config.resilience.allow_fail_open_in_production,
            portal_role: grpc_role(config.portal.role),
        });
        let switches = RuntimeSwitches::new(authorizer.clone(), rules, self.notifications.clone());
        let calls = &self.stages.calls;
        let announce = announce_switches(switches.clone(), calls.stop.clone());
        calls.spawn_on(&self.background, announce);
        let reloaded = switches.clone();
        self.config.follow(move |_| reloaded.end_unpermitted());
        RuntimeState {
            switches,
            drain: DrainState::default(),
            reload,
            validation: ValidationRequest::default(),
        }
    }

    /// Opens the control stream to the portal.
    pub(super) fn start_control(
        &self,
        portal: &Portal,
        sender: &ControlSender,
        state: &RuntimeState,
        parts: ControlParts<'_>,
    ) {
        let role = self.config.view(|config| grpc_role(config.portal.role));
        let calls = &self.stages.calls;
        let (queue, instructions) = instructions();
        let registration = RegistrationSources {
            registration: self.registration(),
            ocserv: parts.ocserv.clone(),
            switches: state.switches.clone(),
            drain: state.drain.clone(),
            role: role.clone(),
        };
        let stream = portal.control_stream(sender.clone(), registration.register(), queue);
        calls.spawn_on(&self.background, stream.run());
        let reporter = Reporter {
            sender: sender.clone(),
            notifications: self.notifications.clone(),
            interval: self.config.current().health.heartbeat_interval.0,
            sources: ReportSources {
                health: Box::new(move || parts.readiness.health()),
                ocserv: parts.ocserv.clone(),
                recorder: Arc::clone(parts.recorder),
                authorizer: parts.authorizer.clone(),
                outbox: parts.outbox.clone(),
                switches: state.switches.clone(),
            },
        };
        calls.spawn_on(&self.background, reporter.run(calls.stop.clone()));
        let notifications = self.notifications.clone();
        let drain = Drain::new(
            state.drain.clone(),
            parts.outbox.clone(),
            parts.store,
            notifications.clone(),
        );
        let endpoint = Endpoint {
            sender: sender.clone(),
            operations: Operations {
                disconnect_user: parts.disconnect_user,
                invalidate: InvalidateDecisions::new(parts.authorizer.clone()),
                switches: state.switches.clone(),
                resync: Resync::new(parts.ocserv.clone(), state.validation.clone()),
                reload: state.reload.clone(),
                drain,
                notifications,
            },
            role,
            metrics: self.metrics.clone(),
        };
        calls.spawn_on(&self.background, endpoint.run(instructions, calls.stop.clone()));
    }

    fn registration(&self) -> Registration {
        let config = self.config.current();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Registration {
            version: env!("CARGO_PKG_VERSION"),
            hostname: config.hostname(),
            environment: config.environment.as_str(),
            boot_id: boot_id.trim().to_owned(),
        }
    }
}
