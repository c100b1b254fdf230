//! The cache and its store beside a plain model, over restarts, kills, damage and clock jumps.

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use resilience::{Cache, CacheSettings, ChangeCollector, Lookup, Now, StaleMatch, StoreResult, Ttl};

use super::damage::Files;
use super::*;

const STALE_TTL: Duration = Duration::from_secs(1_000);
const SETTINGS: CacheSettings = CacheSettings {
    ttl: Duration::from_secs(100),
    stale_ttl: STALE_TTL,
    deny_ttl: Duration::from_secs(10),
    max_ttl: Duration::from_secs(100),
    max_size: 100,
    max_per_user: 10,
    stale_match: StaleMatch::Exact,
};
const USERS: [&str; 3] = ["alice", "bob", "carol"];

#[derive(Debug, Clone)]
enum Operation {
    Decide {
        user: usize,
        address: u8,
        allow: bool,
    },
    Revoke {
        user: usize,
    },
    /// Writes the changes, as `DisconnectUser` waits for.
    Save,
    /// The disk fails after the commit: the sequence file is not written.
    FailedSave,
    /// A stop, which saves first, and a start.
    Restart(Vec<Flip>),
    /// A kill and a start.
    Kill(Vec<Flip>),
    /// Time passes.
    Pass(u64),
    /// The wall clock is set.
    Jump(i64),
}

/// Damage while no agent runs: one bit of one of the files.
#[derive(Debug, Clone)]
struct Flip {
    in_sequence: bool,
    at: prop::sample::Index,
    bit: u8,
}

fn flips() -> impl Strategy<Value = Vec<Flip>> {
    let flips = |in_sequence| {
        let flip = (any::<prop::sample::Index>(), 0..8_u8);
        let flip = flip.prop_map(move |(at, bit)| Flip { in_sequence, at, bit });
        vec(flip, 1..3)
    };
    prop_oneof![4 => Just(Vec::new()), 4 => flips(false), 1 => flips(true)]
}

fn operation() -> impl Strategy<Value = Operation> {
    let user = 0..USERS.len();
    prop_oneof![
        6 => (user.clone(), 0..2_u8, any::<bool>())
            .prop_map(|(user, address, allow)| Operation::Decide { user, address, allow }),
        3 => user.prop_map(|user| Operation::Revoke { user }),
        4 => Just(Operation::Save),
        1 => Just(Operation::FailedSave),
        2 => flips().prop_map(Operation::Restart),
        4 => flips().prop_map(Operation::Kill),
        1 => (0..400_u64).prop_map(Operation::Pass),
        1 => (-2_000..2_000_i64).prop_map(Operation::Jump),
    ]
}

/// What is promised of one user.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Revoked {
    /// Nothing, or allowed since.
    #[default]
    No,
    /// In this run, not on disk.
    InMemory,
    /// Revoked and on disk, not allowed since.
    Stored,
}

struct Model {
    directory: TempDir,
    store: Option<DecisionStore>,
    cache: Cache,
    now: Now,
    revoked: [Revoked; USERS.len()],
    /// When each login was allowed, in all runs.
    allowed: BTreeMap<CacheKey, Vec<SystemTime>>,
    /// The logins that were decided in this run.
    decided: Vec<CacheKey>,
    started: Instant,
    /// What the files may have: one of these.
    on_disk: Vec<Records>,
}

