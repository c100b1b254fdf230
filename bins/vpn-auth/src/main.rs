//! What ocserv's connect-script runs: the environment becomes one question to the agent, the answer an exit code.
//!
//! Exit codes: 0 allow, 1 deny, 2 agent not reachable or late, 3 the agent's answer is not a valid one, 4 bad
//! environment or flags. ocserv knows only zero and the rest, so **everything but a complete, valid allow is
//! non-zero**; `--on-agent-down allow` turns 2 into 0 and nothing else.
//!
//! It reads no file and not stdin (which is a listening socket of ocserv's), starts no thread and no child, and leaves
//! SIGTERM at its default, which ends it at once. It leans on `ipc`, and on `rustix` (that `ipc` links
//! already) to ask whether stderr would block. It never knows who may log in.

mod args;
mod environment;
mod report;

use std::{env, process::ExitCode, time::Instant};

use args::{Args, Command, OnAgentDown};
use ipc::Request;
use report::{Outcome, Run};

fn main() -> ExitCode {
    let start = Instant::now();
    let args = match args::parse(env::args_os().skip(1)) {
        Ok(Command::Run(args)) => args,
        // A wrapper that passes these by mistake must not let everybody in.
        Ok(Command::Help | Command::Version) if env::var_os("REASON").is_some() => {
            return report::finish(
                &Run { request: None, start },
                &Outcome::BadFlags("--help and --version are for people".into()),
            );
        }
        Ok(Command::Help) => return report::print(args::HELP),
        Ok(Command::Version) => return report::print(concat!("vpn-auth ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => {
            return report::finish(
                &Run { request: None, start },
                &Outcome::BadFlags(error.to_string()),
            );
        }
    };
    match environment::request_from(|name| env::var_os(name)) {
        Ok(request) => {
            let outcome = ask(&args, &request);
            report::finish(
                &Run {
                    request: Some(&request),
                    start,
                },
                &outcome,
            )
        }
        Err(error) => report::finish(&Run { request: None, start }, &Outcome::BadEnvironment(error)),
    }
}

fn ask(args: &Args, request: &Request) -> Outcome {
    match ipc::client::ask(&args.socket, args.deadline, request) {
        Ok(response) if response.allowed => Outcome::Allowed(response),
        Ok(response) => Outcome::Denied(response),
        Err(error) if error.is_agent_down() => match args.on_agent_down {
            OnAgentDown::Deny => Outcome::AgentDown(error),
            OnAgentDown::Allow => Outcome::AllowedWithoutAgent(error),
        },
        Err(error) => Outcome::NoAnswer(error),
    }
}
