//! What the store's changes bring: the replica goes on, watches fire, answers are released.

use hashbrown::HashSet;
use std::borrow::Cow;
use std::time::Duration;

use super::commit::{InFlight, LaneLost, Origin, leaves_more};
use super::connection::{Pending, What};
use super::engine::{ConnectionId, Engine, Held, Purpose, RENEWALS_PER_TIMEOUT, Task};
use super::outbox::CloseReason;
use super::read::SYNC_CONNECTED;
use crate::commit::batch::Outcome;
use crate::commit::draft::{DraftStat, pending_slot};
use crate::commit::verdict::{Answer, MultiAnswer};
use crate::jute::{
    ConnectResponse, LENGTH_BYTES, MultiResult, Perms, Reply, ReplyHeader, Request, Stat, WatcherEvent, encode_event,
    op,
};
use crate::metrics::RequestKind;
use crate::store::Revision;
use crate::tree::record::{ChangeKind, SessionRecord};
use crate::tree::replica::{Applied, ApplyError, Change, Replica};
use crate::tree::watches::{EventType, Trigger};
use crate::tree::{acl, key, path};

/// Notifications that went out together.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// To whom, and their bytes.
    sent: Vec<(ConnectionId, usize)>,
    /// How many watches one change fired, by the type of the event.
    created: u64,
    deleted: u64,
    changed: u64,
    children: u64,
}

impl Told {
    pub fn add(&mut self, watcher: ConnectionId, bytes: usize) {
        self.sent.push((watcher, bytes));
    }

    fn fired(&mut self, kind: EventType) {
        *match kind {
            EventType::NodeCreated => &mut self.created,
            EventType::NodeDeleted => &mut self.deleted,
            EventType::NodeDataChanged => &mut self.changed,
            EventType::NodeChildrenChanged => &mut self.children,
        } += 1;
    }
}

impl Engine {
    /// Takes what the store changed, and applies what can be applied.
    pub fn changed(&mut self, revisions: Vec<Revision>) -> Result<(), ApplyError> {
        for revision in revisions {
            // What came already may come again.
            if revision.revision > self.received_revision() {
                self.backlog.push_back(revision);
            }
        }
        self.apply_backlog()
    }

