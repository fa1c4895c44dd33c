//! A zketcd server without sockets, tasks and clocks: its engine, and by hand what the tasks around it do.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use futures::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use zketcd::metrics::Metrics;
use zketcd::server::bootstrap;
use zketcd::session::{Engine, EngineConfig, LaneAnswer, Now, Outgoing, ServerIdentity};
use zketcd::store::embedded::Embedded;
use zketcd::store::{ChangeStream, Revision, Store, StoreError, Txn};
use zketcd::tree::replica::{ApplyError, Replica};

/// Their making takes longer than a whole run.
static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| Arc::new(Metrics::new()));

/// Seconds: for ever. Leases end where the run says so, whatever the real clock does.
pub const FOREVER: i64 = 1_000_000;

/// Server leases are numbered from here, sessions' far below.
const FIRST_LEASE: i64 = 1 << 40;

/// A lost renewal is asked again after this long, in milliseconds.
const AGAIN_MS: u64 = 200;

/// The store in memory answers at once.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the store in memory answers at once")
}

/// What becomes of a message to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Answered,
    /// It never came to the store.
    Lost,
    /// The store did it, and its answer was lost.
    AnswerLost,
}

#[derive(Debug, Default)]
enum Lane {
    #[default]
    Idle,
    Sending(Outgoing),
    Answered(Outgoing, LaneAnswer),
}

/// What comes from the store.
enum Follower {
    Closed,
    /// With what came and was not handed to the engine yet.
    Open(ChangeStream, VecDeque<Revision>),
    /// Taken, not handed to the engine yet.
    Snapshot(Box<Replica>),
}

/// What came of following the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    Nothing,
    Something,
    LaneLost,
}

/// See the module's documentation.
pub struct Server {
    store: Arc<Embedded>,
    config: EngineConfig,
    pub engine: Engine,
    lanes: Vec<Lane>,
    /// Each lane's last batch that was answered: sent again, it has no effect.
    done: Vec<Option<Txn>>,
    follower: Follower,
    batches: u128,
}

impl Server {
    /// The server of this number, which no other has had.
    pub fn start(store: Arc<Embedded>, config: EngineConfig, number: u64, now: Now) -> Self {
        let (identity, replica) = begin(&store, number, config.lanes);
        let engine = Engine::new(config.clone(), METRICS.clone(), identity, replica, now);
        let lanes = (0..config.lanes).map(|_| Lane::Idle).collect();
        let done = vec![None; config.lanes];
        Server { store, config, engine, lanes, done, follower: Follower::Closed, batches: 0 }
    }

    /// Dies, and comes back as server `number` that knows nothing. What it had sent may still reach the store.
    pub fn crash(&mut self, number: u64, now: Now) -> Vec<Txn> {
        let new = Server::start(self.store.clone(), self.config.clone(), number, now);
        std::mem::replace(self, new).sent()
    }

    /// Goes on under a new identity, its lanes being lost.
    pub fn begin_anew(&mut self, number: u64) -> Vec<Txn> {
        let sent = std::mem::take(&mut self.lanes);
        let (identity, replica) = begin(&self.store, number, self.config.lanes);
        assert!(replica.revision() >= self.engine.replica().revision(), "the store goes back");
        self.engine.reset(identity, replica);
        self.lanes = (0..self.config.lanes).map(|_| Lane::Idle).collect();
        self.done = vec![None; self.config.lanes];
        self.follower = Follower::Closed;
        sent.into_iter().filter_map(Lane::sent).collect()
    }

    fn sent(self) -> Vec<Txn> {
        self.lanes.into_iter().filter_map(Lane::sent).collect()
    }

    /// One step of a lane. False: the lane is lost.
    pub fn step_lane(&mut self, lane: usize, fate: Fate) -> bool {
        let lane = lane % self.lanes.len();
        let next = match std::mem::take(&mut self.lanes[lane]) {
            Lane::Idle => {
                self.batches += 1;
                self.engine.take_batch(lane, self.batches).map_or(Lane::Idle, Lane::Sending)
            }
            Lane::Sending(outgoing) if fate == Fate::Lost => Lane::Sending(outgoing),
            Lane::Sending(outgoing) => {
                let answer = match at_once(self.store.transact(outgoing.txn.clone())) {
                    Ok(result) => LaneAnswer::Result(result),
                    Err(StoreError::LeaseNotFound { .. }) => LaneAnswer::LeaseGone,
                    Err(error) => panic!("{error}: {:?}", outgoing.txn),
                };
                match fate {
                    Fate::AnswerLost => Lane::Sending(outgoing),
                    Fate::Answered | Fate::Lost => Lane::Answered(outgoing, answer),
                }
            }
            Lane::Answered(outgoing, answer) => {
                if let LaneAnswer::Result(result) = &answer {
                    assert!(result.revision >= outgoing.applied, "the store goes back");
                    self.done[lane] = Some(outgoing.txn);
                }
                if self.engine.answered_batch(lane, answer).is_err() {
                    return false;
                }
                if let Err(error) = self.engine.apply_backlog() {
                    lost(&error);
                }
                Lane::Idle
            }
        };
        self.lanes[lane] = next;
        true
    }

