//! The embedded store: etcd's semantics in this process, in memory or in a data directory.
//!
//! - `check`: what etcd refuses before it evaluates anything.
//! - `state`: keys, leases, and what a transaction does to them.
//! - `journal`: the last revisions and the streams that read them.
//! - `memory`, `disk`: where the values are; the latter is the data directory.
//! - `recovery`: what a crash or a disk did to it.
//! - `ahead`: blocks for the journal, there before they are needed.
//! - `engine`: groups of commands: evaluate, write, publish, answer.
//!
//! In memory, a call runs the engine where it is called. With a data directory one thread owns the engine, takes all
//! that has queued up while it wrote the group before, and writes that with one fsync.

mod ahead;
mod check;
mod disk;
mod engine;
mod journal;
mod memory;
mod recovery;
mod state;

use std::fmt;
use std::iter;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use self::disk::Disk;
use self::engine::{Backing, Command, Engine};
use self::journal::Journal;
use self::memory::Memory;
use self::state::State;
use super::{ChangeStream, Identity, Limits, Snapshot, Store, StoreError, Txn, TxnResult};

/// How many operations a transaction may have: sixteen times the requests of the largest batch (4,095).
const TXN_OPS: usize = 65_536;

/// How many bytes of keys and values a transaction may have: sixty times ZooKeeper's largest request.
const REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// How many commands wait for the writing thread before callers do.
const QUEUE: usize = 16_384;

/// How many commands share one fsync at most, so that the first one's answer does not wait for ever more.
const GROUP: usize = 8_192;

/// How long the expiry of leases stands back from a full queue: about one group's writing.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// See the module's documentation.
pub struct Embedded {
    front: Front,
    journal: Arc<Journal>,
    next_expiry: watch::Receiver<Option<Instant>>,
    expiring: AtomicBool,
    cluster: u64,
}

/// Where commands go.
enum Front {
    Memory(Arc<Mutex<Engine>>),
    Durable { queue: Option<mpsc::Sender<Command>>, writer: Option<JoinHandle<()>> },
}

impl Embedded {
    /// An empty store that ends with the process.
    pub fn memory() -> Arc<Self> {
        let state = State::new(Self::LIMITS);
        let journal = Journal::new(state.revision());
        let engine = Engine::new(state, Backing::Memory(Memory::default()), journal.clone());
        let next_expiry = engine.next_expiry();
        let front = Front::Memory(Arc::new(Mutex::new(engine)));
        Self::new(front, journal, next_expiry, random_id())
    }

    /// The store in `dir`, which is made where it is missing. All leases begin anew. `Rejected` where the directory
    /// holds something else or another format, is in use, or can't be read.
    pub fn open(dir: &Path) -> Result<Arc<Self>, StoreError> {
        let (disk, state) = Disk::open(dir, Self::LIMITS, Instant::now())?;
        let cluster = disk.cluster();
        let journal = Journal::new(state.revision());
        let engine = Engine::new(state, Backing::Disk(disk), journal.clone());
        let next_expiry = engine.next_expiry();
        let (queue, commands) = mpsc::channel(QUEUE);
        let writer = thread::Builder::new().name("store-writer".to_owned()).spawn(|| write_groups(engine, commands));
        let writer = writer.map_err(|error| StoreError::Rejected(format!("no thread for the store: {error}")))?;
        let front = Front::Durable { queue: Some(queue), writer: Some(writer) };
        Ok(Self::new(front, journal, next_expiry, cluster))
    }

    /// Forgets the history before `revision`, as etcd's compaction does.
    pub fn compact(&self, revision: i64) {
        self.journal.compact(revision);
    }

    const LIMITS: Limits = Limits { txn_ops: TXN_OPS, request_bytes: REQUEST_BYTES };

    fn new(
        front: Front,
        journal: Arc<Journal>,
        next_expiry: watch::Receiver<Option<Instant>>,
        cluster: u64,
    ) -> Arc<Self> {
        Arc::new(Embedded { front, journal, next_expiry, expiring: AtomicBool::new(false), cluster })
    }

