//! The one place where commands are carried out, a group at a time: evaluate all, write once, publish, answer.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::disk::{self, Disk};
use super::journal::Journal;
use super::state::State;
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
    Snapshot(Answer<Snapshot>, Result<Snapshot, StoreError>),
    Done(Answer<()>, Result<(), StoreError>),
}

#[derive(Debug)]
pub(super) struct Engine {
    state: State,
    disk: Option<Disk>,
    journal: Arc<Journal>,
    /// When the next lease expires.
    next_expiry: watch::Sender<Option<Instant>>,
    /// Set once a write to the disk failed: what the state holds then is not what the disk holds.
    failed: Option<StoreError>,
}

impl Engine {
    pub fn new(state: State, disk: Option<Disk>, journal: Arc<Journal>) -> Self {
        let next_expiry = watch::Sender::new(state.next_expiry());
        Engine { state, disk, journal, next_expiry, failed: None }
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
        if self.failed.is_none()
            && let Err(error) = self.write()
        {
            self.fail(error);
        }
        if let Some(error) = &self.failed {
            outcomes.into_iter().for_each(|outcome| outcome.refuse(error));
            return;
        }
        self.journal.publish(revisions);
        outcomes.into_iter().for_each(Outcome::answer);
        let next = self.state.next_expiry();
        self.next_expiry.send_if_modified(|at| std::mem::replace(at, next) != next);
    }

    fn evaluate(&mut self, command: Command, revisions: &mut Vec<Revision>) -> Outcome {
        match command {
            Command::Transact { txn, answer } => {
                let result = self.state.transact(txn).map(|(result, written)| {
                    revisions.extend(written);
                    result
                });
                Outcome::Transact(answer, result)
            }
            Command::Snapshot { answer } => Outcome::Snapshot(answer, Ok(self.state.snapshot())),
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

    fn write(&mut self) -> Result<(), disk::Error> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let touched = self.state.take_touched();
        if touched.is_empty() { Ok(()) } else { disk.write(&self.state, touched) }
    }

    fn fail(&mut self, error: disk::Error) {
        tracing::error!(%error, "the data directory can't be written; the store stops");
        let error = StoreError::Unavailable(format!("the data directory can't be written: {error}"));
        self.journal.close(error.clone());
        self.failed = Some(error);
        self.next_expiry.send_replace(None);
    }
}

impl Outcome {
    /// Whoever asked may have gone: then nobody is told.
    fn answer(self) {
        match self {
            Outcome::Transact(answer, result) => drop(answer.send(result)),
            Outcome::Snapshot(answer, result) => drop(answer.send(result)),
            Outcome::Done(answer, result) => drop(answer.send(result)),
        }
    }

    fn refuse(self, error: &StoreError) {
        let error = error.clone();
        match self {
            Outcome::Transact(answer, _) => drop(answer.send(Err(error))),
            Outcome::Snapshot(answer, _) => drop(answer.send(Err(error))),
            Outcome::Done(answer, _) => drop(answer.send(Err(error))),
        }
    }
}
