//! A store that can be taken away and put back as another one: a restore from a backup.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::sync::watch;
use zketcd::store::{ChangeStream, Identity, Limits, Snapshot, Store, StoreError, Txn, TxnResult};

/// See the module's documentation.
#[derive(Debug)]
pub struct Swap {
    inner: watch::Sender<Option<Arc<dyn Store>>>,
    limits: Limits,
}

impl Swap {
    pub fn new(store: Arc<dyn Store>) -> Arc<Swap> {
        let limits = store.limits();
        Arc::new(Swap { inner: watch::channel(Some(store)).0, limits })
    }

    /// Takes the store away; its streams end, and every call is refused until [`Swap::put`].
    pub fn take(&self) {
        self.inner.send_replace(None);
    }

    pub fn put(&self, store: Arc<dyn Store>) {
        self.inner.send_replace(Some(store));
    }

    fn inner(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.inner.borrow().clone().ok_or_else(away)
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("taken away".to_owned())
}

async fn taken(store: &mut watch::Receiver<Option<Arc<dyn Store>>>) {
    let _ = store.wait_for(Option::is_none).await;
}

#[async_trait]
impl Store for Swap {
    fn limits(&self) -> Limits {
        self.limits
    }

    /// Of two stores there is no one revision; what a crash would take nobody looks at who takes another store.
    fn durable(&self) -> Option<watch::Receiver<i64>> {
        None
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.inner()?.identity().await
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        self.inner()?.transact(txn).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner()?.snapshot().await
    }

    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        let stream = self.inner()?.changes(from).await?;
        let gone = self.inner.subscribe();
        let streams = stream::unfold((Some(stream), gone), |(stream, mut gone)| async move {
            let mut stream = stream?;
            let item = tokio::select! {
                item = stream.next() => item,
                () = taken(&mut gone) => None,
            };
            Some(item.map_or_else(|| (Err(away()), (None, gone.clone())), |item| (item, (Some(stream), gone.clone()))))
        });
        Ok(streams.boxed())
    }

    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> {
        self.inner()?.lease_grant(id, ttl).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        self.inner()?.lease_keep_alive(id).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        self.inner()?.lease_revoke(id).await
    }
}
