//! What the running programs cost, as ratios to a floor that is measured in the same run.
//!
//! `cargo xtask bench` builds everything optimised and runs this; `bench NAME…` runs a selection.
//! Each figure takes turns with its floor, so that whatever else the machine does meets both; what
//! is judged is medians and quantiles of them. The table goes to standard output, what is going on
//! to standard error. Ends with 1 when a figure is not good.

mod cached;
mod cores;
mod echo;
mod helper;
mod idle;
mod listing;
mod load;
mod logins;
mod loopback;
mod portal_call;
mod process;
mod report;
mod stats;
mod storm;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use report::{Failure, Report};

/// A group of figures: its name on the command line, what it shows, how it is measured.
struct Group {
    name: &'static str,
    shows: &'static str,
    measure: fn(&mut Report) -> Result<(), Failure>,
}

const GROUPS: [Group; 7] = [
    Group {
        name: "cores",
        shows: "cache lookup and breaker beside a HashMap get",
        measure: cores::measure,
    },
    Group {
        name: "listing",
        shows: "200 real sessions listed, beside occtl",
        measure: listing::measure,
    },
    Group {
        name: "idle",
        shows: "memory of an idle agent",
        measure: idle::measure,
    },
    Group {
        name: "cached",
        shows: "decisions from the cache, beside an echo server",
        measure: cached::measure,
    },
    Group {
        name: "portal",
        shows: "decisions from the portal, beside the bare call",
        measure: portal_call::measure,
    },
    Group {
        name: "logins",
        shows: "100 VPN logins at once, beside ocserv without a script",
        measure: logins::measure,
    },
    Group {
        name: "storm",
        shows: "1,000 logins while the portal hangs",
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
                eprintln!("  {:<8} {}", group.name, group.shows);
            }
            ExitCode::from(2)
        }
    }
}

/// The groups with these names, or all of them; `None` when there is no such name.
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
        eprintln!("{}: {}", group.name, group.shows);
        if let Err(error) = (group.measure)(&mut report) {
            report.broken(group.shows, &error.to_string());
        }
    }
    print!("{}", report.table());
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
