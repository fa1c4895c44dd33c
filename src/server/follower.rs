//! Follows the store's changes: a stream, resumed where it broke, and a new snapshot where history is gone.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::bootstrap;
use super::lanes::Over;
use super::shared::Shared;
use crate::store::{Revision, StoreError};

/// First and longest pause before a broken stream is opened again: a store that restarts is away for seconds.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What is to be done next.
enum Next {
    Resume,
    Snapshot,
    End(Over),
}

pub async fn run(shared: Arc<Shared>) -> Over {
    let mut pause = RETRY.0;
    let mut applied = 0;
    loop {
        let next = match follow(&shared).await {
            Next::Snapshot => snapshot(&shared).await,
            next => next,
        };
        if let Next::End(over) = next {
            return over;
        }
        let now = shared.take(|engine| engine.received_revision());
        pause = if now > applied { RETRY.0 } else { (pause * 2).min(RETRY.1) };
        applied = now;
        tokio::time::sleep(pause).await;
    }
}

async fn follow(shared: &Shared) -> Next {
    if shared.take(|engine| engine.has_lost()) {
        return Next::Snapshot;
    }
    let from = shared.take(|engine| engine.received_revision() + 1);
    let mut stream = match shared.store.changes(from).await {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    loop {
        let item = tokio::select! {
            item = stream.next() => item,
            () = shared.lost.notified() => {
                if shared.take(|engine| engine.has_lost()) {
                    return Next::Snapshot;
                }
                continue;
            }
        };
        match item {
            Some(Ok(revisions)) => {
                if let Err(next) = apply(shared, revisions) {
                    return next;
                }
            }
            Some(Err(error)) => return failed(&error),
            None => return Next::Resume,
        }
    }
}

fn apply(shared: &Shared, revisions: Vec<Revision>) -> Result<(), Next> {
    shared.with(|engine| engine.changed(revisions)).map_err(|error| {
        if error.is_loss() {
            tracing::warn!(%error, "taking a new snapshot");
            return Next::Snapshot;
        }
        tracing::error!(%error, "the replica cannot go on");
        Next::End(Over::Damaged)
    })
}

fn failed(error: &StoreError) -> Next {
    match error {
        StoreError::Compacted { .. } => {
            tracing::warn!(%error, "taking a new snapshot");
            Next::Snapshot
        }
        _ => {
            tracing::warn!(%error, "the stream of changes broke; it is opened again");
            Next::Resume
        }
    }
}

async fn snapshot(shared: &Shared) -> Next {
    let known = shared.take(|engine| engine.replica().revision());
    let replica = match shared.store.snapshot().await {
        Ok(snapshot) => bootstrap::load(snapshot).await,
        Err(error) => {
            tracing::warn!(%error, "no snapshot");
            return Next::Snapshot;
        }
    };
    let replica = match replica {
        Ok(replica) if replica.revision() < known => return Next::End(Over::Restored),
        Ok(replica) => replica,
        Err(error) => {
            tracing::error!(%error, "the snapshot cannot be read");
            return Next::End(Over::Damaged);
        }
    };
    // Answers may have moved the replica on meanwhile: then it lacks nothing, and must not go back.
    let taken = shared.with(|engine| {
        let is_newer = replica.revision() >= engine.replica().revision();
        is_newer.then(|| engine.resync(replica))
    });
    match taken {
        Some(Err(_)) => Next::End(Over::LaneLost),
        Some(Ok(())) | None => Next::Resume,
    }
}
