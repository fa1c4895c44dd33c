//! zketcd's engine, driven step by step: a test decides when a batch is built, when it reaches the store, when its
//! answer comes back and when the stream brings it. Nothing happens by itself, so every interleaving of two servers
//! is repeatable.

// Every test file uses another part of it.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use futures::{FutureExt, StreamExt};
use zketcd::commit::verdict::Write;
use zketcd::jute::client::{Packet, decode_connect_response, decode_packet, decode_reply};
use zketcd::jute::{ErrorCode, Reply, ReplyHeader, Request, RequestHeader, Stat, WatcherEvent, next_frame};
use zketcd::metrics::Metrics;
use zketcd::server::bootstrap;
use zketcd::session::{
    ALONE_AFTER_MS, CloseReason, ConnectionId, Engine, EngineConfig, Incoming, LaneAnswer, LaneLost, Now, Outbox,
    Outgo, Outgoing,
};
use zketcd::store::{ChangeStream, Limits, Op, Store, Txn, TxnResult};
use zketcd::tree::record::SessionRecord;
use zketcd::tree::replica::{ApplyError, Replica};

/// What etcd takes by default.
pub const LIMITS: Limits = Limits { txn_ops: 128, request_bytes: 1536 * 1024 };

/// The wall clock of all engines, which stands still: ctime and mtime are the same for all.
const WALL: i64 = 1_700_000_000_000;

/// The timeout of sessions, in milliseconds.
pub const SESSION_MS: u64 = 10_000;

/// A server without its sockets and tasks.
pub struct Zketcd {
    pub engine: Engine,
    pub metrics: Arc<Metrics>,
    pub store: Arc<dyn Store>,
    stream: ChangeStream,
    limits: Limits,
    now: Now,
    batches: u128,
}

/// How etcd counts the operations of a transaction.
fn operations(txn: &Txn) -> usize {
    let nested = txn.then.iter().chain(&txn.otherwise).filter_map(|op| match op {
        Op::Txn(inner) => Some(operations(inner)),
        _ => None,
    });
    txn.compare.len().max(txn.then.len()).max(txn.otherwise.len()) + nested.max().unwrap_or(0)
}

/// A batch on its way.
#[derive(Debug, Clone)]
pub struct Sent {
    pub lane: usize,
    pub outgoing: Outgoing,
}

impl Zketcd {
    pub async fn start(store: Arc<dyn Store>) -> Zketcd {
        Zketcd::with(store, 2, LIMITS).await
    }

    pub async fn with(store: Arc<dyn Store>, lanes: usize, limits: Limits) -> Zketcd {
        Zketcd::alone_after(ALONE_AFTER_MS, store, lanes, limits).await
    }

    /// A server that takes itself to be alone so many milliseconds after another's batch.
    pub async fn alone_after(alone_after_ms: u64, store: Arc<dyn Store>, lanes: usize, limits: Limits) -> Zketcd {
        let identity = store.identity().await.expect("the store's identity");
        let (me, replica) = bootstrap::begin(&store, &identity, lanes, None).await.expect("a beginning");
        let stream = store.changes(replica.revision() + 1).await.expect("a stream");
        let config = EngineConfig {
            store_timeout_ms: 30_000,
            limits,
            lanes,
            linearizable_reads: false,
            super_digest: None,
            outstanding: 10_000,
            alone_after_ms,
        };
        let now = Now { mono: 1_000, wall: WALL };
        let metrics = Arc::new(Metrics::new());
        let engine = Engine::new(config, metrics.clone(), me, replica, now);
        Zketcd { engine, metrics, store, stream, limits, now, batches: 0 }
    }

    /// Lets that many milliseconds pass.
    pub fn pass(&mut self, millis: u64) {
        self.now = Now { mono: self.now.mono + millis, wall: self.now.wall + millis as i64 };
        self.engine.set_now(self.now);
        self.engine.tick();
    }

    /// The same of the clock that does not show in znodes, alone.
    pub fn pass_unseen(&mut self, millis: u64) {
        self.now.mono += millis;
        self.engine.set_now(self.now);
        self.engine.tick();
    }

    pub fn now(&self) -> u64 {
        self.now.mono
    }

