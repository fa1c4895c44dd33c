//! The stores under test, and short words for what tests do with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use zketcd::store::embedded::Embedded;
use zketcd::store::etcd::{Etcd, EtcdConfig};
use zketcd::store::{
    Change, ChangeStream, Compare, CompareOp, Op, OpResult, Revision, Store, StoreError, Target, Txn, TxnResult,
};

use crate::etcd_process::{self, Version};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Durable,
    Etcd(Version),
}

/// A store of its own for one test.
pub struct Fixture {
    pub store: Arc<dyn Store>,
    inner: Inner,
}

enum Inner {
    Embedded {
        store: Arc<Embedded>,
        _dir: Option<TempDir>,
    },
    /// Revisions belong to the whole etcd, so tests that share one take turns.
    Etcd {
        process: Arc<etcd_process::Etcd>,
        _turn: OwnedMutexGuard<()>,
    },
}

impl Fixture {
    pub async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Memory => Self::embedded(Embedded::memory(), None),
            Kind::Durable => {
                let dir = tempfile::tempdir().unwrap();
                Self::embedded(Embedded::open(dir.path()).unwrap(), Some(dir))
            }
            Kind::Etcd(version) => {
                let (process, turn) = shared_etcd(version).await;
                let store = Etcd::connect(config(&process)).await.unwrap();
                Fixture { store, inner: Inner::Etcd { process, _turn: turn } }
            }
        }
    }

    fn embedded(store: Arc<Embedded>, dir: Option<TempDir>) -> Self {
        Fixture { store: store.clone(), inner: Inner::Embedded { store, _dir: dir } }
    }

    /// Forgets the history before `revision`.
    pub async fn compact(&self, revision: i64) {
        match &self.inner {
            Inner::Embedded { store, .. } => store.compact(revision),
            Inner::Etcd { process, .. } => {
                let mut client = etcd_client::Client::connect([process.endpoint()], None).await.unwrap();
                client.compact(revision, None).await.unwrap();
            }
        }
    }
}

/// The etcd that tests share, and the turn to use it.
pub async fn shared_etcd(version: Version) -> (Arc<etcd_process::Etcd>, OwnedMutexGuard<()>) {
    static TURNS: std::sync::OnceLock<[Arc<Mutex<()>>; 2]> = std::sync::OnceLock::new();
    let turns = TURNS.get_or_init(Default::default);
    let turn = turns[usize::from(version == Version::V36)].clone().lock_owned().await;
    let process = tokio::task::spawn_blocking(move || etcd_process::shared(version)).await.unwrap();
    (process, turn)
}

/// A prefix that nobody else has.
pub fn config(process: &etcd_process::Etcd) -> EtcdConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut config = EtcdConfig::new([process.endpoint()]);
    config.prefix = format!("/test/{}", NEXT.fetch_add(1, Ordering::Relaxed));
    config
}

pub fn key(key: impl Into<String>) -> Bytes {
    Bytes::from(key.into())
}

pub fn put(key: &str, value: &str) -> Op {
    put_leased(key, value, 0)
}

pub fn put_leased(key: &str, value: &str, lease: i64) -> Op {
    Op::Put { key: self::key(key), value: self::key(value), lease }
}

pub fn delete(key: &str) -> Op {
    Op::Delete { key: self::key(key) }
}

pub fn get(key: &str) -> Op {
    Op::Get { key: self::key(key) }
}

pub fn then(ops: impl Into<Vec<Op>>) -> Txn {
    Txn { then: ops.into(), ..Txn::default() }
}

pub fn when(compare: impl Into<Vec<Compare>>, then: impl Into<Vec<Op>>, otherwise: impl Into<Vec<Op>>) -> Txn {
    Txn { compare: compare.into(), then: then.into(), otherwise: otherwise.into() }
}

pub fn compare(key: &str, op: CompareOp, target: Target) -> Compare {
    Compare { key: self::key(key), op, target }
}

/// A lease id that nobody else has.
pub fn lease_id() -> i64 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    0x7ee7_0000_0000_0000 + i64::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Applies `ops`; they must be taken. Returns when what they did lasts.
pub async fn apply(store: &dyn Store, ops: impl Into<Vec<Op>>) -> TxnResult {
    let result = store.transact(then(ops)).await.unwrap();
    if let Some(mut durable) = store.durable() {
        durable.wait_for(|durable| *durable >= result.revision).await.unwrap();
    }
    result
}

/// The value of `key`, if it is there.
pub async fn value(store: &dyn Store, key: &str) -> Option<String> {
    let result = apply(store, [get(key)]).await;
    let [OpResult::Get(found)] = &result.results[..] else { panic!("{result:?}") };
    found.as_ref().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

pub async fn revision(store: &dyn Store) -> i64 {
    apply(store, [get("any")]).await.revision
}

/// How long a test waits for what has to come: far longer than it takes, so that a failure is one and no endless wait.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `future`'s output, or a failed test.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing in {PATIENCE:?}"))
}

/// The stream's next revisions, `count` of them.
pub async fn next(stream: &mut ChangeStream, count: usize) -> Vec<Revision> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        let run = in_time("a revision", stream.next()).await.expect("the stream goes on").expect("no error");
        assert!(!run.is_empty(), "an item without a revision");
        revisions.extend(run);
    }
    assert_eq!(revisions.len(), count, "{revisions:?}");
    revisions
}

/// The error that the stream ends with.
pub async fn failure(stream: &mut ChangeStream) -> StoreError {
    loop {
        match in_time("the stream's end", stream.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                assert!(stream.next().await.is_none(), "a stream that goes on after an error");
                return error;
            }
            None => panic!("a stream that ends without an error"),
        }
    }
}

/// A revision's changes in short, in the order of the keys: `+key=value` and `-key`.
pub fn brief(revision: &Revision) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut changes: Vec<String> = revision
        .changes
        .iter()
        .map(|change| match change {
            Change::Put(kv) => format!("+{}={}", text(&kv.key), text(&kv.value)),
            Change::Delete { key } => format!("-{}", text(key)),
        })
        .collect();
    changes.sort_unstable_by(|a, b| a[1..].cmp(&b[1..]));
    changes
}
