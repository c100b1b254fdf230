//! `sessions` and `disconnect`: what a portal asks of an agent.

mod dial;
mod table;
mod witness;

use std::process::ExitCode;

use anyhow::{Context, bail};
use ocserv_agent_proto::agent::v1::{DisconnectUserRequest, GetActiveSessionsRequest};
use tonic::Code;

use crate::cli::{self, DisconnectArgs, SessionsArgs};
use dial::Agent;

/// What `disconnect` says when there was nothing to end.
const NOTHING_ENDED: u8 = 1;

pub(crate) fn sessions(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let agent = Agent::new(args.agent)?;
    let request = GetActiveSessionsRequest {
        username_filter: args.user.unwrap_or_default(),
        include_stats: true,
    };
    let answer = on_runtime(agent.call(async |mut client| client.get_active_sessions(request).await))?
        .map_err(|status| agent.refused(&status))?;
    let rows: Vec<table::Row> = answer.sessions.into_iter().map(table::Row::from).collect();
    let text = if args.json {
        serde_json::to_string_pretty(&rows).context("could not write JSON")? + "\n"
    } else {
        table::render(&rows)
    };
    cli::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn disconnect(args: DisconnectArgs) -> anyhow::Result<ExitCode> {
    let agent = Agent::new(args.agent)?;
    let user = table::printable(&args.user);
    let request = DisconnectUserRequest {
        username: args.user,
        reason: args.reason,
        disconnect_all_sessions: true,
    };
    let answer = on_runtime(agent.call(async |mut client| client.disconnect_user(request).await))?;
    let nothing = |why: &str| {
        cli::complain(&format!("{user}: nothing was disconnected{why}"));
        Ok(ExitCode::from(NOTHING_ENDED))
    };
    match answer {
        Ok(answer) if answer.success => {
            let count = answer.sessions_disconnected;
            let sessions = if count == 1 { "session" } else { "sessions" };
            cli::print(&format!("{user}: {count} {sessions} disconnected\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(answer) => {
            let why = match table::printable(&answer.error_message) {
                message if message.is_empty() => message,
                message => format!(": {message}"),
            };
            match answer.sessions_disconnected {
                0 => nothing(&why),
                some => bail!("{user}: only {some} of the sessions disconnected{why}"),
            }
        }
        Err(status) if status.code() == Code::NotFound => nothing(": no such session"),
        Err(status) => Err(agent.refused(&status)),
    }
}

fn on_runtime<T>(call: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?
        .block_on(call)
}