    /// A copy of the lane's last batch comes to the store late.
    pub fn send_again(&self, lane: usize) {
        let Some(Some(txn)) = self.done.get(lane % self.done.len()) else { return };
        if let Ok(result) = at_once(self.store.transact(txn.clone())) {
            assert!(!result.succeeded, "a batch took effect twice: {txn:?}");
        }
    }

    /// Whether a batch is on its way.
    pub fn is_sending(&self) -> bool {
        self.lanes.iter().any(|lane| !matches!(lane, Lane::Idle))
    }

    /// Hands the engine up to `most` of the revisions that came, or the snapshot.
    pub fn follow(&mut self, most: usize) -> Followed {
        self.follower = match std::mem::replace(&mut self.follower, Follower::Closed) {
            Follower::Snapshot(replica) => {
                assert!(replica.revision() >= self.engine.replica().revision(), "the store goes back");
                if self.engine.resync(*replica).is_err() {
                    return Followed::LaneLost;
                }
                Follower::Closed
            }
            _ if self.engine.has_lost() => self.snapshot(),
            Follower::Closed => self.open(),
            Follower::Open(mut stream, mut came) => match stream.next().now_or_never() {
                None if came.is_empty() => {
                    self.follower = Follower::Open(stream, came);
                    return Followed::Nothing;
                }
                Some(Some(Err(StoreError::Compacted { .. }))) => self.snapshot(),
                more => {
                    match more {
                        Some(Some(Ok(revisions))) => came.extend(revisions),
                        Some(ended) => panic!("the stream ended: {ended:?}"),
                        None => {}
                    }
                    let some: Vec<Revision> = came.drain(..came.len().min(most)).collect();
                    match self.engine.changed(some) {
                        Ok(()) => Follower::Open(stream, came),
                        Err(error) => {
                            lost(&error);
                            self.snapshot()
                        }
                    }
                }
            },
        };
        Followed::Something
    }

    fn open(&self) -> Follower {
        match at_once(self.store.changes(self.engine.received_revision() + 1)) {
            Ok(stream) => Follower::Open(stream, VecDeque::new()),
            Err(StoreError::Compacted { .. }) => self.snapshot(),
            Err(error) => panic!("no stream: {error}"),
        }
    }

    fn snapshot(&self) -> Follower {
        let snapshot = at_once(self.store.snapshot()).expect("the store answers");
        Follower::Snapshot(Box::new(Replica::load(snapshot).expect("what the servers wrote can be read")))
    }

    /// The stream breaks; what was not handed over comes again.
    pub fn break_stream(&mut self) {
        if let Follower::Open(..) = self.follower {
            self.follower = Follower::Closed;
        }
    }

    /// Renews sessions' leases, and writes where it has not for long. The leases that the store confirmed.
    pub fn renew(&mut self, fate: Fate, now: Now) -> Vec<i64> {
        let mut confirmed = Vec::new();
        for id in self.engine.due_renewals() {
            let renewed = fate != Fate::Lost && at_once(self.store.lease_keep_alive(id)).is_ok();
            if renewed {
                confirmed.push(id);
            }
            match fate {
                Fate::Answered if renewed => self.engine.renewed(id, now.mono),
                // Its end comes with the stream.
                Fate::Answered => {}
                Fate::Lost | Fate::AnswerLost => self.engine.renew_again(id, AGAIN_MS),
            }
        }
        if self.engine.staleness() >= self.config.store_timeout_ms / 4 {
            self.engine.sync(oneshot::channel().0);
        }
        confirmed
    }

    /// Revokes the leases of sessions that ended here.
    pub fn revoke(&mut self) {
        for id in self.engine.take_revocations() {
            at_once(self.store.lease_revoke(id)).expect("the store answers");
        }
    }
}

impl Lane {
    fn sent(self) -> Option<Txn> {
        match self {
            Lane::Sending(outgoing) | Lane::Answered(outgoing, _) => Some(outgoing.txn),
            Lane::Idle => None,
        }
    }
}

/// The stream leaves nothing out, but an answer may be known for long before its revision comes.
fn lost(error: &ApplyError) {
    assert!(matches!(error, ApplyError::Missed { .. }), "{error}");
}

/// As `bootstrap::begin`, without chance.
fn begin(store: &Arc<Embedded>, number: u64, lanes: usize) -> (ServerIdentity, Replica) {
    let identity = ServerIdentity { server: number, lease: FIRST_LEASE + number as i64 };
    at_once(store.lease_grant(identity.lease, FOREVER)).expect("a new lease");
    at_once(bootstrap::make_lanes(&**store, identity, lanes)).expect("the store answers");
    let snapshot = at_once(store.snapshot()).expect("the store answers");
    let replica = Replica::load(snapshot).expect("what the servers wrote can be read");
    assert!((0..lanes).all(|lane| replica.lane_number(number, lane) == Some(0)), "lanes");
    (identity, replica)
}
