//! `pki`: creates a CA and identities.

mod identity;
mod issue;
mod store;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::{self, PkiArgs};
use identity::{Identity, identities};

pub(crate) fn run(args: &PkiArgs) -> anyhow::Result<ExitCode> {
    let identities = identities(&args.names);
    let files = issue::issue(&identities, args.days).context("could not create the certificates")?;
    store::store(&args.dir, &files, args.force)?;
    let dir = std::path::absolute(&args.dir).unwrap_or_else(|_| args.dir.clone());
    cli::print(&summary(&dir, &identities, args.days))?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the files and how to use them.
fn summary(dir: &Path, identities: &[Identity], days: u16) -> String {
    let mut text = format!(
        "created in {} (valid for {days} days; the CA's key was discarded, so it issues no more certificates):\n\n  {:<18} {}\n",
        dir.display(),
        "ca.pem",
        "the CA that all of them trust"
    );
    for Identity {
        name, purpose, names, ..
    } in identities
    {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {:<18} {purpose}\n  {:<18} ({})",
            format!("{name}.pem .key"),
            "",
            names.join(", ")
        );
    }
    let _ = write!(
        text,
        r#"
For the agent's /etc/ocserv-agent/config.toml:

  agent_id = "laptop"

  [portal]
  address = "https://127.0.0.1:8443"
  tls = {{ ca = "{dir}/ca.pem", cert = "{dir}/agent.pem", key = "{dir}/agent.key" }}

  [grpc]
  tls = {{ ca = "{dir}/ca.pem", cert = "{dir}/agent.pem", key = "{dir}/agent.key" }}
  roles = {{ operator = "operator", portal = "operator" }}

Then:

  portal-dev serve --pki {dir} --policy policy.toml
  portal-dev sessions --pki {dir}
"#,
        dir = dir.display()
    );
    text
}
