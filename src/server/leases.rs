//! Leases: sessions' and the server's own are renewed, ended sessions' revoked.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::bootstrap::SERVER_LEASE_TTL;
use super::shared::Shared;
use crate::store::StoreError;

/// How often the engine is asked which leases are due: a fraction of the shortest session's quarter.
const LOOK: Duration = Duration::from_millis(100);

/// A renewal that got no answer is asked again after this long, in milliseconds.
const AGAIN_MS: u64 = 200;

/// Revocations under way at once; more wait. They only tidy up: a lease ends by itself.
const REVOKING: usize = 64;

/// A session's lease outlives its timeout by this much, in milliseconds: the server that holds the connection
/// ends the session itself, the lease is for when that server is dead.
const SLACK_MS: u64 = 1_000;

/// The ttl in seconds of a session's lease: etcd counts whole seconds, and has a minimum of about two.
pub fn session_ttl(timeout: Duration) -> i64 {
    let millis = timeout.as_millis() as u64 + SLACK_MS;
    i64::try_from(millis.div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// Renews what is due. Many renewals are under way at once; the store carries them in a few streams.
pub async fn renew_sessions(shared: Arc<Shared>) {
    let mut look = tokio::time::interval(LOOK);
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = look.tick() => {
                let asked = shared.now().mono;
                for id in shared.take(|engine| engine.due_renewals()) {
                    let store = shared.store.clone();
                    under_way.push(async move { (id, asked, store.lease_keep_alive(id).await) });
                }
            }
            Some((id, asked, result)) = under_way.next() => {
                shared.take(|engine| match result {
                    Ok(()) => engine.renewed(id, asked),
                    // Its end comes with the stream.
                    Err(StoreError::LeaseNotFound { .. }) => {}
                    Err(_) => engine.renew_again(id, AGAIN_MS),
                });
            }
        }
    }
}

/// Renews the lease that the server's lanes live on. That it is gone, a lane finds out.
pub async fn renew_server(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(SERVER_LEASE_TTL as u64) / 6);
    loop {
        tick.tick().await;
        let lease = shared.take(|engine| engine.identity().lease);
        if let Err(error) = shared.store.lease_keep_alive(lease).await {
            tracing::warn!(%error, "the server's lease was not renewed");
        }
    }
}

/// Revokes the leases of sessions that were ended here.
pub async fn revoke(shared: Arc<Shared>) {
    loop {
        shared.revocations.notified().await;
        let ended = shared.take(|engine| engine.take_revocations());
        let revoking = futures::stream::iter(ended).for_each_concurrent(REVOKING, |id| {
            let store = shared.store.clone();
            async move {
                if let Err(error) = store.lease_revoke(id).await {
                    tracing::debug!(%error, session = format_args!("{id:#x}"), "lease not revoked: it will expire");
                }
            }
        });
        revoking.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_never_shorter_than_its_session() {
        for millis in [1_000, 4_000, 4_001, 60_000] {
            let ttl = session_ttl(Duration::from_millis(millis));
            assert!(ttl as u64 * 1_000 >= millis + SLACK_MS, "{millis}");
            assert!(ttl as u64 * 1_000 < millis + SLACK_MS + 1_000, "{millis}");
        }
    }
}
