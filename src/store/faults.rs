//! A store that can be told to fail, for tests: lost answers, stalls, broken streams, compaction, lease expiry,
//! duplicated and dropped revisions.
//!
//! Nothing here happens by time or by chance: each fault waits for a command of [`Faults`], and what a test has to wait
//! for (a call that is held, a transaction that arrived) can be awaited.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{ChangeStream, Identity, Limits, Revision, Snapshot, Store, StoreError, Txn, TxnResult};

/// A store in front of another one; [`Faults`] commands it.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    faults: Faults,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>) -> (Arc<Self>, Faults) {
        let shared = Shared {
            inner: inner.clone(),
            plan: Mutex::default(),
            held: watch::Sender::default(),
            streams: watch::Sender::default(),
            seen: watch::Sender::default(),
        };
        let faults = Faults(Arc::new(shared));
        (Arc::new(Faulty { inner, faults: faults.clone() }), faults)
    }

    /// Where every call passes before it reaches the store.
    async fn pass(&self) -> Result<(), StoreError> {
        self.faults.wait(|held| held.calls).await;
        if self.faults.0.plan.lock().away {
            return Err(unavailable("told to be away"));
        }
        Ok(())
    }

    /// Where every answer passes on its way back.
    async fn pass_back(&self) {
        self.faults.wait(|held| held.answers).await;
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.pass().await?;
        let answer = call.await;
        self.pass_back().await;
        answer
    }
}

/// The commands. Clones command the same store.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
    held: watch::Sender<Held>,
    streams: watch::Sender<Streams>,
    seen: watch::Sender<Seen>,
}

/// Faults that wait for their call.
#[derive(Default)]
struct Plan {
    lost_requests: usize,
    lost_answers: usize,
    compactions: usize,
    away: bool,
}

/// What is held back at the moment.
#[derive(Default, Clone, Copy)]
struct Held {
    calls: bool,
    answers: bool,
    streams: bool,
}

/// Faults of the streams.
#[derive(Default, Clone, Copy)]
struct Streams {
    /// Streams opened under an earlier number are broken.
    generation: u64,
    duplicates: usize,
    drops: usize,
}

/// What tests wait for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Transactions that were sent, lost ones included.
    pub transacts: usize,
    /// Calls, answers and stream items that are held back now.
    pub held: usize,
    /// Streams opened.
    pub streams: usize,
}

impl Faults {
    /// The next `n` transactions are applied, and answered `Unavailable`.
    pub fn lose_answers(&self, n: usize) {
        self.0.plan.lock().lost_answers = n;
    }

    /// The next `n` transactions are not applied, and answered `Unavailable`. They come before the lost answers.
    pub fn lose_requests(&self, n: usize) {
        self.0.plan.lock().lost_requests = n;
    }

    /// Every call from now on waits, before it does anything, until [`Faults::release`].
    pub fn hold_calls(&self) {
        self.0.held.send_modify(|held| held.calls = true);
    }

    /// Every call from now on does what it does, and its answer waits until [`Faults::release`].
    pub fn hold_answers(&self) {
        self.0.held.send_modify(|held| held.answers = true);
    }

    /// The streams deliver nothing until [`Faults::release`].
    pub fn hold_streams(&self) {
        self.0.held.send_modify(|held| held.streams = true);
    }

    /// Lets go all that is held.
    pub fn release(&self) {
        self.0.held.send_replace(Held::default());
    }

    /// While `away`, every call is answered `Unavailable` without being applied. Going away breaks the streams.
    pub fn set_away(&self, away: bool) {
        self.0.plan.lock().away = away;
        if away {
            self.break_streams();
        }
    }

    /// The streams open now end with `Unavailable`, held ones too.
    pub fn break_streams(&self) {
        self.0.streams.send_modify(|streams| streams.generation += 1);
    }

    /// The next `n` calls of `changes` are answered `Compacted`.
    pub fn compact(&self, n: usize) {
        self.0.plan.lock().compactions = n;
    }

    /// Ends a lease as its expiry does: its keys go in one revision.
    pub async fn expire_lease(&self, id: i64) -> Result<(), StoreError> {
        self.0.inner.lease_revoke(id).await
    }

    /// The next revision that a stream delivers comes twice.
    pub fn duplicate_revision(&self) {
        self.0.streams.send_modify(|streams| streams.duplicates += 1);
    }

