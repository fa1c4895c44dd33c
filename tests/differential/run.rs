//! Many cases at once on one ZooKeeper and one zketcd, and the shrinking of those that differ.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use proptest::strategy::ValueTree;
use tokio::runtime::Runtime;
use zketcd::store::Store;
use zketcd::store::embedded::Embedded;
use zketcd::store::etcd::EtcdConfig;

use crate::case::{Case, Step};
use crate::player::{self, Log, Observer};
use crate::report::{Counts, Failure, Report};
use crate::support::etcd::{Etcd, Version};
use crate::support::server::Running;
use crate::support::zookeeper::ZooKeeper;
use crate::{compare, generate};

/// Cases that run at once: enough to keep two cores busy while answers are on their way.
const AT_ONCE: usize = 48;

/// One case in so many has servers to itself, where it may touch what all others share.
const ALONE_ONE_IN: u64 = 100;

/// Differences that are shrunk: more than that have mostly one cause.
const SHRUNK: usize = 8;

/// Runs of a case that may serve to shrink it.
const SHRINKING_RUNS: usize = 600;

/// How often a difference is looked for again before it is taken to be a matter of time.
const TRIES: usize = 5;

/// What is to be run, from the environment of `make differential`.
pub struct Options {
    pub store: Kind,
    pub sequences: u64,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Embedded,
    Etcd34,
    Etcd36,
}

impl Kind {
    /// As the table of results names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Embedded => "memory",
            Kind::Etcd34 => "etcd-3.4",
            Kind::Etcd36 => "etcd-3.6",
        }
    }
}

impl Options {
    /// `sequences`: how many where nothing is said. The seed is then the day's own: each day looks elsewhere.
    pub fn from_env(sequences: u64) -> Options {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| named(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")));
        let store = match named("DIFFERENTIAL_STORE").as_deref() {
            None | Some("embedded") => Kind::Embedded,
            Some("etcd" | "etcd-3.6") => Kind::Etcd36,
            Some("etcd-3.4") => Kind::Etcd34,
            Some(other) => panic!("DIFFERENTIAL_STORE={other}: embedded, etcd or etcd-3.4"),
        };
        let days = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() / 86_400);
        Options {
            store,
            sequences: number("DIFFERENTIAL_SEQUENCES").unwrap_or(sequences),
            seed: number("DIFFERENTIAL_SEED").unwrap_or(days),
        }
    }
}

/// The two servers.
struct Pair {
    theirs: ZooKeeper,
    ours: Running,
    rooms: AtomicU64,
    /// Ends after zketcd.
    _etcd: Option<Etcd>,
}

impl Pair {
    async fn start(kind: Kind) -> Pair {
        // No sweep of containers and TTL nodes while cases run; no snapshots in the background.
        let theirs = tokio::task::spawn_blocking(|| {
            ZooKeeper::start_with(&["500", "100000000"], "-Dzookeeper.snapCount=100000000")
        });
        let theirs = theirs.await.expect("ZooKeeper starts");
        let (store, etcd): (Arc<dyn Store>, _) = match kind {
            Kind::Embedded => (Embedded::memory(), None),
            Kind::Etcd34 | Kind::Etcd36 => {
                let (version, arguments) = match kind {
                    Kind::Etcd36 => (Version::V36, &["--unsafe-no-fsync"][..]),
                    _ => (Version::V34, &[][..]),
                };
                let etcd = tokio::task::spawn_blocking(move || Etcd::start_with(version, arguments, None));
                let etcd = etcd.await.expect("etcd starts");
                let config = EtcdConfig { prefix: "/differential".to_owned(), ..EtcdConfig::new([etcd.endpoint()]) };
                (zketcd::store::etcd::Etcd::connect(config).await.expect("a store in etcd"), Some(etcd))
            }
        };
        let digest = format!("--super-digest={}", crate::support::SUPER_DIGEST);
        let flags = [&digest, "--container-check-interval=24h", "--max-client-connections=100000"];
        let ours = Running::start(store, &flags).await;
        Pair { theirs, ours, rooms: AtomicU64::new(0), _etcd: etcd }
    }

