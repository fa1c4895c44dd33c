//! The one place where commands are carried out: evaluate, publish, answer; what they change is written later.
//!
//! In memory are the keys and their revisions, which transactions compare, and the values that have not been written yet.
//! Others are read back from where they were written to. zketcd's transactions ask for one where an answer was lost; a
//! snapshot, at a start or where the history is gone, reads all.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::disk::Written;
use super::journal::{self, Journal};
use super::memory::Memory;
use super::state::{State, Touched, Values};
use crate::store::{Revision, Snapshot, StoreError, Txn, TxnResult};

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

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

/// What changed since the last group was taken, to be written together.
#[derive(Debug)]
pub(super) struct Group {
    pub touched: Arc<Touched>,
    /// What the store is at with it.
    pub revision: i64,
    /// How many keys there are with it.
    pub keys: usize,
    /// Snapshots asked for meanwhile: of what there is with this group.
    pub snapshots: Vec<Answer<Snapshot>>,
}

/// Where the values are that the state gave away.
#[derive(Debug)]
pub(super) enum Backing {
    Memory(Memory),
    /// `writing`: the group that was taken last.
    Disk {
        written: Written,
        writing: Arc<Touched>,
    },
}

impl Values for Backing {
    fn value(&self, key: &[u8]) -> Result<Bytes, StoreError> {
        match self {
            Backing::Memory(memory) => memory.value(key),
            Backing::Disk { written, writing } => match writing.keys.get(key) {
                Some(Some((_, value))) => Ok(value.clone()),
                _ => written.value(key),
            },
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
    /// Those who asked for a snapshot since the last group was taken.
    snapshots: Vec<Answer<Snapshot>>,
    /// Bytes changed since then.
    unwritten: usize,
    /// A command is being carried out. Where one was left half done, by a panic, nothing of it is written.
    midway: bool,
    /// Set once a write failed: what the state holds then is not what the disk holds.
    failed: Option<StoreError>,
}

impl Engine {
    pub fn new(state: State, backing: Backing, journal: Arc<Journal>) -> Self {
        let next_expiry = watch::Sender::new(state.next_expiry());
        Engine {
            state,
            backing,
            journal,
            next_expiry,
            snapshots: Vec::new(),
            unwritten: 0,
            midway: false,
            failed: None,
        }
    }

    pub fn next_expiry(&self) -> watch::Receiver<Option<Instant>> {
        self.next_expiry.subscribe()
    }

    pub fn revision(&self) -> i64 {
        self.state.revision()
    }

    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Bytes of changes that no group has taken yet.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Carries out a command. With a data directory what it changed has yet to be written when it is answered.
    pub fn run(&mut self, command: Command) {
        if self.midway {
            self.fail(StoreError::Unavailable("a command was left half done".to_owned()), Vec::new());
        }
        if let Some(error) = &self.failed {
            return command.refuse(error.clone());
        }
        self.midway = true;
        match command {
            Command::Transact { txn, answer } => {
                let result = self.state.transact(txn, &self.backing).map(|(result, written)| {
                    self.publish(written.into_iter().collect());
                    result
                });
                // Whoever asked may have gone: then nobody is told.
                let _ = answer.send(result);
            }
            Command::Snapshot { answer } => match &self.backing {
                Backing::Memory(memory) => {
                    let entries = memory.entries(&self.state);
                    let _ = answer.send(Ok(Snapshot { revision: self.state.revision(), entries }));
                }
                Backing::Disk { .. } => self.snapshots.push(answer),
            },
            Command::Grant { id, ttl, now, answer } => {
                let _ = answer.send(self.state.grant(id, ttl, now));
            }
            Command::KeepAlive { id, now, answer } => {
                let _ = answer.send(self.state.keep_alive(id, now));
            }
            Command::Revoke { id, answer } => {
                let written = self.state.revoke(id);
                self.publish(written.into_iter().collect());
                let _ = answer.send(Ok(()));
            }
            Command::Expire { now, answer } => {
                let written = self.state.expire(now);
                self.publish(written);
                let _ = answer.send(Ok(()));
            }
        }
        if let Backing::Memory(memory) = &mut self.backing {
            memory.write(self.state.take_touched());
        }
        let next = self.state.next_expiry();
        self.next_expiry.send_if_modified(|at| mem::replace(at, next) != next);
        self.midway = false;
    }

    fn publish(&mut self, revisions: Vec<Revision>) {
        self.unwritten += revisions.iter().map(journal::size).sum::<usize>();
        self.journal.publish(revisions);
    }

    /// Takes what has to be written; none where there is nothing. The group before it has been written.
    pub fn take(&mut self) -> Option<Group> {
        if self.failed.is_some() || self.midway {
            return None;
        }
        let touched = Arc::new(self.state.take_touched());
        self.unwritten = 0;
        if let Backing::Disk { writing, .. } = &mut self.backing {
            *writing = touched.clone();
        }
        let snapshots = mem::take(&mut self.snapshots);
        let is_some = !touched.is_empty() || !snapshots.is_empty();
        is_some.then(|| Group { touched, revision: self.state.revision(), keys: self.state.keys(), snapshots })
    }

    /// Carries out nothing any more, and lets go of the disk: what was taken last, with these snapshots, is not written.
    pub fn fail(&mut self, error: StoreError, snapshots: Vec<Answer<Snapshot>>) {
        self.journal.close(error.clone());
        for answer in snapshots.into_iter().chain(mem::take(&mut self.snapshots)) {
            let _ = answer.send(Err(error.clone()));
        }
        self.state.take_touched();
        self.unwritten = 0;
        self.backing = Backing::Memory(Memory::default());
        self.failed.get_or_insert(error);
        self.next_expiry.send_replace(None);
    }
}

impl Command {
    fn refuse(self, error: StoreError) {
        match self {
            Command::Transact { answer, .. } => drop(answer.send(Err(error))),
            Command::Snapshot { answer } => drop(answer.send(Err(error))),
            Command::Grant { answer, .. }
            | Command::KeepAlive { answer, .. }
            | Command::Revoke { answer, .. }
            | Command::Expire { answer, .. } => drop(answer.send(Err(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::embedded::disk::Disk;
    use crate::store::{Compare, CompareOp, Limits, Op, OpResult, Target};

    const LIMITS: Limits = Limits { txn_ops: 10, request_bytes: 100_000 };

    const LEASE: i64 = 7;

    fn memory() -> Engine {
        let state = State::new(LIMITS);
        let journal = Journal::new(state.revision());
        Engine::new(state, Backing::Memory(Memory::default()), journal)
    }

    /// An engine, and the directory that it leaves to its caller.
    fn durable(dir: &Path) -> (Engine, Disk) {
        let (disk, state) = Disk::open(dir, LIMITS, Instant::now()).unwrap();
        let journal = Journal::new(state.revision());
        let backing = Backing::Disk { written: disk.values(), writing: Arc::default() };
        (Engine::new(state, backing, journal), disk)
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

    /// What the commands come to, so many of which are taken together, and written while the next ones are carried out.
    fn played(mut engine: Engine, mut disk: Option<Disk>, in_group: usize) -> (Vec<TxnResult>, Snapshot) {
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
        let mut taken = None;
        let mut write = |group: Option<Group>| {
            let Some((disk, group)) = disk.as_mut().zip(group) else { return };
            disk.write(&group.touched, group.revision).unwrap();
            for answer in group.snapshots {
                let entries = disk.entries(group.keys).unwrap();
                answer.send(Ok(Snapshot { revision: group.revision, entries })).unwrap();
            }
        };
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            commands.by_ref().take(in_group).for_each(|command| engine.run(command));
            write(taken.take());
            taken = engine.take();
        }
        write(taken);
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
        let alone = played(memory(), None, 1);
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
            assert_eq!(played(memory(), None, in_group), alone, "{in_group} in memory");
            let dir = tempfile::tempdir().unwrap();
            let (engine, disk) = durable(dir.path());
            assert_eq!(played(engine, Some(disk), in_group), alone, "{in_group} in a directory");
        }
    }

    /// A disk that takes no more: what came meanwhile is not written behind a gap.
    #[test]
    fn after_a_failed_write_nothing_is_carried_out() {
        let dir = tempfile::tempdir().unwrap();
        let (mut engine, _disk) = durable(dir.path());
        let ask = |engine: &mut Engine, value| {
            let (answer, mut answered) = oneshot::channel();
            engine.run(Command::Transact { txn: Txn { then: vec![put(value, 0)], ..Txn::default() }, answer });
            answered.try_recv().unwrap()
        };
        ask(&mut engine, "1").unwrap();
        assert!(engine.take().is_some());
        ask(&mut engine, "2").unwrap();
        let error = StoreError::Unavailable("full".to_owned());
        engine.fail(error.clone(), Vec::new());
        assert!(engine.take().is_none());
        assert_eq!(ask(&mut engine, "3"), Err(error));
    }
}
