//! What goes to the store: batches on lanes, and what became of them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Pending, What};
use super::engine::{ConnectionId, Engine, Purpose, REAP_AGAIN_MS, Task};
use super::outbox::CloseReason;
use crate::commit::alone;
use crate::commit::batch::{Batch, Builder, LaneState, Offer, Outcome};
use crate::commit::verdict::{Answer, Write};
use crate::jute::{ErrorCode, Reply, ReplyHeader};
use crate::store::{Compare, Txn, TxnResult};

/// A store that takes so long to answer a batch, in milliseconds, is far away or busy: the next does not wait for it. A
/// commit of 64 requests takes two on one machine.
pub const SLOW_MS: u64 = 4;

/// So many waiting connections fill a batch: what etcd's default `--max-txn-ops` allows.
const FULL: usize = 120;

/// How long, in milliseconds, after another server's batch a server is alone again. A commit takes some milliseconds: of the
/// batches of a busy server few in a hundred fail as a whole where another writes that seldom.
pub const ALONE_AFTER_MS: u64 = 1_000;

/// A request whose groups failed so often did not do so by the chance that one batch overtook another.
const FAILED_OFTEN: u32 = 2;

/// A commit lane: one batch in flight at a time.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Its last batch's number.
    pub number: u64,
    pub in_flight: Option<InFlight>,
}

/// A batch that the replica has not applied yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub batch: Batch,
    /// By slot.
    pub origins: Vec<Origin>,
    pub outcome: Option<Outcome>,
    pub sent: u64,
    /// When the outcome came.
    pub answered: u64,
}

impl InFlight {
    /// The revision at which it was applied, where the answer has told.
    pub fn known_revision(&self) -> Option<i64> {
        match self.outcome {
            Some(Outcome::Applied { revision, .. } | Outcome::AppliedBefore { revision }) => Some(revision),
            Some(Outcome::LaneLost) | None => None,
        }
    }
}

/// Whose request a slot holds.
#[derive(Debug)]
pub(super) enum Origin {
    Client(ConnectionId, Pending),
    Task(Task),
}

/// A batch to be sent: these bytes, and no others, until the outcome is known.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub txn: Txn,
    /// The revision that was applied here when the batch was built: an answer below it means that the store
    /// went back in time.
    pub applied: i64,
    pub requests: usize,
}

/// What came of an [`Outgoing`].
#[derive(Debug, Clone)]
pub enum LaneAnswer {
    Result(TxnResult),
    /// The store refused the transaction as a whole, and will again.
    Rejected(String),
    /// A lease in it had ended, so nothing of it happened: that of a session about to begin.
    LeaseGone,
    /// The store refuses, after an earlier copy may have been applied: only the end of the lane makes sure that no
    /// copy will be.
    Unknown,
}

/// The server must start anew under another identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLost;

impl Engine {
    /// Whether connections wait with a write that should have a batch now. Each transaction costs the store its own share,
    /// whatever is in it: beside another in flight a batch goes only when it is full, or when the store is slow to answer.
    pub(super) fn is_worth_a_batch(&self) -> bool {
        let in_flight = self.lanes.iter().filter_map(|lane| lane.in_flight.as_ref());
        let last = in_flight.map(|batch| batch.sent).max();
        let is_slow = last.is_none_or(|sent| self.now.mono.saturating_sub(sent) >= SLOW_MS);
        !self.ready.is_empty() && (is_slow || self.left_over || self.ready.len() >= FULL)
    }

    /// What a batch on the lane compares in place of what its verdicts read, where no other server is thought to write.
    fn guard(&self, lane: usize) -> Option<Vec<Compare>> {
        if self.disturbed.is_some_and(|at| self.is_lately(at)) || self.has_lost() {
            return None;
        }
        let under_way = |at: usize| Some(self.lanes.get(at)?.in_flight.as_ref()?.batch.number);
        alone::guard(&self.replica, (self.identity.server, lane), under_way, self.config.limits)
    }