    async fn worker(&self) -> Worker<'_> {
        let addresses = [self.theirs.address(), self.ours.address];
        let observers = [Observer::new(addresses[0]).await, Observer::new(addresses[1]).await];
        Worker { pair: self, addresses, observers }
    }
}

/// Plays one case after the other.
struct Worker<'a> {
    pair: &'a Pair,
    addresses: [SocketAddr; 2],
    observers: [Observer; 2],
}

impl Worker<'_> {
    /// What ZooKeeper said to a case, and how zketcd differs.
    async fn run(&mut self, case: &Case) -> (Log, Option<String>) {
        let room = format!("/r{:07}", self.pair.rooms.fetch_add(1, Ordering::Relaxed));
        let [theirs, ours] = &mut self.observers;
        let (theirs, ours) = tokio::join!(
            player::play(case, self.addresses[0], &room, theirs),
            player::play(case, self.addresses[1], &room, ours),
        );
        if case.alone {
            for observer in &mut self.observers {
                observer.clean().await;
            }
        }
        let (said, answered) = (compare::lines(&theirs), compare::lines(&ours));
        let difference = compare::difference(&said, &answered);
        (theirs, difference.map(|alike| compare::shown(&said, &answered, alike)))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Plays the generated cases of a seed.
pub fn sequences(options: &Options) -> Report {
    let begun = Instant::now();
    let mut report = Report::new(options);
    let alone = options.sequences / ALONE_ONE_IN;
    let runtime = runtime();
    let pair = Arc::new(runtime.block_on(Pair::start(options.store)));
    let (counts, found) = runtime.block_on(all_at_once(&pair, options.seed, options.sequences - alone));
    report.counts.add(&counts);
    println!("{} sequences at once in {:.0?}, {} differ", options.sequences - alone, begun.elapsed(), found.len());
    report.failures.extend(settle(&runtime, &pair, options.seed, false, found));
    drop(pair);
    if alone > 0 {
        let pair = runtime.block_on(Pair::start(options.store));
        let (counts, found) = runtime.block_on(in_turn(&pair, options.seed, alone));
        report.counts.add(&counts);
        report.failures.extend(settle(&runtime, &pair, options.seed, true, found));
    }
    report.seconds = begun.elapsed().as_secs();
    report
}

/// A case that differed, and how.
type Found = (u64, String);

async fn all_at_once(pair: &Arc<Pair>, seed: u64, count: u64) -> (Counts, Vec<Found>) {
    let next = Arc::new(AtomicU64::new(0));
    let work = (0..AT_ONCE).map(|_| {
        let (pair, next) = (pair.clone(), next.clone());
        tokio::spawn(async move {
            let mut worker = pair.worker().await;
            let mut counts = Counts::default();
            let mut found = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return (counts, found);
                }
                let case = generate::tree(seed, number, false).current();
                let (log, difference) = worker.run(&case).await;
                counts.count(&case, &log);
                found.extend(difference.map(|difference| (number, difference)));
            }
        })
    });
    let mut counts = Counts::default();
    let mut found = Vec::new();
    for worker in work.collect::<Vec<_>>() {
        let (more, differences) = worker.await.expect("a worker");
        counts.add(&more);
        found.extend(differences);
    }
    found.sort();
    (counts, found)
}

async fn in_turn(pair: &Pair, seed: u64, count: u64) -> (Counts, Vec<Found>) {
    let mut worker = pair.worker().await;
    let mut counts = Counts::default();
    let mut found = Vec::new();
    for number in 0..count {
        let case = generate::tree(seed, number, true).current();
        let (log, difference) = worker.run(&case).await;
        counts.count(&case, &log);
        found.extend(difference.map(|difference| (number, difference)));
    }
    (counts, found)
}

