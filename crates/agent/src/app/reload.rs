//! SIGHUP: reads the configuration and the certificates again. What is broken stays as it was.

use ocserv_agent_model::error_chain;
use portal::Portal;
use telemetry::Logs;
use tls::{ClientTls, IdentityError, IdentityStatus, ServerTls};

use super::config_source::ConfigSource;
use super::live_config::LiveConfig;
use super::{build, systemd};
use crate::config::{Config, needing_restart};
use crate::operations::notifications::Notifications;
use crate::operations::refused_reloads::{RefusedReloads, Reloaded};
use crate::operations::request_reload::ReloadProblems;

/// Reloads the configuration and the identities.
pub(super) struct Reloader {
    pub(super) config: LiveConfig,
    pub(super) source: ConfigSource,
    pub(super) portal: Option<(Portal, ClientTls)>,
    pub(super) grpc: Option<ServerTls>,
    pub(super) refused: RefusedReloads,
    pub(super) notifications: Notifications,
}

/// The results of reading everything again.
struct Fresh {
    config: Config,
    /// The running configuration with the keys of `config` that need no restart.
    effective: Config,
    portal: Option<Result<IdentityStatus, IdentityError>>,
    grpc: Option<Result<IdentityStatus, IdentityError>>,
}

impl Reloader {
    /// The configuration in effect.
    pub(super) fn current(&self) -> std::sync::Arc<Config> {
        self.config.current()
    }

    /// Reads everything again; returns what was refused. Logins in progress go on with the settings
    /// that they began with.
    pub(super) async fn reload(&mut self, logs: Option<&Logs>) -> ReloadProblems {
        tracing::info!("reloading");
        systemd::reloading();
        let (status, refused) = match self.apply(logs).await {
            Ok(refused) if refused.is_empty() => {
                tracing::info!("reloaded");
                self.refused.set(Reloaded::Config, None);
                self.refused.set(Reloaded::Certificates, None);
                ("serving".to_owned(), refused)
            }
            Ok(refused) => {
                for problem in &refused {
                    tracing::error!(problem, "could not reload an identity: the old one stays in use");
                }
                tracing::info!("reloaded, except for the identities named above");
                let problems = refused.join("; ");
                self.refused.set(Reloaded::Config, None);
                self.refused.set(Reloaded::Certificates, Some(problems.clone()));
                let status = format!("serving with an old identity, the new one is bad: {problems}");
                (status, refused)
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(problem, "could not reload: the old settings stay in use");
                }
                // The certificates were not read.
                let joined = problems.join("; ");
                self.refused.set(Reloaded::Config, Some(joined.clone()));
                let status = format!("serving on old settings, the reload failed: {joined}");
                (status, problems)
            }
        };
        systemd::ready(&status);
        self.notifications.reloaded(&refused);
        refused
    }

    /// Applies what can be applied. Returns the identities that were refused: each stands alone,
    /// and an expired certificate must not keep other settings from being applied.
    async fn apply(&mut self, logs: Option<&Logs>) -> Result<Vec<String>, Vec<String>> {
        let fresh = self.read().await?;
        let mut refused = Vec::new();
        let renewed = is_renewed("portal.tls", fresh.portal, &mut refused);
        is_renewed("grpc.tls", fresh.grpc, &mut refused);
        if let Some((portal, _)) = self.portal.as_ref().filter(|_| renewed) {
            portal.reconnect();
        }
        for key in needing_restart(&self.current(), &fresh.config) {
            tracing::warn!(
                key,
                "changed in the configuration, but needs a restart to take effect"
            );
        }
        if let (Some(logs), Ok(level)) = (logs, fresh.effective.log.level.parse()) {
            logs.set_level(&level);
        }
        // Keys that need a restart keep their old value here, so that the next reload names them
        // again.
        self.config.publish(fresh.effective);
        Ok(refused)
    }

    /// Reads the files on a thread for blocking work.
    async fn read(&self) -> Result<Fresh, Vec<String>> {
        let (source, running) = (self.source.clone(), self.current());
        let portal = self.portal.as_ref().map(|(_, tls)| tls.clone());
        let grpc = self.grpc.clone();
        let read = tokio::task::spawn_blocking(move || {
            let config = source
                .load()
                .map_err(|error| error.problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            let effective = running.taking_over(&config);
            let contradictions: Vec<_> = effective
                .contradictions()
                .into_iter()
                .map(|what| format!("{what}, as long as other changes wait for a restart"))
                .collect();
            if !contradictions.is_empty() {
                return Err(contradictions);
            }
            Ok(Fresh {
                config,
                effective,
                portal: portal.map(|tls| tls.reload()),
                grpc: grpc.map(|tls| tls.reload()),
            })
        });
        read.await.map_err(|error| vec![error.to_string()])?
    }
}

/// Whether a reloaded identity is in use; logs its warnings, or adds its problem to `refused`.
fn is_renewed(
    section: &str,
    reloaded: Option<Result<IdentityStatus, IdentityError>>,
    refused: &mut Vec<String>,
) -> bool {
    match reloaded {
        Some(Ok(status)) => {
            build::warn(section, &status);
            true
        }
        Some(Err(error)) => {
            refused.push(format!("{section}: {}", error_chain(&error)));
            false
        }
        None => false,
    }
}
