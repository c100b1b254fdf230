//! The store against a model of ocserv: whatever is lost, the portal's books balance.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::store::LoginHandle;

mod ops;

use ops::{Answer, Op, Script, op};

/// Pids are not reused sooner: beyond the longest delay of a script.
const MIN_REUSE: u64 = 15;
const MAX_SCRIPT_DELAY: u64 = 3;
const USERS: [&str; 2] = ["alice", "bob"];

/// A connection at ocserv, and what became of it.
#[derive(Debug)]
struct Worker {
    id: i32,
    user: &'static str,
    accepted: u64,
    is_connected: bool,
    /// `None` while it lives.
    ended: Option<u64>,
    /// The login at the running agent, until it is answered.
    login: Option<LoginHandle>,
    /// The agent that ran at the time read a list with the session.
    was_seen: bool,
}

#[derive(Default)]
struct World {
    now: u64,
    workers: Vec<Worker>,
    agent: Option<SessionStore>,
    /// Allowed logins that wait for their registration, and their worker.
    registrations: Vec<(LoginHandle, usize)>,
    /// Reports of scripts that are on their way.
    reports: Vec<(DisconnectReport, u64)>,
    list: Option<(ListMark, Vec<usize>)>,
    ocserv_started_at: u64,
    rows: BTreeMap<String, Vec<u8>>,
    portal: Vec<Event>,
    loses_next_change: bool,
}

impl World {
    fn new() -> Self {
        Self {
            now: 1_000,
            agent: Some(SessionStore::new("a1")),
            ..Self::default()
        }
    }

    fn time(&self) -> SystemTime {
        at(self.now)
    }

    fn alive(&self, pick: impl Fn(&Worker) -> bool) -> Vec<usize> {
        let workers = self.workers.iter().enumerate();
        workers
            .filter(|(_, worker)| worker.ended.is_none() && pick(worker))
            .map(|(index, _)| index)
            .collect()
    }

    /// Stores a change, or loses it together with the agent.
    fn commit(&mut self, changes: Changes) -> bool {
        if self.loses_next_change && !changes.is_empty() {
            self.loses_next_change = false;
            self.kill_agent();
            return false;
        }
        for change in changes.rows {
            match change.row {
                Some(row) => drop(self.rows.insert(change.uid.to_string(), row)),
                None => drop(self.rows.remove(change.uid.as_str())),
            }
        }
        self.portal.extend(changes.events);
        true
    }

