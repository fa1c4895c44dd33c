//! The engine's state, and the time's effect on it.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::commit::Lane;
use super::connection::Connection;
use super::gate::Gate;
use super::lists::Lists;
use super::outbox::{CloseReason, Outbox};
use super::turns::Turns;
use crate::commit::verdict::Write;
use crate::jute::Id;
use crate::metrics::Metrics;
use crate::server::stats::ServerStats;
use crate::store::{Limits, Revision};
use crate::tree::path::OwnerKind;
use crate::tree::replica::{ApplyError, Replica};
use crate::tree::watches::Watches;

/// The part of a session's timeout in which its client can notice that the connection is gone, before anybody
/// else can be told that the session is: a tenth, at least [`MIN_MARGIN_MS`].
const MARGIN_DIVISOR: u64 = 10;

/// See [`MARGIN_DIVISOR`]: half a second is a round trip with a retransmission.
const MIN_MARGIN_MS: u64 = 500;

/// A store that has not answered a batch for so long, in milliseconds, is away: commits take some milliseconds, an
/// election a second.
const AWAY_MS: u64 = 1_500;

/// Containers and TTL nodes deleted in one sweep: ZooKeeper's `znode.container.maxPerMinute`.
const SWEEP_LIMIT: usize = 10_000;

/// How long after a batch's answer its revision may take to come through the stream, in milliseconds, before the
/// stream is taken to have lost it: a watch lags by milliseconds, and a snapshot is dear.
const LOST_AFTER_MS: u64 = 5_000;

/// Milliseconds before a refused reaping is tried again.
pub(super) const REAP_AGAIN_MS: u64 = 1_000;

/// A session's lease is renewed this many times in its timeout, so that one lost renewal costs nothing.
pub const RENEWALS_PER_TIMEOUT: u64 = 4;

/// Numbers a server's connections, and its watchers.
pub type ConnectionId = u64;

/// The time, as the engine is told it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub mono: u64,
    /// Milliseconds since the Unix epoch.
    pub wall: i64,
}

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How long a write may wait for the store, in milliseconds; the same for how old reads may become.
    pub store_timeout_ms: u64,
    pub limits: Limits,
    pub lanes: usize,
    /// Every read waits for what the store has at its arrival.
    pub linearizable_reads: bool,
    /// `user:base64(sha1(user:password))` of the super user.
    pub super_digest: Option<String>,
    /// Requests of one connection that may wait.
    pub outstanding: usize,
    /// How long after another server's batch this one is alone again, in milliseconds.
    pub alone_after_ms: u64,
}

/// A running server, as its lanes know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Random, drawn at each start.
    pub server: u64,
    /// The lease that its lanes live on.
    pub lease: i64,
}

/// A session that this server holds: the last attach was its own.
#[derive(Debug)]
pub(super) struct Held {
    /// `None` between two connections of the client.
    pub conn: Option<ConnectionId>,
    /// The revision of the attach.
    pub attached: i64,
    pub timeout_ms: u64,
    /// When the client was last heard.
    pub heard: u64,
    /// Until when the lease is known to last, less the margin.
    pub safe_until: u64,
    pub next_renewal: u64,
    /// Its end is under way.
    pub ending: bool,
}

/// A write of the server's own.
#[derive(Debug)]
pub(super) struct Task {
    pub write: Write,
    pub purpose: Purpose,
    pub fails: u32,
}

#[derive(Debug)]
pub(super) enum Purpose {
    /// A connection's handshake; `lease_safe_until` as in [`Held`].
    Handshake {
        conn: ConnectionId,
        renewed_at: u64,
    },
    Expire(i64),
    Reap(i64),
    Sweep,
    Sync(Option<oneshot::Sender<()>>),
}

