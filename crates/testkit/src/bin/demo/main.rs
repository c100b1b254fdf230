//! Shows the agent's main job end to end, on real ocserv and openconnect, in about a screen.
//!
//! Every line that claims something has checked it: the program ends with 0 only if all of it happened.

mod account;
mod recorded;
mod story;

use std::env;
use std::process::ExitCode;

use testkit::lab::check_requirements;

fn main() -> ExitCode {
    let keep = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--keep" => true,
        _ => {
            eprintln!("usage: demo [--keep]");
            return ExitCode::from(2);
        }
    };
    let told = match check_requirements() {
        Ok(()) => story::tell(keep),
        Err(missing) => {
            println!("This machine cannot run the real thing: {missing}");
            recorded::tell()
        }
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nIt did not happen: {error}");
            ExitCode::FAILURE
        }
    }
}