impl Model {
    fn new() -> Self {
        let directory = in_memory();
        let store = open(&directory.path().join("decisions.redb"), AGENT).store;
        let now = Now {
            #[expect(clippy::disallowed_methods, reason = "an origin; the test adds to it")]
            mono: Instant::now() + Duration::from_secs(100_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        };
        Self {
            directory,
            store: Some(store),
            cache: Cache::new(SETTINGS),
            now,
            revoked: Default::default(),
            allowed: BTreeMap::new(),
            decided: Vec::new(),
            started: now.mono,
            on_disk: vec![Records::default()],
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Decide { user, address, allow } => self.decide(user, address, allow),
            Operation::Revoke { user } => {
                let name = Username::parse(USERS[user]).unwrap();
                self.cache.revoke_user(&name, "left", self.now);
                self.revoked[user] = Revoked::InMemory;
            }
            Operation::Save => self.save(),
            Operation::FailedSave => self.fail_to_save(),
            Operation::Restart(flips) => {
                self.save();
                self.store = None;
                self.start(&flips);
            }
            Operation::Kill(flips) => self.start(&flips),
            Operation::Pass(seconds) => {
                let time = Duration::from_secs(seconds);
                self.now.mono += time;
                self.now.wall += time;
            }
            Operation::Jump(seconds) => {
                let time = Duration::from_secs(seconds.unsigned_abs());
                match seconds < 0 {
                    true => self.now.wall -= time,
                    false => self.now.wall += time,
                }
            }
        }
        self.check();
    }

    fn decide(&mut self, user: usize, address: u8, allow: bool) {
        let key = key(user, address);
        let query = self.cache.start_query(key.clone(), self.now);
        let verdict = match allow {
            true => Verdict::Allow(Grant::default()),
            false => Verdict::deny(DenyCode::Policy, "no"),
        };
        let stored = self.cache.store(query, verdict, Ttl::Default);
        assert_eq!(stored, StoreResult::Stored);
        if allow {
            self.revoked[user] = Revoked::No;
            self.allowed.entry(key.clone()).or_default().push(self.now.wall);
        }
        self.decided.push(key);
    }

    fn save(&mut self) {
        let changes = self.take_changes();
        let mut store = self.store.take().unwrap();
        store.save(&changes).unwrap();
        self.store = Some(store);
        let before = self.on_disk.pop().unwrap();
        self.on_disk = vec![applied(before, &changes)];
        for revoked in &mut self.revoked {
            if *revoked == Revoked::InMemory {
                *revoked = Revoked::Stored;
            }
        }
    }

    /// As the job does: closes the store, opens it again, and the next save has all.
    fn fail_to_save(&mut self) {
        let obstacle = self.directory.path().join("decisions.redb.sequence.tmp");
        fs::create_dir(&obstacle).unwrap();
        let changes = self.take_changes();
        self.store.take().unwrap().save(&changes).unwrap_err();
        fs::remove_dir(&obstacle).unwrap();
        self.cache.mark_all_changed();
        let after = applied(self.on_disk[0].clone(), &changes);
        self.on_disk.push(after);
        let opened = open(&self.path(), AGENT);
        self.check_opened(&opened);
        self.on_disk = vec![sorted(opened.records)];
        self.store = Some(opened.store);
    }

    /// Starts a process from the files as they are, after `flips`.
    fn start(&mut self, flips: &[Flip]) {
        let mut files = Files::of(&self.directory);
        for Flip { in_sequence, at, bit } in flips {
            let content = match in_sequence {
                true => &mut files.sequence,
                false => &mut files.database,
            };
            // Most of a database is unused: zeros.
            let used: Vec<usize> = (0..content.len()).filter(|at| content[*at] != 0).collect();
            content[*at.get(&used)] ^= 1 << bit;
        }
        self.store = None;
        let (directory, path) = files.put();
        self.directory = directory;
        let opened = open(&path, AGENT);
        if opened.set_aside.is_some() {
            assert!(!flips.is_empty(), "{:?}", opened.set_aside);
            assert!(is_empty(&opened.records));
        } else {
            self.check_opened(&opened);
        }
        self.store = Some(opened.store);
        self.on_disk = vec![sorted(opened.records.clone())];
        self.cache = Cache::new(SETTINGS);
        self.cache.restore(opened.records, self.now);
        // A revocation that was not stored is lost in a kill.
        for revoked in &mut self.revoked {
            if *revoked == Revoked::InMemory {
                *revoked = Revoked::No;
            }
        }
        self.decided.clear();
        self.started = self.now.mono;
    }

    fn check_opened(&self, opened: &Opened) {
        let found = sorted(opened.records.clone());
        assert!(
            self.on_disk.contains(&found),
            "{found:#?} not in {:#?}",
            self.on_disk
        );
    }

    /// The promises.
    fn check(&mut self) {
        for (user, revoked) in self.revoked.into_iter().enumerate() {
            for address in 0..2 {
                let key = key(user, address);
                let is_restored = !self.decided.contains(&key);
                let is_fresh = matches!(self.cache.lookup(&key, self.now), Lookup::Fresh(_));
                assert!(!(is_fresh && is_restored), "{key:?} is fresh");
                let Some(answer) = self.cache.stale_answer(&key, self.now) else {
                    continue;
                };
                if !answer.verdict.is_allow() {
                    continue;
                }
                assert_eq!(revoked, Revoked::No, "{key:?} is allowed");
                assert!(answer.age < STALE_TTL);
                let ages = self.allowed[&key].iter();
                let least = ages.map(|at| self.now.wall.duration_since(*at).unwrap_or_default());
                assert!(
                    answer.age >= least.min().unwrap(),
                    "{key:?} is younger than it is"
                );
                let running = self.now.mono - self.started;
                assert!(!is_restored || answer.age >= running, "{key:?} does not age");
            }
        }
    }

    fn take_changes(&mut self) -> Changes {
        let mut collector = ChangeCollector::default();
        while self.cache.collect(&mut collector) {}
        collector.finish()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("decisions.redb")
    }
}

fn key(user: usize, address: u8) -> CacheKey {
    CacheKey {
        username: Username::parse(USERS[user]).unwrap(),
        group: None,
        client_ip: [192, 0, 2, address].into(),
        vhost: None,
    }
}

/// Applies changes to a plain copy.
fn applied(before: Records, changes: &Changes) -> Records {
    let mut after = before;
    let put = match changes {
        Changes::Full(records) => return sorted(records.clone()),
        Changes::Partial {
            put,
            removed_answers,
            removed_revocations,
        } => {
            after
                .decisions
                .retain(|record| !removed_answers.contains(&record.key));
            after
                .revocations
                .retain(|record| !removed_revocations.contains(&record.username));
            put
        }
    };
    for record in &put.decisions {
        after.decisions.retain(|other| other.key != record.key);
        after.decisions.push(record.clone());
    }
    for record in &put.revocations {
        after
            .revocations
            .retain(|other| other.username != record.username);
        after.revocations.push(record.clone());
    }
    sorted(after)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_operations_allows_a_revoked_user_or_makes_a_decision_younger(
        operations in vec(operation(), 1..40),
    ) {
        let mut model = Model::new();
        for operation in operations {
            model.apply(operation);
        }
    }
}
