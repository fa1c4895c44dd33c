//! The embedded store: etcd's semantics in this process, in memory or in a data directory.
//!
//! - `check`: what etcd refuses before it evaluates anything.
//! - `state`: keys, leases, and what a transaction does to them.
//! - `journal`: the last revisions and the streams that read them.
//! - `memory`, `disk`: where the values are; the latter is the data directory.
//! - `recovery`: what a crash or a disk did to it.
//! - `ahead`: blocks for the journal, there before they are needed.
//! - `engine`: commands: evaluate, publish, answer.
//!
//! A call runs the engine where it is called. With a data directory a thread writes what changed: all that has come up
//! while it wrote the group before, with one fsync. So an answer may be ahead of the disk, and [`Store::durable`] says how
//! far that is: to wait for it is the caller's part, who can do something else meanwhile.

mod ahead;
mod check;
mod disk;
mod engine;
mod journal;
mod memory;
mod recovery;
mod state;

use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use self::disk::Disk;
use self::engine::{Answer, Backing, Command, Engine, Group};
use self::journal::Journal;
use self::memory::Memory;
use self::state::{State, Touched};
use super::{ChangeStream, Identity, Limits, Snapshot, Store, StoreError, Txn, TxnResult};

/// How many operations a transaction may have: sixteen times the requests of the largest batch (4,095).
const TXN_OPS: usize = 65_536;

/// How many bytes of keys and values a transaction may have: sixty times ZooKeeper's largest request.
const REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes of changes may wait for the writing thread: then transactions wait too. Some twenty milliseconds' worth:
/// whoever reads meanwhile waits for what is being written, and for this.
const UNWRITTEN_BYTES: usize = 2 * 1024 * 1024;

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
    Durable { core: Arc<Core>, writer: Option<JoinHandle<()>> },
}

/// What callers and the writing thread of a durable store share.
struct Core {
    engine: Mutex<Engine>,
    /// There is something to write, or nothing will come any more.
    work: Condvar,
    closed: AtomicBool,
    /// A group has been taken, or none will be any more.
    taken: Notify,
    /// The last revision that has been written.
    durable: watch::Sender<i64>,
}

impl Core {
    /// For what is on the disk.
    fn new(state: State, disk: &Disk) -> (Self, Arc<Journal>) {
        let revision = state.revision();
        let journal = Journal::new(revision);
        let backing = Backing::Disk { written: disk.values(), writing: Arc::default() };
        let core = Core {
            engine: Mutex::new(Engine::new(state, backing, journal.clone())),
            work: Condvar::new(),
            closed: AtomicBool::new(false),
            taken: Notify::new(),
            durable: watch::Sender::new(revision),
        };
        (core, journal)
    }

    fn run(&self, command: Command) {
        self.engine.lock().run(command);
        self.work.notify_one();
    }

    /// Waits while there is too much to be written.
    async fn room(&self) {
        loop {
            // It hears of what comes from here on.
            let taken = self.taken.notified();
            if self.engine.lock().unwritten() < UNWRITTEN_BYTES {
                return;
            }
            taken.await;
        }
    }

    /// Waits until all is written that there is now, or nothing will be any more.
    async fn all_written(&self) {
        let revision = self.engine.lock().revision();
        let mut durable = self.durable.subscribe();
        // The sender is here.
        let _ = durable.wait_for(|durable| *durable >= revision || self.engine.lock().has_failed()).await;
    }

    fn fail(&self, error: StoreError, snapshots: Vec<Answer<Snapshot>>) {
        self.engine.lock().fail(error, snapshots);
        // Whoever waits goes on, and is refused.
        self.taken.notify_waiters();
        self.durable.send_modify(|_| {});
    }

    /// Lets the writing thread end when all is written.
    fn close(&self) {
        // In the lock, so that the thread is not between its look and its wait.
        let _engine = self.engine.lock();
        self.closed.store(true, Ordering::Relaxed);
        self.work.notify_one();
    }