    /// Applies revisions up to one of this server's own batches whose answer has not come yet: until then its
    /// answers, which come before all later events, cannot be given.
    ///
    /// Where the stream lost something, nothing is applied any more until [`Engine::resync`].
    pub fn apply_backlog(&mut self) -> Result<(), ApplyError> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        let result = self.apply_in_order();
        if let Err(error) = &result
            && error.is_loss()
        {
            self.lost = Some(error.clone());
        }
        result
    }

    fn apply_in_order(&mut self) -> Result<(), ApplyError> {
        self.missed(self.replica.revision() + 1)?;
        loop {
            let next = match self.backlog.front() {
                Some(revision) => {
                    self.missed(revision.revision)?;
                    if self.awaits_answer(revision) {
                        return Ok(());
                    }
                    self.backlog.pop_front()
                }
                None => self.answered_next(),
            };
            let Some(next) = next else { return Ok(()) };
            self.apply(&next)?;
        }
    }

    /// A batch of this server's own whose answer tells the very next revision: nobody came between, so what it changed
    /// is known before the stream brings it.
    fn answered_next(&self) -> Option<Revision> {
        let next = self.replica.revision() + 1;
        self.lanes.iter().find_map(|lane| {
            let batch = lane.in_flight.as_ref()?;
            match &batch.outcome {
                Some(Outcome::Applied { revision, groups }) if *revision == next => {
                    Some(batch.batch.changes(next, groups, &self.replica))
                }
                _ => None,
            }
        })
    }

    /// A batch of this server's own whose answer tells a revision before `next`, and which was not applied here: the
    /// stream has left it out.
    fn missed(&self, next: i64) -> Result<(), ApplyError> {
        for (at, lane) in self.lanes.iter().enumerate() {
            if let Some(revision) = lane.in_flight.as_ref().and_then(InFlight::known_revision)
                && revision < next
            {
                return Err(ApplyError::Missed { lane: at, revision });
            }
        }
        Ok(())
    }

    /// The stream lost something: a new snapshot is due.
    pub fn has_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The last revision that came, applied or not.
    pub fn received_revision(&self) -> i64 {
        self.backlog.back().map_or(self.replica.revision(), |revision| revision.revision)
    }

    fn awaits_answer(&self, revision: &Revision) -> bool {
        let mine = revision.changes.iter().find_map(|change| match key::parse(change.key()) {
            key::Parsed::Lane { server, lane } if server == self.identity.server => Some(lane),
            _ => None,
        });
        mine.and_then(|lane| self.lanes.get(lane)?.in_flight.as_ref()).is_some_and(|batch| batch.outcome.is_none())
    }

    fn apply(&mut self, revision: &Revision) -> Result<(), ApplyError> {
        // Before it, as it may fail half-way.
        self.gate.show(revision.revision);
        let mut applied = self.replica.apply(revision)?;
        self.heed_others(&applied, revision);
        let batch = self.own_batch(&applied);
        let succeeded = batch.as_ref().map(|batch| groups(batch, revision)).unwrap_or_default();
        let (answers, origins) = match batch {
            Some(batch) => {
                self.release_keys(&batch.batch.keys);
                self.turns.own(revision, self.now.mono);
                (batch.batch.answers, batch.origins)
            }
            None => (Vec::new(), Vec::new()),
        };
        let mut failed = Vec::new();
        let mut touched = Vec::new();
        let mut changes = std::mem::take(&mut applied.changes).into_iter().peekable();
        for (slot, (origin, (answer, group))) in origins.into_iter().zip(answers).enumerate() {
            while let Some(change) = changes.next_if(|change| usize::from(change.place.slot) <= slot) {
                self.fire(&change, &applied);
            }
            if let Origin::Client(conn, _) = &origin {
                if let Some(conn) = self.connections.get_mut(conn) {
                    conn.in_flight = conn.in_flight.saturating_sub(1);
                }
                touched.push(*conn);
            }
            if succeeded.get(group) == Some(&true) {
                let zxid = self.replica.zxid(applied.revision, slot as u16);
                self.release(origin, answer, (zxid, zxid), applied.revision);
            } else {
                failed.push(origin);
            }
        }
        for change in changes {
            self.fire(&change, &applied);
        }
        if !failed.is_empty() {
            self.metrics.conflicts.inc();
            self.metrics.retries.inc_by(failed.len() as u64);
        }
        self.put_back(failed);
        for (session, attached) in &applied.sessions {
            self.session_changed(*session, *attached);
        }
        self.finish_closing();
        for conn in touched {
            self.advance(conn);
        }
        Ok(())
    }

    fn own_batch(&mut self, applied: &Applied) -> Option<InFlight> {
        let (server, lane, record) = applied.lane.as_ref()?;
        if *server != self.identity.server {
            return None;
        }
        let lane = self.lanes.get_mut(*lane)?;
        lane.number = record.number;
        if let Some(batch) = &lane.in_flight {
            self.contact = self.contact.max(batch.sent);
        }
        let mine = lane.in_flight.as_ref().is_some_and(|batch| batch.batch.id == record.batch_id);
        if mine { lane.in_flight.take() } else { None }
    }

    /// Another server's batch, or its claim.
    fn heed_others(&mut self, applied: &Applied, revision: &Revision) {
        let now = self.now.mono;
        for (server, claim) in &applied.claims {
            if *server == self.identity.server {
                self.turns.claimed_here(&claim.keys, now);
            } else {
                self.turns.claimed(&claim.keys, now);
            }
        }
        let other = applied.lane.as_ref().map(|(server, ..)| *server).filter(|server| *server != self.identity.server);
        if let Some(server) = other {
            // A sign of life disturbs once. Who syncs all the time disturbs.
            let again = self.sign_of_life.is_some_and(|(last, at)| last == server && self.is_lately(at));
            if revision.changes.len() > 1 || again {
                self.disturbed = Some(now);
            } else {
                self.sign_of_life = Some((server, now));
            }
            let busy = &self.busy;
            if self.turns.others(revision, now, |key| busy.contains_key(key)) {
                self.recall();
            }
        }
    }

    /// Tells the watchers of one change, those who may read the node.
    fn fire(&mut self, change: &Change, applied: &Applied) {
        let zxid = self.replica.zxid(applied.revision, change.place.slot);
        let (connections, replica) = (&self.connections, &self.replica);
        // The list of the change's own moment: others of the same revision may come after it.
        let acl_of = |path: &str| match (replica.node(path), applied.old_acls.get(path)) {
            (Some(_), Some(old)) if change.place < old.until => old.list.clone(),
            (Some(node), _) => node.acl().cloned(),
            (None, _) => applied.gone_acls.get(path).cloned().flatten(),
        };
        let own = if change.kind == ChangeKind::Deleted {
            applied.gone_acls.get(&change.path).cloned().flatten()
        } else {
            acl_of(&change.path)
        };
        let parent = path::parent(&change.path).and_then(acl_of);
        let mut told = Told::default();
        self.watches.trigger(trigger(change.kind), &change.path, |watcher, kind, path| {
            let Some(conn) = connections.get(&watcher) else { return };
            let list = if path == change.path { &own } else { &parent };
            if list.as_ref().is_some_and(|list| !acl::permits(list, Perms::READ, &conn.ids)) {
                return;
            }
            let event = WatcherEvent { kind: kind as i32, state: SYNC_CONNECTED, path: Cow::Borrowed(path) };
            let bytes = conn.outbox.push(|out| encode_event(out, zxid, &event));
            told.add(watcher, bytes);
            told.fired(kind);
        });
        self.notified(&told);
    }

    /// `zxids`: the write's own, and the one that its answer carries.
    fn release(&mut self, origin: Origin, answer: Answer, zxids: (i64, i64), revision: i64) {
        match origin {
            Origin::Client(id, pending) => self.release_client(id, pending, answer, zxids),
            Origin::Task(task) => self.release_task(task, answer, revision),
        }
    }

    fn release_client(&mut self, id: ConnectionId, pending: Pending, answer: Answer, (zxid, shown): (i64, i64)) {
        if let What::Fence = pending.what {
            return;
        }
        // What came behind a closeSession gets no answer: the connection ends with that one's.
        if self.connections.get(&id).is_some_and(|conn| conn.closing.is_some()) {
            return;
        }
        if leaves_more(&answer) {
            if let Some(conn) = self.connections.get_mut(&id) {
                conn.closing = Some(pending);
                self.closing.push(id);
            }
            return;
        }
        let closes =
            matches!(&pending.what, What::Request(request) if **request == Request::CloseSession) && !answer.is_error();
        let Some(conn) = self.connections.get(&id) else { return };
        let replica = &self.replica;
        let bytes = match answer {
            Answer::Error(code) => conn.reply(ReplyHeader::error(pending.xid, shown, code), &Reply::Empty),
            answer => conn.reply(ReplyHeader::ok(pending.xid, shown), &reply(answer, replica, zxid)),
        };
        self.answered(id, &pending, shown, bytes);
        if closes {
            self.close(id, CloseReason::SessionClosed);
        }
    }

    fn release_task(&mut self, task: Task, answer: Answer, revision: i64) {
        match (task.purpose, answer) {
            (Purpose::Handshake { conn, renewed_at }, Answer::Attached(record)) => {
                let session = match task.write {
                    crate::commit::verdict::Write::Open { id, .. }
                    | crate::commit::verdict::Write::Attach { id, .. } => id,
                    _ => return,
                };
                self.attached(conn, session, record, renewed_at, revision);
            }
            (Purpose::Handshake { conn, .. }, _) => self.refuse_session(conn),
            (Purpose::Expire(session), Answer::Ended { .. }) => {
                tracing::info!(session = format_args!("{session:#x}"), "session expired");
                self.metrics.sessions_expired.inc();
            }
            // Moved or gone already: the change of its record said so.
            (Purpose::Expire(_), _) => {}
            (Purpose::Reap(session), Answer::Ended { more }) => {
                self.reaping.remove(&session);
                if more {
                    self.reap(session);
                }
            }
            (Purpose::Reap(session), _) => {
                self.reaping.remove(&session);
            }
            (Purpose::Sweep, _) => {}
            (Purpose::Sync(done), _) => {
                if let Some(done) = done {
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
            }
        }
    }

    /// The connection owns the session now.
    fn attached(&mut self, id: ConnectionId, session: i64, record: SessionRecord, renewed_at: u64, revision: i64) {
        let timeout_ms = u64::try_from(record.timeout).unwrap_or(0);
        let previous = self.held.remove(&session).and_then(|held| held.conn);
        if let Some(previous) = previous.filter(|previous| *previous != id) {
            self.close(previous, CloseReason::SessionMoved);
        }
        let now = self.now.mono;
        let alive = self.connections.contains_key(&id);
        self.held.insert(
            session,
            Held {
                conn: alive.then_some(id),
                attached: revision,
                timeout_ms,
                heard: now,
                safe_until: Self::safe_until(renewed_at, timeout_ms),
                next_renewal: renewed_at + timeout_ms / RENEWALS_PER_TIMEOUT,
                ending: false,
            },
        );
        let Some(conn) = self.connections.get_mut(&id) else { return };
        conn.session = session;
        conn.attached = Some(revision);
        conn.answer_connect(&record);
        conn.outbox.signal_room();
        let latency = Duration::from_millis(now.saturating_sub(conn.connected));
        tracing::info!(session = format_args!("{session:#x}"), peer = %conn.peer, timeout_ms, "session attached");
        conn.stats.record_answer(0, op::CREATE_SESSION, self.replica.last_zxid(), latency, now);
        self.stats.record_connected(latency);
        self.metrics.record_request(op::CREATE_SESSION, RequestKind::Write, latency);
        self.advance(id);
    }

    /// The session is expired, or its password is wrong: timeout 0, and the connection ends.
    pub(super) fn refuse_session(&mut self, id: ConnectionId) {
        if let Some(conn) = self.connections.get(&id) {
            let response =
                ConnectResponse { timeout: 0, session_id: 0, password: [0; 16], read_only_byte: conn.read_only_byte };
            conn.outbox.push(|out| response.encode(out));
        }
        self.close(id, CloseReason::SessionExpired);
    }

    /// A session's record was put (attached anew, at that revision) or is gone.
    fn session_changed(&mut self, session: i64, attached: Option<i64>) {
        match attached {
            Some(attached) => {
                if self.held.get(&session).is_some_and(|held| held.attached < attached)
                    && let Some(held) = self.held.remove(&session)
                    && let Some(conn) = held.conn
                {
                    self.close(conn, CloseReason::SessionMoved);
                }
            }
            None => {
                if self.replica.ephemerals(session).next().is_some() {
                    self.reap(session);
                }
                let Some(held) = self.held.remove(&session) else { return };
                self.revocations.push(session);
                if let Some(conn) = held.conn
                    && self.connections.get(&conn).is_some_and(|conn| conn.closing.is_none())
                {
                    self.close(conn, CloseReason::SessionExpired);
                }
            }
        }
    }

    /// Answers the closeSession requests whose last ephemeral is gone.
    fn finish_closing(&mut self) {
        let (replica, connections) = (&self.replica, &self.connections);
        let is_done = |id: &ConnectionId| {
            connections.get(id).is_none_or(|conn| replica.ephemerals(conn.session).next().is_none())
        };
        let done: Vec<ConnectionId> = self.closing.extract_if(.., |id| is_done(id)).collect();
        for id in done {
            let zxid = self.replica.last_zxid();
            let Some(pending) = self.connections.get_mut(&id).and_then(|conn| conn.closing.take()) else { continue };
            let Some(conn) = self.connections.get(&id) else { continue };
            let bytes = conn.reply(ReplyHeader::ok(pending.xid, zxid), &Reply::Empty);
            self.answered(id, &pending, zxid, bytes);
            self.close(id, CloseReason::SessionClosed);
        }
    }

    /// Takes a snapshot's tree in the replica's place: the stream lost what lies between.
    ///
    /// # Errors
    /// This server's lanes are not in it: its lease has ended.
    pub fn resync(&mut self, replica: Replica) -> Result<(), LaneLost> {
        if (0..self.lanes.len()).any(|lane| replica.lane_number(self.identity.server, lane).is_none()) {
            return Err(LaneLost);
        }
        self.lost = None;
        let old = self.adopt(replica);
        self.replica.seen_zxid(old.last_zxid());
        self.backlog.retain(|revision| revision.revision > self.replica.revision());
        let mut applied = Applied { revision: 0, ..Applied::default() };
        for node in old.iter() {
            if self.replica.node(node.path()).is_none_or(|new| new.czxid != node.czxid) {
                applied.gone_acls.insert(node.path().to_owned(), node.acl().cloned());
            }
        }
        let changes = old.difference(&self.replica);
        let told: HashSet<&str> = changes.iter().filter_map(|change| path::parent(&change.path)).collect();
        let mut children = old.children_changed(&self.replica);
        children.retain(|path| !told.contains(path.as_str()));
        applied.revision = self.replica.revision_of(self.replica.last_zxid());
        for change in &changes {
            self.fire(change, &applied);
        }
        self.fire_children(&children);
        let gone: Vec<(i64, Option<i64>)> = old
            .sessions()
            .filter_map(|(id, before)| match self.replica.session(id) {
                None => Some((id, None)),
                Some(now) if now.mod_revision != before.mod_revision => Some((id, Some(now.mod_revision))),
                Some(_) => None,
            })
            .collect();
        self.settle_lanes();
        for (session, attached) in gone {
            self.session_changed(session, attached);
        }
        self.check_held();
        self.reap_orphans();
        self.finish_closing();
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for conn in all {
            self.advance(conn);
        }
        Ok(())
    }

    /// Sessions attached here that the tree knows otherwise.
    fn check_held(&mut self) {
        let replica = &self.replica;
        let differs = |(id, held): (&i64, &Held)| {
            let now = replica.session(*id).map(|session| session.mod_revision);
            (now != Some(held.attached)).then_some((*id, now))
        };
        let changed: Vec<(i64, Option<i64>)> = self.held.iter().filter_map(differs).collect();
        for (session, attached) in changed {
            self.session_changed(session, attached);
        }
    }

    fn fire_children(&mut self, paths: &[String]) {
        let zxid = self.replica.last_zxid();
        let (connections, replica) = (&self.connections, &self.replica);
        let mut told = Told::default();
        for path in paths {
            let list = replica.node(path).and_then(|node| node.acl().cloned());
            self.watches.trigger(Trigger::ChildrenChanged, path, |watcher, kind, path| {
                let Some(conn) = connections.get(&watcher) else { return };
                if list.as_ref().is_some_and(|list| !acl::permits(list, Perms::READ, &conn.ids)) {
                    return;
                }
                let event = WatcherEvent { kind: kind as i32, state: SYNC_CONNECTED, path: Cow::Borrowed(path) };
                let bytes = conn.outbox.push(|out| encode_event(out, zxid, &event));
                told.add(watcher, bytes);
            });
        }
        self.notified(&told);
    }

    /// Books notifications.
    pub(super) fn notified(&mut self, told: &Told) {
        for (id, bytes) in &told.sent {
            self.stats.record_notification();
            self.metrics.watch_bytes.inc_by(*bytes as u64);
            if let Some(conn) = self.connections.get_mut(id) {
                conn.stats.record_notification();
            }
        }
        let summaries = [
            (&told.created, &self.metrics.node_created_watches),
            (&told.deleted, &self.metrics.node_deleted_watches),
            (&told.changed, &self.metrics.node_changed_watches),
            (&told.children, &self.metrics.node_children_watches),
        ];
        for (count, summary) in summaries.into_iter().filter(|(count, _)| **count > 0) {
            summary.record(*count);
        }
    }

    /// After a snapshot: batches that it contains. Their answers tell which groups took effect, once they come; where
    /// only an earlier copy's is left to be had, nothing can tell.
    pub(super) fn settle_lanes(&mut self) {
        for at in 0..self.lanes.len() {
            let number = self.replica.lane_number(self.identity.server, at);
            let Some(lane) = self.lanes.get_mut(at) else { continue };
            let contained = |batch: &mut InFlight| Some(batch.batch.number) == number && batch.outcome.is_some();
            let Some(batch) = lane.in_flight.take_if(contained) else { continue };
            lane.number = batch.batch.number;
            match batch.outcome {
                Some(Outcome::Applied { revision, ref groups }) => {
                    let groups = groups.clone();
                    self.settle(batch, revision, &groups);
                }
                _ => self.outcome_unknown(batch),
            }
        }
    }

    fn settle(&mut self, batch: InFlight, revision: i64, groups: &[bool]) {
        self.release_keys(&batch.batch.keys);
        let mut failed = Vec::new();
        let mut touched = Vec::new();
        for (slot, (origin, (answer, group))) in batch.origins.into_iter().zip(batch.batch.answers).enumerate() {
            if let Origin::Client(conn, _) = &origin {
                if let Some(conn) = self.connections.get_mut(conn) {
                    conn.in_flight = conn.in_flight.saturating_sub(1);
                }
                touched.push(*conn);
            }
            if groups.get(group) == Some(&true) {
                let zxid = self.replica.zxid(revision, slot as u16);
                // Events, and answers of pings, have shown what came after it.
                let shown = zxid.max(self.replica.last_zxid());
                self.release(origin, answer, (zxid, shown), revision);
            } else {
                failed.push(origin);
            }
        }
        self.put_back(failed);
        // A session that was attached then may have moved or ended since.
        self.check_held();
        self.finish_closing();
        for conn in touched {
            self.advance(conn);
        }
    }

    /// Books an answer: the zxid that it showed, and the bytes of its frame.
    pub(super) fn answered(&mut self, id: ConnectionId, pending: &Pending, zxid: i64, bytes: usize) {
        let latency = Duration::from_millis(self.now.mono.saturating_sub(pending.received));
        let kind = if pending.is_write() { RequestKind::Write } else { RequestKind::Read };
        self.book(id, (pending.xid, pending.op), kind, (zxid, bytes), latency);
    }

    pub(super) fn book(
        &mut self,
        id: ConnectionId,
        (xid, op): (i32, i32),
        kind: RequestKind,
        (zxid, bytes): (i64, usize),
        latency: Duration,
    ) {
        self.metrics.record_request(op, kind, latency);
        self.stats.record_answer(latency, bytes.saturating_sub(LENGTH_BYTES));
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.stats.record_answer(xid, op, zxid, latency, self.now.mono);
        }
    }
}

