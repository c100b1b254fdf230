//! `sessions` and `disconnect`: calls to an agent.

mod dial;
mod error_stream;
mod table;

use std::process::ExitCode;

use anyhow::{Context, bail};
use ocserv_agent_model::one_line;
use ocserv_agent_proto::agent::v1::{DisconnectUserRequest, GetActiveSessionsRequest};
use tonic::Code;

use crate::cli::{self, DisconnectArgs, SessionsArgs};
use dial::Agent;

/// Exit code of `disconnect` when there was no session.
const NO_SESSION: u8 = 1;

pub(crate) fn sessions(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let agent = Agent::new(args.agent)?;
    let request = GetActiveSessionsRequest {
        username_filter: args.user.unwrap_or_default(),
        include_stats: true,
    };
    let response = on_runtime(agent.call(async |mut client| client.get_active_sessions(request).await))?
        .map_err(|status| agent.status_error(&status))?;
    let rows: Vec<table::Row> = response.sessions.into_iter().map(table::Row::from).collect();
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
    let user = one_line(&args.user, table::MAX_TEXT);
    let request = DisconnectUserRequest {
        username: args.user,
        reason: args.reason,
        disconnect_all_sessions: true,
    };
    let response = on_runtime(agent.call(async |mut client| client.disconnect_user(request).await))?;
    let no_session = |why: &str| {
        cli::print_stderr(&format!("{user}: nothing was disconnected{why}"));
        Ok(ExitCode::from(NO_SESSION))
    };
    let disconnected = |count: u32| {
        let sessions = if count == 1 { "session" } else { "sessions" };
        format!("{user}: {count} {sessions} disconnected")
    };
    match response {
        Ok(response) if response.success => {
            cli::print(&format!("{}\n", disconnected(response.sessions_disconnected)))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(response) => {
            let why = match one_line(&response.error_message, table::MAX_TEXT) {
                message if message.is_empty() => message,
                message => format!(": {message}"),
            };
            match response.sessions_disconnected {
                0 => no_session(&why),
                some => bail!("{}, but not all is done{why}", disconnected(some)),
            }
        }
        Err(status) if status.code() == Code::NotFound => no_session(": no such session"),
        Err(status) => Err(agent.status_error(&status)),
    }
}

fn on_runtime<T>(call: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?
        .block_on(call)
}
