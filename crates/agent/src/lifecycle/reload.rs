//! SIGHUP: the configuration and the certificates are read again. What is broken stays as it was.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authz::Authorizer;
use ocserv_agent_model::error_chain;
use portal::Portal;
use telemetry::Logs;
use tls::{ClientTls, IdentityError, IdentityStatus, ServerTls};

use super::pages::Status;
use super::{ConfigSource, build, notify};
use crate::config::{Config, needing_restart};
use crate::grpc::Roles;
use crate::ipc_server::Rules;
use crate::pipeline;

/// What a reload changes.
pub(super) struct Reloader {
    /// The configuration in effect.
    pub(super) config: Config,
    pub(super) source: ConfigSource,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) portal: Option<(Portal, ClientTls)>,
    pub(super) authorizer: Authorizer,
    pub(super) status: Status,
    pub(super) grpc: Option<(ServerTls, Arc<Roles>)>,
}

impl Reloader {
    /// Reads everything again. Logins under way are not disturbed: they go on with what they began with.
    pub(super) async fn reload(&mut self, logs: Option<&Logs>) {
        tracing::info!("reloading");
        notify::reloading();
        let status = match self.read_again(logs).await {
            Ok(kept) if kept.is_empty() => {
                tracing::info!("reloaded");
                "serving".to_owned()
            }
            Ok(kept) => {
                for problem in &kept {
                    tracing::error!(problem, "could not reload an identity: the old one stays in use");
                }
                tracing::info!("reloaded, but for what is named above");
                format!(
                    "serving with an old identity, the new one is bad: {}",
                    kept.join("; ")
                )
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(problem, "could not reload: the old settings stay in use");
                }
                format!(
                    "serving on old settings, the reload failed: {}",
                    problems.join("; ")
                )
            }
        };
        notify::ready(&status);
    }

    /// Gives the identities that could not be taken over: each stands for itself, and a certificate that expired must
    /// not keep an operator from changing what to do about it.
    async fn read_again(&mut self, logs: Option<&Logs>) -> Result<Vec<String>, Vec<String>> {
        let (source, running) = (self.source.clone(), self.config.clone());
        let portal_tls = self.portal.as_ref().map(|(_, tls)| tls.clone());
        let grpc_tls = self.grpc.as_ref().map(|(tls, _)| tls.clone());
        // Reads files: not on a thread that serves.
        let read = tokio::task::spawn_blocking(move || {
            let fresh = source
                .load()
                .map_err(|err| err.problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            let effective = running.taking_over(&fresh);
            let contradictions: Vec<_> = effective
                .contradictions()
                .into_iter()
                .map(|what| format!("{what}, as long as other changes wait for a restart"))
                .collect();
            if !contradictions.is_empty() {
                return Err(contradictions);
            }
            let portal = portal_tls.map(|tls| tls.reload());
            let grpc = grpc_tls.map(|tls| tls.reload());
            Ok((fresh, effective, portal, grpc))
        });
        let (fresh, effective, portal, grpc) = read.await.map_err(|err| vec![err.to_string()])??;
        let mut kept = Vec::new();
        let renewed = in_use("portal.tls", portal, &mut kept);
        in_use("grpc.tls", grpc, &mut kept);
        if let Some((portal, _)) = self.portal.as_ref().filter(|_| renewed) {
            portal.reconnect();
        }
        for key in needing_restart(&self.config, &fresh) {
            tracing::warn!(
                key,
                "changed in the configuration, but needs a restart to take effect"
            );
        }
        self.take_over(effective, logs);
        Ok(kept)
    }

    /// Tells everyone whom it concerns. Keys that need a restart keep their value in `effective`, so that the next reload
    /// names them again.
    fn take_over(&mut self, effective: Config, logs: Option<&Logs>) {
        self.rules.store(Arc::new(build::rules(&effective)));
        if let (Some(logs), Ok(level)) = (logs, effective.log.level.parse()) {
            logs.set_level(&level);
        }
        self.status.set_fail_mode(effective.resilience.fail_mode.0);
        self.authorizer.configure(pipeline::settings(&effective));
        if let (Some((_, roles)), Some(grpc)) = (&self.grpc, &effective.grpc) {
            roles.replace(grpc.roles.clone());
        }
        self.config = effective;
    }
}

/// Logs what there is to say about a reloaded identity; gives whether the new one is in use.
fn in_use(
    section: &str,
    reloaded: Option<Result<IdentityStatus, IdentityError>>,
    kept: &mut Vec<String>,
) -> bool {
    match reloaded {
        Some(Ok(status)) => {
            build::warn(section, &status);
            true
        }
        Some(Err(error)) => {
            kept.push(format!("{section}: {}", error_chain(&error)));
            false
        }
        None => false,
    }
}