/// Finds the shortest case for each of the first differences; what comes from time alone is said to.
fn settle(runtime: &Runtime, pair: &Pair, seed: u64, alone: bool, found: Vec<Found>) -> Vec<Failure> {
    let failure = &|at: usize, (number, difference): Found| {
        let mut failure = Failure { seed, number, alone, difference, case: None, shrunk: false };
        if at < SHRUNK {
            let mut worker = runtime.block_on(pair.worker());
            let mut test = |case: &Case| runtime.block_on(worker.run(case)).1;
            match shrink(seed, number, alone, &mut test) {
                Some((case, difference)) => {
                    failure = Failure { difference, case: Some(case), shrunk: true, ..failure };
                }
                None => failure.case = Some(generate::tree(seed, number, alone).current()),
            }
        }
        println!("{failure}");
        failure
    };
    let found = found.into_iter().enumerate();
    if alone {
        return found.map(|(at, found)| failure(at, found)).collect();
    }
    std::thread::scope(|scope| {
        let shrinking: Vec<_> = found.map(|(at, found)| scope.spawn(move || failure(at, found))).collect();
        shrinking.into_iter().map(|failure| failure.join().expect("a case is shrunk")).collect()
    })
}

/// The shortest case that differs, and how; `None` where the case does not differ any more.
fn shrink(
    seed: u64,
    number: u64,
    alone: bool,
    test: &mut impl FnMut(&Case) -> Option<String>,
) -> Option<(Case, String)> {
    let mut tree = generate::tree(seed, number, alone);
    let mut best = (0..TRIES).find_map(|_| test(&tree.current())).map(|difference| (tree.current(), difference))?;
    let mut runs = 0;
    // As proptest's own runner does it.
    'shrinking: while runs < SHRINKING_RUNS / 2 && tree.simplify() {
        loop {
            runs += 1;
            if let Some(difference) = test(&tree.current()) {
                best = (tree.current(), difference);
                break;
            }
            if runs >= SHRINKING_RUNS / 2 || !tree.complicate() {
                break 'shrinking;
            }
        }
    }
    // It tries each step once, though the later ones may be why it needed the earlier: again, down to single requests.
    loop {
        let before = best.0.size();
        for candidate in smaller(&best.0) {
            if runs >= SHRINKING_RUNS {
                return Some(best);
            }
            runs += 1;
            if let Some(difference) = test(&candidate) {
                best = (candidate, difference);
                break;
            }
        }
        if best.0.size() == before {
            return Some(best);
        }
    }
}

/// The case without one of its steps or requests.
fn smaller(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    for at in (0..case.steps.len()).rev() {
        let mut without = case.clone();
        without.steps.remove(at);
        all.push(without);
        if let Step::Send(_, asks) = &case.steps[at] {
            for ask in (0..asks.len()).filter(|_| asks.len() > 1) {
                let mut without = case.clone();
                if let Step::Send(_, asks) = &mut without.steps[at] {
                    asks.remove(ask);
                }
                all.push(without);
            }
        }
    }
    all
}

/// Plays the one case that the environment names, a file (`DIFFERENTIAL_CASE`), and says what both answered.
pub fn replay(options: &Options) -> Option<String> {
    let file = std::env::var("DIFFERENTIAL_CASE").ok()?;
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let case = Case::parse(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let runtime = runtime();
    let pair = runtime.block_on(Pair::start(options.store));
    let mut worker = runtime.block_on(pair.worker());
    let (log, difference) = runtime.block_on(worker.run(&case));
    println!("{}", compare::lines(&log).join("\n"));
    difference
}

/// Plays every case of `regressions/`, on servers of their own. What differs.
pub fn regressions(options: &Options) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/regressions");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("the regressions")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ron"))
        .collect();
    files.sort();
    let runtime = runtime();
    let pair = runtime.block_on(Pair::start(options.store));
    let mut worker = runtime.block_on(pair.worker());
    let mut failures = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a case");
        let case = Case::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if let (_, Some(difference)) = runtime.block_on(worker.run(&case)) {
            failures.push(format!("{}:\n{difference}", file.display()));
        }
    }
    failures
}
