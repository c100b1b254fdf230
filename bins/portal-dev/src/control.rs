//! `agents` and `action`: requests to a running portal over its Unix socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use ocserv_agent_model::one_line;

use crate::cli::{self, ActionArgs, AgentsArgs};
use crate::columns;
use crate::control_protocol::{ActionResult, AgentInfo, Reply, Request};

/// Exit code of an action that failed or was refused.
const FAILED: u8 = 1;
/// Longest text of an agent in the output, in characters.
const MAX_TEXT: usize = 300;

pub(crate) fn agents(args: &AgentsArgs) -> anyhow::Result<ExitCode> {
    let Reply::Agents(agents) = request(&args.control, &Request::Agents)? else {
        bail!("the portal gave another answer");
    };
    let text = if args.json {
        serde_json::to_string_pretty(&agents).context("could not write JSON")? + "\n"
    } else {
        table(&agents)
    };
    cli::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn action(args: ActionArgs) -> anyhow::Result<ExitCode> {
    let request_id = args.request_id.unwrap_or_else(new_request_id);
    let reply = request(
        &args.control,
        &Request::Action {
            agent: args.agent,
            action: args.action,
            parameters: args
                .parameters
                .into_iter()
                .map(|given| (given.key, given.value))
                .collect(),
            request_id,
            timeout_seconds: args.timeout,
        },
    )?;
    let Reply::Result(result) = reply else {
        bail!("the portal gave another answer");
    };
    let text = if args.json {
        serde_json::to_string_pretty(&result).context("could not write JSON")? + "\n"
    } else {
        sentence(&result)
    };
    cli::print(&text)?;
    Ok(match result.success {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

/// Sends a request; an error reply is an error.
fn request(socket: &Path, request: &Request) -> anyhow::Result<Reply> {
    let no_portal = || {
        format!(
            "no portal answers on {}: start \"portal-dev serve\" with the same --control",
            socket.display()
        )
    };
    let mut stream = UnixStream::connect(socket).with_context(no_portal)?;
    let mut line = serde_json::to_string(request).context("could not write JSON")?;
    line.push('\n');
    stream.write_all(line.as_bytes()).with_context(no_portal)?;
    let mut reply = String::new();
    BufReader::new(stream)
        .read_line(&mut reply)
        .with_context(no_portal)?;
    match serde_json::from_str(&reply).with_context(no_portal)? {
        Reply::Error(error) => bail!("{}", one_line(&error, MAX_TEXT)),
        reply => Ok(reply),
    }
}

fn table(agents: &[AgentInfo]) -> String {
    let mut rows = vec![
        [
            "AGENT", "STATE", "HEALTH", "SESSIONS", "VERSION", "ROLE", "HOST", "SINCE",
        ]
        .map(str::to_owned),
    ];
    for agent in agents {
        let registered = |key: &str| agent.registration.get(key).map_or("?", String::as_str);
        let sessions = agent.sessions.map_or("?".to_owned(), |count| count.to_string());
        let health = if agent.health.is_empty() {
            "?"
        } else {
            &agent.health
        };
        let row = [
            &agent.agent_id,
            &agent.state,
            health,
            &sessions,
            registered("version"),
            registered("role"),
            registered("hostname"),
            &agent.connected_since,
        ];
        rows.push(row.map(|text| one_line(text, MAX_TEXT)));
    }
    columns::render(&rows)
}

fn sentence(result: &ActionResult) -> String {
    let outcome = if result.success { "done" } else { "failed" };
    let mut text = format!("{outcome}: {}\n", one_line(&result.message, MAX_TEXT));
    for (key, value) in &result.details {
        if !matches!(key.as_str(), "action" | "error") {
            text.push_str(&format!(
                "  {}: {}\n",
                one_line(key, MAX_TEXT),
                one_line(value, MAX_TEXT)
            ));
        }
    }
    text
}

/// An id that no other call has.
fn new_request_id() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!(
        "cli-{}-{}",
        std::process::id(),
        now.unwrap_or_default().as_nanos()
    )
}
