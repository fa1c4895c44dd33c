//! The keys, the leases and what a transaction does to them: etcd's rules, without I/O and without a clock.
//!
//! Of a key this knows the counters that transactions compare. Values are kept elsewhere ([`Values`]), save those written
//! since they were last taken there.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use tokio::time::Instant;

use super::check::{check, refused};
use crate::store::{
    Change, Compare, CompareOp, KeyValue, Limits, Op, OpResult, Revision, StoreError, Target, Txn, TxnResult,
};
use crate::table::{Row, Table};

/// A new store's revision, as etcd's: the first write gets 2.
pub(super) const FIRST_REVISION: i64 = 1;

/// The shortest lease, in seconds. etcd's own depends on its election timeout: 2 by default.
const MIN_TTL: i64 = 1;

/// The longest lease, in seconds: etcd's `MaxLeaseTTL`.
const MAX_TTL: i64 = 9_000_000_000;

/// A key's counters; the fields are [`KeyValue`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

#[derive(Debug)]
struct Key {
    key: Box<[u8]>,
    entry: Entry,
}

impl Row for Key {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

#[derive(Debug)]
struct Lease {
    ttl: i64,
    expires: Instant,
    keys: HashSet<Bytes>,
}

/// Where the values are that [`State::take_touched`] gave away.
pub(super) trait Values {
    /// The value of a key that is there.
    fn value(&self, key: &[u8]) -> Result<Bytes, StoreError>;
}

/// What changed since it was last taken: what has to be written.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Each key with its counters and its value, none where it has gone.
    pub keys: HashMap<Bytes, Option<(Entry, Bytes)>>,
    /// Each lease with its ttl in seconds, none where it has gone.
    pub leases: HashMap<i64, Option<i64>>,
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
    keys: Table<Key>,
    leases: HashMap<i64, Lease>,
    expiries: BTreeSet<(Instant, i64)>,
    touched: Touched,
}

