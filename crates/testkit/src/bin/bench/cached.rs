//! Decisions from the cache over the Unix socket, one connection each, beside an echo server with
//! the same framing.

use std::time::Duration;

use ipc::Response;
use testkit::portal_double::Reply;

use super::echo::Echo;
use super::load::{self, Expected, Round, Target};
use super::loopback::{Loopback, login, logout};
use super::report::{Failure, Limit, Report, ensure};
use super::stats::{median, median_of, micros, quantile, ratio, show};

/// Users with a cached decision.
const USERS: usize = 64;
/// Logins in a round: fewer than the sessions and the events that the agent stores.
const LOGINS: usize = 8_000;
const ROUNDS: usize = 7;
/// Concurrent connections in the closed loop.
const CONNECTIONS: usize = 16;
/// Threads of the open loop: more than ever wait at the same time, so that no request is sent late.
const THREADS: usize = 48;
const RATE: u32 = 5_000;

const THROUGHPUT: Limit = Limit::ratio(0.65);
const P99: Limit = Limit::ratio(2.0);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let cached = Cached::start(LOGINS)?;
    cached.throughput(report)?;
    cached.latency(report)
}

/// Fills the cache and returns the response that each login gets then.
fn warm_up(agent: &Loopback, users: &[String]) -> Result<Vec<u8>, Failure> {
    for (id, user) in users.iter().enumerate() {
        agent.send(&login(user, id + 1))?;
    }
    let responses = users
        .iter()
        .enumerate()
        .map(|(id, user)| agent.send(&login(user, id + 1)));
    let responses = responses.collect::<Result<Vec<Response>, _>>()?;
    for response in &responses {
        ensure(
            response.allowed && response.source.as_deref() == Some("cache"),
            format!("a login with a cached decision got {response:?}"),
        )?;
    }
    let response = responses.into_iter().next().ok_or("no user")?;
    Ok(response.to_frame()?)
}

fn frames(
    users: &[String],
    count: usize,
    request: impl Fn(&str, usize) -> ipc::Request,
) -> Result<Vec<Vec<u8>>, Failure> {
    let users = users.iter().cycle().take(count).enumerate();
    users
        .map(|(id, user)| Ok(request(user, id + 1).to_frame()?))
        .collect()
}

/// An agent with cached decisions, an echo server, and the frames that are sent to them.
pub(crate) struct Cached {
    agent: Loopback,
    echo: Echo,
    logins: Vec<Vec<u8>>,
    logouts: Vec<Vec<u8>>,
    response: Vec<u8>,
}

impl Cached {
    /// Starts both, for rounds of `logins` logins.
    pub(crate) fn start(logins: usize) -> Result<Self, Failure> {
        let agent = Loopback::start()?;
        let echo = Echo::start(agent.directory())?;
        agent
            .portal()
            .on_check(Reply::allow_for(Duration::from_secs(3_600)));
        let users: Vec<String> = (0..USERS).map(|n| format!("u{n}@example.org")).collect();
        let response = warm_up(&agent, &users)?;
        Ok(Self {
            logins: frames(&users, logins, login)?,
            logouts: frames(&users, logins, logout)?,
            agent,
            echo,
            response,
        })
    }

    /// Returns the requests of one round.
    pub(crate) fn logins(&self) -> &[Vec<u8>] {
        &self.logins
    }

    fn throughput(&self, report: &mut Report) -> Result<(), Failure> {
        let mut rates = [Vec::new(), Vec::new()];
        let mut ratios = Vec::new();
        let mut used = [Duration::ZERO; 2];
        for _ in 0..ROUNDS {
            let floor = load::closed_loop(self.echo(), &self.logins, CONNECTIONS)?;
            let measured = self.run_round(|target| load::closed_loop(target, &self.logins, CONNECTIONS))?;
            ratios.push(ratio(floor.time, measured.time));
            for (index, round) in [floor, measured].into_iter().enumerate() {
                rates[index].push(LOGINS as f64 / round.time.as_secs_f64());
                used[index] += round.processor_time;
            }
        }
        let [floor, measured] = rates.map(|mut rates| format!("{:.0} /s", median_of(&mut rates)));
        report.at_least(
            &format!("cached decisions, {CONNECTIONS} concurrent connections"),
            &floor,
            &measured,
            median_of(&mut ratios),
            THROUGHPUT,
        );
        let each = |used: Duration| format!("{:.1} µs", micros(used) / (LOGINS * ROUNDS) as f64);
        let [floor, measured] = used.map(each);
        report.note("  processor time of the server for each", &floor, &measured);
        Ok(())
    }

    fn latency(&self, report: &mut Report) -> Result<(), Failure> {
        let mut p50 = [Vec::new(), Vec::new()];
        let mut p99 = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let floor = load::open_loop(self.echo(), &self.logins, THREADS, RATE)?;
            let measured = self.run_round(|target| load::open_loop(target, &self.logins, THREADS, RATE))?;
            for (index, mut round) in [floor, measured].into_iter().enumerate() {
                p50[index].push(median(&mut round.latencies));
                p99[index].push(quantile(&mut round.latencies, 0.99));
            }
        }
        let [floor, measured] = p99.map(|mut rounds| median(&mut rounds));
        report.at_most(
            &format!("cached decisions at {RATE}/s, p99"),
            &show(floor),
            &show(measured),
            ratio(measured, floor),
            P99,
        );
        let [floor, measured] = p50.map(|mut rounds| show(median(&mut rounds)));
        report.note(&format!("cached decisions at {RATE}/s, p50"), &floor, &measured);
        Ok(())
    }

    pub(crate) fn echo(&self) -> Target<'_> {
        Target {
            socket: self.echo.socket(),
            process: self.echo.process(),
            expected: Expected::Echo,
        }
    }

    /// Runs one round of logins with the agent. Their disconnects follow, unmeasured.
    pub(crate) fn run_round(
        &self,
        round: impl Fn(Target<'_>) -> Result<Round, Failure>,
    ) -> Result<Round, Failure> {
        let socket = self.agent.socket();
        let result = round(Target {
            socket: &socket,
            process: self.agent.process(),
            expected: Expected::Frame(&self.response),
        })?;
        self.agent.process().wait_idle()?;
        let acknowledged = Response::new(true).to_frame()?;
        let logouts = Target {
            socket: &socket,
            process: self.agent.process(),
            expected: Expected::Frame(&acknowledged),
        };
        load::closed_loop(logouts, &self.logouts, 1)?;
        self.agent.process().wait_idle()?;
        self.agent.portal().clear_received();
        Ok(result)
    }
}
