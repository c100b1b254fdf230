//! Measures the programs, each figure beside a floor of the same run where there is one.
//!
//! `cargo xtask bench` builds everything optimised and runs this; `bench NAME…` runs a selection.
//! Rounds of a figure and of its floor alternate, so that other load on the machine affects both;
//! medians and quantiles are compared. The table goes to standard output, progress to standard
//! error. Exits with 1 when a figure is over its limit.

mod cached;
mod cores;
mod echo;
mod estimate;
mod helper;
mod idle;
mod idle_cpu;
mod listing;
mod load;
mod logins;
mod loopback;
mod outbox;
mod portal_call;
mod process;
mod report;
mod sequential;
mod start;
mod stats;
mod storm;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use report::{Failure, Report};

/// A group of figures: its name on the command line, its description, and its function.
struct Group {
    name: &'static str,
    description: &'static str,
    measure: fn(&mut Report) -> Result<(), Failure>,
}

const GROUPS: [Group; 11] = [
    Group {
        name: "cores",
        description: "cache lookup and breaker beside a HashMap get",
        measure: cores::measure,
    },
    Group {
        name: "outbox",
        description: "durable append of events, beside a raw log",
        measure: outbox::measure,
    },
    Group {
        name: "listing",
        description: "list of 200 real sessions, beside occtl",
        measure: listing::measure,
    },
    Group {
        name: "idle",
        description: "memory of an idle agent",
        measure: idle::measure,
    },
    Group {
        name: "idle-cpu",
        description: "processor time of an idle agent",
        measure: idle_cpu::measure,
    },
    Group {
        name: "start",
        description: "start of the agent to its first response",
        measure: start::measure,
    },
    Group {
        name: "cached",
        description: "decisions from the cache, beside an echo server",
        measure: cached::measure,
    },
    Group {
        name: "sequential",
        description: "decisions from the cache one after another, beside an echo server",
        measure: sequential::measure,
    },
    Group {
        name: "portal",
        description: "decisions from the portal, beside the bare call",
        measure: portal_call::measure,
    },
    Group {
        name: "logins",
        description: "100 concurrent VPN logins, beside ocserv without a script",
        measure: logins::measure,
    },
    Group {
        name: "storm",
        description: "1,000 logins while the portal hangs",
        measure: storm::measure,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, socket] = arguments.as_slice()
        && flag == echo::FLAG
    {
        return match echo::serve(Path::new(socket)) {
            Ok(never) => match never {},
            Err(error) => {
                eprintln!("the echo server failed: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match selected(&arguments) {
        Some(groups) => run(&groups),
        None => {
            eprintln!("usage: bench [NAME…], with the names");
            for group in &GROUPS {
                eprintln!("  {:<10} {}", group.name, group.description);
            }
            ExitCode::from(2)
        }
    }
}

/// Returns the groups with these names, or all without names; `None` for an unknown name.
fn selected(names: &[String]) -> Option<Vec<&'static Group>> {
    if names.is_empty() {
        return Some(GROUPS.iter().collect());
    }
    names
        .iter()
        .map(|name| GROUPS.iter().find(|group| group.name == name))
        .collect()
}

fn run(groups: &[&Group]) -> ExitCode {
    let mut report = Report::default();
    for group in groups {
        eprintln!("{}: {}", group.name, group.description);
        if let Err(error) = (group.measure)(&mut report) {
            report.not_measured(group.description, &error.to_string());
        }
    }
    print!("{}", report.table());
    if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
