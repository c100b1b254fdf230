//! Shows an allowed and a denied login, a list and a disconnect, on real ocserv and openconnect.
//!
//! Every line is printed after its claim was checked: the program exits with 0 only if all of it
//! happened.

mod replay;
mod scenario;
mod transcript;

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
    let result = match check_requirements() {
        Ok(()) => scenario::run(keep),
        Err(missing) => {
            println!("This machine cannot run ocserv: {missing}");
            replay::run()
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}
