//! The store: one small trait over etcd v3's data model, and its implementations.
//!
//! Keys here are relative (`n/flink`, `s0123…`): each implementation puts its own prefix before them.
//! One contract test suite (`tests/store_contract.rs`) runs against every implementation.

pub mod embedded;
pub mod etcd;
pub mod faults;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::watch;

/// The longest prefix, in bytes, that an implementation may put before its keys: every key of a transaction has it.
pub const MAX_PREFIX: usize = 128;

/// A key and what etcd keeps with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision that created this incarnation of the key.
    pub create_revision: i64,
    /// The revision of the last put.
    pub mod_revision: i64,
    /// Puts since creation, from 1.
    pub version: i64,
    /// The lease that the last put attached; 0: none.
    pub lease: i64,
}

/// How a compare holds its target against the key. An absent key has revisions and version 0, and no value
/// compare of an absent key succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    Equal,
    Greater,
    Less,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(Bytes),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Compare {
    pub key: Bytes,
    pub op: CompareOp,
    pub target: Target,
}

impl Compare {
    pub fn create_revision(key: Bytes, revision: i64) -> Self {
        Compare { key, op: CompareOp::Equal, target: Target::CreateRevision(revision) }
    }

    pub fn mod_revision(key: Bytes, revision: i64) -> Self {
        Compare { key, op: CompareOp::Equal, target: Target::ModRevision(revision) }
    }

    pub fn version(key: Bytes, version: i64) -> Self {
        Compare { key, op: CompareOp::Equal, target: Target::Version(version) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// `lease` 0: none.
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    /// Deleting an absent key succeeds and leaves no event.
    Delete {
        key: Bytes,
    },
    Get {
        key: Bytes,
    },
    Txn(Txn),
}

/// etcd's transaction: all compares, nested ones too, are evaluated before any write; one key is put or deleted
/// at most once in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
    pub otherwise: Vec<Op>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResult {
    /// The store's revision after the transaction: its own where it wrote anything.
    pub revision: i64,
    pub succeeded: bool,
    /// One for each operation of the branch taken.
    pub results: Vec<OpResult>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    Put,
    Delete { deleted: i64 },
    Get(Option<KeyValue>),
    Txn { succeeded: bool, results: Vec<OpResult> },
}

/// One key's change. Within a revision the order of changes means nothing (etcd promises none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Put(KeyValue),
    Delete { key: Bytes },
}

impl Change {
    pub fn key(&self) -> &Bytes {
        match self {
            Change::Put(kv) => &kv.key,
            Change::Delete { key } => key,
        }
    }
}

/// All that one revision changed under the prefix, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub revision: i64,
    pub changes: Vec<Change>,
}

/// Every key under the prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub revision: i64,
    pub entries: Vec<KeyValue>,
}

/// What the store says of itself at start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// etcd's cluster id; the embedded store's own random one.
    pub cluster_id: u64,
    /// Warnings worth a log line at start: members older than the versions that mended known bugs.
    pub warnings: Vec<String>,
    /// For people: `etcd 3.6.14`, `embedded (durable)`.
    pub description: String,
}

/// How much one transaction may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// etcd's `--max-txn-ops`: the larger of compares and operations of the outer level plus that of each nested
    /// transaction alone stays within it.
    pub txn_ops: usize,
    /// etcd's `--max-request-bytes`.
    pub request_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer came: what was asked may or may not have happened. Asking again is right.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The store refused, and nothing happened; asking again will not help (too large, no permission).
    #[error("the store refused: {0}")]
    Rejected(String),
    /// The history before `revision` is gone.
    #[error("compacted: the store's history begins at revision {revision}")]
    Compacted { revision: i64 },
    #[error("lease {id:#x} is not there")]
    LeaseNotFound { id: i64 },
    /// A lease of that id is there already.
    #[error("lease {id:#x} exists")]
    LeaseExists { id: i64 },
}

/// Revisions in order, each whole, none left out, those without a change under the prefix skipped. Items come in
/// runs, so that a busy consumer takes many at once. After an error the stream is over.
pub type ChangeStream = BoxStream<'static, Result<Vec<Revision>, StoreError>>;

/// See the module's documentation.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    fn limits(&self) -> Limits;

    /// Where answers, changes and snapshots may be ahead of what lasts: the revision up to which all does. What they tell of
    /// a later one must not leave this process before this has reached it. `None`: whatever is told lasts.
    fn durable(&self) -> Option<watch::Receiver<i64>>;

    /// Asked once at start; fails where the store is away or its credentials are wrong.
    async fn identity(&self) -> Result<Identity, StoreError>;

    /// `Unavailable` leaves the outcome open; every other error means that nothing happened.
    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError>;

    /// Every key under the prefix, linearizable: a revision not older than any transaction answered before.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// The changes from revision `from` on, `from` included.
    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError>;

    /// A lease of the caller's own id (never 0) and of `ttl` seconds.
    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError>;

    /// Starts the lease's ttl anew. Ok: the store had the lease after this call began.
    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError>;

    /// Ends the lease now; its keys go. A lease that is not there is no error.
    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError>;
}