    pub fn replica(&self) -> &Replica {
        self.engine.replica()
    }

    /// The next batch of the first lane that has one to send.
    pub fn build(&mut self) -> Option<Sent> {
        (0..self.engine.lanes()).find_map(|lane| self.build_on(lane))
    }

    /// The same, where need be after the time for which keys are left to another server.
    fn build_at_last(&mut self) -> Option<Sent> {
        loop {
            if let Some(sent) = self.build() {
                return Some(sent);
            }
            let turn = self.engine.next_turn()?;
            self.pass_unseen(turn.saturating_sub(self.now.mono));
        }
    }

    pub fn build_on(&mut self, lane: usize) -> Option<Sent> {
        self.batches += 1;
        let outgoing = self.engine.take_batch(lane, self.batches)?;
        Some(Sent { lane, outgoing })
    }

    /// Lets the store have a batch; its answer stays with the caller.
    pub async fn commit(&self, sent: &Sent) -> TxnResult {
        assert!(operations(&sent.outgoing.txn) <= self.limits.txn_ops, "more than etcd would take");
        self.store.transact(sent.outgoing.txn.clone()).await.expect("the store takes the batch")
    }

    pub fn answer(&mut self, lane: usize, result: TxnResult) -> Result<(), LaneLost> {
        self.engine.answered_batch(lane, LaneAnswer::Result(result))?;
        // What the stream lost, the follower hears too.
        if let Err(error) = self.engine.apply_backlog() {
            assert!(error.is_loss(), "{error}");
        }
        Ok(())
    }

    /// Takes all that the stream has to say by now.
    pub fn pull(&mut self) -> Result<(), ApplyError> {
        while let Some(run) = tokio::task::unconstrained(self.stream.next()).now_or_never() {
            let mut run = run.expect("the stream goes on").expect("the stream is whole");
            // etcd promises no order within a revision.
            run.iter_mut().for_each(|revision| revision.changes.reverse());
            self.engine.changed(run)?;
        }
        Ok(())
    }

    /// Builds, commits, answers and applies until nothing is left to do.
    pub async fn settle(&mut self) {
        self.pull().expect("nothing is lost");
        while let Some(sent) = self.build_at_last() {
            let result = self.commit(&sent).await;
            self.answer(sent.lane, result).expect("the lane is there");
            self.pull().expect("nothing is lost");
        }
    }

    /// A snapshot in the replica's place, and a stream from there on.
    pub async fn resync(&mut self) {
        let replica = Replica::load(self.store.snapshot().await.expect("a snapshot")).expect("a sane snapshot");
        self.stream = self.store.changes(replica.revision() + 1).await.expect("a stream");
        self.engine.resync(replica).expect("the lanes are in the snapshot");
    }

    /// A connection that has asked for a new session.
    pub async fn open(&mut self) -> Talker {
        let id = bootstrap::grant(&self.store, SESSION_MS as i64 / 1_000 + 1).await.expect("a lease");
        let record = SessionRecord { timeout: SESSION_MS as i32, password: [7; 16], attached: 0 };
        self.handshake(Write::Open { id, record })
    }

    /// A connection that has asked for that session.
    pub fn attach(&mut self, session: i64) -> Talker {
        self.handshake(Write::Attach { id: session, password: vec![7; 16] })
    }

    fn handshake(&mut self, write: Write) -> Talker {
        let outbox = Arc::new(Outbox::new(64 << 20, self.engine.gate().clone()));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let id = self.engine.connect(outbox.clone(), peer, true);
        self.engine.handshake(id, write, self.now.mono);
        Talker { id, outbox, received: BytesMut::new(), session: None, next_xid: 1, pending: VecDeque::new() }
    }

    /// A client with a new session.
    pub async fn client(&mut self) -> Talker {
        let mut talker = self.open().await;
        self.settle().await;
        talker.attached().expect("a session");
        talker
    }

    /// Hands over a request and gives its xid.
    pub fn send(&mut self, talker: &mut Talker, request: Request) -> i32 {
        let xid = if request == Request::Ping { -2 } else { talker.next_xid };
        talker.next_xid += 1;
        let op = request.op();
        talker.pending.push_back((xid, op));
        self.engine.receive(talker.id, vec![Incoming::Request(RequestHeader { xid, op }, request)]);
        xid
    }