/// Which groups took effect: by the answer, or by their keys' events where an earlier copy was applied. A group
/// that writes nothing left no trace then: its verdict is found again.
fn groups(batch: &InFlight, revision: &Revision) -> Vec<bool> {
    match &batch.outcome {
        Some(Outcome::Applied { groups, .. }) => groups.clone(),
        _ => {
            let keys: HashSet<&bytes::Bytes> = revision.changes.iter().map(|change| change.key()).collect();
            let happened = |witness: &Option<bytes::Bytes>| witness.as_ref().is_some_and(|key| keys.contains(key));
            batch.batch.witnesses.iter().map(happened).collect()
        }
    }
}

fn trigger(kind: ChangeKind) -> Trigger {
    match kind {
        ChangeKind::Created => Trigger::Created,
        ChangeKind::DataChanged => Trigger::DataChanged,
        ChangeKind::Deleted => Trigger::Deleted,
    }
}

fn reply(answer: Answer, replica: &Replica, zxid: i64) -> Reply<'static> {
    match answer {
        Answer::Path(path) => Reply::Path(Cow::Owned(path)),
        Answer::PathStat(path, stat) => Reply::PathStat(Cow::Owned(path), finished(stat, replica, zxid)),
        Answer::Stat(stat) => Reply::Stat(finished(stat, replica, zxid)),
        Answer::Multi(answers) => Reply::Multi(
            answers
                .into_iter()
                .map(|answer| match answer {
                    MultiAnswer::Create(path) => MultiResult::Create { path: Cow::Owned(path) },
                    MultiAnswer::Create2(path, stat) => {
                        MultiResult::Create2 { path: Cow::Owned(path), stat: finished(stat, replica, zxid) }
                    }
                    MultiAnswer::Delete => MultiResult::Delete,
                    MultiAnswer::SetData(stat) => MultiResult::SetData { stat: finished(stat, replica, zxid) },
                    MultiAnswer::Check => MultiResult::Check,
                })
                .collect(),
        ),
        Answer::MultiFailed(codes) => Reply::Multi(codes.into_iter().map(MultiResult::Error).collect()),
        Answer::Empty | Answer::Error(_) | Answer::Attached(_) | Answer::Ended { .. } => Reply::Empty,
    }
}

/// Fills in the batch's zxids, and what the verdict did not depend on.
fn finished(draft: DraftStat, replica: &Replica, zxid: i64) -> Stat {
    let first = zxid & !0xfff;
    let real = |zxid: i64| pending_slot(zxid).map_or(zxid, |slot| first | i64::from(slot));
    let mut stat = draft.stat;
    stat.czxid = real(stat.czxid);
    stat.mzxid = real(stat.mzxid);
    stat.pzxid = real(stat.pzxid);
    let Some(node) = replica.node(&draft.path).filter(|node| node.czxid == stat.czxid) else { return stat };
    let now = node.stat();
    if !draft.node_known {
        let Stat { mzxid, mtime, version, data_length, .. } = now;
        stat = Stat { mzxid, mtime, version, data_length, ..stat };
    }
    if !draft.children_known {
        let Stat { cversion, num_children, pzxid, .. } = now;
        stat = Stat { cversion, num_children, pzxid, ..stat };
    }
    if !draft.acl_known {
        stat.aversion = now.aversion;
    }
    stat
}
