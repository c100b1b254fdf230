//! `cargo xtask check`: all checks that need no VPN server, the fastest first.

use std::path::Path;
use std::time::Instant;

use crate::run::{self, cargo};
use crate::tidy;

/// The package whose integration tests need root and a real ocserv; `cargo xtask test` runs them.
const LAB: &str = "testkit";

/// Runs the steps in order up to the first failure and prints how long each took.
fn in_order(steps: &[(&str, &dyn Fn() -> anyhow::Result<()>)]) -> anyhow::Result<()> {
    let begin = Instant::now();
    for (name, step) in steps {
        let start = Instant::now();
        let result = step();
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        eprintln!("-- {name}: {verdict}, {:.1} s", start.elapsed().as_secs_f64());
        result?;
    }
    eprintln!(
        "-- all {} steps: ok, {:.1} s",
        steps.len(),
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Checks the checkout at `root`.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    let tests = [
        "test",
        "--workspace",
        "--exclude",
        LAB,
        "--lib",
        "--bins",
        "--tests",
        "--locked",
    ];
    in_order(&[
        ("format", &|| {
            run::run(cargo(root).args(["fmt", "--all", "--check"]))?;
            run::run(cargo(&root.join("fuzz")).args(["fmt", "--check"]))
        }),
        ("tidy", &|| tidy::run(root)),
        ("clippy", &|| run::run(cargo(root).args(clippy))),
        ("tests", &|| run::run(cargo(root).args(tests))),
        ("tests of the testkit", &|| {
            run::run(cargo(root).args(["test", "--package", LAB, "--lib", "--locked"]))
        }),
    ])
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_check_stops_at_the_first_failure() {
        let later = Cell::new(false);
        let error = in_order(&[
            ("good", &|| Ok(())),
            ("bad", &|| anyhow::bail!("it is bad")),
            ("later", &|| {
                later.set(true);
                Ok(())
            }),
        ]);
        assert_eq!(error.unwrap_err().to_string(), "it is bad");
        assert!(!later.get());
    }
}
