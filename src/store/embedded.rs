//! TEMPORARY in-memory store.
use super::*;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct State {
    revision: i64,
    kvs: BTreeMap<Bytes, KeyValue>,
    log: Vec<Revision>,
    leases: HashMap<i64, (i64, Instant, HashSet<Bytes>)>,
}
#[derive(Debug, Default)]
pub struct Embedded {
    state: Mutex<State>,
    news: Arc<Notify>,
}
impl Embedded {
    pub fn memory() -> Arc<Self> {
        let me = Arc::new(Self::default());
        me.state.lock().revision = 1;
        let weak = Arc::downgrade(&me);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let Some(me) = weak.upgrade() else { return };
                let due: Vec<i64> = me.state.lock().leases.iter().filter(|(_, l)| l.1.elapsed().as_secs() as i64 >= l.0).map(|(id, _)| *id).collect();
                for id in due {
                    let _ = me.lease_revoke(id).await;
                }
            }
        });
        me
    }
    pub fn open(_: &std::path::Path) -> Result<Arc<Self>, StoreError> {
        Ok(Self::memory())
    }
}
fn holds(state: &State, c: &Compare) -> bool {
    let kv = state.kvs.get(&c.key);
    let num = |a: i64, b: i64| match c.op {
        CompareOp::Equal => a == b,
        CompareOp::Greater => a > b,
        CompareOp::Less => a < b,
    };
    match &c.target {
        Target::Version(v) => num(kv.map_or(0, |k| k.version), *v),
        Target::CreateRevision(v) => num(kv.map_or(0, |k| k.create_revision), *v),
        Target::ModRevision(v) => num(kv.map_or(0, |k| k.mod_revision), *v),
        Target::Value(v) => kv.is_some_and(|k| k.value == v),
    }
}
fn plan(state: &State, txn: &Txn, ok: &mut Vec<bool>) {
    let good = txn.compare.iter().all(|c| holds(state, c));
    ok.push(good);
    for op in if good { &txn.then } else { &txn.otherwise } {
        if let Op::Txn(t) = op {
            plan(state, t, ok);
        }
    }
}
fn exec(state: &mut State, txn: Txn, ok: &mut std::vec::IntoIter<bool>, rev: i64, changes: &mut Vec<Change>) -> (bool, Vec<OpResult>) {
    let good = ok.next().unwrap();
    let mut out = vec![];
    for op in if good { txn.then } else { txn.otherwise } {
        out.push(match op {
            Op::Put { key, value, lease } => {
                let old = state.kvs.get(&key);
                let kv = KeyValue { key: key.clone(), value, create_revision: old.map_or(rev, |o| o.create_revision), mod_revision: rev, version: old.map_or(1, |o| o.version + 1), lease };
                if let Some(o) = old.map(|o| o.lease) && o != 0 { if let Some(l) = state.leases.get_mut(&o) { l.2.remove(&key); } }
                if lease != 0 { state.leases.get_mut(&lease).unwrap().2.insert(key.clone()); }
                state.kvs.insert(key, kv.clone());
                changes.push(Change::Put(kv));
                OpResult::Put
            }
            Op::Delete { key } => {
                let n = state.kvs.remove(&key).is_some() as i64;
                if n > 0 { changes.push(Change::Delete { key }); }
                OpResult::Delete { deleted: n }
            }
            Op::Get { key } => OpResult::Get(state.kvs.get(&key).cloned()),
            Op::Txn(t) => {
                let (succeeded, results) = exec(state, t, ok, rev, changes);
                OpResult::Txn { succeeded, results }
            }
        });
    }
    (good, out)
}
#[async_trait]
impl Store for Embedded {
    fn limits(&self) -> Limits { Limits { txn_ops: 65536, request_bytes: 64 << 20 } }
    async fn identity(&self) -> Result<Identity, StoreError> { Ok(Identity { cluster_id: 1, warnings: vec![], description: "memory".into() }) }
    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let mut state = self.state.lock();
        let mut ok = vec![];
        plan(&state, &txn, &mut ok);
        let rev = state.revision + 1;
        let mut changes = vec![];
        let (succeeded, results) = exec(&mut state, txn, &mut ok.into_iter(), rev, &mut changes);
        if !changes.is_empty() { state.revision = rev; state.log.push(Revision { revision: rev, changes }); self.news.notify_waiters(); }
        Ok(TxnResult { revision: state.revision, succeeded, results })
    }
    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let s = self.state.lock();
        Ok(Snapshot { revision: s.revision, entries: s.kvs.values().cloned().collect() })
    }
    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        let me: *const Embedded = self;
        let me = unsafe { Arc::increment_strong_count(me); Arc::from_raw(me) };
        Ok(Box::pin(futures::stream::unfold((me, from), |(me, from)| async move {
            loop {
                let n = me.news.clone();
                let wait = n.notified();
                let out: Vec<Revision> = { let s = me.state.lock(); let at = s.log.partition_point(|r| r.revision < from); s.log[at..].to_vec() };
                if let Some(last) = out.last() { let next = last.revision + 1; return Some((Ok(out), (me, next))); }
                wait.await;
            }
        })))
    }
    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> { self.state.lock().leases.insert(id, (ttl, Instant::now(), HashSet::new())); Ok(()) }
    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        match self.state.lock().leases.get_mut(&id) { Some(l) => { l.1 = Instant::now(); Ok(()) } None => Err(StoreError::LeaseNotFound { id }) }
    }
    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        let keys = self.state.lock().leases.remove(&id).map(|l| l.2).unwrap_or_default();
        if !keys.is_empty() { self.transact(Txn { compare: vec![], then: keys.into_iter().map(|key| Op::Delete { key }).collect(), otherwise: vec![] }).await?; }
        Ok(())
    }
}
