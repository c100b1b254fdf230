//! Logs certificates that expire soon: at the start, after a reload, and when one gets nearer to
//! its expiry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tls::{ClientTls, Expiry, ExpiryStage, IdentityStatus, ServerTls};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::metrics::Metrics;

/// Time between two looks at the certificates.
const INTERVAL: Duration = Duration::from_hours(1);

/// The certificates in use.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) portal: Option<ClientTls>,
    pub(crate) grpc: Option<ServerTls>,
}

/// One file of certificates in use.
#[derive(Debug)]
struct CertificateFile {
    /// The key of the configuration that names it.
    key: &'static str,
    /// The label in metrics.
    label: &'static str,
    /// Whether it has the agent's own certificate; otherwise the CAs of its peers.
    is_own: bool,
    expiry: Expiry,
}

impl Certificates {
    /// Returns every file.
    fn files(&self) -> Vec<CertificateFile> {
        let files =
            |status: IdentityStatus, own: (&'static str, &'static str), ca: (&'static str, &'static str)| {
                [(own, status.certificate, true), (ca, status.ca, false)].map(
                    |((key, label), expiry, is_own)| CertificateFile {
                        key,
                        label,
                        is_own,
                        expiry,
                    },
                )
            };
        let portal = self.portal.iter().flat_map(|tls| {
            let own = ("portal.tls.cert", "portal_client");
            files(tls.status(), own, ("portal.tls.ca", "portal_ca"))
        });
        let grpc = self.grpc.iter().flat_map(|tls| {
            let own = ("grpc.tls.cert", "grpc_server");
            files(tls.status(), own, ("grpc.tls.ca", "grpc_ca"))
        });
        portal.chain(grpc).collect()
    }
}

/// The stages that were logged, by the key of the file.
#[derive(Debug, Default)]
struct Logged(BTreeMap<&'static str, (SystemTime, ExpiryStage)>);

impl Logged {
    /// Returns the stage of `file` at `now`, once per stage of a certificate.
    fn next(&mut self, file: &CertificateFile, now: SystemTime) -> Option<ExpiryStage> {
        let at = file.expiry.at;
        let stage = file.expiry.stage(now)?;
        let before = self.0.insert(file.key, (at, stage));
        let is_news = before.is_none_or(|(expiry, logged)| expiry != at || logged < stage);
        is_news.then_some(stage)
    }
}

/// Watches `certificates` until `stop`, and sets their metrics; logs all of them again after each
/// of `reloads`.
pub(crate) async fn watch_certificates(
    certificates: Certificates,
    metrics: Metrics,
    reloads: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut logged = Logged::default();
    loop {
        let now = clock::wall();
        for file in certificates.files() {
            metrics.set_certificate_expiry(file.label, file.expiry.at);
            if let Some(stage) = logged.next(&file, now) {
                log(&file, stage, now);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(INTERVAL) => {}
            () = reloads.notified() => logged = Logged::default(),
        }
    }
}

fn log(file: &CertificateFile, stage: ExpiryStage, now: SystemTime) {
    let (key, path, expiry) = (file.key, file.expiry.path.display(), file.expiry.describe(now));
    match stage {
        ExpiryStage::Expired if file.is_own => {
            tracing::error!(key, %path, "certificate {expiry}: every peer refuses it");
        }
        _ if file.is_own => tracing::warn!(key, %path, "certificate {expiry}"),
        _ => tracing::warn!(key, %path, "CA certificate {expiry}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_of_a_certificate_is_logged_once() {
        let day = Duration::from_hours(24);
        let at = SystemTime::UNIX_EPOCH + 1_000 * day;
        let file = |at| CertificateFile {
            key: "portal.tls.cert",
            label: "portal_client",
            is_own: true,
            expiry: Expiry {
                path: "/cert.pem".into(),
                at,
            },
        };
        let mut logged = Logged::default();
        let mut seen = Vec::new();
        for hour in 0..60 * 24 {
            let now = at - 50 * day + hour * Duration::from_hours(1);
            seen.extend(logged.next(&file(at), now));
        }
        let every = [
            ExpiryStage::Month,
            ExpiryStage::Week,
            ExpiryStage::Day,
            ExpiryStage::Expired,
        ];
        assert_eq!(seen, every);
        let renewed = file(at + 20 * day);
        assert_eq!(logged.next(&renewed, at), Some(ExpiryStage::Month));
        assert_eq!(logged.next(&renewed, at), None);
    }
}
