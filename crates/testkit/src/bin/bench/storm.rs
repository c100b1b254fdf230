//! A thousand logins in five seconds while the portal accepts calls and never replies.

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
/// Defaults of `ipc.deadline`, `portal.timeout` and `failure_threshold`.
const DEADLINE: Duration = Duration::from_secs(3);
const PORTAL_TIMEOUT: Duration = Duration::from_secs(2);
const THRESHOLD: usize = 5;

const OPEN_P99: Limit = Limit::of(5.0, " ms", 2);
const GROWTH: Limit = Limit::of(10.0, " MB", 1);

/// The result of one login. Times are from the start of the storm.
struct Login {
    sent_at: Duration,
    completed_at: Duration,
    response: Result<ipc::Response, String>,
}

impl Login {
    fn latency(&self) -> Duration {
        self.completed_at.saturating_sub(self.sent_at)
    }

    fn is_overload(&self) -> bool {
        matches!(&self.response, Ok(response) if response.deny_code.as_deref() == Some("overloaded"))
    }
}

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let agent = Loopback::start()?;
    agent.portal().on_check(Reply::Hang);
    agent.process().wait_idle()?;
    let before = agent.process().memory()?;
    agent.process().reset_peak()?;

    let mut logins = storm(&agent)?;
    logins.sort_unstable_by_key(|login| login.completed_at);
    let peak = agent.process().memory()?.peak;

    if let Some(error) = logins.iter().find_map(|login| login.response.as_ref().err()) {
        eprintln!("  the first login without a response: {error}");
    }
    let allowed = |login: &Login| matches!(&login.response, Ok(response) if response.allowed);
    ensure(
        !logins.iter().any(allowed),
        "the agent allowed a login without a decision",
    )?;
    let slowest = logins.iter().map(Login::latency).max().unwrap_or_default();
    let in_time = logins
        .iter()
        .filter(|login| login.response.is_ok() && login.latency() <= DEADLINE);
    report.at_least(
        "hung portal, 1,000 logins in 5 s: responses within the deadline",
        &show(DEADLINE),
        &format!("slowest {}", show(slowest)),
        in_time.count() as f64,
        Limit::of(LOGINS as f64, "", 0),
    );
    let overloaded = logins.iter().filter(|login| login.is_overload()).count();
    report.note("  of these denied as overload", "", &overloaded.to_string());

    // The response after the failure that opened the breaker is the last of those that had to wait
    // for it.
    let opened_at = logins
        .iter()
        .filter(|login| login.latency() >= PORTAL_TIMEOUT)
        .nth(THRESHOLD - 1)
        .map(|login| login.completed_at)
        .ok_or("the breaker did not open")?;
    let mut after: Vec<Duration> = logins
        .iter()
        .filter(|login| login.sent_at >= opened_at)
        .map(Login::latency)
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

/// Sends every login at its time, independently of earlier ones.
fn storm(agent: &Loopback) -> Result<Vec<Login>, Failure> {
    let socket = agent.socket();
    let logins = Mutex::new(Vec::with_capacity(LOGINS));
    let start = Instant::now();
    thread::scope(|scope| -> Result<(), Failure> {
        for number in 0..LOGINS {
            let due = start + INTERVAL * u32::try_from(number)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (socket, logins) = (&socket, &logins);
            let send = move || {
                let request = login(&format!("u{number}"), number + 2);
                let sent_at = start.elapsed();
                let response =
                    send_request(socket, HELPER_DEADLINE, &request).map_err(|error| error.to_string());
                let completed_at = start.elapsed();
                if let Ok(mut logins) = logins.lock() {
                    logins.push(Login {
                        sent_at,
                        completed_at,
                        response,
                    });
                }
            };
            thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn_scoped(scope, send)?;
        }
        Ok(())
    })?;
    let logins = logins
        .into_inner()
        .map_err(|_| "a thread that sends a login panicked")?;
    ensure(logins.len() == LOGINS, "a login was not completed")?;
    Ok(logins)
}