    async fn submit<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        self.expire_leases();
        let (answer, answered) = oneshot::channel();
        let command = command(answer);
        match &self.front {
            Front::Memory(engine) => engine.lock().run(iter::once(command)),
            Front::Durable { queue: Some(queue), .. } => queue.send(command).await.map_err(|_| stopped())?,
            Front::Durable { queue: None, .. } => return Err(stopped()),
        }
        answered.await.map_err(|_| stopped())?
    }

    /// Starts the task that ends leases, at the first call: only then is a runtime known to be there.
    fn expire_leases(&self) {
        if !self.expiring.swap(true, Ordering::Relaxed) {
            let back = match &self.front {
                Front::Memory(engine) => Back::Memory(Arc::downgrade(engine)),
                Front::Durable { queue: Some(queue), .. } => Back::Durable(queue.downgrade()),
                Front::Durable { queue: None, .. } => return,
            };
            tokio::spawn(expire_leases(self.next_expiry.clone(), back));
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.journal.close(stopped());
        if let Front::Durable { queue, writer } = &mut self.front {
            // The thread ends with the queue; waited for, so that the directory is free again when this returns.
            queue.take();
            if let Some(writer) = writer.take() {
                let _ = writer.join();
            }
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

impl Embedded {
    fn description(&self) -> &'static str {
        match self.front {
            Front::Memory(_) => "embedded (memory)",
            Front::Durable { .. } => "embedded (durable)",
        }
    }
}

#[async_trait]
impl Store for Embedded {
    fn limits(&self) -> Limits {
        Self::LIMITS
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        let description = self.description().to_owned();
        Ok(Identity { cluster_id: self.cluster, warnings: Vec::new(), description })
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.submit(|answer| Command::Transact { txn, answer }).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.submit(|answer| Command::Snapshot { answer }).await
    }

    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        self.expire_leases();
        self.journal.stream(from)
    }

    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> {
        self.submit(|answer| Command::Grant { id, ttl, now: Instant::now(), answer }).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        self.submit(|answer| Command::KeepAlive { id, now: Instant::now(), answer }).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        self.submit(|answer| Command::Revoke { id, answer }).await
    }
}

/// The writing thread of a durable store.
fn write_groups(mut engine: Engine, mut commands: mpsc::Receiver<Command>) {
    let mut group = Vec::new();
    while commands.blocking_recv_many(&mut group, GROUP) > 0 {
        engine.run(group.drain(..));
    }
}

/// The way back to the engine that does not keep it alive.
enum Back {
    Memory(Weak<Mutex<Engine>>),
    Durable(mpsc::WeakSender<Command>),
}

impl Back {
    /// Ends what has expired; none where the store has gone.
    async fn expire(&self) -> Option<()> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Expire { now: Instant::now(), answer };
        match self {
            Back::Memory(engine) => engine.upgrade()?.lock().run(iter::once(command)),
            Back::Durable(queue) => {
                // Never waits with the queue in hand: the store's drop waits for the last of them.
                let sent = queue.upgrade()?.try_send(command);
                match sent {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => {
                        sleep(FULL_QUEUE_PAUSE).await;
                        return Some(());
                    }
                    Err(TrySendError::Closed(_)) => return None,
                }
            }
        }
        answered.await.ok().map(drop)
    }
}

/// Waits for one expiry after the other, until the store has gone.
async fn expire_leases(mut next_expiry: watch::Receiver<Option<Instant>>, back: Back) {
    loop {
        let due = *next_expiry.borrow_and_update();
        let expired = async {
            match due {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = expired => {
                if back.expire().await.is_none() {
                    return;
                }
            }
            changed = next_expiry.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the store has been closed".to_owned())
}

/// A random number for who has no other name.
fn random_id() -> u64 {
    getrandom::u64().unwrap_or_else(|error| {
        tracing::warn!(%error, "no random number for the store's id");
        0
    })
}
