//! The one place where commands are carried out, a group at a time: evaluate all, write once, publish, answer.
//!
//! In memory are the keys and their revisions, which transactions compare, and the values that the group at work has put.
//! Others are read back from where they were written to. zketcd's transactions ask for one where an answer was lost; a
//! snapshot, at a start or where the history is gone, reads all.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::disk::{self, Disk};
use super::journal::Journal;
use super::memory::Memory;
use super::state::{State, Touched, Values};
use crate::store::{Revision, Snapshot, StoreError, Txn, TxnResult};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the engine. Times come from the caller, whose clock a test may have stopped.
#[derive(Debug)]
pub(super) enum Command {
    Transact { txn: Txn, answer: Answer<TxnResult> },
    Snapshot { answer: Answer<Snapshot> },
    Grant { id: i64, ttl: i64, now: Instant, answer: Answer<()> },
    KeepAlive { id: i64, now: Instant, answer: Answer<()> },
    Revoke { id: i64, answer: Answer<()> },
    Expire { now: Instant, answer: Answer<()> },
}

/// What a command came to, held back until the group has been written.
enum Outcome {
    Transact(Answer<TxnResult>, Result<TxnResult, StoreError>),
    Snapshot(Answer<Snapshot>),
    Done(Answer<()>, Result<(), StoreError>),
}

/// Where keys and values are kept.
#[derive(Debug)]
pub(super) enum Backing {
    Memory(Memory),
    Disk(Disk),
}

impl Backing {
    fn write(&mut self, state: &State, touched: Touched) -> Result<(), disk::Error> {
        match self {
            Backing::Memory(memory) => {
                memory.write(touched);
                Ok(())
            }
            Backing::Disk(disk) => disk.write(state, touched),
        }
    }

    /// What can be done for the next write before there is one.
    fn make_room(&mut self) {
        if let Backing::Disk(disk) = self {
            disk.make_room();
        }
    }

    /// All that was written.
    fn snapshot(&self, state: &State) -> Result<Snapshot, StoreError> {
        let revision = state.revision();
        let entries = match self {
            Backing::Memory(memory) => memory.entries(state),
            Backing::Disk(disk) => disk.entries(state)?,
        };
        Ok(Snapshot { revision, entries })
    }
}

impl Values for Backing {
    fn value(&self, key: &[u8]) -> Result<Bytes, StoreError> {
        match self {
            Backing::Memory(memory) => memory.value(key),
            Backing::Disk(disk) => disk.value(key),
        }
    }
}

#[derive(Debug)]
pub(super) struct Engine {
    state: State,
    backing: Backing,
    journal: Arc<Journal>,
    /// When the next lease expires.
    next_expiry: watch::Sender<Option<Instant>>,
    /// Set once a write failed: what the state holds then is not what the disk holds.
    failed: Option<StoreError>,
}

impl Engine {
    pub fn new(state: State, backing: Backing, journal: Arc<Journal>) -> Self {
        let next_expiry = watch::Sender::new(state.next_expiry());
        Engine { state, backing, journal, next_expiry, failed: None }
    }

    pub fn next_expiry(&self) -> watch::Receiver<Option<Instant>> {
        self.next_expiry.subscribe()
    }

    /// Carries out a group. Nothing of it is seen or answered before all of it is on the disk.
    pub fn run(&mut self, group: impl Iterator<Item = Command>) {
        let mut revisions = Vec::new();
        let mut outcomes = Vec::with_capacity(group.size_hint().0);
        for command in group {
            outcomes.push(self.evaluate(command, &mut revisions));
        }
        let touched = self.state.take_touched();
        if self.failed.is_none()
            && !touched.is_empty()
            && let Err(error) = self.backing.write(&self.state, touched)
        {
            self.fail(error);
        }
        if let Some(error) = &self.failed {
            outcomes.into_iter().for_each(|outcome| outcome.refuse(error));
            return;
        }
        self.journal.publish(revisions);
        let mut snapshots = Vec::new();
        for outcome in outcomes {
            // Whoever asked may have gone: then nobody is told.
            match outcome {
                Outcome::Transact(answer, result) => drop(answer.send(result)),
                Outcome::Done(answer, result) => drop(answer.send(result)),
                Outcome::Snapshot(answer) => snapshots.push(answer),
            }
        }
        let next = self.state.next_expiry();
        self.next_expiry.send_if_modified(|at| std::mem::replace(at, next) != next);
        self.backing.make_room();
        // These take time, and nobody has to wait for another's.
        for answer in snapshots.into_iter().filter(|answer| !answer.is_closed()) {
            let _ = answer.send(self.backing.snapshot(&self.state));
        }
    }

    fn evaluate(&mut self, command: Command, revisions: &mut Vec<Revision>) -> Outcome {
        if let Some(error) = &self.failed {
            return command.refused(error.clone());
        }
        match command {
            Command::Transact { txn, answer } => {
                let result = self.state.transact(txn, &self.backing).map(|(result, written)| {
                    revisions.extend(written);
                    result
                });
                Outcome::Transact(answer, result)
            }
            Command::Snapshot { answer } => Outcome::Snapshot(answer),
            Command::Grant { id, ttl, now, answer } => Outcome::Done(answer, self.state.grant(id, ttl, now)),
            Command::KeepAlive { id, now, answer } => Outcome::Done(answer, self.state.keep_alive(id, now)),
            Command::Revoke { id, answer } => {
                revisions.extend(self.state.revoke(id));
                Outcome::Done(answer, Ok(()))
            }
            Command::Expire { now, answer } => {
                revisions.extend(self.state.expire(now));
                Outcome::Done(answer, Ok(()))
            }
        }
    }