    /// What is to be written next; none at the end.
    fn next(&self) -> Option<Group> {
        let mut engine = self.engine.lock();
        loop {
            if let Some(group) = engine.take() {
                self.taken.notify_waiters();
                return Some(group);
            }
            if self.closed.load(Ordering::Relaxed) {
                return None;
            }
            self.work.wait(&mut engine);
        }
    }
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
        let (core, journal) = Core::new(state, &disk);
        let core = Arc::new(core);
        let next_expiry = core.engine.lock().next_expiry();
        let shared = core.clone();
        let writer = thread::Builder::new().name("store-writer".to_owned()).spawn(move || write_groups(&shared, disk));
        let writer = writer.map_err(|error| StoreError::Rejected(format!("no thread for the store: {error}")))?;
        let front = Front::Durable { core, writer: Some(writer) };
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
            Front::Memory(engine) => engine.lock().run(command),
            Front::Durable { core, .. } => core.run(command),
        }
        answered.await.map_err(|_| stopped())?
    }

    /// Starts the task that ends leases, at the first call: only then is a runtime known to be there.
    fn expire_leases(&self) {
        if !self.expiring.swap(true, Ordering::Relaxed) {
            let back = match &self.front {
                Front::Memory(engine) => Back::Memory(Arc::downgrade(engine)),
                Front::Durable { core, .. } => Back::Durable(Arc::downgrade(core)),
            };
            tokio::spawn(expire_leases(self.next_expiry.clone(), back));
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.journal.close(stopped());
        if let Front::Durable { core, writer } = &mut self.front {
            // Waited for, so that all is written and the directory is free again when this returns.
            core.close();
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

    fn durable(&self) -> Option<watch::Receiver<i64>> {
        match &self.front {
            Front::Memory(_) => None,
            Front::Durable { core, .. } => Some(core.durable.subscribe()),
        }
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        let description = self.description().to_owned();
        Ok(Identity { cluster_id: self.cluster, warnings: Vec::new(), description })
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        if let Front::Durable { core, .. } = &self.front {
            core.room().await;
        }
        let result = self.submit(|answer| Command::Transact { txn, answer }).await;
        if let (Front::Durable { core, .. }, Err(StoreError::LeaseNotFound { .. })) = (&self.front, &result) {
            // No revision goes with it that would tell the caller to wait for the lease's end to last.
            core.all_written().await;
        }
        result
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
fn write_groups(core: &Core, mut disk: Disk) {
    let _ended = Ended(core);
    let mut written: Arc<Touched> = Arc::default();
    while let Some(Group { touched, revision, keys, snapshots }) = core.next() {
        // Not before: the engine had it too, and would have freed it behind its lock.
        drop(mem::take(&mut written));
        if !touched.is_empty()
            && let Err(error) = disk.write(&touched, revision)
        {
            tracing::error!(%error, "the data directory can't be written; the store stops");
            let error = StoreError::Unavailable(format!("the data directory can't be written: {error}"));
            core.fail(error, snapshots);
            continue;
        }
        core.durable.send_replace(revision);
        disk.make_room();
        // These take time, and nobody has to wait for another's.
        for answer in snapshots.into_iter().filter(|answer| !answer.is_closed()) {
            let _ = answer.send(disk.entries(keys).map(|entries| Snapshot { revision, entries }));
        }
        written = touched;
    }
}

/// The end of the writing thread, whatever brought it about: nothing is carried out any more. It comes before the disk's,
/// whose lock tells that nobody has its files open.
struct Ended<'a>(&'a Core);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fail(stopped(), Vec::new());
    }
}

/// The way back to the engine that does not keep it alive.
enum Back {
    Memory(Weak<Mutex<Engine>>),
    Durable(Weak<Core>),
}

impl Back {
    /// Ends what has expired; none where the store has gone.
    async fn expire(&self) -> Option<()> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Expire { now: Instant::now(), answer };
        match self {
            Back::Memory(engine) => engine.upgrade()?.lock().run(command),
            Back::Durable(core) => core.upgrade()?.run(command),
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;
    use crate::store::Op;

    /// A store whose thread does not write: the test does.
    fn unwritten(dir: &Path) -> (Embedded, Arc<Core>, Disk) {
        let (disk, state) = Disk::open(dir, Embedded::LIMITS, Instant::now()).unwrap();
        let (core, journal) = Core::new(state, &disk);
        let core = Arc::new(core);
        let next_expiry = core.engine.lock().next_expiry();
        let front = Front::Durable { core: core.clone(), writer: None };
        let embedded =
            Embedded { front, journal, next_expiry, expiring: AtomicBool::new(false), cluster: disk.cluster() };
        (embedded, core, disk)
    }

    fn put(bytes: usize, lease: i64) -> Txn {
        let op = Op::Put { key: "k".into(), value: vec![0; bytes].into(), lease };
        Txn { then: vec![op], ..Txn::default() }
    }

    #[tokio::test]
    async fn transactions_wait_for_a_slow_disk_and_leases_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (store, core, _disk) = unwritten(dir.path());
        store.lease_grant(7, 60).await.unwrap();
        store.transact(put(UNWRITTEN_BYTES, 7)).await.unwrap();
        let mut waits = pin!(store.transact(put(1, 0)));
        assert!(poll!(&mut waits).is_pending());
        store.lease_keep_alive(7).await.unwrap();
        assert!(core.next().is_some());
        waits.await.unwrap();
    }

    /// As whoever hears of it will say that the session is over.
    #[tokio::test]
    async fn a_lease_that_is_gone_is_told_of_when_that_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let (store, core, _disk) = unwritten(dir.path());
        store.lease_grant(7, 60).await.unwrap();
        store.transact(put(1, 7)).await.unwrap();
        store.lease_revoke(7).await.unwrap();
        let mut refused = pin!(store.transact(put(1, 7)));
        assert!(poll!(&mut refused).is_pending());
        let Group { revision, .. } = core.next().unwrap();
        assert!(poll!(&mut refused).is_pending());
        core.durable.send_replace(revision);
        assert_eq!(refused.await, Err(StoreError::LeaseNotFound { id: 7 }));
    }
}
