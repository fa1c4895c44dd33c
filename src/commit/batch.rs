//! A batch: many requests in one transaction of independent sub-transactions, the groups.
//!
//! Requests that share a session, or a key that at least one of them writes, are one group: evaluated in order,
//! their writes merged, sent as one sub-transaction. Groups succeed or fail independently. A server that is [`alone`] has
//! one group, with a guard in place of what the verdicts read.

use std::cell::Cell;

use bytes::Bytes;
use hashbrown::HashMap;

use super::alone;
use super::draft::{Asker, Draft, Effects, Overlay, State, Value, operation};
use super::keys::{KeyId, Keys, Kind};
use super::verdict::{Answer, Write, decide};
use crate::store::{Change, Compare, KeyValue, Limits, MAX_PREFIX, Op, OpResult, Revision, Txn, TxnResult};
use crate::tree::key;
use crate::tree::record::{ClaimRecord, GroupPast, LaneRecord, MAX_SLOTS, Past};
use crate::tree::replica::Replica;

/// A group that has failed this often claims its keys in its `else` branch: where two servers write one key, each attempt
/// that fails costs the store as much as one that succeeds, so they are to take turns early.
pub const CLAIM_AFTER: u32 = 1;

/// What a compare or an operation costs beside its key and value: the store's prefix (`MAX_PREFIX`), and protobuf's
/// tags, lengths and numbers.
const OVERHEAD: usize = MAX_PREFIX + 32;

/// The part of the store's request limit that a batch may fill; the rest is room for the lane's record.
const BYTES_SHARE: (usize, usize) = (7, 8);

/// After so many requests that had no room a batch is full: smaller ones might still fit, but finding out costs a verdict
/// for each, which is found again for the next batch.
const NO_ROOM_LIMIT: usize = 8;

/// What becomes of a request that is offered to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It has the batch's next slot.
    Taken,
    /// A key of it is busy: in no batch before that changes.
    Busy,
    /// Not in this batch: there is no room beside the others.
    Deferred,
    /// The batch has all the requests it may have.
    Full,
    /// It fits into no batch; says which limit, and which flag of etcd raises it.
    TooLarge(String),
}

/// A lane as the next batch finds it.
#[derive(Debug, Clone, Copy)]
pub struct LaneState {
    pub server: u64,
    pub lane: usize,
    /// The server's lease, which carries lanes and claims.
    pub lease: i64,
    /// The lane's last number; its key's version is one above.
    pub number: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// Each once, save where two groups that compared the same became one.
    compares: Vec<(KeyId, State)>,
    writes: Vec<KeyId>,
    past: Vec<Past>,
    fails: u32,
}

/// What the batch's requests do with a key.
#[derive(Debug, Default)]
struct KeyUse {
    /// Whose value the batch will leave.
    writer: Option<usize>,
    /// Who compared it, and with what, since the last write.
    readers: Vec<(usize, State)>,
    /// Whose answers will show its state, though their verdicts did not depend on it.
    shown: Vec<usize>,
}

/// Collects requests into a batch.
#[derive(Debug)]
pub struct Builder<'a> {
    replica: &'a Replica,
    limits: Limits,
    now: i64,
    /// In place of what the verdicts read.
    guard: Option<Vec<Compare>>,
    overlay: Overlay,
    answers: Vec<Answer>,
    /// Union-find: each slot's group, by the slot that leads it.
    leader: Vec<Cell<usize>>,
    groups: HashMap<usize, Group>,
    keys: Keys,
    /// By the keys' numbers.
    uses: Vec<KeyUse>,
    sessions: HashMap<i64, usize>,
    widest: usize,
    bytes: usize,
    /// Requests that had no room.
    no_room: usize,
}

/// A batch, ready to be sent.
#[derive(Debug, Clone)]
pub struct Batch {
    pub number: u64,
    pub id: u128,
    /// By slot: the answer if the group takes effect, and the group.
    pub answers: Vec<(Answer, usize)>,
    /// For each group a key whose event shows that it took effect; `None`: it writes nothing.
    pub witnesses: Vec<Option<Bytes>>,
    /// Every key that the batch writes, also where the guard makes the delete of what is not there needless.
    pub keys: Vec<Bytes>,
    /// About how many bytes the transaction has.
    pub bytes: usize,
    pub txn: Txn,
}

/// What a batch's transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// At this revision; whether each group took effect.
    Applied { revision: i64, groups: Vec<bool> },
    /// An earlier copy of the same bytes was applied, at this revision; the stream says which groups took effect.
    AppliedBefore { revision: i64 },
    /// The lane is not there, or holds somebody else's number: this server's lease has ended.
    LaneLost,
}