    fn change(&mut self, change: impl FnOnce(&mut SessionStore) -> Changes) -> bool {
        let Some(agent) = &mut self.agent else {
            return false;
        };
        let changes = change(agent);
        self.commit(changes)
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Accept(index) => self.accept(index),
            Op::Answer(index, answer) => {
                let waiting = self.alive(|worker| worker.login.is_some());
                if !waiting.is_empty() {
                    self.answer(*index.get(&waiting), answer);
                }
            }
            Op::Register(index, is_known) => {
                if !self.registrations.is_empty() {
                    let (handle, worker) = self.registrations.remove(index.index(self.registrations.len()));
                    self.register(handle, worker, is_known);
                }
            }
            Op::End(index, script) => {
                let connected = self.alive(|worker| worker.is_connected);
                if !connected.is_empty() {
                    self.end(*index.get(&connected), script);
                }
            }
            Op::Deliver(index) => {
                if !self.reports.is_empty() {
                    let (report, _) = self.reports.remove(index.index(self.reports.len()));
                    self.deliver(report);
                }
            }
            Op::AskForList => {
                let all = self.alive(|_| true);
                self.list = self.agent.as_ref().map(|agent| (agent.mark(), all));
            }
            Op::ReadList => self.read_list(),
            Op::Poll => {
                self.run(Op::AskForList);
                self.read_list();
            }
            Op::KillAgent => self.kill_agent(),
            Op::StartAgent => self.start_agent(),
            Op::RestartOcserv => self.restart_ocserv(),
            Op::Advance(seconds) => self.advance(seconds),
            Op::LoseNextChange => self.loses_next_change = true,
        }
    }

    fn accept(&mut self, index: Index) {
        let is_free = |id: &i32| {
            let same = self.workers.iter().filter(|worker| worker.id == *id);
            same.map(|worker| worker.ended)
                .all(|ended| ended.is_some_and(|at| at + MIN_REUSE <= self.now))
        };
        let Some(id) = (1..6).find(is_free) else { return };
        let user = *index.get(&USERS);
        let mut worker = Worker {
            id,
            user,
            accepted: self.now,
            is_connected: false,
            ended: None,
            login: None,
            was_seen: false,
        };
        self.now += u64::from(index.index(8) == 0);
        let now = self.time();
        match &mut self.agent {
            Some(agent) => {
                let (handle, changes) = agent.login_started(&login(id, user), now);
                worker.login = Some(handle);
                self.workers.push(worker);
                self.commit(changes);
            }
            // The connect-script decides by itself.
            None => {
                worker.is_connected = index.index(3) > 0;
                worker.ended = (!worker.is_connected).then_some(self.now);
                self.workers.push(worker);
            }
        }
    }

    fn answer(&mut self, index: usize, answer: Answer) {
        let (now, time) = (self.now, self.time());
        let Some(handle) = self.workers[index].login.take() else {
            return;
        };
        let Some(agent) = &mut self.agent else { return };
        let worker = &mut self.workers[index];
        match answer {
            Answer::Allow | Answer::AllowToVanishedClient => self.registrations.push((handle, index)),
            Answer::Deny | Answer::LateDeny => agent.login_denied(handle, time),
            Answer::Unread | Answer::UnreadAndReported => agent.answer_undelivered(handle, time),
        }
        match answer {
            Answer::Allow | Answer::LateDeny => worker.is_connected = true,
            Answer::Deny | Answer::Unread => worker.ended = Some(now),
            Answer::AllowToVanishedClient | Answer::UnreadAndReported => {
                worker.ended = Some(now);
                let report = report_of(worker, now, Usage::default());
                self.deliver(report);
            }
        }
    }

    fn register(&mut self, handle: LoginHandle, worker: usize, is_known: bool) {
        let worker = &self.workers[worker];
        // ocserv knows it while it lives.
        let connected_at = (is_known && worker.ended.is_none()).then_some(worker.accepted);
        self.change(|agent| agent.session_started(handle, Source::Portal, connected_at));
    }

    fn end(&mut self, index: usize, script: Script) {
        let now = self.now;
        let worker = &mut self.workers[index];
        worker.ended = Some(now);
        let report = report_of(worker, now, Usage { received: 1, sent: 1 });
        match script {
            Script::Reports => self.deliver(report),
            Script::IsDelayed => self.reports.push((report, now)),
            Script::IsLost => {}
        }
    }

    /// Without an agent the report is lost.
    fn deliver(&mut self, report: DisconnectReport) {
        let now = self.time();
        self.change(|agent| agent.session_ended(report, now));
    }

    fn read_list(&mut self) {
        let (Some((mark, rows)), now) = (self.list.take(), self.time()) else {
            return;
        };
        let Some(agent) = &mut self.agent else { return };
        let rows: Vec<_> = rows
            .into_iter()
            .map(|index| (index, self.workers[index].is_connected))
            .collect();
        let listed = rows.iter().map(|(index, is_connected)| ListedSession {
            is_connected: *is_connected,
            ..listed(
                self.workers[*index].id,
                self.workers[*index].user,
                self.workers[*index].accepted,
            )
        });
        let plan = agent.reconcile(listed, mark, Some(self.ocserv_started_at), now);
        if self.commit(plan.changes) {
            for (index, is_connected) in rows {
                let agent = self.agent.as_ref();
                // A login that waits for its registration is not recorded yet.
                let is_recorded = agent.is_some_and(|agent| agent.get(id(self.workers[index].id)).is_some());
                self.workers[index].was_seen |= is_connected && is_recorded;
            }
        }
    }

    fn kill_agent(&mut self) {
        self.agent = None;
        self.list = None;
        self.registrations.clear();
        let now = self.now;
        for (number, worker) in self.workers.iter_mut().enumerate() {
            // The helper lost its agent: the connect-script decides by itself.
            if worker.login.take().is_some() && worker.ended.is_none() {
                worker.is_connected = number % 2 == 0;
                worker.ended = (!worker.is_connected).then_some(now);
            }
        }
    }

    fn start_agent(&mut self) {
        if self.agent.is_none() {
            let mut agent = SessionStore::new("a1");
            self.rows.values().for_each(|row| agent.restore(row).unwrap());
            self.agent = Some(agent);
        }
    }

    fn restart_ocserv(&mut self) {
        let (now, time) = (self.now, self.time());
        self.ocserv_started_at = now;
        self.list = None;
        for index in self.alive(|_| true) {
            let worker = &mut self.workers[index];
            worker.ended = Some(now);
            if let (Some(handle), Some(agent)) = (worker.login.take(), &mut self.agent) {
                // The helper read its allow, or was killed before.
                if index % 2 == 0 {
                    self.registrations.push((handle, index));
                } else {
                    agent.answer_undelivered(handle, time);
                }
            }
        }
    }

    fn advance(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            let now = self.now;
            let is_late = |ended: u64| ended + MAX_SCRIPT_DELAY <= now;
            let late: Vec<_> = self
                .reports
                .extract_if(.., |(_, ended)| is_late(*ended))
                .collect();
            late.into_iter().for_each(|(report, _)| self.deliver(report));
        }
    }

    /// Ends everything, and lets the agent see it.
    fn settle(&mut self) {
        self.loses_next_change = false;
        self.start_agent();
        for index in self.alive(|worker| worker.login.is_some()) {
            self.answer(index, Answer::Deny);
        }
        while let Some((handle, worker)) = self.registrations.pop() {
            self.register(handle, worker, true);
        }
        self.run(Op::Poll);
        for index in self.alive(|_| true) {
            self.end(
                index,
                if index % 2 == 0 {
                    Script::Reports
                } else {
                    Script::IsLost
                },
            );
        }
        for _ in 0..3 {
            self.advance(MAX_SCRIPT_DELAY);
            self.run(Op::Poll);
        }
    }

    /// The portal's books: every session with a beginning has an end, each is a real session's, and
    /// none that the agent saw is missing.
    fn check(&self) {
        let uids = |is_kind: fn(&EventKind) -> bool| -> BTreeSet<&str> {
            let events = self.portal.iter().filter(|event| is_kind(&event.kind));
            events.map(|event| event.uid.as_str()).collect()
        };
        let begun = uids(|kind| matches!(kind, EventKind::Connected(_)));
        let ended = uids(|kind| matches!(kind, EventKind::Disconnected(_)));
        assert_eq!(begun, ended);
        let mut reported = BTreeMap::new();
        for uid in &begun {
            let worker = self
                .worker_of(uid)
                .unwrap_or_else(|| panic!("{uid} is no session"));
            if let Some(other) = reported.insert(worker, uid) {
                panic!("one session is reported as {other} and {uid}");
            }
        }
        for (index, worker) in self.workers.iter().enumerate() {
            assert!(
                !worker.was_seen || reported.contains_key(&index),
                "{worker:?} is not reported"
            );
        }
        assert_eq!(self.agent.as_ref().unwrap().live_count(), 0);
        assert!(self.rows.is_empty(), "{:?}", self.rows.keys());
    }

    /// The connection that an uid names: the last with its id that was accepted by its second.
    fn worker_of(&self, uid: &str) -> Option<usize> {
        let mut parts = uid.rsplit('/');
        let second: u64 = parts.next()?.parse().ok()?;
        let id: i32 = parts.next()?.parse().ok()?;
        let workers = self.workers.iter().enumerate().rev();
        let mut same = workers.filter(|(_, worker)| worker.id == id && worker.accepted <= second);
        same.next().map(|(index, _)| index)
    }
}

fn report_of(worker: &Worker, now: u64, usage: Usage) -> DisconnectReport {
    report(worker.id, worker.user, now - worker.accepted, usage)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_books_balance_whatever_is_lost(ops in prop::collection::vec(op(), 0..150)) {
        let mut world = World::new();
        ops.into_iter().for_each(|op| world.run(op));
        world.settle();
        world.check();
    }
}
