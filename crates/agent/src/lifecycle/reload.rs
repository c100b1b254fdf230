//! SIGHUP: the configuration and the certificates are read again. What is broken stays as it was.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authz::Authorizer;
use portal::Portal;
use telemetry::Logs;
use tls::{ClientTls, IdentityError, Loaded, ServerTls};

use super::pages::Status;
use super::{ConfigSource, build, notify};
use crate::config::{Config, chain, needing_restart};
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
            Ok(()) => {
                tracing::info!("reloaded");
                "serving".to_owned()
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

    async fn read_again(&mut self, logs: Option<&Logs>) -> Result<(), Vec<String>> {
        let source = self.source.clone();
        let portal_tls = self.portal.as_ref().map(|(_, tls)| tls.clone());
        let grpc_tls = self.grpc.as_ref().map(|(tls, _)| tls.clone());
        // Reads files: not on a thread that serves.
        let read = tokio::task::spawn_blocking(move || {
            let config = source
                .load()
                .map_err(|err| err.problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            // The config's check has loaded the identities, so that these fail only if a file changed since.
            let portal = portal_tls
                .map(|tls| named("portal.tls", tls.reload()))
                .transpose()?;
            let grpc = grpc_tls.map(|tls| named("grpc.tls", tls.reload())).transpose()?;
            Ok::<_, Vec<String>>((config, portal, grpc))
        });
        let (fresh, portal, grpc) = read.await.map_err(|err| vec![err.to_string()])??;
        if let Some(portal) = &portal {
            build::warn("portal.tls", portal);
        }
        if let Some(grpc) = &grpc {
            build::warn("grpc.tls", grpc);
        }
        if let Some((portal, _)) = &self.portal {
            portal.reconnect();
        }
        for key in needing_restart(&self.config, &fresh) {
            tracing::warn!(
                key,
                "changed in the configuration, but needs a restart to take effect"
            );
        }
        self.take_over(fresh, logs);
        Ok(())
    }

    /// Takes over the keys of [`crate::config::RELOADABLE`]; the others keep the value that is in effect, so that the
    /// next reload names them again.
    fn take_over(&mut self, fresh: Config, logs: Option<&Logs>) {
        self.rules.store(Arc::new(build::rules(&fresh)));
        if let (Some(logs), Ok(level)) = (logs, fresh.log.level.parse()) {
            logs.set_level(&level);
        }
        self.config.ipc.deadline = fresh.ipc.deadline;
        self.config.ipc.allowed_uids = fresh.ipc.allowed_uids;
        self.config.log.level = fresh.log.level;
        self.config.resilience = fresh.resilience;
        self.status.set_fail_mode(self.config.resilience.fail_mode.0);
        self.authorizer.configure(pipeline::settings(&self.config));
        if let (Some((_, roles)), Some(running), Some(fresh)) =
            (&self.grpc, &mut self.config.grpc, fresh.grpc)
        {
            roles.replace(fresh.roles.clone());
            running.roles = fresh.roles;
        }
    }
}

fn named(section: &str, loaded: Result<Loaded, IdentityError>) -> Result<Loaded, Vec<String>> {
    loaded.map_err(|err| vec![format!("{section}: {}", chain(&err))])
}
