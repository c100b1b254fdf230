//! The helper of ocserv's connect-script: sends the login in the environment to the agent and exits
//! with its decision.
//!
//! Exit codes: 0 allow, 1 deny, 2 no answer from an agent, 3 invalid response, 4 bad environment or
//! flags. To ocserv zero allows and all else denies, so **everything but a complete,
//! valid allow is non-zero**; `--on-agent-down allow` turns 2 into 0 and nothing else.
//!
//! It reads no file and not stdin (a listening socket of ocserv's), starts no thread and no child,
//! and leaves SIGTERM at its default, which ends it at once. It leans on `ipc`, and on `rustix`
//! (which `ipc` links already) to check whether stderr would block. It never knows policy.

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
        // A wrapper that passes these by mistake must not allow every login.
        Ok(Command::Help | Command::Version) if env::var_os("REASON").is_some() => {
            return report::finish(
                &Run { request: None, start },
                &Outcome::BadFlags("--help and --version do not decide a login".into()),
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
            let outcome = request_decision(&args, &request);
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

fn request_decision(args: &Args, request: &Request) -> Outcome {
    // A report is lost if it is not delivered, and a login that would be denied loses nothing by
    // waiting for an agent that is being restarted. One that would be allowed does not wait.
    let report = request.reason != "connect";
    let send = if report || args.on_agent_down == OnAgentDown::Deny {
        ipc::client::send_request_with_retry
    } else {
        ipc::client::send_request
    };
    match send(&args.socket, args.deadline, request) {
        Ok(response) if response.allowed => Outcome::Allowed(response),
        Ok(response) => Outcome::Denied(response),
        Err(error) if error.is_agent_down() => match args.on_agent_down {
            OnAgentDown::Deny => Outcome::AgentDown(error),
            OnAgentDown::Allow => Outcome::AllowedWithoutAgent(error),
        },
        Err(error) => Outcome::InvalidResponse(error),
    }
}