    /// Whether that was so short a time ago that this server is not alone.
    pub(super) fn is_lately(&self, at: u64) -> bool {
        self.now.mono.saturating_sub(at) < self.config.alone_after_ms
    }

    /// The next batch of an idle lane; `None`: nothing to do that could be done now.
    pub fn take_batch(&mut self, lane: usize, id: u128) -> Option<Outgoing> {
        let state = self.lanes.get(lane)?;
        if state.in_flight.is_some() || !self.has_work() {
            return None;
        }
        let state = LaneState { server: self.identity.server, lane, lease: self.identity.lease, number: state.number };
        let guard = self.guard(lane);
        let mut builder = Builder::new(&self.replica, self.config.limits, self.now.wall, guard);
        let mut origins = Vec::new();
        let mut refused = Vec::new();
        let (busy, turns) = (&self.busy, &self.turns);
        let is_busy = |key: &Bytes| busy.contains_key(key) || turns.is_left(key);

        let mut later = VecDeque::new();
        while let Some(task) = self.tasks.pop_front() {
            if let Purpose::Handshake { conn, .. } = task.purpose
                && !self.connections.contains_key(&conn)
            {
                // Its client has gone, perhaps to another server, which this would cut it off from.
                if let Write::Open { id, .. } = task.write {
                    self.revocations.push(id);
                }
                continue;
            }
            match builder.offer(&task.write, task.fails, is_busy) {
                Offer::Taken => origins.push(Origin::Task(task)),
                Offer::Busy => self.blocked_tasks.push_back(task),
                Offer::Deferred => later.push_back(task),
                Offer::Full => {
                    later.push_back(task);
                    break;
                }
                Offer::TooLarge(reason) => refused.push((Origin::Task(task), reason)),
            }
        }
        later.append(&mut self.tasks);
        self.tasks = later;

        let mut later = VecDeque::new();
        while let Some(conn_id) = self.ready.pop_front() {
            let Some(conn) = self.connections.get_mut(&conn_id) else { continue };
            conn.ready = false;
            let mut stays = false;
            let mut blocked = false;
            let mut full = false;
            while let Some(pending) = conn.queue.front().filter(|pending| pending.is_write()) {
                let write = write_of(pending, conn.session, conn.attached.unwrap_or(0));
                match builder.offer(&write, pending.fails, is_busy) {
                    Offer::Taken => {
                        if let Some(pending) = conn.queue.pop_front() {
                            if conn.in_flight == 0 {
                                conn.write_since = Some(pending.received);
                            }
                            conn.in_flight += 1;
                            origins.push(Origin::Client(conn_id, pending));
                        }
                    }
                    Offer::Busy => {
                        blocked = conn.in_flight == 0;
                        break;
                    }
                    offer @ (Offer::Deferred | Offer::Full) => {
                        stays = true;
                        full = offer == Offer::Full;
                        break;
                    }
                    Offer::TooLarge(reason) => {
                        if conn.in_flight > 0 {
                            stays = true;
                            break;
                        }
                        if let Some(pending) = conn.queue.pop_front() {
                            refused.push((Origin::Client(conn_id, pending), reason));
                        }
                    }
                }
            }
            if blocked {
                conn.ready = true;
                self.blocked.push_back(conn_id);
            }
            if stays {
                // While a batch of the connection is in flight, its answer makes it ready again.
                if conn.in_flight == 0 {
                    conn.ready = true;
                    later.push_back(conn_id);
                }
            }
            if full {
                break;
            }
        }
        // Of those that were offered, some had no room.
        self.left_over = !later.is_empty();
        later.append(&mut self.ready);
        self.ready = later;

        let outgoing = if builder.is_empty() {
            None
        } else {
            self.batches += 1;
            let batch = builder.build(state, self.batches, id);
            for key in &batch.keys {
                *self.busy.entry(key.clone()).or_default() += 1;
            }
            let outgoing =
                Outgoing { txn: batch.txn.clone(), applied: self.replica.revision(), requests: origins.len() };
            let sent = self.now.mono;
            self.lanes[lane].in_flight = Some(InFlight { batch, origins, outcome: None, sent, answered: 0 });
            Some(outgoing)
        };
        for (origin, reason) in refused {
            self.refuse(origin, ErrorCode::BadArguments, &reason);
        }
        outgoing
    }