#[derive(Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) metrics: Arc<Metrics>,
    pub(super) now: Now,
    pub(super) identity: ServerIdentity,
    pub(super) replica: Replica,
    /// What answers wait behind, where the store writes later than it answers.
    pub(super) gate: Arc<Gate>,
    pub(super) watches: Watches,
    pub(super) lists: Lists,
    pub(super) connections: HashMap<ConnectionId, Connection>,
    next_connection: ConnectionId,
    pub(super) held: HashMap<i64, Held>,
    /// Connections whose next request is a write that waits for a batch.
    pub(super) ready: VecDeque<ConnectionId>,
    pub(super) tasks: VecDeque<Task>,
    /// The last batch had no room for all that were ready.
    pub(super) left_over: bool,
    /// Those of `ready` and of `tasks` that need a busy key.
    pub(super) blocked: VecDeque<ConnectionId>,
    pub(super) blocked_tasks: VecDeque<Task>,
    pub(super) reaping: HashSet<i64>,
    /// Connections whose closeSession waits for the last ephemeral to go.
    pub(super) closing: Vec<ConnectionId>,
    pub(super) lanes: Vec<Lane>,
    /// Batches ever built under this identity.
    pub(super) batches: u64,
    /// Keys written by batches in flight.
    pub(super) busy: HashMap<Bytes, usize>,
    pub(super) turns: Turns,
    /// When another server was last seen to write, or a request failed again and again.
    pub(super) disturbed: Option<u64>,
    /// Which other server last put a lane and nothing else, and when: a sign of life, a sync, or verdicts that are all
    /// errors.
    pub(super) sign_of_life: Option<(u64, u64)>,
    /// Revisions that came and are not applied yet.
    pub(super) backlog: VecDeque<Revision>,
    /// The newest revision that the store has told of.
    pub(super) store_revision: i64,
    /// When ephemerals whose reaping the store refused are looked for again.
    pub(super) reap_again_at: Option<u64>,
    /// Since when the store does not answer. Nobody is expired meanwhile: the clients cannot make themselves heard.
    away_since: Option<u64>,
    /// What the store had written when it was seen to go no further, and when that was; none where nothing waits for it.
    unwritten: Option<(i64, u64)>,
    /// Leases of sessions that this server ended.
    pub(super) revocations: Vec<i64>,
    /// The replica is known to have had all that the store had then: a batch of this server's own, built then, is
    /// applied.
    pub(super) contact: u64,
    /// What the stream was found to have lost.
    pub(super) lost: Option<ApplyError>,
    draining: bool,
    /// Nobody is served: the lanes are lost, and not yet made anew.
    suspended: bool,
    pub(super) stats: ServerStats,
}

impl Engine {
    /// `replica`: a snapshot's, taken under this identity.
    pub fn new(
        config: EngineConfig,
        metrics: Arc<Metrics>,
        identity: ServerIdentity,
        replica: Replica,
        now: Now,
    ) -> Self {
        let lanes = (0..config.lanes).map(|_| Lane::default()).collect();
        metrics.snapshots.inc();
        let mut engine = Engine {
            config,
            metrics,
            now,
            identity,
            replica,
            gate: Arc::default(),
            watches: Watches::new(),
            lists: Lists::default(),
            connections: HashMap::new(),
            next_connection: 1,
            held: HashMap::new(),
            ready: VecDeque::new(),
            left_over: false,
            tasks: VecDeque::new(),
            blocked: VecDeque::new(),
            blocked_tasks: VecDeque::new(),
            reaping: HashSet::new(),
            closing: Vec::new(),
            lanes,
            batches: 0,
            busy: HashMap::new(),
            turns: Turns::default(),
            disturbed: None,
            sign_of_life: None,
            backlog: VecDeque::new(),
            store_revision: 0,
            reap_again_at: None,
            away_since: None,
            unwritten: None,
            revocations: Vec::new(),
            contact: now.mono,
            lost: None,
            draining: false,
            suspended: false,
            stats: ServerStats::default(),
        };
        engine.gate.show(engine.replica.revision());
        engine.reap_orphans();
        engine
    }

    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What its connections' answers wait behind. It is open until it is told what the store has written.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Milliseconds since the Unix epoch.
    pub fn wall(&self) -> i64 {
        self.now.wall
    }

    pub fn identity(&self) -> ServerIdentity {
        self.identity
    }

    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// A new connection that has sent its connect request. It holds no session yet.
    pub fn connect(&mut self, outbox: Arc<Outbox>, peer: std::net::SocketAddr, read_only_byte: bool) -> ConnectionId {
        let id = self.next_connection;
        self.next_connection += 1;
        let ids: Arc<[Id]> = crate::tree::acl::connection_ids(peer.ip()).into();
        self.stats.record_received();
        self.connections.insert(id, Connection::new(outbox, peer, ids, read_only_byte, self.now));
        id
    }

    /// Begins or attaches the connection's session, by `write`. `renewed_at`: when the lease was last asked for
    /// and confirmed; 0: never.
    pub fn handshake(&mut self, conn: ConnectionId, write: Write, renewed_at: u64) {
        if self.suspended {
            self.close(conn, CloseReason::ServerReset);
            return;
        }
        if self.draining {
            self.close(conn, CloseReason::Shutdown);
            return;
        }
        if let Write::Attach { id, password } = &write
            && self.replica.session(*id).is_some_and(|session| session.record.password == password[..])
            && let Some(held) = self.held.get_mut(id)
        {
            held.heard = self.now.mono;
        }
        self.task(write, Purpose::Handshake { conn, renewed_at });
    }

    /// A write without effect: `done` hears when all that the store had before is applied here.
    pub fn sync(&mut self, done: oneshot::Sender<()>) {
        self.task(Write::Sync, Purpose::Sync(Some(done)));
    }

