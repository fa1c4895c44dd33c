//! What a run came to: differences, and how much of the protocol it reached.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::case::{Case, Step};
use crate::player::{Log, What};
use crate::run::Options;
use crate::wire::op;

/// Error codes that ZooKeeper can answer with to what is generated, with their names.
const CODES: [(i32, &str); 15] = [
    (0, "Ok"),
    (-2, "RuntimeInconsistency"),
    (-5, "MarshallingError"),
    (-6, "Unimplemented"),
    (-8, "BadArguments"),
    (-101, "NoNode"),
    (-102, "NoAuth"),
    (-103, "BadVersion"),
    (-108, "NoChildrenForEphemerals"),
    (-110, "NodeExists"),
    (-111, "NotEmpty"),
    (-114, "InvalidACL"),
    (-115, "AuthFailed"),
    (-121, "NoWatcher"),
    (-123, "ReconfigDisabled"),
];

/// How often what was exercised, as ZooKeeper answered.
#[derive(Debug, Default)]
pub struct Counts {
    pub sequences: u64,
    pub steps: u64,
    pub events: u64,
    pub closed: u64,
    /// By opcode and error code.
    pub answers: BTreeMap<(i32, i32), u64>,
    /// Error codes of single operations.
    pub operations: BTreeMap<i32, u64>,
    pub expired: u64,
}

impl Counts {
    pub fn count(&mut self, case: &Case, log: &Log) {
        self.sequences += 1;
        self.steps += case.steps.len() as u64;
        self.expired += case.steps.iter().filter(|step| matches!(step, Step::Expire(_))).count() as u64;
        for entry in &log.entries {
            match &entry.what {
                What::Event { .. } => self.events += 1,
                What::Answer { op, header, codes, .. } if entry.who.starts_with("session") => {
                    *self.answers.entry((*op, header.err)).or_default() += 1;
                    for code in codes {
                        *self.operations.entry(*code).or_default() += 1;
                    }
                }
                What::Said(pieces) if *pieces == [crate::wire::Piece::Text("closed".to_owned())] => self.closed += 1,
                What::Answer { .. } | What::Said(_) => {}
            }
        }
    }

    pub fn add(&mut self, other: &Counts) {
        self.sequences += other.sequences;
        self.steps += other.steps;
        self.events += other.events;
        self.closed += other.closed;
        self.expired += other.expired;
        for (what, count) in &other.answers {
            *self.answers.entry(*what).or_default() += count;
        }
        for (what, count) in &other.operations {
            *self.operations.entry(*what).or_default() += count;
        }
    }
}

/// A case that differed.
pub struct Failure {
    pub seed: u64,
    pub number: u64,
    pub alone: bool,
    pub difference: String,
    pub case: Option<Case>,
    /// It differed again, and was made shorter.
    pub shrunk: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.alone { ", alone" } else { "" };
        writeln!(f, "--- seed {} number {}{kind}", self.seed, self.number)?;
        if self.case.is_some() && !self.shrunk {
            writeln!(f, "it did not differ again")?;
        }
        write!(f, "{}", self.difference)?;
        match &self.case {
            Some(case) => writeln!(f, "{}", case.text()),
            None => Ok(()),
        }
    }
}

pub struct Report {
    pub store: &'static str,
    pub seed: u64,
    pub counts: Counts,
    pub failures: Vec<Failure>,
    pub seconds: u64,
}

impl Report {
    pub fn new(options: &Options) -> Report {
        Report {
            store: options.store.name(),
            seed: options.seed,
            counts: Counts::default(),
            failures: Vec::new(),
            seconds: 0,
        }
    }

    fn passed(&self) -> u64 {
        self.counts.sequences - self.failures.len() as u64
    }

    /// Leaves it where `make differential` looks, and where `table`, `make results`.
    pub fn save(&self, table: bool) {
        let (store, seed, passed, failed) = (self.store, self.seed, self.passed(), self.failures.len());
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let write = |name: &str, text: String| {
            let path = target.join(name);
            path.parent().map_or(Ok(()), std::fs::create_dir_all).expect("a directory for results");
            std::fs::write(path, text).expect("results are written");
        };
        write("differential.txt", format!("{passed} passed, {failed} failed\n"));
        if table {
            write(
                &format!("results/differential-{store}.json"),
                format!(
                    "{{\"suite\": \"Differential\", \"store\": \"{store}\", \"passed\": {passed}, \"failed\": {failed}, \
                     \"note\": \"seed {seed}\"}}\n"
                ),
            );
        }
    }

    /// A generator that does not reach something proves nothing of it.
    pub fn assert_all_was_reached(&self) {
        let counts = &self.counts;
        let missing: Vec<_> = op::ALL
            .iter()
            .filter(|(op, _)| !counts.answers.keys().any(|(one, _)| one == op))
            .map(|(_, name)| name)
            .collect();
        assert!(missing.is_empty(), "never answered: {missing:?}");
        let met =
            |code: i32| counts.answers.keys().any(|(_, one)| *one == code) || counts.operations.contains_key(&code);
        let missing: Vec<_> = CODES.iter().filter(|(code, _)| !met(*code)).map(|(_, name)| name).collect();
        assert!(missing.is_empty(), "never met: {missing:?}");
        assert!(counts.events > 0 && counts.closed > 0, "no event, or no connection closed");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "zketcd on {} beside ZooKeeper 3.9.5, seed {}: {} sequences, {} steps, {} events, {} connections closed, {} \
             sessions expired, {} s",
            self.store,
            self.seed,
            counts.sequences,
            counts.steps,
            counts.events,
            counts.closed,
            counts.expired,
            self.seconds
        )?;
        let mut by_op: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for ((op, err), count) in &counts.answers {
            by_op.entry(*op).or_default().push(format!("{} {count}", code(*err)));
        }
        for (op, codes) in by_op {
            writeln!(f, "  {:<21} {}", op::name(op), codes.join(", "))?;
        }
        let operations: Vec<_> =
            counts.operations.iter().map(|(err, count)| format!("{} {count}", code(*err))).collect();
        writeln!(f, "  {:<21} {}", "(operations)", operations.join(", "))?;
        writeln!(f, "{} passed, {} failed", self.passed(), self.failures.len())
    }
}

fn code(err: i32) -> String {
    CODES.iter().find(|(one, _)| *one == err).map_or_else(|| err.to_string(), |(_, name)| (*name).to_owned())
}