    /// The store's answer to the lane's batch.
    pub fn answered_batch(&mut self, lane: usize, answer: LaneAnswer) -> Result<(), LaneLost> {
        let Some(in_flight) = self.lanes.get_mut(lane).and_then(|lane| lane.in_flight.as_mut()) else {
            return Ok(());
        };
        self.metrics.batch_requests.observe(in_flight.origins.len() as f64);
        self.metrics.batch_bytes.observe(in_flight.batch.bytes as f64);
        self.metrics.commit_duration.observe(self.now.mono.saturating_sub(in_flight.sent) as f64 / 1e3);
        match answer {
            LaneAnswer::Rejected(reason) => {
                self.reject(lane, &reason);
                Ok(())
            }
            LaneAnswer::LeaseGone => self.lease_gone(lane),
            LaneAnswer::Unknown => Err(LaneLost),
            LaneAnswer::Result(result) => {
                self.store_revision = self.store_revision.max(result.revision);
                match in_flight.batch.outcome(&result) {
                    Outcome::LaneLost => Err(LaneLost),
                    outcome => {
                        in_flight.outcome = Some(outcome);
                        in_flight.answered = self.now.mono;
                        self.settle_lanes();
                        Ok(())
                    }
                }
            }
        }
    }

    /// The store refuses a whole transaction: nothing of it happened. Each of its requests is told so.
    fn reject(&mut self, lane: usize, reason: &str) {
        let Some(in_flight) = self.lanes.get_mut(lane).and_then(|lane| lane.in_flight.take()) else { return };
        self.release_keys(&in_flight.batch.keys);
        tracing::error!(reason, requests = in_flight.origins.len(), "the store refused a transaction");
        for origin in in_flight.origins {
            if let Origin::Client(conn, _) = &origin
                && let Some(conn) = self.connections.get_mut(conn)
            {
                conn.in_flight = conn.in_flight.saturating_sub(1);
            }
            self.refuse(origin, ErrorCode::SystemError, reason);
        }
    }

    /// Puts a batch back, without the sessions that were to begin in it: one of their leases is gone. Where there is
    /// none, it is the server's own.
    fn lease_gone(&mut self, lane: usize) -> Result<(), LaneLost> {
        let Some(in_flight) = self.lanes.get_mut(lane).and_then(|lane| lane.in_flight.take()) else { return Ok(()) };
        self.release_keys(&in_flight.batch.keys);
        let all = in_flight.origins.len();
        let mut rest = Vec::new();
        let mut refused = Vec::new();
        for origin in in_flight.origins {
            match origin {
                Origin::Task(Task { write: Write::Open { .. }, purpose: Purpose::Handshake { conn, .. }, .. }) => {
                    self.close(conn, CloseReason::StoreAway);
                }
                // Its record is there without its lease: copied from elsewhere, perhaps. It cannot be kept alive.
                Origin::Task(Task { purpose: Purpose::Handshake { conn, renewed_at: 0 }, .. }) => refused.push(conn),
                Origin::Client(id, pending) => {
                    if let Some(conn) = self.connections.get_mut(&id) {
                        conn.in_flight = conn.in_flight.saturating_sub(1);
                    }
                    rest.push(Origin::Client(id, pending));
                }
                Origin::Task(task) => rest.push(Origin::Task(task)),
            }
        }
        refused.into_iter().for_each(|conn| self.refuse_session(conn));
        if rest.len() == all {
            return Err(LaneLost);
        }
        self.put_back_ready(rest);
        Ok(())
    }

    /// Puts requests back and lets their connections go on.
    fn put_back_ready(&mut self, origins: Vec<Origin>) {
        let clients = origins.iter().filter_map(|origin| match origin {
            Origin::Client(conn, _) => Some(*conn),
            Origin::Task(_) => None,
        });
        let clients: Vec<ConnectionId> = clients.collect();
        self.put_back(origins);
        for conn in clients {
            self.advance(conn);
        }
    }