    pub(super) fn task(&mut self, write: Write, purpose: Purpose) {
        self.tasks.push_back(Task { write, purpose, fails: 0 });
    }

    /// Until when a session may be told that it lives, if its lease was confirmed by an answer to what was sent
    /// at `renewed_at`.
    pub(super) fn safe_until(renewed_at: u64, timeout_ms: u64) -> u64 {
        let margin = (timeout_ms / MARGIN_DIVISOR).max(MIN_MARGIN_MS);
        renewed_at + timeout_ms.saturating_sub(margin)
    }

    /// Sessions whose leases are to be renewed now.
    pub fn due_renewals(&mut self) -> Vec<i64> {
        let now = self.now.mono;
        let mut due = Vec::new();
        for (id, held) in &mut self.held {
            if held.next_renewal <= now && !held.ending {
                held.next_renewal = now + held.timeout_ms / RENEWALS_PER_TIMEOUT;
                due.push(*id);
            }
        }
        due
    }

    /// The store confirmed a session's lease, asked at `asked`.
    pub fn renewed(&mut self, session: i64, asked: u64) {
        if let Some(held) = self.held.get_mut(&session) {
            held.safe_until = held.safe_until.max(Self::safe_until(asked, held.timeout_ms));
        }
    }

    /// A renewal failed without an answer: it is asked again `after` milliseconds.
    pub fn renew_again(&mut self, session: i64, after: u64) {
        let now = self.now.mono;
        if let Some(held) = self.held.get_mut(&session) {
            held.next_renewal = held.next_renewal.min(now + after);
        }
    }

    /// Whether a lane could build a batch.
    pub fn has_work(&self) -> bool {
        !self.tasks.is_empty() || self.is_worth_a_batch()
    }

    /// Milliseconds since the replica was last known to be level with the store, or since the store was seen to write no
    /// more.
    pub fn staleness(&self) -> u64 {
        let stands = self.unwritten.map_or(self.now.mono, |(_, since)| since);
        self.now.mono.saturating_sub(self.contact.min(stands))
    }

    /// Leases to be revoked: their sessions were ended here.
    pub fn has_revocations(&self) -> bool {
        !self.revocations.is_empty()
    }