    /// Sends a request, does all that is to do, and gives the answer. Events before it are left out.
    pub async fn call(&mut self, talker: &mut Talker, request: Request) -> (ReplyHeader, Reply<'static>) {
        let xid = self.send(talker, request);
        self.settle().await;
        talker.replies().into_iter().find(|(header, _)| header.xid == xid).expect("an answer")
    }

    /// As [`Zketcd::call`], for what succeeds.
    pub async fn ok(&mut self, talker: &mut Talker, request: Request) -> Reply<'static> {
        let (header, reply) = self.call(talker, request).await;
        assert_eq!(header.err, 0, "{reply:?}");
        reply
    }
}

/// The client's end of a connection to a [`Zketcd`].
pub struct Talker {
    pub id: ConnectionId,
    outbox: Arc<Outbox>,
    received: BytesMut,
    session: Option<i64>,
    next_xid: i32,
    pending: VecDeque<(i32, i32)>,
}

/// What a client reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Reply(ReplyHeader, Reply<'static>),
    Event(i64, WatcherEvent<'static>),
}

impl Talker {
    /// The session, if the handshake has been answered by one.
    pub fn attached(&mut self) -> Option<i64> {
        self.fill();
        if self.session.is_none() {
            let frame = next_frame(&mut self.received, 1 << 20).expect("a frame")?;
            let response = decode_connect_response(&frame).expect("a connect response");
            self.session = Some(response.session_id).filter(|id| *id != 0);
        }
        self.session
    }

    pub fn session(&self) -> i64 {
        self.session.expect("a session")
    }

    /// Why the server closed the connection, if it has.
    pub fn closed(&self) -> Option<CloseReason> {
        self.outbox.closed()
    }

    /// All that has come since the last look, in order.
    pub fn heard(&mut self) -> Vec<Heard> {
        self.fill();
        let mut heard = Vec::new();
        while let Some(frame) = next_frame(&mut self.received, 64 << 20).expect("a frame") {
            match decode_packet(&frame).expect("a packet") {
                Packet::Event { zxid, event } => heard.push(Heard::Event(zxid, event)),
                Packet::Reply { header, body } => {
                    let at = self.pending.iter().position(|(xid, _)| *xid == header.xid).expect("an xid of ours");
                    if header.xid > 0 {
                        let before = self.pending.iter().take(at).find(|(xid, _)| *xid > 0);
                        assert_eq!(before, None, "answered out of order");
                    }
                    let (_, op) = self.pending.remove(at).expect("a place just found");
                    heard.push(Heard::Reply(header, decode_reply(op, &header, &body).expect("a reply")));
                }
            }
        }
        heard
    }

    pub fn replies(&mut self) -> Vec<(ReplyHeader, Reply<'static>)> {
        let heard = self.heard().into_iter();
        heard
            .filter_map(|one| if let Heard::Reply(header, reply) = one { Some((header, reply)) } else { None })
            .collect()
    }

    /// The events, by kind and path.
    pub fn events(&mut self) -> Vec<(i32, String)> {
        let heard = self.heard().into_iter();
        let event =
            |one| if let Heard::Event(_, event) = one { Some((event.kind, event.path.into_owned())) } else { None };
        heard.filter_map(event).collect()
    }

    /// The error of the only answer that has come.
    pub fn verdict(&mut self) -> ErrorCode {
        let replies = self.replies();
        assert_eq!(replies.len(), 1, "one answer: {replies:?}");
        ErrorCode::from_code(replies[0].0.err).expect("a known error")
    }

    fn fill(&mut self) {
        while let Some(Outgo::Bytes(bytes)) = self.outbox.next().now_or_never() {
            self.received.extend_from_slice(&bytes);
        }
    }
}

/// The stat of an answer that has one.
pub fn stat(reply: &Reply<'_>) -> Stat {
    match reply {
        Reply::Stat(stat) | Reply::PathStat(_, stat) | Reply::Data(_, stat) | Reply::Children2(_, stat) => *stat,
        other => panic!("no stat in {other:?}"),
    }
}
