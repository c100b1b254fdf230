//! A thousand logins in five seconds, and a portal that takes calls and never answers.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use ipc::client::send_request;
use testkit::portal_double::Reply;

use super::loopback::{HELPER_DEADLINE, Loopback, login};
use super::process::megabytes;
use super::report::{Failure, Limit, Report, ensure};
use super::stats::{quantile, show};

const LOGINS: usize = 1_000;
const INTERVAL: Duration = Duration::from_millis(5);
/// `ipc.deadline`, `portal.timeout` and `failure_threshold` in their defaults.
const DEADLINE: Duration = Duration::from_secs(3);
const PORTAL_TIMEOUT: Duration = Duration::from_secs(2);
const THRESHOLD: usize = 5;

const OPEN_P99: Limit = Limit::of(5.0, " ms", 2);
const GROWTH: Limit = Limit::of(10.0, " MB", 1);

/// One login and what became of it, in times from the start of the storm.
struct Asked {
    begun: Duration,
    ended: Duration,
    answer: Result<ipc::Response, String>,
}

impl Asked {
    fn took(&self) -> Duration {
        self.ended.saturating_sub(self.begun)
    }

    fn is_overload(&self) -> bool {
        matches!(&self.answer, Ok(answer) if answer.deny_code.as_deref() == Some("overloaded"))
    }
}

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let agent = Loopback::start("")?;
    agent.portal().on_check(Reply::Hang);
    agent.program().settle()?;
    let before = agent.program().memory()?;
    agent.program().forget_peak()?;

    let mut asked = storm(&agent)?;
    asked.sort_unstable_by_key(|one| one.ended);
    let peak = agent.program().memory()?.peak;

    if let Some(lost) = asked.iter().find_map(|one| one.answer.as_ref().err()) {
        eprintln!("  the first login without an answer: {lost}");
    }
    let allowed = |one: &&Asked| matches!(&one.answer, Ok(answer) if answer.allowed);
    ensure(
        !asked.iter().any(|one| allowed(&one)),
        "the agent allowed a login that nobody has decided",
    )?;
    let slowest = asked.iter().map(Asked::took).max().unwrap_or_default();
    let in_time = asked
        .iter()
        .filter(|one| one.answer.is_ok() && one.took() <= DEADLINE);
    report.at_least(
        "hung portal, 1,000 logins in 5 s: answered within the deadline",
        &show(DEADLINE),
        &format!("slowest {}", show(slowest)),
        in_time.count() as f64,
        Limit::of(LOGINS as f64, "", 0),
    );
    let turned_away = asked.iter().filter(|one| one.is_overload()).count();
    report.note("  of these turned away as too many", "", &turned_away.to_string());

    // The answer to the call that opened the breaker is the last one that had to wait for it to
    // open.
    let open = asked
        .iter()
        .filter(|one| one.took() >= PORTAL_TIMEOUT)
        .nth(THRESHOLD - 1)
        .map(|one| one.ended)
        .ok_or("the breaker did not open")?;
    let mut after: Vec<Duration> = asked
        .iter()
        .filter(|one| one.begun >= open)
        .map(Asked::took)
        .collect();
    let p99 = quantile(&mut after, 0.99);
    report.at_most(
        "hung portal: p99 once the breaker is open",
        "",
        &format!("{} logins, {}", after.len(), show(p99)),
        p99.as_secs_f64() * 1e3,
        OPEN_P99,
    );
    report.at_most(
        "hung portal: growth of resident memory at its peak",
        &format!("{:.1} MB", megabytes(before.rss)),
        &format!("{:.1} MB", megabytes(peak)),
        megabytes(peak.saturating_sub(before.rss)),
        GROWTH,
    );
    Ok(())
}

/// Sends every login at its time, whatever became of those before it.
fn storm(agent: &Loopback) -> Result<Vec<Asked>, Failure> {
    let socket = agent.socket();
    let asked = Mutex::new(Vec::with_capacity(LOGINS));
    let start = Instant::now();
    thread::scope(|scope| -> Result<(), Failure> {
        for number in 0..LOGINS {
            let due = start + INTERVAL * u32::try_from(number)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (socket, asked) = (&socket, &asked);
            let one = move || {
                let request = login(&format!("u{number}"), number + 2);
                let begun = start.elapsed();
                let answer =
                    send_request(socket, HELPER_DEADLINE, &request).map_err(|error| error.to_string());
                let ended = start.elapsed();
                if let Ok(mut asked) = asked.lock() {
                    asked.push(Asked { begun, ended, answer });
                }
            };
            thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn_scoped(scope, one)?;
        }
        Ok(())
    })?;
    let asked = asked.into_inner().map_err(|_| "a thread that asks panicked")?;
    ensure(asked.len() == LOGINS, "a login came to no end")?;
    Ok(asked)
}