    /// The next revision that a stream would deliver is left out.
    pub fn drop_revision(&self) {
        self.0.streams.send_modify(|streams| streams.drops += 1);
    }

    /// What has passed by now.
    pub fn seen(&self) -> Seen {
        *self.0.seen.borrow()
    }

    /// Waits until what has passed satisfies `condition`.
    pub async fn until(&self, condition: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.0.seen.subscribe();
        // The sender lives as long as self.
        match seen.wait_for(condition).await {
            Ok(seen) => *seen,
            Err(_) => self.seen(),
        }
    }

    /// Waits while `which` is held; counted among the held meanwhile.
    async fn wait(&self, which: impl Fn(&Held) -> bool) {
        let mut held = self.0.held.subscribe();
        if !which(&held.borrow_and_update()) {
            return;
        }
        let _counted = Counted::new(&self.0.seen);
        let _ = held.wait_for(|held| !which(held)).await;
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faults").field(&self.seen()).finish()
    }
}

/// One among the held, as long as it lives: a call that is given up is held no more.
struct Counted<'a>(&'a watch::Sender<Seen>);

impl<'a> Counted<'a> {
    fn new(seen: &'a watch::Sender<Seen>) -> Self {
        seen.send_modify(|seen| seen.held += 1);
        Counted(seen)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.held -= 1);
    }
}

#[async_trait]
impl Store for Faulty {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn durable(&self) -> Option<watch::Receiver<i64>> {
        self.inner.durable()
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.call(self.inner.identity()).await
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.faults.0.seen.send_modify(|seen| seen.transacts += 1);
        self.pass().await?;
        let (request_lost, answer_lost) = {
            let mut plan = self.faults.0.plan.lock();
            let request_lost = take(&mut plan.lost_requests);
            (request_lost, !request_lost && take(&mut plan.lost_answers))
        };
        if request_lost {
            return Err(unavailable("told to lose the request"));
        }
        let answer = self.inner.transact(txn).await;
        self.pass_back().await;
        if answer_lost { Err(unavailable("told to lose the answer")) } else { answer }
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.call(self.inner.snapshot()).await
    }

    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        self.pass().await?;
        if take(&mut self.faults.0.plan.lock().compactions) {
            return Err(StoreError::Compacted { revision: from.saturating_add(1) });
        }
        let generation = self.faults.0.streams.borrow().generation;
        let inner = self.inner.changes(from).await?;
        self.faults.0.seen.send_modify(|seen| seen.streams += 1);
        Ok(faulty_stream(inner, self.faults.clone(), generation))
    }

    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> {
        self.call(self.inner.lease_grant(id, ttl)).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        self.call(self.inner.lease_keep_alive(id)).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        self.call(self.inner.lease_revoke(id)).await
    }
}

fn faulty_stream(inner: ChangeStream, faults: Faults, generation: u64) -> ChangeStream {
    let revisions = stream::unfold(Some(inner), move |inner| {
        let faults = faults.clone();
        async move {
            let mut inner = inner?;
            let mut streams = faults.0.streams.subscribe();
            let broken = async {
                let _ = streams.wait_for(|streams| streams.generation != generation).await;
            };
            let next = async {
                let item = inner.next().await;
                faults.wait(|held| held.streams).await;
                item
            };
            tokio::select! {
                biased;
                () = broken => Some((Err(unavailable("told to break the stream")), None)),
                item = next => match item? {
                    Ok(run) => Some((Ok(faults.distort(run)), Some(inner))),
                    Err(error) => Some((Err(error), None)),
                },
            }
        }
    });
    // A run that lost its only revision is no item.
    revisions.filter(|item| std::future::ready(!matches!(item, Ok(run) if run.is_empty()))).boxed()
}

impl Faults {
    /// `run` with the duplicates and gaps asked for.
    fn distort(&self, run: Vec<Revision>) -> Vec<Revision> {
        let mut distorted = Vec::with_capacity(run.len() + 1);
        self.0.streams.send_if_modified(|streams| {
            for revision in run {
                if take(&mut streams.drops) {
                    continue;
                }
                if take(&mut streams.duplicates) {
                    distorted.push(revision.clone());
                }
                distorted.push(revision);
            }
            false
        });
        distorted
    }
}

/// Whether one of `count` was left; it is used up.
fn take(count: &mut usize) -> bool {
    let left = *count > 0;
    *count = count.saturating_sub(1);
    left
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}
