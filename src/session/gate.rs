//! What keeps answers back until the store has written what they tell.
//!
//! The replica may be ahead of what will last ([`Store::durable`](crate::store::Store::durable)): then all that is said of
//! it waits here, reads' answers and events too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::outbox::Outbox;

/// One for all connections of a server.
#[derive(Debug)]
pub struct Gate {
    /// The revision that the replica shows. Changed by the engine only.
    shown: AtomicI64,
    /// The revision up to which all lasts.
    durable: AtomicI64,
    /// In the order of the revisions.
    waiting: Mutex<VecDeque<Waiting>>,
}

/// An outbox with something that has to wait.
#[derive(Debug)]
struct Waiting {
    revision: i64,
    outbox: Arc<Outbox>,
    since: Instant,
}

impl Default for Gate {
    /// One that is open: all lasts that a replica shows.
    fn default() -> Self {
        Gate { shown: AtomicI64::new(0), durable: AtomicI64::new(i64::MAX), waiting: Mutex::default() }
    }
}

impl Gate {
    /// The replica is at `revision` from here on.
    pub(super) fn show(&self, revision: i64) {
        self.shown.store(revision, Ordering::Relaxed);
    }

    /// All lasts up to `revision`: what waited for it goes. `waited` hears how long.
    pub fn open(&self, revision: i64, mut waited: impl FnMut(Duration)) {
        let mut waiting = self.waiting.lock();
        self.durable.store(revision, Ordering::Release);
        let now = Instant::now();
        while waiting.front().is_some_and(|waiting| waiting.revision <= revision)
            && let Some(waiting) = waiting.pop_front()
        {
            waited(now - waiting.since);
            waiting.outbox.signal();
        }
    }

    /// The revision up to which all lasts.
    pub(super) fn durable(&self) -> i64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The revision that has to last before what is said now may go out; none where it does already.
    pub(super) fn held(&self) -> Option<i64> {
        let shown = self.shown.load(Ordering::Relaxed);
        (shown > self.durable()).then_some(shown)
    }

    /// Signals `outbox` once `revision` lasts.
    pub(super) fn wait(&self, revision: i64, outbox: Arc<Outbox>) {
        let mut waiting = self.waiting.lock();
        if revision <= self.durable() {
            outbox.signal();
        } else {
            waiting.push_back(Waiting { revision, outbox, since: Instant::now() });
        }
    }
}