    fn fail(&mut self, error: disk::Error) {
        tracing::error!(%error, "the data directory can't be written; the store stops");
        let error = StoreError::Unavailable(format!("the data directory can't be written: {error}"));
        self.journal.close(error.clone());
        self.failed = Some(error);
        self.next_expiry.send_replace(None);
    }
}

impl Command {
    fn refused(self, error: StoreError) -> Outcome {
        match self {
            Command::Transact { answer, .. } => Outcome::Transact(answer, Err(error)),
            Command::Snapshot { answer } => Outcome::Snapshot(answer),
            Command::Grant { answer, .. }
            | Command::KeepAlive { answer, .. }
            | Command::Revoke { answer, .. }
            | Command::Expire { answer, .. } => Outcome::Done(answer, Err(error)),
        }
    }
}

impl Outcome {
    fn refuse(self, error: &StoreError) {
        let error = error.clone();
        match self {
            Outcome::Transact(answer, _) => drop(answer.send(Err(error))),
            Outcome::Snapshot(answer) => drop(answer.send(Err(error))),
            Outcome::Done(answer, _) => drop(answer.send(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::{Compare, CompareOp, Limits, Op, OpResult, Target};

    const LIMITS: Limits = Limits { txn_ops: 10, request_bytes: 100_000 };

    const LEASE: i64 = 7;

    fn memory() -> Engine {
        let state = State::new(LIMITS);
        let journal = Journal::new(state.revision());
        Engine::new(state, Backing::Memory(Memory::default()), journal)
    }

    fn durable(dir: &Path) -> Engine {
        let (disk, state) = Disk::open(dir, LIMITS, Instant::now()).unwrap();
        let journal = Journal::new(state.revision());
        Engine::new(state, Backing::Disk(disk), journal)
    }

    fn put(value: &'static str, lease: i64) -> Op {
        Op::Put { key: "k".into(), value: value.into(), lease }
    }

    fn delete() -> Op {
        Op::Delete { key: "k".into() }
    }

    fn get() -> Op {
        Op::Get { key: "k".into() }
    }

    /// A transaction that wants the value to be `value`, and reads it before and after what it does.
    fn step(value: Option<&'static str>, op: Op) -> Txn {
        let compare = match value {
            Some(value) => Compare { key: "k".into(), op: CompareOp::Equal, target: Target::Value(value.into()) },
            None => Compare::version("k".into(), 0),
        };
        let inner = Txn { then: vec![get(), op, get()], ..Txn::default() };
        Txn { compare: vec![compare], then: vec![get(), Op::Txn(inner), get()], otherwise: vec![get()] }
    }

    /// What the commands come to, each with so many others in a group.
    fn played(mut engine: Engine, in_group: usize) -> (Vec<TxnResult>, Snapshot) {
        let txns = vec![
            step(None, put("1", 0)),
            step(Some("1"), put("2", LEASE)),
            step(Some("1"), put("no", 0)),
            step(Some("2"), delete()),
            step(None, put("3", LEASE)),
            step(Some("3"), put("4", 0)),
            step(Some("4"), put("5", LEASE)),
        ];
        let grant = |answer| Command::Grant { id: LEASE, ttl: 60, now: Instant::now(), answer };
        let revoke = |answer| Command::Revoke { id: LEASE, answer };
        let (mut commands, mut answers) = (vec![grant(oneshot::channel().0)], Vec::new());
        let mut ask = |commands: &mut Vec<Command>, txn| {
            let (answer, answered) = oneshot::channel();
            commands.push(Command::Transact { txn, answer });
            answers.push(answered);
        };
        txns.into_iter().for_each(|txn| ask(&mut commands, txn));
        commands.push(revoke(oneshot::channel().0));
        ask(&mut commands, step(None, put("6", 0)));
        ask(&mut commands, step(Some("6"), put("7", 0)));
        let (answer, mut snapshot) = oneshot::channel();
        commands.push(Command::Snapshot { answer });
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            engine.run(commands.by_ref().take(in_group));
        }
        let results = answers.into_iter().map(|mut answered| answered.try_recv().unwrap().unwrap()).collect();
        (results, snapshot.try_recv().unwrap().unwrap())
    }

    /// The values that a transaction read.
    fn read(results: &[OpResult]) -> Vec<Option<Bytes>> {
        let mut values = Vec::new();
        for result in results {
            match result {
                OpResult::Get(kv) => values.push(kv.as_ref().map(|kv| kv.value.clone())),
                OpResult::Txn { results, .. } => values.extend(read(results)),
                OpResult::Put | OpResult::Delete { .. } => {}
            }
        }
        values
    }

    #[test]
    fn commands_of_one_group_see_each_other() {
        let alone = played(memory(), 1);
        let seen: Vec<String> = alone
            .0
            .iter()
            .map(|result| {
                let text =
                    |value: Option<Bytes>| value.map_or("-".to_owned(), |value| format!("{}", value.escape_ascii()));
                read(&result.results).into_iter().map(text).collect()
            })
            .collect();
        assert_eq!(seen, ["--11", "1122", "2", "22--", "--33", "3344", "4455", "--66", "6677"]);
        assert_eq!(alone.1.entries.iter().map(|kv| (&kv.value[..], kv.version)).collect::<Vec<_>>(), [(&b"7"[..], 2)]);
        for in_group in [1, 2, 3, 4, 100] {
            assert_eq!(played(memory(), in_group), alone, "{in_group} in memory");
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(played(durable(dir.path()), in_group), alone, "{in_group} in a directory");
        }
    }
}
