//! A store behind gates that a test closes and opens: one before its transactions, one before its changes.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::watch;
use zketcd::store::{ChangeStream, Identity, Limits, Snapshot, Store, StoreError, Txn, TxnResult};

/// See the module's documentation. Both gates are open at first.
#[derive(Debug)]
pub struct Gated {
    store: Arc<dyn Store>,
    transactions: watch::Sender<bool>,
    changes: watch::Sender<bool>,
}

impl Gated {
    pub fn new(store: Arc<dyn Store>) -> Arc<Gated> {
        Arc::new(Gated { store, transactions: watch::channel(true).0, changes: watch::channel(true).0 })
    }

    /// Whether transactions reach the store.
    pub fn let_transactions(&self, open: bool) {
        self.transactions.send_replace(open);
    }

    /// Whether changes come out of it.
    pub fn let_changes(&self, open: bool) {
        self.changes.send_replace(open);
    }
}

async fn pass(gate: &mut watch::Receiver<bool>) {
    // A gate that is gone is open.
    let _ = gate.wait_for(|open| *open).await;
}

#[async_trait]
impl Store for Gated {
    fn limits(&self) -> Limits {
        self.store.limits()
    }

    fn durable(&self) -> Option<watch::Receiver<i64>> {
        self.store.durable()
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.store.identity().await
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        pass(&mut self.transactions.subscribe()).await;
        self.store.transact(txn).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.store.snapshot().await
    }

    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        let stream = self.store.changes(from).await?;
        let gate = self.changes.subscribe();
        let gated = futures::stream::unfold((stream, gate), |(mut stream, mut gate)| async move {
            let item = stream.next().await?;
            pass(&mut gate).await;
            Some((item, (stream, gate)))
        });
        Ok(Box::pin(gated))
    }

    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> {
        self.store.lease_grant(id, ttl).await
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        self.store.lease_keep_alive(id).await
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        self.store.lease_revoke(id).await
    }
}
