//! The engine behind its mutex, and what wakes the tasks around it.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::metrics::Metrics;
use crate::session::{Engine, Gate, Now};
use crate::store::Store;

/// What every task of a server shares.
pub struct Shared {
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    /// The engine's, for what needs no lock.
    pub gate: Arc<Gate>,
    engine: Mutex<Engine>,
    started: Instant,
    lanes: Vec<Notify>,
    /// Sessions' leases are to be revoked.
    pub revocations: Notify,
    /// The stream lost something: the follower is to take a new snapshot.
    pub lost: Notify,
    /// The last revision applied.
    applied: watch::Sender<i64>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Shared {
    pub fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>, started: Instant, engine: Engine) -> Self {
        let lanes = (0..engine.lanes()).map(|_| Notify::new()).collect();
        let (applied, _) = watch::channel(engine.replica().revision());
        Shared {
            store,
            metrics,
            gate: engine.gate().clone(),
            engine: Mutex::new(engine),
            started,
            lanes,
            revocations: Notify::new(),
            lost: Notify::new(),
            applied,
        }
    }

    /// The time, as the engine counts it.
    pub fn now(&self) -> Now {
        now(self.started)
    }

    /// Runs `f` on the engine, then wakes whoever has something to do because of it.
    pub fn with<R>(&self, f: impl FnOnce(&mut Engine) -> R) -> R {
        let (result, work, revoke, lost) = {
            let mut engine = self.engine.lock();
            engine.set_now(self.now());
            let result = f(&mut engine);
            let revision = engine.replica().revision();
            // Inside the lock, so that an older revision does not come after a newer one.
            self.applied.send_if_modified(|applied| std::mem::replace(applied, revision) != revision);
            (result, engine.has_work(), engine.has_revocations(), engine.has_lost())
        };
        if work {
            self.lanes.iter().for_each(Notify::notify_one);
        }
        if revoke {
            self.revocations.notify_one();
        }
        if lost {
            self.lost.notify_one();
        }
        result
    }

    /// Runs `f` on the engine and wakes nobody: for what only takes.
    pub fn take<R>(&self, f: impl FnOnce(&mut Engine) -> R) -> R {
        let mut engine = self.engine.lock();
        engine.set_now(self.now());
        f(&mut engine)
    }

    /// Waits until lane `lane` may have something to do.
    pub async fn lane_work(&self, lane: usize) {
        match self.lanes.get(lane) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The last revision applied, now and later.
    pub fn applied(&self) -> watch::Receiver<i64> {
        self.applied.subscribe()
    }
}

/// Milliseconds since `started`, and since the Unix epoch.
pub fn now(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    Now { mono: started.elapsed().as_millis() as u64, wall }
}
