//! Between the store's types and etcd's.

use bytes::Bytes;
use etcd_client::{
    Compare as EtcdCompare, CompareOp as EtcdOp, Error, KeyValue as EtcdKeyValue, PutOptions, Txn as EtcdTxn, TxnOp,
    TxnOpResponse, TxnResponse, WatchResponse,
};

use crate::store::{
    Change, Compare, CompareOp, KeyValue, Op, OpResult, Revision, StoreError, Target, Txn, TxnResult,
};

/// gRPC's status codes, by number (`google.rpc.Code`).
mod code {
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const OUT_OF_RANGE: i32 = 11;
    pub const UNIMPLEMENTED: i32 = 12;
    pub const UNAUTHENTICATED: i32 = 16;
}

pub fn prefixed(prefix: &[u8], relative: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + relative.len());
    key.extend_from_slice(prefix);
    key.extend_from_slice(relative);
    key
}

pub fn txn(txn: Txn, prefix: &[u8]) -> EtcdTxn {
    let ops = |ops: Vec<Op>| ops.into_iter().map(|one| op(one, prefix)).collect::<Vec<_>>();
    EtcdTxn::new()
        .when(txn.compare.into_iter().map(|one| compare(one, prefix)).collect::<Vec<_>>())
        .and_then(ops(txn.then))
        .or_else(ops(txn.otherwise))
}

fn op(op: Op, prefix: &[u8]) -> TxnOp {
    match op {
        Op::Put { key, value, lease: 0 } => TxnOp::put(prefixed(prefix, &key), value, None),
        Op::Put { key, value, lease } => {
            TxnOp::put(prefixed(prefix, &key), value, Some(PutOptions::new().with_lease(lease)))
        }
        Op::Delete { key } => TxnOp::delete(prefixed(prefix, &key), None),
        Op::Get { key } => TxnOp::get(prefixed(prefix, &key), None),
        Op::Txn(inner) => TxnOp::txn(txn(inner, prefix)),
    }
}

fn compare(compare: Compare, prefix: &[u8]) -> EtcdCompare {
    let key = prefixed(prefix, &compare.key);
    let op = match compare.op {
        CompareOp::Equal => EtcdOp::Equal,
        CompareOp::Greater => EtcdOp::Greater,
        CompareOp::Less => EtcdOp::Less,
    };
    match compare.target {
        Target::Version(version) => EtcdCompare::version(key, op, version),
        Target::CreateRevision(revision) => EtcdCompare::create_revision(key, op, revision),
        Target::ModRevision(revision) => EtcdCompare::mod_revision(key, op, revision),
        Target::Value(value) => EtcdCompare::value(key, op, value),
    }
}

pub fn txn_result(response: TxnResponse, prefix: usize) -> Result<TxnResult, StoreError> {
    let revision = response.header().map_or(0, |header| header.revision());
    let (succeeded, results) = branch(response, prefix)?;
    Ok(TxnResult { revision, succeeded, results })
}

fn branch(response: TxnResponse, prefix: usize) -> Result<(bool, Vec<OpResult>), StoreError> {
    let succeeded = response.succeeded();
    let mut results = Vec::new();
    for one in response.op_responses() {
        results.push(match one {
            TxnOpResponse::Put(_) => OpResult::Put,
            TxnOpResponse::Delete(deleted) => OpResult::Delete { deleted: deleted.deleted() },
            TxnOpResponse::Get(mut got) => {
                let first = got.take_kvs().into_iter().next();
                OpResult::Get(first.map(|kv| key_value(kv, prefix)).transpose()?)
            }
            TxnOpResponse::Txn(inner) => {
                let (succeeded, results) = branch(inner, prefix)?;
                OpResult::Txn { succeeded, results }
            }
        });
    }
    Ok((succeeded, results))
}

pub fn key_value(kv: EtcdKeyValue, prefix: usize) -> Result<KeyValue, StoreError> {
    let (create_revision, mod_revision) = (kv.create_revision(), kv.mod_revision());
    let (version, lease) = (kv.version(), kv.lease());
    let (key, value) = kv.into_key_value();
    let key = stripped(key, prefix)?;
    Ok(KeyValue { key, value: value.into(), create_revision, mod_revision, version, lease })
}

fn stripped(key: Vec<u8>, prefix: usize) -> Result<Bytes, StoreError> {
    let key = Bytes::from(key);
    if key.len() < prefix {
        return Err(StoreError::Unavailable("etcd sent a key outside of the prefix".to_owned()));
    }
    Ok(key.slice(prefix..))
}

/// A watch response's events, by revision.
pub fn revisions(response: WatchResponse, prefix: usize) -> Result<Vec<Revision>, StoreError> {
    if response.0.fragment {
        return Err(StoreError::Unavailable("etcd sent a fragment that nobody asked for".to_owned()));
    }
    let mut revisions: Vec<Revision> = Vec::new();
    for event in response.0.events {
        let Some(kv) = event.kv else { continue };
        let revision = kv.mod_revision;
        let key = stripped(kv.key, prefix)?;
        let change = if event.r#type == etcd_client::EventType::Delete as i32 {
            Change::Delete { key }
        } else {
            Change::Put(KeyValue {
                key,
                value: kv.value.into(),
                create_revision: kv.create_revision,
                mod_revision: revision,
                version: kv.version,
                lease: kv.lease,
            })
        };
        match revisions.last_mut() {
            Some(last) if last.revision == revision => last.changes.push(change),
            _ => revisions.push(Revision { revision, changes: vec![change] }),
        }
    }
    Ok(revisions)
}

/// Why a watch was cancelled.
pub fn cancelled(response: &WatchResponse) -> StoreError {
    match response.compact_revision() {
        0 => StoreError::Unavailable(format!("the watch was cancelled: {}", response.cancel_reason())),
        revision => StoreError::Compacted { revision },
    }
}

/// Whether anything may have happened, and whether asking again helps.
pub fn error(error: Error) -> StoreError {
    let Error::GRpcStatus(status) = error else {
        return match error {
            Error::InvalidArgs(why) => StoreError::Rejected(why),
            Error::InvalidUri(why) => StoreError::Rejected(why.to_string()),
            other => StoreError::Unavailable(other.to_string()),
        };
    };
    let why = status.message().to_owned();
    match i32::from(status.code()) {
        code::NOT_FOUND if why.contains("lease") => StoreError::LeaseNotFound { id: 0 },
        code::FAILED_PRECONDITION if why.contains("lease already exists") => StoreError::LeaseExists { id: 0 },
        code::OUT_OF_RANGE if why.contains("compacted") => StoreError::Compacted { revision: 0 },
        // "too many requests": the proposal queue is full, and nothing was proposed.
        code::RESOURCE_EXHAUSTED if why.contains("too many requests") => StoreError::Unavailable(why),
        code::INVALID_ARGUMENT
        | code::PERMISSION_DENIED
        | code::RESOURCE_EXHAUSTED
        | code::FAILED_PRECONDITION
        | code::UNIMPLEMENTED => StoreError::Rejected(why),
        code::UNAUTHENTICATED => StoreError::Unavailable(format!("not authenticated: {why}")),
        _ => StoreError::Unavailable(if why.is_empty() { status.to_string() } else { why }),
    }
}
