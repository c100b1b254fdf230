//! The policy file on the disk: read at the start, and again whenever its text changes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use policy::Policy;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::record::What;

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// More than any policy: what is larger is another file.
const MAX_BYTES: u64 = 4 << 20;

/// The policy in use.
pub(super) type CurrentPolicy = watch::Receiver<Arc<Policy>>;

pub(super) struct PolicyFile {
    path: PathBuf,
    /// What the last look found: the text, or why there is none. It is judged again only when it differs.
    seen: Result<String, String>,
    current: watch::Sender<Arc<Policy>>,
}

impl PolicyFile {
    /// Reads the file for the first time; a fault in it is an error.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<(Self, CurrentPolicy)> {
        let text = read(&path)?;
        let policy = Policy::parse(&text, &path.display().to_string()).context("the policy is not usable")?;
        tracing::info!(
            "policy {} read: {} rules",
            policy.fingerprint(),
            policy.rule_count()
        );
        let (current, receiver) = watch::channel(Arc::new(policy));
        Ok((
            Self {
                path,
                seen: Ok(text),
                current,
            },
            receiver,
        ))
    }

    /// Looks at the file until `token` is cancelled. The whole text is compared: an editor may keep time and size.
    pub(super) async fn watch(mut self, journal: Journal, token: CancellationToken) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while token.run_until_cancelled(period.tick()).await.is_some() {
            let path = self.path.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || read(&path)).await else {
                return;
            };
            if let Some(news) = self.look(found.map_err(|error| format!("{error:#}"))) {
                journal.note(news).await;
            }
        }
    }

    /// Takes what was found; a fault leaves the policy as it was. Returns what is worth a line.
    fn look(&mut self, found: Result<String, String>) -> Option<What> {
        if found == self.seen {
            return None;
        }
        self.seen = found;
        let origin = self.path.display().to_string();
        let parsed = self
            .seen
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|text| Policy::parse(text, &origin).map_err(|error| error.to_string()));
        match parsed {
            Ok(policy) => {
                tracing::info!(
                    "policy {} read: {} rules",
                    policy.fingerprint(),
                    policy.rule_count()
                );
                let loaded = What::loaded(&policy);
                self.current.send_replace(Arc::new(policy));
                Some(loaded)
            }
            Err(error) => {
                let policy_version = self.current.borrow().fingerprint().to_owned();
                tracing::error!("policy {policy_version} stays in use: {error}");
                Some(What::PolicyRefused {
                    policy_version,
                    error,
                })
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let place = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("could not read the policy {place}"))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("{place} is larger than {MAX_BYTES} bytes, so it is no policy");
    }
    Ok(text)
}