    /// Some key may be free: whoever waits for one is offered again, before those who came later.
    pub(super) fn recall(&mut self) {
        self.blocked.append(&mut self.ready);
        self.ready = std::mem::take(&mut self.blocked);
        self.blocked_tasks.append(&mut self.tasks);
        self.tasks = std::mem::take(&mut self.blocked_tasks);
    }

    pub(super) fn release_keys(&mut self, keys: &[Bytes]) {
        self.recall();
        for key in keys {
            if let Some(count) = self.busy.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.busy.remove(key);
                }
            }
        }
    }

    /// Answers a request that no transaction can hold.
    fn refuse(&mut self, origin: Origin, code: ErrorCode, reason: &str) {
        match origin {
            Origin::Client(id, pending) => {
                let zxid = self.replica.last_zxid();
                if let Some(conn) = self.connections.get(&id) {
                    tracing::warn!(
                        session = format_args!("{:#x}", conn.session),
                        op = pending.op,
                        reason,
                        "request refused"
                    );
                    let bytes = conn.reply(ReplyHeader::error(pending.xid, zxid, code), &Reply::Empty);
                    self.answered(id, &pending, zxid, bytes);
                }
                self.advance(id);
            }
            Origin::Task(task) => {
                tracing::error!(reason, write = ?task.write, "the server's own write was refused");
                match task.purpose {
                    Purpose::Handshake { conn, .. } => self.close(conn, CloseReason::StoreAway),
                    Purpose::Reap(session) => {
                        self.reaping.remove(&session);
                        self.reap_again_at.get_or_insert(self.now.mono + REAP_AGAIN_MS);
                    }
                    Purpose::Expire(session) => {
                        if let Some(held) = self.held.get_mut(&session) {
                            held.ending = false;
                        }
                    }
                    Purpose::Sweep | Purpose::Sync(_) => {}
                }
            }
        }
    }

    /// A group failed: its requests go back to the front of their queues, in order.
    pub(super) fn put_back(&mut self, origins: Vec<Origin>) {
        for origin in origins.into_iter().rev() {
            let fails = match &origin {
                Origin::Client(_, pending) => pending.fails,
                Origin::Task(task) => task.fails,
            };
            if fails + 1 >= FAILED_OFTEN {
                self.disturbed = Some(self.now.mono);
            }
            match origin {
                Origin::Client(id, mut pending) => {
                    pending.fails += 1;
                    if let Some(conn) = self.connections.get_mut(&id) {
                        conn.queue.push_front(pending);
                    }
                }
                Origin::Task(mut task) => {
                    task.fails += 1;
                    self.tasks.push_front(task);
                }
            }
        }
    }

    /// The lane's batch was applied, but which groups took effect can never be told: its clients are cut off.
    pub(super) fn outcome_unknown(&mut self, in_flight: InFlight) {
        self.release_keys(&in_flight.batch.keys);
        for origin in in_flight.origins {
            match origin {
                Origin::Client(conn, _) => self.close(conn, CloseReason::OutcomeUnknown),
                Origin::Task(Task { purpose: Purpose::Handshake { conn, .. }, .. }) => {
                    self.close(conn, CloseReason::OutcomeUnknown);
                }
                // What the server does on its own it can ask for again.
                Origin::Task(task) => self.tasks.push_back(task),
            }
        }
    }
}

fn write_of(pending: &Pending, session: i64, attached: i64) -> Write {
    match &pending.what {
        What::Request(request) => {
            Write::Request { session, attached, ids: pending.ids.clone(), request: request.clone() }
        }
        What::Fence | What::Malformed(_) => Write::Sync,
    }
}

/// Whether an answer says that a session is over, and leaves ephemerals for later.
pub(super) fn leaves_more(answer: &Answer) -> bool {
    matches!(answer, Answer::Ended { more: true })
}
