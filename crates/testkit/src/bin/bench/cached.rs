//! Decisions from the cache over the Unix socket, one connection each, beside an echo server with
//! the same framing.

use std::time::Duration;

use ipc::Response;
use testkit::portal_double::Reply;

use super::echo::Echo;
use super::load::{self, Expect, Round, Target};
use super::loopback::{Loopback, login, logout};
use super::report::{Failure, Limit, Report, ensure};
use super::stats::{median, median_of, micros, quantile, ratio, show};

/// How many users have a decision in the cache.
const USERS: usize = 64;
/// Logins in a round: under the number of sessions that the agent notes and of events that it
/// holds.
const LOGINS: usize = 8_000;
const ROUNDS: usize = 7;
/// Connections at a time in the closed loop.
const CONNECTIONS: usize = 16;
/// Threads of the open loop: more than ever wait at a time, so that requests go out when they are
/// due.
const WAITING: usize = 48;
const RATE: u32 = 5_000;

const THROUGHPUT: Limit = Limit::ratio(0.8);
const P99: Limit = Limit::ratio(2.0);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let agent = Loopback::start("")?;
    let echo = Echo::start(agent.directory())?;
    agent
        .portal()
        .on_check(Reply::allow_for(Duration::from_secs(3_600)));
    let users: Vec<String> = (0..USERS).map(|n| format!("u{n}@example.org")).collect();
    let answer = warm_up(&agent, &users)?;
    let bench = Bench {
        logins: frames(&users, login)?,
        logouts: frames(&users, logout)?,
        agent,
        echo,
        answer,
    };
    bench.throughput(report)?;
    bench.latency(report)
}

/// Fills the cache, and returns the answer that a login gets from now on.
fn warm_up(agent: &Loopback, users: &[String]) -> Result<Vec<u8>, Failure> {
    for (id, user) in users.iter().enumerate() {
        agent.ask(&login(user, id + 1))?;
    }
    let answers = users
        .iter()
        .enumerate()
        .map(|(id, user)| agent.ask(&login(user, id + 1)));
    let answers = answers.collect::<Result<Vec<Response>, _>>()?;
    for answer in &answers {
        ensure(
            answer.allowed && answer.source.as_deref() == Some("cache"),
            format!("a login with a cached decision got {answer:?}"),
        )?;
    }
    let answer = answers.into_iter().next().ok_or("nobody logs in")?;
    Ok(answer.to_frame()?)
}

fn frames(users: &[String], request: impl Fn(&str, usize) -> ipc::Request) -> Result<Vec<Vec<u8>>, Failure> {
    let users = users.iter().cycle().take(LOGINS).enumerate();
    users
        .map(|(id, user)| Ok(request(user, id + 1).to_frame()?))
        .collect()
}

struct Bench {
    agent: Loopback,
    echo: Echo,
    logins: Vec<Vec<u8>>,
    logouts: Vec<Vec<u8>>,
    answer: Vec<u8>,
}

impl Bench {
    fn throughput(&self, report: &mut Report) -> Result<(), Failure> {
        let mut rates = [Vec::new(), Vec::new()];
        let mut ratios = Vec::new();
        let mut spent = [Duration::ZERO; 2];
        for _ in 0..ROUNDS {
            let floor = load::closed_loop(self.echo(), &self.logins, CONNECTIONS)?;
            let asked = self.ask_agent(|target| load::closed_loop(target, &self.logins, CONNECTIONS))?;
            ratios.push(ratio(floor.time, asked.time));
            for (index, round) in [floor, asked].into_iter().enumerate() {
                rates[index].push(LOGINS as f64 / round.time.as_secs_f64());
                spent[index] += round.spent;
            }
        }
        let [floor, measured] = rates.map(|mut rates| format!("{:.0} /s", median_of(&mut rates)));
        report.at_least(
            &format!("cached decisions, {CONNECTIONS} connections at a time"),
            &floor,
            &measured,
            median_of(&mut ratios),
            THROUGHPUT,
        );
        let each = |spent: Duration| format!("{:.1} µs", micros(spent) / (LOGINS * ROUNDS) as f64);
        let [floor, measured] = spent.map(each);
        report.note("  processor time of the server for each", &floor, &measured);
        Ok(())
    }

    fn latency(&self, report: &mut Report) -> Result<(), Failure> {
        let mut p50 = [Vec::new(), Vec::new()];
        let mut p99 = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let floor = load::open_loop(self.echo(), &self.logins, WAITING, RATE)?;
            let round = self.ask_agent(|target| load::open_loop(target, &self.logins, WAITING, RATE))?;
            for (index, mut round) in [floor, round].into_iter().enumerate() {
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

    fn echo(&self) -> Target<'_> {
        Target {
            socket: self.echo.socket(),
            program: self.echo.program(),
            expect: Expect::Echo,
        }
    }

    /// One round of logins with the agent. Afterwards, unmeasured, all of them log out and the
    /// portal is told.
    fn ask_agent(&self, round: impl Fn(Target<'_>) -> Result<Round, Failure>) -> Result<Round, Failure> {
        let socket = self.agent.socket();
        let asked = round(Target {
            socket: &socket,
            program: self.agent.program(),
            expect: Expect::Frame(&self.answer),
        })?;
        self.agent.program().settle()?;
        let noted = Response::new(true).to_frame()?;
        let logouts = Target {
            socket: &socket,
            program: self.agent.program(),
            expect: Expect::Frame(&noted),
        };
        load::closed_loop(logouts, &self.logouts, 1)?;
        self.agent.program().settle()?;
        self.agent.portal().clear_received();
        Ok(asked)
    }
}
