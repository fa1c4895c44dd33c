//! How a server begins, and begins anew: an identity, its lease and lanes, `meta`, and a first snapshot.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::{JoinError, spawn_blocking};

use crate::session::ServerIdentity;
use crate::store::{Compare, Identity, Op, OpResult, Snapshot, Store, StoreError, Txn};
use crate::tree::key;
use crate::tree::record::{LaneRecord, MetaRecord, SLOT_BITS};
use crate::tree::replica::{ApplyError, Replica, read};

/// Seconds that a server's lanes outlive its last word: as long as writes wait for the store by default. A server
/// that was cut off for longer has closed its connections anyway, and begins anew.
pub const SERVER_LEASE_TTL: i64 = 30;

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the data under the prefix cannot be served: {0}")]
    Data(#[from] ApplyError),
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// A random number from 1 to 2^63 - 1: unguessable, and a legal lease.
pub fn random_id() -> Result<i64, getrandom::Error> {
    loop {
        let id = (getrandom::u64()? >> 1) as i64;
        if id != 0 {
            return Ok(id);
        }
    }
}

/// Draws an identity, makes its lanes, and reads the tree.
///
/// `seen`: where this server was before it began anew, as (revision, that revision's part of a zxid): a store
/// that is behind it was restored from a backup, and zxids go on above it.
pub async fn begin(
    store: &Arc<dyn Store>,
    identity: &Identity,
    lanes: usize,
    seen: Option<(i64, i64)>,
) -> Result<(ServerIdentity, Replica), StartError> {
    let server = getrandom::u64().map_err(StartError::Random)?;
    let lease = grant(store, SERVER_LEASE_TTL).await?;
    let me = ServerIdentity { server, lease };
    make_lanes(&**store, me, lanes).await?;
    make_meta(store, identity).await?;
    let mut replica = load(store.snapshot().await?).await?;
    if let Some((revision, zxid_revision)) = seen
        && replica.revision() < revision
    {
        raise_base(store, &replica, zxid_revision).await?;
        replica = load(store.snapshot().await?).await?;
    }
    if let Some((meta, _)) = replica.meta()
        && meta.cluster_id != identity.cluster_id
    {
        tracing::warn!(
            expected = format_args!("{:#x}", meta.cluster_id),
            found = format_args!("{:#x}", identity.cluster_id),
            "the data was written in another cluster: restored from its backup, it would seem"
        );
    }
    Ok((me, replica))
}

/// The replica of a snapshot, made on a thread for what takes long: a large tree takes seconds, in which a thread that serves
/// connections would answer nobody and keep no lease alive.
///
/// # Errors
/// As [`Replica::load`].
pub async fn load(snapshot: Snapshot) -> Result<Replica, ApplyError> {
    let loaded = spawn_blocking(|| Replica::load(snapshot)).await;
    match loaded.map_err(JoinError::try_into_panic) {
        Ok(loaded) => loaded,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime ends, and this task with it.
        Err(Err(_)) => pending().await,
    }
}

/// A lease of an id of our own.
pub async fn grant(store: &Arc<dyn Store>, ttl: i64) -> Result<i64, StartError> {
    loop {
        let id = random_id().map_err(StartError::Random)?;
        match store.lease_grant(id, ttl).await {
            Ok(()) => return Ok(id),
            Err(StoreError::LeaseExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn began(me: ServerIdentity) -> Op {
    Op::Put { key: key::BEGAN.into(), value: format!("{:016x}", me.server).into(), lease: 0 }
}

/// Ends a server's lanes; sessions stay. Those who are alone are told once more: where the store is restored from a backup
/// of before this server's last batches, that is not what they know.
///
/// # Errors
/// Where the store is away.
pub async fn end(store: &dyn Store, me: ServerIdentity) -> Result<(), StoreError> {
    let told = store.transact(Txn { then: vec![began(me)], ..Txn::default() }).await;
    // A store that is full refuses what it is told, and takes this.
    store.lease_revoke(me.lease).await?;
    told.map(|_| ())
}

/// Makes a server's lanes, and tells those who are alone that they are not.
///
/// # Errors
/// Where the store is away.
pub async fn make_lanes(store: &dyn Store, me: ServerIdentity, lanes: usize) -> Result<(), StoreError> {
    let keys: Vec<_> = (0..lanes).map(|lane| key::lane(me.server, lane)).collect();
    let put = |key| Op::Put { key, value: LaneRecord::default().encode(), lease: me.lease };
    let txn = Txn {
        compare: keys.iter().map(|key| Compare::create_revision(key.clone(), 0)).collect(),
        then: keys.into_iter().map(put).chain([began(me)]).collect(),
        otherwise: Vec::new(),
    };
    store.transact(txn).await?;
    Ok(())
}

/// Writes `meta` where the prefix is new. A format that this version does not know is found by the snapshot.
async fn make_meta(store: &Arc<dyn Store>, identity: &Identity) -> Result<(), StartError> {
    let key = bytes::Bytes::from_static(key::META);
    let value = MetaRecord { cluster_id: identity.cluster_id, bases: vec![(0, 0)] }.encode();
    let txn = Txn {
        compare: vec![Compare::create_revision(key.clone(), 0)],
        then: vec![Op::Put { key: key.clone(), value, lease: 0 }],
        otherwise: vec![Op::Get { key }],
    };
    let result = store.transact(txn).await?;
    if let Some(OpResult::Get(Some(kv))) = result.results.into_iter().next() {
        read(&kv, MetaRecord::decode)?;
    }
    Ok(())
}

/// After a restore from a backup: new zxids go on above `zxid_revision`. Several servers may try; one does it.
async fn raise_base(store: &Arc<dyn Store>, replica: &Replica, zxid_revision: i64) -> Result<(), StartError> {
    let Some((meta, mod_revision)) = replica.meta() else { return Ok(()) };
    let from = replica.revision() + 1;
    if replica.zxid(from, 0) >> SLOT_BITS > zxid_revision {
        // Another server has done it.
        return Ok(());
    }
    let mut meta = meta.clone();
    meta.bases.push((from, zxid_revision + 1 - from));
    let key = bytes::Bytes::from_static(key::META);
    let txn = Txn {
        compare: vec![Compare::mod_revision(key.clone(), *mod_revision)],
        then: vec![Op::Put { key, value: meta.encode(), lease: 0 }],
        otherwise: Vec::new(),
    };
    store.transact(txn).await?;
    tracing::warn!(from, "the store went back in time: restored from a backup; zxids go on above the old ones");
    Ok(())
}
