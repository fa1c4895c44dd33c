//! The lanes: each sends one batch at a time, until its outcome is known.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::session::{Engine, LaneAnswer, Outgoing, SLOW_MS};
use crate::store::StoreError;

/// First and longest pause before the same batch is sent again: an etcd election takes about a second.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Why a generation of tasks is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The server's lease and lanes are gone.
    LaneLost,
    /// The store answered with a revision below one that was applied: it was restored from a backup.
    Restored,
    /// The replica cannot go on.
    Damaged,
}

/// Sends the lane's batches until the generation is over.
pub async fn run(shared: Arc<Shared>, lane: usize) -> Over {
    // Of each batch's id the first half is the lane's, the second counts: drawing each anew costs a system call.
    let mut id = match getrandom::u64() {
        Ok(half) => u128::from(half) << 64,
        Err(error) => {
            tracing::error!(%error, "no random numbers");
            return Over::Damaged;
        }
    };
    loop {
        // The tasks of connections that have something to read come first: it goes into this batch.
        tokio::task::yield_now().await;
        id += 1;
        let (outgoing, turn) = shared.take(|engine| (engine.take_batch(lane, id), engine.next_turn()));
        let Some(outgoing) = outgoing else {
            wait(&shared, lane, turn).await;
            continue;
        };
        let answer = answer(&shared, &outgoing).await;
        if let LaneAnswer::Result(result) = &answer
            && result.revision < outgoing.applied
        {
            return Over::Restored;
        }
        let done = shared.with(|engine| match engine.answered_batch(lane, answer) {
            Err(_) => Err(Over::LaneLost),
            Ok(()) => match engine.apply_backlog() {
                // The follower hears of it and takes a new snapshot.
                Err(error) if error.is_loss() => Ok(()),
                Err(error) => {
                    tracing::error!(%error, "the replica cannot go on");
                    Err(Over::Damaged)
                }
                Ok(()) => Ok(()),
            },
        });
        if let Err(over) = done {
            return over;
        }
    }
}

/// Waits for work; no longer than until `turn`, when keys come back that were left to other servers.
async fn wait(shared: &Shared, lane: usize, turn: Option<u64>) {
    let work = shared.lane_work(lane);
    let Some(turn) = turn else { return work.await };
    let pause = Duration::from_millis(turn.saturating_sub(shared.now().mono));
    if tokio::time::timeout(pause, work).await.is_err() {
        shared.with(Engine::expire_turns);
    }
}

/// The answer to a batch; where it is slow to come, the other lanes are told that they need not wait for it.
async fn answer(shared: &Shared, outgoing: &Outgoing) -> LaneAnswer {
    let mut sent = pin!(send(shared, outgoing));
    match tokio::time::timeout(Duration::from_millis(SLOW_MS), &mut sent).await {
        Ok(answer) => answer,
        Err(_) => {
            shared.with(|_| ());
            sent.await
        }
    }
}

/// The same bytes again and again, until the store says what became of them.
async fn send(shared: &Shared, outgoing: &Outgoing) -> LaneAnswer {
    let mut pause = RETRY.0;
    let mut in_doubt = false;
    loop {
        match shared.store.transact(outgoing.txn.clone()).await {
            Ok(result) => return LaneAnswer::Result(result),
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(why, requests = outgoing.requests, "no answer to a batch; it is sent again");
                shared.metrics.batches_resent.inc();
                in_doubt = true;
            }
            Err(StoreError::LeaseNotFound { .. }) => return LaneAnswer::LeaseGone,
            Err(error) if in_doubt => {
                tracing::error!(%error, requests = outgoing.requests, "a batch in doubt is refused");
                return LaneAnswer::Unknown;
            }
            Err(error) => return LaneAnswer::Rejected(error.to_string()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}