/// What a transaction is going to do, in pre-order.
struct Plan {
    /// Which branch each transaction of the tree takes.
    path: VecDeque<bool>,
    /// The value before the transaction for each [`Op::Get`]; an empty one for a key that is not there.
    reads: VecDeque<Bytes>,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        State {
            limits,
            revision: FIRST_REVISION,
            keys: Table::new(),
            leases: HashMap::new(),
            expiries: BTreeSet::new(),
            touched: Touched::default(),
        }
    }

    /// Puts back a lease that was stored. It lasts its full ttl from `now`, as after an etcd leader change.
    pub fn restore_lease(&mut self, id: i64, ttl: i64, now: Instant) {
        self.insert_lease(id, ttl, now);
    }

    /// Puts back a key that was stored, after its lease.
    pub fn restore_key(&mut self, key: &[u8], entry: Entry) {
        if entry.lease != 0 {
            self.attach(&Bytes::copy_from_slice(key), entry.lease);
        }
        self.keys.insert(Key { key: key.into(), entry });
    }

    pub fn restore_revision(&mut self, revision: i64) {
        self.revision = revision;
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    pub fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.keys.find(key).and_then(|number| self.keys.get(number)).map(|key| &key.entry)
    }

    #[cfg(test)]
    pub fn lease_ttl(&self, id: i64) -> Option<i64> {
        self.leases.get(&id).map(|lease| lease.ttl)
    }

    pub fn take_touched(&mut self) -> Touched {
        mem::take(&mut self.touched)
    }

    /// When the next lease expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Evaluates and applies one transaction. The revision is what it wrote; none where it wrote nothing. An error, also one
    /// of `values`, leaves all as it was.
    pub fn transact(&mut self, txn: Txn, values: &impl Values) -> Result<(TxnResult, Option<Revision>), StoreError> {
        check(&txn, self.limits)?;
        let mut plan = Plan { path: VecDeque::with_capacity(1 + txn.then.len()), reads: VecDeque::new() };
        self.plan(&txn, values, &mut plan)?;
        let mut changes = Vec::new();
        let (succeeded, results) = self.execute(txn, &mut plan, &mut changes);
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
        let ttl = ttl.max(MIN_TTL);
        self.insert_lease(id, ttl, now);
        self.touched.leases.insert(id, Some(ttl));
        Ok(())
    }

    /// A lease past its time is gone for its holder, also where its keys are still waiting to go.
    pub fn keep_alive(&mut self, id: i64, now: Instant) -> Result<(), StoreError> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.expires > now);
        let lease = lease.ok_or(StoreError::LeaseNotFound { id })?;
        self.expiries.remove(&(lease.expires, id));
        // Of two that were asked for together, the later one counts, whichever comes first.
        lease.expires = lease.expires.max(expiry(now, lease.ttl));
        self.expiries.insert((lease.expires, id));
        Ok(())
    }

    /// Ends a lease and deletes its keys in one revision; none where it had no keys.
    pub fn revoke(&mut self, id: i64) -> Option<Revision> {
        let lease = self.leases.remove(&id)?;
        self.expiries.remove(&(lease.expires, id));
        self.touched.leases.insert(id, None);
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

    /// Made before anything is written; fails where a put of a branch taken names a lease that is not there.
    fn plan(&self, txn: &Txn, values: &impl Values, plan: &mut Plan) -> Result<(), StoreError> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = succeeded && self.holds(compare, values)?;
        }
        plan.path.push_back(succeeded);
        for op in if succeeded { &txn.then } else { &txn.otherwise } {
            match op {
                Op::Put { lease, .. } if *lease != 0 && !self.leases.contains_key(lease) => {
                    return Err(StoreError::LeaseNotFound { id: *lease });
                }
                Op::Get { key } => plan.reads.push_back(self.value(key, values)?.unwrap_or_default()),
                Op::Txn(inner) => self.plan(inner, values, plan)?,
                Op::Put { .. } | Op::Delete { .. } => {}
            }
        }
        Ok(())
    }

    fn value(&self, key: &[u8], values: &impl Values) -> Result<Option<Bytes>, StoreError> {
        match self.touched.keys.get(key) {
            Some(record) => Ok(record.as_ref().map(|(_, value)| value.clone())),
            None => self.keys.find(key).map(|_| values.value(key)).transpose(),
        }
    }

    fn holds(&self, compare: &Compare, values: &impl Values) -> Result<bool, StoreError> {
        let entry = self.entry(&compare.key);
        let counter = |field: fn(&Entry) -> i64| entry.map_or(0, field);
        let ordering = match &compare.target {
            Target::Version(version) => counter(|e| e.version).cmp(version),
            Target::CreateRevision(revision) => counter(|e| e.create_revision).cmp(revision),
            Target::ModRevision(revision) => counter(|e| e.mod_revision).cmp(revision),
            Target::Value(value) => match self.value(&compare.key, values)? {
                Some(is) => is.cmp(value),
                None => return Ok(false),
            },
        };
        Ok(match compare.op {
            CompareOp::Equal => ordering.is_eq(),
            CompareOp::Greater => ordering.is_gt(),
            CompareOp::Less => ordering.is_lt(),
        })
    }

    /// Runs the branches that are planned, in order: a read sees the writes before it.
    fn execute(&mut self, txn: Txn, plan: &mut Plan, changes: &mut Vec<Change>) -> (bool, Vec<OpResult>) {
        let succeeded = plan.path.pop_front().unwrap_or(false);
        let ops = if succeeded { txn.then } else { txn.otherwise };
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(match op {
                Op::Put { key, value, lease } => {
                    self.put(key, value, lease, changes);
                    OpResult::Put
                }
                Op::Delete { key } => OpResult::Delete { deleted: self.delete(key, changes) },
                Op::Get { key } => {
                    let before = plan.reads.pop_front();
                    OpResult::Get(self.entry(&key).map(|entry| {
                        let written = self.touched.keys.get(&key).and_then(Option::as_ref);
                        let written = written.map(|(_, value)| value.clone());
                        key_value(key, written.or(before).unwrap_or_default(), entry)
                    }))
                }
                Op::Txn(inner) => {
                    let (succeeded, results) = self.execute(inner, plan, changes);
                    OpResult::Txn { succeeded, results }
                }
            });
        }
        (succeeded, results)
    }

    fn put(&mut self, key: Bytes, value: Bytes, lease: i64, changes: &mut Vec<Change>) {
        let revision = self.revision + 1;
        let (key, value) = (own(&key), own(&value));
        let number = self.keys.find(&key);
        let (entry, old_lease) = match number.and_then(|number| self.keys.get_mut(number)) {
            Some(Key { entry, .. }) => {
                let old = entry.lease;
                *entry = Entry { mod_revision: revision, version: entry.version + 1, lease, ..*entry };
                (*entry, old)
            }
            None => {
                let entry = Entry { create_revision: revision, mod_revision: revision, version: 1, lease };
                self.keys.insert(Key { key: key[..].into(), entry });
                (entry, 0)
            }
        };
        if old_lease != lease {
            self.detach(&key, old_lease);
            self.attach(&key, lease);
        }
        self.touched.keys.insert(key.clone(), Some((entry, value.clone())));
        changes.push(Change::Put(key_value(key, value, &entry)));
    }

    fn delete(&mut self, key: Bytes, changes: &mut Vec<Change>) -> i64 {
        let Some(Key { entry, .. }) = self.keys.find(&key).and_then(|number| self.keys.remove(number)) else {
            return 0;
        };
        let key = own(&key);
        self.detach(&key, entry.lease);
        self.touched.keys.insert(key.clone(), None);
        changes.push(Change::Delete { key });
        1
    }

    /// The revision that `changes` make, if they are any.
    fn close(&mut self, mut changes: Vec<Change>) -> Option<Revision> {
        if changes.is_empty() {
            return None;
        }
        // The history keeps them.
        changes.shrink_to_fit();
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
}

pub(super) fn key_value(key: Bytes, value: Bytes, entry: &Entry) -> KeyValue {
    KeyValue {
        key,
        value,
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
