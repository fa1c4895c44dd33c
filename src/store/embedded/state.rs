//! The keys, the leases and what a transaction does to them: etcd's rules, without I/O and without a clock.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use tokio::time::Instant;

use super::check::{check, refused};
use crate::store::{
    Change, Compare, CompareOp, KeyValue, Limits, Op, OpResult, Revision, Snapshot, StoreError, Target, Txn, TxnResult,
};

/// A new store's revision, as etcd's: the first write gets 2.
pub(super) const FIRST_REVISION: i64 = 1;

/// The shortest lease, in seconds. etcd's own depends on its election timeout: 2 by default.
const MIN_TTL: i64 = 1;

/// The longest lease, in seconds: etcd's `MaxLeaseTTL`.
const MAX_TTL: i64 = 9_000_000_000;

/// A key's value and counters; the fields are [`KeyValue`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub value: Bytes,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

#[derive(Debug)]
struct Lease {
    ttl: i64,
    expires: Instant,
    keys: HashSet<Bytes>,
}

/// What changed since it was last taken: what a durable store has to write.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub keys: HashSet<Bytes>,
    pub leases: HashSet<i64>,
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.leases.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    revision: i64,
    keys: HashMap<Bytes, Entry>,
    leases: HashMap<i64, Lease>,
    expiries: BTreeSet<(Instant, i64)>,
    touched: Option<Touched>,
}

impl State {
    /// An empty state; `tracked`: it collects what changes for [`State::take_touched`].
    pub fn new(limits: Limits, tracked: bool) -> Self {
        State {
            limits,
            revision: FIRST_REVISION,
            keys: HashMap::new(),
            leases: HashMap::new(),
            expiries: BTreeSet::new(),
            touched: tracked.then(Touched::default),
        }
    }

    /// Puts back a lease that was stored. It lasts its full ttl from `now`, as after an etcd leader change.
    pub fn restore_lease(&mut self, id: i64, ttl: i64, now: Instant) {
        self.insert_lease(id, ttl, now);
    }

    /// Puts back a key that was stored, after its lease.
    pub fn restore_key(&mut self, key: Bytes, entry: Entry) {
        self.attach(&key, entry.lease);
        self.keys.insert(key, entry);
    }

    pub fn restore_revision(&mut self, revision: i64) {
        self.revision = revision;
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn entry(&self, key: &Bytes) -> Option<&Entry> {
        self.keys.get(key)
    }

    pub fn lease_ttl(&self, id: i64) -> Option<i64> {
        self.leases.get(&id).map(|lease| lease.ttl)
    }

    pub fn take_touched(&mut self) -> Touched {
        self.touched.as_mut().map(mem::take).unwrap_or_default()
    }

    /// When the next lease expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    pub fn snapshot(&self) -> Snapshot {
        let entries = self.keys.iter().map(|(key, entry)| key_value(key, entry)).collect();
        Snapshot { revision: self.revision, entries }
    }

    /// Evaluates and applies one transaction. The revision is what it wrote; none where it wrote nothing.
    pub fn transact(&mut self, txn: Txn) -> Result<(TxnResult, Option<Revision>), StoreError> {
        check(&txn, self.limits)?;
        let mut path = Vec::with_capacity(1 + txn.then.len());
        self.plan(&txn, &mut path)?;
        let mut path = path.into_iter();
        let mut changes = Vec::new();
        let (succeeded, results) = self.execute(txn, &mut path, &mut changes);
        let written = self.close(changes);
        Ok((TxnResult { revision: self.revision, succeeded, results }, written))
    }

    pub fn grant(&mut self, id: i64, ttl: i64, now: Instant) -> Result<(), StoreError> {
        if id == 0 {
            return Err(refused("a lease needs an id of its own"));
        }
        if ttl > MAX_TTL {
            return Err(refused("too large lease TTL"));
        }
        if self.leases.contains_key(&id) {
            return Err(StoreError::LeaseExists { id });
        }
        self.insert_lease(id, ttl.max(MIN_TTL), now);
        self.touch_lease(id);
        Ok(())
    }

