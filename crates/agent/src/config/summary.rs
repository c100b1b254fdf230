//! The text of `--check-config`.

use std::path::Path;

use super::period::Period;
use super::preflight::Preflight;
use super::reload;
use super::schema::Config;

impl Config {
    /// Every key with its effective value, one a line, then what is off and the warnings of
    /// `preflight`.
    #[must_use]
    pub(super) fn summary(&self, path: &Path, preflight: &Preflight) -> String {
        let mut text = format!("{}: config is good", path.display());
        text.push_str(&match preflight.warnings.len() {
            0 => "\n".to_owned(),
            1 => ", with 1 warning\n".to_owned(),
            count => format!(", with {count} warnings\n"),
        });
        let mut effective = self.clone();
        effective.hostname = Some(self.hostname());
        effective.portal.connect_timeout = Some(Period(self.portal.connect_timeout()));
        effective.outbox.dir = Some(self.outbox.directory(&self.state_dir).to_owned());
        for (key, value) in reload::flat(&effective) {
            text.push_str(&format!("  {key} = {value}\n"));
        }
        if self.grpc.is_none() {
            text.push_str("  off: the gRPC server, there is no [grpc] section\n");
        }
        text.push_str(&format!(
            "  recommended in {}: resilience.fail_mode = \"{}\"\n",
            self.environment.as_str(),
            self.environment.recommended_fail_mode(),
        ));
        for warning in &preflight.warnings {
            text.push_str(&format!("  warning: {warning}\n"));
        }
        text
    }
}
