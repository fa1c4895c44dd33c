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
use self::engine::{Asker, Backing, Engine, Group};
use self::journal::Journal;
use self::memory::Memory;
use self::state::{State, Touched};
use super::{ChangeStream, Identity, Limits, Snapshot, Store, StoreError, Txn, TxnResult};

/// How many operations a transaction may have: sixteen times the requests of the largest batch (4,095).
const TXN_OPS: usize = 65_536;

/// How many bytes of keys and values a transaction may have: sixty times ZooKeeper's largest request.
const REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes of changes may wait for the writing thread: then transactions wait too. Some 5,500 creates of 100 bytes,
/// fifty milliseconds of the fastest writing (`make bench WORKLOADS=tree`): whoever reads meanwhile waits for them.
const UNWRITTEN_BYTES: usize = 2 * 1024 * 1024;

/// See the module's documentation.
pub struct Embedded {
    core: Arc<Core>,
    /// Where there is a data directory.
    writer: Option<JoinHandle<()>>,
    expiring: AtomicBool,
    cluster: u64,
}

/// What callers, the writing thread and the task that ends leases share.
struct Core {
    engine: Mutex<Engine>,
    journal: Arc<Journal>,
    /// There is something to write, or nothing will come any more.
    work: Condvar,
    closed: AtomicBool,
    /// A group has been taken, or none will be any more.
    taken: Notify,
    /// The last revision that has been written; none where nothing is.
    durable: Option<watch::Sender<i64>>,
}

impl Core {
    /// For what is on the disk, or in memory.
    fn new(state: State, disk: Option<&Disk>) -> Arc<Self> {
        let revision = state.revision();
        let journal = Journal::new(revision);
        let backing = match disk {
            Some(disk) => Backing::Disk { written: disk.values(), writing: Arc::default() },
            None => Backing::Memory(Memory::default()),
        };
        Arc::new(Core {
            engine: Mutex::new(Engine::new(state, backing, journal.clone())),
            journal,
            work: Condvar::new(),
            closed: AtomicBool::new(false),
            taken: Notify::new(),
            durable: disk.map(|_| watch::Sender::new(revision)),
        })
    }

    fn run<T>(&self, command: impl FnOnce(&mut Engine) -> T) -> T {
        let result = command(&mut self.engine.lock());
        self.work.notify_one();
        result
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
        let Some(durable) = &self.durable else { return };
        let revision = self.engine.lock().revision();
        let mut durable = durable.subscribe();
        // The sender is here.
        let _ = durable.wait_for(|durable| *durable >= revision || self.engine.lock().has_failed()).await;
    }

    /// All is written up to this revision.
    fn wrote(&self, revision: i64) {
        if let Some(durable) = &self.durable {
            durable.send_replace(revision);
        }
    }

    fn fail(&self, error: StoreError, snapshots: Vec<Asker>) {
        self.engine.lock().fail(error, snapshots);
        // Whoever waits goes on, and is refused.
        self.taken.notify_waiters();
        if let Some(durable) = &self.durable {
            durable.send_modify(|_| {});
        }
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
        Self::new(Core::new(State::new(Self::LIMITS), None), None, random_id())
    }

    /// The store in `dir`, which is made where it is missing. All leases begin anew. `Rejected` where the directory
    /// holds something else or another format, is in use, or can't be read.
    pub fn open(dir: &Path) -> Result<Arc<Self>, StoreError> {
        let (disk, state) = Disk::open(dir, Self::LIMITS, Instant::now())?;
        let cluster = disk.cluster();
        let core = Core::new(state, Some(&disk));
        let shared = core.clone();
        let writer = thread::Builder::new().name("store-writer".to_owned()).spawn(move || write_groups(&shared, disk));
        let writer = writer.map_err(|error| StoreError::Rejected(format!("no thread for the store: {error}")))?;
        Ok(Self::new(core, Some(writer), cluster))
    }

    /// Forgets the history before `revision`, as etcd's compaction does.
    pub fn compact(&self, revision: i64) {
        self.core.journal.compact(revision);
    }

    const LIMITS: Limits = Limits { txn_ops: TXN_OPS, request_bytes: REQUEST_BYTES };

    fn new(core: Arc<Core>, writer: Option<JoinHandle<()>>, cluster: u64) -> Arc<Self> {
        Arc::new(Embedded { core, writer, expiring: AtomicBool::new(false), cluster })
    }

    fn run<T>(&self, command: impl FnOnce(&mut Engine) -> T) -> T {
        self.expire_leases();
        self.core.run(command)
    }

    /// Starts the task that ends leases, at the first call: only then is a runtime known to be there.
    fn expire_leases(&self) {
        if !self.expiring.swap(true, Ordering::Relaxed) {
            let next_expiry = self.core.engine.lock().next_expiry();
            tokio::spawn(expire_leases(next_expiry, Arc::downgrade(&self.core)));
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.core.journal.close(stopped());
        self.core.close();
        if let Some(writer) = self.writer.take() {
            // Waited for, so that all is written and the directory is free again when this returns.
            let _ = writer.join();
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
        if self.core.durable.is_some() { "embedded (durable)" } else { "embedded (memory)" }
    }
}

#[async_trait]
impl Store for Embedded {
    fn limits(&self) -> Limits {
        Self::LIMITS
    }

    fn durable(&self) -> Option<watch::Receiver<i64>> {
        self.core.durable.as_ref().map(watch::Sender::subscribe)
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        let description = self.description().to_owned();
        Ok(Identity { cluster_id: self.cluster, warnings: Vec::new(), description })
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.core.room().await;
        let result = self.run(|engine| engine.transact(txn));
        if let Err(StoreError::LeaseNotFound { .. }) = result {
            // No revision goes with it that would tell the caller to wait for the lease's end to last.
            self.core.all_written().await;
        }
        result
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let (asker, answered) = oneshot::channel();
        self.run(|engine| engine.snapshot(asker));
        answered.await.map_err(|_| stopped())?
    }

    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        self.expire_leases();
        self.core.journal.stream(from)
    }

    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> {
        self.run(|engine| engine.grant(id, ttl, Instant::now()))
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        self.run(|engine| engine.keep_alive(id, Instant::now()))
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        self.run(|engine| engine.revoke(id))
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
        core.wrote(revision);
        disk.make_room();
        // These take time, and nobody has to wait for another's.
        for asker in snapshots.into_iter().filter(|asker| !asker.is_closed()) {
            let _ = asker.send(disk.entries(keys).map(|entries| Snapshot { revision, entries }));
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

/// Waits for one expiry after the other, until the store has gone.
async fn expire_leases(mut next_expiry: watch::Receiver<Option<Instant>>, core: Weak<Core>) {
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
                // Not kept: the store's end is not to wait for this.
                let Some(core) = core.upgrade() else { return };
                if core.run(|engine| engine.expire(Instant::now())).is_err() {
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
        let core = Core::new(state, Some(&disk));
        let embedded =
            Embedded { core: core.clone(), writer: None, expiring: AtomicBool::new(false), cluster: disk.cluster() };
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
        core.wrote(revision);
        assert_eq!(refused.await, Err(StoreError::LeaseNotFound { id: 7 }));
    }
}
