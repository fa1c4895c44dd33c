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

/// Who asked for a snapshot.
pub(super) type Asker = oneshot::Sender<Result<Snapshot, StoreError>>;

/// What changed since the last group was taken, to be written together.
#[derive(Debug)]
pub(super) struct Group {
    pub touched: Arc<Touched>,
    /// What the store is at with it.
    pub revision: i64,
    /// How many keys there are with it.
    pub keys: usize,
    /// They want what there is with this group.
    pub snapshots: Vec<Asker>,
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
    snapshots: Vec<Asker>,
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

    /// The result and what it wrote. With a data directory that has yet to be written when this returns.
    pub fn transact(&mut self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.carry_out(|state, values| state.transact(txn, values).map(|(result, written)| (result, vec_of(written))))
    }

    /// Times come from the caller, whose clock a test may have stopped: here, and below.
    pub fn grant(&mut self, id: i64, ttl: i64, now: Instant) -> Result<(), StoreError> {
        self.carry_out(|state, _| state.grant(id, ttl, now).map(|()| ((), Vec::new())))
    }

    pub fn keep_alive(&mut self, id: i64, now: Instant) -> Result<(), StoreError> {
        self.carry_out(|state, _| state.keep_alive(id, now).map(|()| ((), Vec::new())))
    }

    pub fn revoke(&mut self, id: i64) -> Result<(), StoreError> {
        self.carry_out(|state, _| Ok(((), vec_of(state.revoke(id)))))
    }

    /// Ends the leases that have expired.
    pub fn expire(&mut self, now: Instant) -> Result<(), StoreError> {
        self.carry_out(|state, _| Ok(((), state.expire(now))))
    }

    /// In memory `asker` gets it at once, else with the next group.
    pub fn snapshot(&mut self, asker: Asker) {
        // Whoever asked may have gone: then nobody is told.
        match (&self.failed, &self.backing) {
            (Some(error), _) => drop(asker.send(Err(error.clone()))),
            (None, Backing::Disk { .. }) => self.snapshots.push(asker),
            (None, Backing::Memory(memory)) => {
                let entries = memory.entries(&self.state);
                drop(asker.send(Ok(Snapshot { revision: self.state.revision(), entries })));
            }
        }
    }

    /// `command`: what is done to the state, with its result and the revisions that it made.
    fn carry_out<T>(
        &mut self,
        command: impl FnOnce(&mut State, &Backing) -> Result<(T, Vec<Revision>), StoreError>,
    ) -> Result<T, StoreError> {
        if self.midway {
            self.fail(StoreError::Unavailable("a command was left half done".to_owned()), Vec::new());
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.midway = true;
        let result = command(&mut self.state, &self.backing).map(|(result, revisions)| {
            self.publish(revisions);
            result
        });
        if let Backing::Memory(memory) = &mut self.backing {
            memory.write(self.state.take_touched());
            self.unwritten = 0;
        }
        let next = self.state.next_expiry();
        self.next_expiry.send_if_modified(|at| mem::replace(at, next) != next);
        self.midway = false;
        result
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
    pub fn fail(&mut self, error: StoreError, snapshots: Vec<Asker>) {
        self.journal.close(error.clone());
        for asker in snapshots.into_iter().chain(mem::take(&mut self.snapshots)) {
            let _ = asker.send(Err(error.clone()));
        }
        self.state.take_touched();
        self.unwritten = 0;
        self.backing = Backing::Memory(Memory::default());
        self.failed.get_or_insert(error);
        self.next_expiry.send_replace(None);
    }
}

fn vec_of(revision: Option<Revision>) -> Vec<Revision> {
    revision.into_iter().collect()
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
        enum Step {
            Grant,
            Transact(Txn),
            Revoke,
            Snapshot,
        }
        let mut steps = vec![Step::Grant];
        steps.extend(txns.into_iter().map(Step::Transact));
        steps.push(Step::Revoke);
        steps.extend([step(None, put("6", 0)), step(Some("6"), put("7", 0))].map(Step::Transact));
        steps.push(Step::Snapshot);
        let (asker, mut snapshot) = oneshot::channel();
        let mut asker = Some(asker);
        let mut results = Vec::new();
        let mut taken = None;
        let mut write = |group: Option<Group>| {
            let Some((disk, group)) = disk.as_mut().zip(group) else { return };
            disk.write(&group.touched, group.revision).unwrap();
            for asker in group.snapshots {
                let entries = disk.entries(group.keys).unwrap();
                asker.send(Ok(Snapshot { revision: group.revision, entries })).unwrap();
            }
        };
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            for step in steps.by_ref().take(in_group) {
                match step {
                    Step::Grant => engine.grant(LEASE, 60, Instant::now()).unwrap(),
                    Step::Transact(txn) => results.push(engine.transact(txn).unwrap()),
                    Step::Revoke => engine.revoke(LEASE).unwrap(),
                    Step::Snapshot => engine.snapshot(asker.take().unwrap()),
                }
            }
            write(taken.take());
            taken = engine.take();
        }
        write(taken);
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
        let ask = |engine: &mut Engine, value| engine.transact(Txn { then: vec![put(value, 0)], ..Txn::default() });
        ask(&mut engine, "1").unwrap();
        assert!(engine.take().is_some());
        ask(&mut engine, "2").unwrap();
        let error = StoreError::Unavailable("full".to_owned());
        engine.fail(error.clone(), Vec::new());
        assert!(engine.take().is_none());
        assert_eq!(ask(&mut engine, "3"), Err(error));
    }
}