    /// Takes them.
    pub fn take_revocations(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.revocations)
    }

    /// When, by the engine's clock, [`Engine::expire_turns`] is due.
    pub fn next_turn(&self) -> Option<u64> {
        self.turns.next()
    }

    /// Takes back keys that were left to other servers, which have not come for them.
    pub fn expire_turns(&mut self) {
        if self.turns.expire(self.now.mono) {
            self.recall();
        }
    }

    /// What time alone brings about: expiry, doubtful leases, writes that waited too long.
    pub fn tick(&mut self) {
        let now = self.now.mono;
        self.expire_turns();
        self.note_unwritten();
        self.note_outage();
        let mut expired = Vec::new();
        let mut doubtful = Vec::new();
        self.held.retain(|id, held| {
            if held.ending {
                return true;
            }
            if self.away_since.is_none() && now.saturating_sub(held.heard) >= held.timeout_ms {
                held.ending = true;
                expired.push((*id, held.attached, held.conn));
                return true;
            }
            // Cut off from the store, this server cannot hear whether the client has gone on elsewhere, nor serve it
            // where it comes back: from here on the lease alone ends the session.
            let safe = now < held.safe_until;
            if !safe {
                doubtful.extend(held.conn);
            }
            safe
        });
        for (session, attached, conn) in expired {
            if let Some(conn) = conn {
                self.close(conn, CloseReason::Silent);
            }
            self.task(Write::Expire { session, attached }, Purpose::Expire(session));
        }
        for conn in doubtful {
            self.close(conn, CloseReason::LeaseUncertain);
        }
        self.close_waiting_too_long();
        self.miss_answered();
        if self.reap_again_at.take_if(|at| *at <= now).is_some() {
            self.reap_orphans();
        }
    }

    /// A batch whose answer came long ago, and whose revision the stream has not brought.
    fn miss_answered(&mut self) {
        let now = self.now.mono;
        let missing = self.lanes.iter().enumerate().find_map(|(lane, state)| {
            let batch = state.in_flight.as_ref()?;
            let revision = batch.known_revision().filter(|_| now.saturating_sub(batch.answered) > LOST_AFTER_MS)?;
            Some(ApplyError::Missed { lane, revision })
        });
        if self.lost.is_none() {
            self.lost = missing;
        }
    }

    /// Answers wait for the store to write what they tell: since when has it written nothing?
    fn note_unwritten(&mut self) {
        let durable = self.gate.durable();
        let before = self.unwritten.filter(|(at, _)| *at == durable);
        self.unwritten = self.gate.held().map(|_| before.unwrap_or((durable, self.now.mono)));
    }

    /// The time of an outage counts for no session: its client may have tried all the time to be heard.
    fn note_outage(&mut self) {
        let now = self.now.mono;
        let unanswered = self.lanes.iter().filter_map(|lane| lane.in_flight.as_ref()).map(|batch| batch.sent);
        let unwritten = self.unwritten.map(|(_, since)| since);
        let since = unanswered.chain(unwritten).min().filter(|sent| now.saturating_sub(*sent) > AWAY_MS);
        match (self.away_since, since) {
            (Some(before), None) => {
                let lost = now - before;
                self.held.values_mut().for_each(|held| held.heard = (held.heard + lost).min(now));
                self.away_since = None;
            }
            (None, since) => self.away_since = since,
            (Some(_), Some(_)) => {}
        }
    }

    fn close_waiting_too_long(&mut self) {
        let limit = self.config.store_timeout_ms;
        let now = self.now.mono;
        let away = self.staleness() > limit;
        let late = |conn: &Connection| conn.oldest_write().is_some_and(|since| now.saturating_sub(since) > limit);
        let close: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, conn)| away || late(conn)).map(|(id, _)| *id).collect();
        for conn in close {
            self.close(conn, CloseReason::StoreAway);
        }
    }

    /// Looks for empty containers and expired TTL nodes, as `ContainerManager` does.
    pub fn sweep(&mut self) {
        let now = self.now.wall;
        let due = |node: &&crate::tree::node::Node| {
            node.child_count() == 0
                && match OwnerKind::of(node.owner()) {
                    // Its counter may have gone round.
                    OwnerKind::Container => node.created() != 0,
                    OwnerKind::Ttl(ttl) => now.saturating_sub(node.mtime) > ttl,
                    OwnerKind::Session(_) | OwnerKind::None => false,
                }
        };
        let paths: Vec<String> =
            self.replica.transient().filter(due).take(SWEEP_LIMIT).map(|node| node.path().to_owned()).collect();
        for path in paths {
            self.task(Write::Sweep { path }, Purpose::Sweep);
        }
    }

    /// Ephemerals whose session ended while nobody watched.
    pub(super) fn reap_orphans(&mut self) {
        let orphans: Vec<i64> = self.replica.owners().filter(|owner| self.replica.session(*owner).is_none()).collect();
        for session in orphans {
            self.reap(session);
        }
    }

    pub(super) fn reap(&mut self, session: i64) {
        if self.reaping.insert(session) {
            self.task(Write::Reap { session }, Purpose::Reap(session));
        }
    }

    /// Takes no new sessions and no new requests; what was taken is answered, then connections close.
    pub fn drain(&mut self) {
        self.draining = true;
        let idle: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, conn)| conn.is_idle()).map(|(id, _)| *id).collect();
        for conn in idle {
            self.close(conn, CloseReason::Shutdown);
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Nothing is left to be answered.
    pub fn is_drained(&self) -> bool {
        self.connections.is_empty() && self.lanes.iter().all(|lane| lane.in_flight.is_none())
    }

    /// Ends every connection, and takes no new session before [`Engine::reset`].
    pub fn suspend(&mut self) {
        self.suspended = true;
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for conn in all {
            self.close(conn, CloseReason::ServerReset);
        }
    }

    /// Takes a snapshot's tree in the replica's place, and gives the old one. What was derived from that is forgotten:
    /// revisions alone do not tell the trees of a restored store apart.
    pub(super) fn adopt(&mut self, replica: Replica) -> Replica {
        self.lists = Lists::default();
        self.metrics.snapshots.inc();
        self.gate.show(replica.revision());
        std::mem::replace(&mut self.replica, replica)
    }

    /// Ends every connection and forgets what was in flight: this server goes on under a new identity, from a
    /// new snapshot. Sessions live on in the store; their clients come back.
    pub fn reset(&mut self, identity: ServerIdentity, replica: Replica) {
        self.suspend();
        self.suspended = false;
        self.held.clear();
        self.ready.clear();
        self.left_over = false;
        self.tasks.clear();
        self.blocked.clear();
        self.blocked_tasks.clear();
        self.reaping.clear();
        self.closing.clear();
        self.busy.clear();
        self.turns = Turns::default();
        self.disturbed = None;
        self.sign_of_life = None;
        self.backlog.clear();
        self.lost = None;
        self.batches = 0;
        self.lanes = (0..self.config.lanes).map(|_| Lane::default()).collect();
        self.identity = identity;
        self.adopt(replica);
        self.store_revision = 0;
        self.contact = self.now.mono;
        self.unwritten = None;
        self.reap_orphans();
    }
}