    /// A lease past its time is gone for its holder, also where its keys are still waiting to go.
    pub fn keep_alive(&mut self, id: i64, now: Instant) -> Result<(), StoreError> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.expires > now);
        let lease = lease.ok_or(StoreError::LeaseNotFound { id })?;
        self.expiries.remove(&(lease.expires, id));
        lease.expires = expiry(now, lease.ttl);
        self.expiries.insert((lease.expires, id));
        Ok(())
    }

    /// Ends a lease and deletes its keys in one revision; none where it had no keys.
    pub fn revoke(&mut self, id: i64) -> Option<Revision> {
        let lease = self.leases.remove(&id)?;
        self.expiries.remove(&(lease.expires, id));
        self.touch_lease(id);
        let mut keys: Vec<Bytes> = lease.keys.into_iter().collect();
        keys.sort_unstable();
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            self.delete(key, &mut changes);
        }
        self.close(changes)
    }

    /// Revokes what has expired by `now`, each lease in a revision of its own, as etcd does.
    pub fn expire(&mut self, now: Instant) -> Vec<Revision> {
        let mut revisions = Vec::new();
        while let Some(&(_, id)) = self.expiries.first().filter(|(at, _)| *at <= now) {
            revisions.extend(self.revoke(id));
        }
        revisions
    }

    /// Which branch each transaction of the tree takes, in pre-order, before anything is written; fails where a put of
    /// a branch taken names a lease that is not there.
    fn plan(&self, txn: &Txn, path: &mut Vec<bool>) -> Result<(), StoreError> {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        path.push(succeeded);
        for op in if succeeded { &txn.then } else { &txn.otherwise } {
            match op {
                Op::Put { lease, .. } if *lease != 0 && !self.leases.contains_key(lease) => {
                    return Err(StoreError::LeaseNotFound { id: *lease });
                }
                Op::Txn(inner) => self.plan(inner, path)?,
                Op::Put { .. } | Op::Delete { .. } | Op::Get { .. } => {}
            }
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let entry = self.keys.get(&compare.key);
        let counter = |field: fn(&Entry) -> i64| entry.map_or(0, field);
        let ordering = match &compare.target {
            Target::Version(version) => counter(|e| e.version).cmp(version),
            Target::CreateRevision(revision) => counter(|e| e.create_revision).cmp(revision),
            Target::ModRevision(revision) => counter(|e| e.mod_revision).cmp(revision),
            Target::Value(value) => match entry {
                Some(entry) => entry.value.cmp(value),
                None => return false,
            },
        };
        match compare.op {
            CompareOp::Equal => ordering.is_eq(),
            CompareOp::Greater => ordering.is_gt(),
            CompareOp::Less => ordering.is_lt(),
        }
    }

    /// Runs the branches that `path` names, in order: a read sees the writes before it.
    fn execute(
        &mut self,
        txn: Txn,
        path: &mut std::vec::IntoIter<bool>,
        changes: &mut Vec<Change>,
    ) -> (bool, Vec<OpResult>) {
        let succeeded = path.next().unwrap_or(false);
        let ops = if succeeded { txn.then } else { txn.otherwise };
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(match op {
                Op::Put { key, value, lease } => {
                    self.put(key, value, lease, changes);
                    OpResult::Put
                }
                Op::Delete { key } => OpResult::Delete { deleted: self.delete(key, changes) },
                Op::Get { key } => OpResult::Get(self.keys.get_key_value(&key).map(|(k, e)| key_value(k, e))),
                Op::Txn(inner) => {
                    let (succeeded, results) = self.execute(inner, path, changes);
                    OpResult::Txn { succeeded, results }
                }
            });
        }
        (succeeded, results)
    }

    fn put(&mut self, key: Bytes, value: Bytes, lease: i64, changes: &mut Vec<Change>) {
        let revision = self.revision + 1;
        let value = own(&value);
        let (key, old_lease) = match self.keys.get_key_value_mut(&key) {
            Some((key, entry)) => {
                entry.value = value;
                entry.mod_revision = revision;
                entry.version += 1;
                let old = mem::replace(&mut entry.lease, lease);
                changes.push(Change::Put(key_value(key, entry)));
                (key.clone(), old)
            }
            None => {
                let key = own(&key);
                let entry = Entry { value, create_revision: revision, mod_revision: revision, version: 1, lease };
                changes.push(Change::Put(key_value(&key, &entry)));
                self.keys.insert(key.clone(), entry);
                (key, 0)
            }
        };
        if old_lease != lease {
            self.detach(&key, old_lease);
            self.attach(&key, lease);
        }
        self.touch_key(&key);
    }

    fn delete(&mut self, key: Bytes, changes: &mut Vec<Change>) -> i64 {
        let Some((key, entry)) = self.keys.remove_entry(&key) else { return 0 };
        self.detach(&key, entry.lease);
        self.touch_key(&key);
        changes.push(Change::Delete { key });
        1
    }

    /// The revision that `changes` make, if they are any.
    fn close(&mut self, changes: Vec<Change>) -> Option<Revision> {
        if changes.is_empty() {
            return None;
        }
        self.revision += 1;
        Some(Revision { revision: self.revision, changes })
    }

    fn insert_lease(&mut self, id: i64, ttl: i64, now: Instant) {
        let expires = expiry(now, ttl);
        self.expiries.insert((expires, id));
        self.leases.insert(id, Lease { ttl, expires, keys: HashSet::new() });
    }

    fn attach(&mut self, key: &Bytes, lease: i64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.insert(key.clone());
        }
    }

    fn detach(&mut self, key: &Bytes, lease: i64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.remove(key);
        }
    }

    fn touch_key(&mut self, key: &Bytes) {
        if let Some(touched) = &mut self.touched {
            touched.keys.insert(key.clone());
        }
    }

    fn touch_lease(&mut self, id: i64) {
        if let Some(touched) = &mut self.touched {
            touched.leases.insert(id);
        }
    }
}

fn key_value(key: &Bytes, entry: &Entry) -> KeyValue {
    KeyValue {
        key: key.clone(),
        value: entry.value.clone(),
        create_revision: entry.create_revision,
        mod_revision: entry.mod_revision,
        version: entry.version,
        lease: entry.lease,
    }
}

/// A copy: the caller's bytes may be a small part of a large buffer, which the store would keep alive.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A clock that can't count that far means never: some 30 years on.
fn expiry(now: Instant, ttl: i64) -> Instant {
    const NEVER: Duration = Duration::from_secs(86400 * 365 * 30);
    let ttl = Duration::from_secs(ttl.unsigned_abs()).min(NEVER);
    now + ttl
}