impl<'a> Builder<'a> {
    /// `now`: milliseconds since the Unix epoch. `guard`: [`alone::guard`], where no other server is thought to write.
    pub fn new(replica: &'a Replica, limits: Limits, now: i64, guard: Option<Vec<Compare>>) -> Self {
        Builder {
            replica,
            limits,
            now,
            guard,
            overlay: Overlay::default(),
            answers: Vec::new(),
            leader: Vec::new(),
            groups: HashMap::new(),
            keys: Keys::default(),
            uses: Vec::new(),
            sessions: HashMap::new(),
            widest: 0,
            bytes: 0,
            no_room: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// How many ephemerals one transaction may delete: each costs three deletes and its parent's put.
    pub fn reap_limit(limits: Limits) -> usize {
        (limits.txn_ops.saturating_sub(8) / 4).clamp(1, MAX_SLOTS)
    }

    /// Finds the request's verdict and takes it in, unless a key of it is `busy` or it has no room.
    /// `fails`: how often its group failed before.
    pub fn offer(&mut self, write: &Write, fails: u32, busy: impl Fn(&Bytes) -> bool) -> Offer {
        let slot = self.answers.len();
        if slot >= MAX_SLOTS || self.no_room >= NO_ROOM_LIMIT {
            return Offer::Full;
        }
        if write.hot_key().is_some_and(|key| busy(&key)) {
            return Offer::Busy;
        }
        let (session, ids) = match write {
            Write::Request { session, ids, .. } => (Some(*session), &ids[..]),
            Write::Open { id, .. } | Write::Attach { id, .. } => (Some(*id), &[][..]),
            Write::Expire { session, .. } | Write::Reap { session } => (Some(*session), &[][..]),
            Write::Sweep { .. } | Write::Sync => (None, &[][..]),
        };
        let asker = Asker { session: session.unwrap_or(0), ids, now: self.now };
        let mut draft = Draft::new(self.replica, &self.overlay, &mut self.keys, asker, slot as u16);
        let mut answer = decide(&mut draft, write, Self::reap_limit(self.limits));
        let effects = if answer.is_error() { draft.abandon() } else { draft.finish() };
        let compared = effects.compares.iter().map(|(key, _)| *key);
        if compared.chain(effects.values.iter().map(|(key, _)| *key)).any(|key| busy(self.keys.get(key))) {
            return Offer::Busy;
        }
        if effects.defer {
            return Offer::Deferred;
        }
        self.uses.resize_with(self.keys.count(), KeyUse::default);
        let joins = self.joins(session, &effects);
        let compares = distinct(&effects.compares);
        let bytes = self.size(&effects);
        let too_large = self.too_large(compares.len(), effects.values.len(), bytes);
        let fresh = self.fresh(&joins, compares);
        match too_large {
            Some(reason) if self.is_empty() => return Offer::TooLarge(reason),
            None if self.has_room(&joins, &fresh, &effects, bytes) => {}
            _ => {
                self.no_room += 1;
                return Offer::Deferred;
            }
        }
        self.settle_shown(slot, &effects, &mut answer);
        self.bytes += bytes;
        self.take(slot, session, joins, fresh, effects, fails);
        self.answers.push(answer);
        Offer::Taken
    }

    /// The batch as one transaction on the lane. Ends the builder.
    pub fn build(self, lane: LaneState, batch: u64, id: u128) -> Batch {
        let mut leaders: Vec<usize> = self.groups.keys().copied().collect();
        leaders.sort_unstable();
        let place: HashMap<usize, usize> = leaders.iter().enumerate().map(|(at, leader)| (*leader, at)).collect();
        let group_of: Vec<usize> = (0..self.leader.len()).map(|slot| place[&self.find(slot)]).collect();
        let lane_key = key::lane(lane.server, lane.lane);
        let number = lane.number + 1;
        let mut record = LaneRecord { number, batch_id: id, slots: self.answers.len() as u16, past: Vec::new() };
        let mut txns = Vec::with_capacity(leaders.len());
        let mut spare = self.byte_limit().saturating_sub(self.bytes);
        let mut witnesses = Vec::with_capacity(leaders.len());
        let mut keys = Vec::new();
        for leader in leaders {
            let Some(group) = self.groups.get(&leader) else { continue };
            let witness = self.witness(group);
            if let (Some(witness), false) = (&witness, group.past.is_empty()) {
                record.past.push(GroupPast { witness: witness.clone(), changes: group.past.clone() });
            }
            txns.push(Op::Txn(self.group_txn(group, lane, leader as u16, batch, &mut spare)));
            witnesses.push(witness);
            keys.extend(group.writes.iter().map(|key| self.keys.get(*key).clone()));
        }
        let mut then = vec![Op::Put { key: lane_key.clone(), value: record.encode(), lease: lane.lease }];
        then.extend(txns);
        let txn = Txn {
            // The key's version counts its puts: the first made number 0.
            compare: vec![Compare::version(lane_key.clone(), number as i64)],
            then,
            otherwise: vec![Op::Get { key: lane_key }],
        };
        let answers = self.answers.into_iter().zip(group_of).collect();
        Batch { number, id, answers, witnesses, keys, bytes: self.bytes, txn }
    }

    /// `spare`: bytes that claims may take.
    fn group_txn(&self, group: &Group, lane: LaneState, leader: u16, batch: u64, spare: &mut usize) -> Txn {
        let compares = distinct(&group.compares);
        let compares = compares.into_iter().map(|(key, state)| state.compare(self.keys.get(key).clone()));
        let values = group.writes.iter().filter_map(|key| Some((self.keys.get(*key), &self.overlay.get(*key)?.0)));
        if let Some(guard) = &self.guard {
            let compare: Vec<Compare> = guard.iter().cloned().chain(compares).collect();
            // What is not there now will not be there then.
            let values = values.filter(|(key, value)| !value.is_removal() || self.replica.has(key));
            let then: Vec<Op> = values.map(|(key, value)| operation(key, value, lane.server, batch)).collect();
            let level = self.room(1).and_then(|room| alone::level(room, compare.len(), then.len()));
            let then = alone::parted(then, level.unwrap_or(usize::MAX));
            return Txn { compare, then, otherwise: Vec::new() };
        }
        let then = values.map(|(key, value)| operation(key, value, lane.server, batch)).collect();
        let mut otherwise = Vec::new();
        if group.fails >= CLAIM_AFTER && !group.writes.is_empty() {
            let keys = group.writes.iter().map(|key| self.keys.get(*key).clone()).collect();
            let value = ClaimRecord { keys }.encode();
            if let Some(left) = spare.checked_sub(value.len() + OVERHEAD) {
                *spare = left;
                let key = key::claim(lane.server, lane.lane, leader);
                otherwise.push(Op::Put { key, value, lease: lane.lease });
            }
        }
        Txn { compare: compares.collect(), then, otherwise }
    }

    /// A key that the group's transaction changes for certain: one that it puts, or one that it deletes and that is there
    /// where its compares hold.
    fn witness(&self, group: &Group) -> Option<Bytes> {
        let is_put = |key: &&KeyId| self.overlay.get(**key).is_some_and(|(value, _)| !value.is_removal());
        let is_deleted = |key: &&KeyId| {
            let key = self.keys.get(**key);
            matches!(key::parse(key), key::Parsed::Session(_) | key::Parsed::Node(_)) && self.replica.has(key)
        };
        let witness = group.writes.iter().find(is_put).or_else(|| group.writes.iter().find(is_deleted));
        witness.map(|key| self.keys.get(*key).clone())
    }

    fn find(&self, mut slot: usize) -> usize {
        while self.leader[slot].get() != slot {
            // Halves the path for the next one.
            let above = self.leader[self.leader[slot].get()].get();
            self.leader[slot].set(above);
            slot = above;
        }
        slot
    }

    /// The groups that the request ties together, by their leaders, each once.
    fn joins(&self, session: Option<i64>, effects: &Effects) -> Vec<usize> {
        if self.guard.is_some() {
            return if self.is_empty() { Vec::new() } else { vec![self.find(0)] };
        }
        let mut joins = Vec::new();
        let mut join = |slot: usize| {
            let leader = self.find(slot);
            if joins.last() != Some(&leader) {
                joins.push(leader);
            }
        };
        if let Some(slot) = session.and_then(|session| self.sessions.get(&session)) {
            join(*slot);
        }
        for key in &effects.touched {
            if let Some((_, slot)) = self.overlay.get(*key) {
                join(*slot);
            }
        }
        for (key, _) in &effects.values {
            let used = &self.uses[key.index()];
            used.readers.iter().for_each(|(slot, _)| join(*slot));
            used.writer.iter().chain(&used.shown).for_each(|slot| join(*slot));
        }
        for (key, _) in &effects.compares {
            self.uses[key.index()].writer.into_iter().for_each(&mut join);
        }
        joins.sort_unstable();
        joins.dedup();
        joins
    }

    /// The compares that the groups it joins do not have yet, each once; for what the guard stands for there is none.
    fn fresh(&self, joins: &[usize], mut compares: Vec<(KeyId, State)>) -> Vec<(KeyId, State)> {
        if self.guard.is_some() {
            compares.retain(|(key, _)| self.keys.is_session(*key));
        }
        if !joins.is_empty() {
            compares.retain(|(key, state)| {
                let readers = &self.uses[key.index()].readers;
                !readers.iter().any(|(slot, other)| other == state && joins.contains(&self.find(*slot)))
            });
        }
        compares
    }

    fn byte_limit(&self) -> usize {
        self.limits.request_bytes / BYTES_SHARE.1 * BYTES_SHARE.0
    }

    /// Operations for each group, beside the lane's put and those of so many groups; none: there are too many groups.
    fn room(&self, groups: usize) -> Option<usize> {
        self.limits.txn_ops.checked_sub(1 + groups)
    }

    fn has_room(&self, joins: &[usize], fresh: &[(KeyId, State)], effects: &Effects, bytes: usize) -> bool {
        let joined = joins.iter().filter_map(|leader| self.groups.get(leader));
        let (compares, writes) =
            joined.fold((0, 0), |(c, w), group| (c + group.compares.len(), w + group.writes.len()));
        let compares = compares + fresh.len();
        let writes = writes + effects.values.iter().filter(|(key, _)| self.uses[key.index()].writer.is_none()).count();
        let room = self.room(self.groups.len() - joins.len() + 1);
        let has_ops = room.is_some_and(|room| match &self.guard {
            Some(guard) => alone::level(room, guard.len() + compares, writes).is_some(),
            None => compares.max(writes).max(self.widest) <= room,
        });
        has_ops && self.bytes + bytes <= self.byte_limit()
    }

    /// Why no batch has room for a request with so many compares, writes and bytes. A server that is alone could take more;
    /// but no request is to depend on that.
    fn too_large(&self, compares: usize, writes: usize, bytes: usize) -> Option<String> {
        let ops = 2 + compares.max(writes);
        if ops > self.limits.txn_ops {
            return Some(format!(
                "it needs {ops} operations in one transaction, the limit is {}: raise etcd's --max-txn-ops and zketcd's --etcd-max-txn-ops",
                self.limits.txn_ops
            ));
        }
        let limit = self.byte_limit();
        if bytes > limit {
            return Some(format!(
                "it needs {bytes} bytes in one request, the limit is {limit}: raise etcd's --max-request-bytes and zketcd's --etcd-max-request-bytes"
            ));
        }
        None
    }

    /// An answer shows a znode as it was at its own moment: what a later request of the batch, or a later operation of
    /// the same multi, writes is not looked up again. The writer compares what was there before, and shares the
    /// answer's group.
    fn settle_shown(&mut self, slot: usize, effects: &Effects, answer: &mut Answer) {
        for (key, _) in &effects.values {
            let earlier = std::mem::take(&mut self.uses[key.index()].shown);
            if earlier.is_empty() {
                continue;
            }
            let Some((kind, path)) = Kind::of(self.keys.get(*key)) else { continue };
            for answer in earlier {
                if let Some(answer) = self.answers.get_mut(answer) {
                    answer.stats().filter(|stat| stat.path == path).for_each(|stat| stat.settle(kind));
                }
            }
        }
        let mut written: Vec<KeyId> = effects.values.iter().map(|(key, _)| *key).collect();
        written.sort_unstable();
        for stat in answer.stats() {
            let open: Vec<Kind> = stat.open().collect();
            for kind in open {
                let key = self.keys.of(kind, &stat.path);
                self.uses.resize_with(self.keys.count(), KeyUse::default);
                if written.binary_search(&key).is_ok() {
                    stat.settle(kind);
                } else {
                    self.uses[key.index()].shown.push(slot);
                }
            }
        }
    }

    fn take(
        &mut self,
        slot: usize,
        session: Option<i64>,
        joins: Vec<usize>,
        fresh: Vec<(KeyId, State)>,
        effects: Effects,
        fails: u32,
    ) {
        let written = effects.values.iter().map(|(key, _)| *key);
        let written = written.filter(|key| self.uses[key.index()].writer.is_none()).collect();
        for (key, state) in &fresh {
            self.uses[key.index()].readers.push((slot, *state));
        }
        let mut group = Group { compares: fresh, writes: written, past: effects.past, fails };
        self.leader.push(Cell::new(slot));
        for leader in joins {
            if let Some(other) = self.groups.remove(&leader) {
                group = merge(group, other);
            }
            self.leader[leader].set(slot);
        }
        self.widest = self.widest.max(group.compares.len()).max(group.writes.len());
        self.groups.insert(slot, group);
        if let Some(session) = session {
            self.sessions.insert(session, slot);
        }
        for (key, value) in effects.values {
            let used = &mut self.uses[key.index()];
            used.writer = Some(slot);
            // Whoever read it is of the writer's group now.
            used.readers.clear();
            self.overlay.put(key, value, slot);
        }
    }

    fn size(&self, effects: &Effects) -> usize {
        let length = |key: &KeyId| self.keys.get(*key).len();
        let compares: usize = effects.compares.iter().map(|(key, _)| length(key) + OVERHEAD).sum();
        let values: usize = effects.values.iter().map(|(key, value)| length(key) + value_size(value) + OVERHEAD).sum();
        let past: usize = effects.past.iter().map(|past| past.path.len() + OVERHEAD).sum();
        compares + values + past
    }
}

impl Batch {
    /// What the transaction changed, as the store's stream will tell it: its answer came, with this `revision` and what
    /// became of the `groups`, and `replica` has all that came before.
    pub fn changes(&self, revision: i64, groups: &[bool], replica: &Replica) -> Revision {
        let mut fates = groups.iter().copied();
        let mut changes = Vec::with_capacity(self.keys.len() + 1);
        for op in &self.txn.then {
            let Op::Txn(group) = op else {
                changes.extend(change(op, revision, replica));
                continue;
            };
            let branch = if fates.next() == Some(true) { &group.then } else { &group.otherwise };
            let ops = branch.iter().flat_map(|op| match op {
                Op::Txn(part) => &part.then[..],
                op => std::slice::from_ref(op),
            });
            changes.extend(ops.filter_map(|op| change(op, revision, replica)));
        }
        Revision { revision, changes }
    }

    /// Reads the transaction's answer.
    pub fn outcome(&self, result: &TxnResult) -> Outcome {
        if result.succeeded {
            let group = |result: &OpResult| matches!(result, OpResult::Txn { succeeded: true, .. });
            let groups = result.results.iter().skip(1).map(group).collect();
            return Outcome::Applied { revision: result.revision, groups };
        }
        let Some(OpResult::Get(Some(lane))) = result.results.first() else { return Outcome::LaneLost };
        match LaneRecord::decode(lane.value.clone()) {
            Ok(record) if record.number == self.number && record.batch_id == self.id => {
                Outcome::AppliedBefore { revision: lane.mod_revision }
            }
            _ => Outcome::LaneLost,
        }
    }
}

/// What an operation changes; deleting what is not there changes nothing.
fn change(op: &Op, revision: i64, replica: &Replica) -> Option<Change> {
    match op {
        Op::Put { key, value, lease } => {
            // Of keys that are no znode's the replica does not keep it.
            let known = match key::parse(key) {
                key::Parsed::Node(path) => replica.node(path).filter(|node| node.has_key()),
                _ => None,
            };
            Some(Change::Put(KeyValue {
                key: key.clone(),
                value: value.clone(),
                create_revision: known.map_or(revision, |node| replica.create_revision(node)),
                mod_revision: revision,
                // Not known here, and nothing to the replica.
                version: 0,
                lease: *lease,
            }))
        }
        Op::Delete { key } => replica.has(key).then(|| Change::Delete { key: key.clone() }),
        Op::Get { .. } | Op::Txn(_) => None,
    }
}

/// In the order of the keys, each once.
fn distinct(compares: &[(KeyId, State)]) -> Vec<(KeyId, State)> {
    let mut distinct = compares.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// The smaller into the larger: a group that grows request by request is not copied for each.
fn merge(one: Group, other: Group) -> Group {
    let size = |group: &Group| group.compares.len() + group.writes.len() + group.past.len();
    let (mut into, other) = if size(&one) < size(&other) { (other, one) } else { (one, other) };
    into.compares.extend(other.compares);
    into.writes.extend(other.writes);
    into.past.extend(other.past);
    into.fails = into.fails.max(other.fails);
    into
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Node(Some(node)) => 64 + node.data.as_ref().map_or(0, Bytes::len),
        Value::Acl(Some(acl)) => acl.list.iter().map(|acl| 12 + acl.id.scheme.len() + acl.id.id.len()).sum::<usize>(),
        _ => 32,
    }
}
