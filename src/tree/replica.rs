//! The replica: the whole znode tree of the prefix in memory, with its sessions, lanes and zxid bases.
//!
//! It changes in one way only: [`Replica::apply`] with the store's revisions, in order. Deterministic: no clock,
//! no socket, no task.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};

use super::key::{self, Parsed};
use super::node::{Node, NodeAcl};
use super::path;
use super::quota::{self, Usage};
use super::record::{
    AclRecord, BadRecord, Born, ChangeKind, ChildRecord, ClaimRecord, LaneRecord, MetaRecord, NodeRecord, Place,
    SLOT_BITS, SessionRecord,
};
use crate::jute::Acl;
use crate::store::{Change as StoreChange, KeyValue, Revision, Snapshot};
use crate::table::Table;

/// Why a replica cannot go on from where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("{record}, under the key {key}")]
    Bad { key: String, record: BadRecord },
    #[error("the node {0} has no parent: the data under the prefix is damaged")]
    Orphan(String),
    /// The stream lost something: a new snapshot is needed.
    #[error("the stream lost batches of lane {lane} of server {server:016x}: {expected} was due, {found} came")]
    Gap { server: u64, lane: usize, expected: u64, found: u64 },
    /// The same, seen by the batch's own server.
    #[error("the stream left out revision {revision}, which held a batch of this server's lane {lane}")]
    Missed { lane: usize, revision: i64 },
}

impl ApplyError {
    /// Whether the stream lost something, so that a new snapshot mends it.
    pub fn is_loss(&self) -> bool {
        matches!(self, ApplyError::Gap { .. } | ApplyError::Missed { .. })
    }
}

/// A live session, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    pub record: SessionRecord,
    pub mod_revision: i64,
}

/// A change of one znode, in the order in which watchers hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub place: Place,
    pub kind: ChangeKind,
    pub path: String,
}

/// An ACL that a revision replaced, or that of a znode which it made again.
#[derive(Debug)]
pub struct OldAcl {
    /// The place of the request that set the new one, or made the znode.
    pub until: Place,
    /// `None`: open.
    pub list: Option<Arc<[Acl]>>,
}

/// What one revision did, beyond the new state.
#[derive(Debug, Default)]
pub struct Applied {
    pub revision: i64,
    /// By (slot, index).
    pub changes: Vec<Change>,
    /// ACLs of nodes that are gone, for the events about them; `None`: open.
    pub gone_acls: HashMap<String, Option<Arc<[Acl]>>>,
    /// ACLs that were replaced, for the events of what came before.
    pub old_acls: HashMap<String, OldAcl>,
    /// Sessions attached (their record's new revision) or ended (`None`).
    pub sessions: Vec<(i64, Option<i64>)>,
    pub lane: Option<(u64, usize, LaneRecord)>,
    pub claims: Vec<(u64, ClaimRecord)>,
}

/// The last put of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePut {
    /// Of the batch.
    pub number: u64,
    pub mod_revision: i64,
}

#[derive(Debug)]
pub struct Replica {
    nodes: Table<Node>,
    sessions: HashMap<i64, Session>,
    ephemerals: HashMap<i64, HashSet<u32>>,
    /// Container and TTL nodes: what the sweeper looks at.
    transient: HashSet<u32>,
    /// What there is below each path that has a quota.
    quotas: HashMap<Box<str>, Usage>,
    lanes: HashMap<(u64, usize), LanePut>,
    meta: Option<(MetaRecord, i64)>,
    /// Revision at which the last server began or ended; 0: none is known.
    began: i64,
    revision: i64,
    last_zxid: i64,
    data_bytes: u64,
}

impl Default for Replica {
    fn default() -> Self {
        Self::new()
    }
}

impl Replica {
    /// An empty tree: the nodes that exist without keys, as `DataTree` begins.
    pub fn new() -> Self {
        let mut replica = Replica {
            nodes: Table::new(),
            sessions: HashMap::new(),
            ephemerals: HashMap::new(),
            transient: HashSet::new(),
            quotas: HashMap::new(),
            lanes: HashMap::new(),
            meta: None,
            began: 0,
            revision: 0,
            last_zxid: 0,
            data_bytes: 0,
        };
        for reserved in path::RESERVED {
            replica.seed(reserved);
        }
        replica
    }

    /// The tree of a snapshot, each of whose entries goes as it is read: a large tree is hardly there twice.
    pub fn load(snapshot: Snapshot) -> Result<Self, ApplyError> {
        let mut replica = Replica::new();
        let mut entries = snapshot.entries;
        // etcd gives them in this order. A parent's path is a prefix of its children's, so it comes first.
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        if let Some(meta) = entries.iter().find(|entry| entry.key == key::META) {
            replica.put_meta(meta)?;
        }
        let mut rest = Vec::new();
        let mut last = 0;
        for entry in entries {
            match key::parse(&entry.key) {
                Parsed::Meta => {}
                Parsed::Node(path) => {
                    last = last.max(entry.mod_revision);
                    replica.put_node(path, &entry)?;
                }
                _ => rest.push(entry),
            }
        }
        let mut last_slots = (0, 0);
        for entry in rest {
            last = last.max(entry.mod_revision);
            match key::parse(&entry.key) {
                Parsed::Children(path) => replica.put_children(path, &entry)?,
                Parsed::Acl(path) => {
                    replica.put_acl(path, &entry)?;
                }
                Parsed::Session(id) => replica.put_session(id, &entry)?,
                Parsed::Lane { server, lane } => {
                    let record = read(&entry, LaneRecord::decode)?;
                    last_slots = last_slots.max((entry.mod_revision, record.slots));
                    let put = LanePut { number: record.number, mod_revision: entry.mod_revision };
                    replica.lanes.insert((server, lane), put);
                }
                Parsed::Began => replica.began = entry.mod_revision,
                Parsed::Claim { .. } | Parsed::Meta | Parsed::Node(_) | Parsed::Foreign => {}
            }
        }
        let slots = if last_slots.0 == last { last_slots.1 } else { 0 };
        replica.revision = snapshot.revision;
        replica.last_zxid = if last == 0 { 0 } else { replica.zxid(last, slots.saturating_sub(1)) };
        Ok(replica)
    }

    /// Takes one revision, newer than any before.
    pub fn apply(&mut self, revision: &Revision) -> Result<Applied, ApplyError> {
        assert!(revision.revision > self.revision, "a store's revisions come in order, each once");
        let mut applied = Applied { revision: revision.revision, ..Applied::default() };
        let lane = self.lane_of(revision)?;
        let mut deleted = Vec::new();
        let mut put = Vec::new();
        let mut rest = Vec::new();
        for change in &revision.changes {
            match (change, key::parse(change.key())) {
                (StoreChange::Delete { .. }, Parsed::Node(path)) => deleted.push(path),
                (StoreChange::Put(kv), Parsed::Node(path)) => put.push((path, kv)),
                (_, parsed) => rest.push((parsed, change)),
            }
        }
        // Children go before their parents, and come after them.
        deleted.sort_unstable_by_key(|path| std::cmp::Reverse(path.len()));
        put.sort_unstable_by_key(|(path, _)| path.len());
        for path in deleted {
            self.note_gone(path, &mut applied);
            self.remove(path);
        }
        self.remove_old(&put, &mut applied)?;
        for (path, kv) in put {
            let change = self.put_node_change(path, kv)?;
            applied.changes.push(change);
        }
        for (parsed, change) in rest {
            match (parsed, change) {
                (Parsed::Children(path), StoreChange::Put(kv)) => self.put_children(path, kv)?,
                (Parsed::Acl(path), StoreChange::Put(kv)) => {
                    // Of a znode that was made again: that of the one before.
                    let gone = applied.gone_acls.get(path).cloned();
                    let list = gone.unwrap_or_else(|| self.node(path).and_then(|node| node.acl().cloned()));
                    let until = self.put_acl(path, kv)?;
                    applied.old_acls.insert(path.to_owned(), OldAcl { until, list });
                }
                (Parsed::Acl(path), StoreChange::Delete { .. }) => self.drop_acl(path),
                (Parsed::Session(id), StoreChange::Put(kv)) => {
                    self.put_session(id, kv)?;
                    applied.sessions.push((id, Some(kv.mod_revision)));
                }
                (Parsed::Session(id), StoreChange::Delete { .. }) => {
                    self.sessions.remove(&id);
                    applied.sessions.push((id, None));
                }
                (Parsed::Claim { server }, StoreChange::Put(kv)) => {
                    applied.claims.push((server, read(kv, ClaimRecord::decode)?));
                }
                (Parsed::Meta, StoreChange::Put(kv)) => self.put_meta(kv)?,
                _ => {}
            }
        }
        if let Some((_, _, record)) = &lane {
            add_past(record, revision, &mut applied.changes);
        }
        applied.changes.sort_by_key(|change| change.place);
        // Only what has been applied whole is known of.
        self.note_servers(revision);
        let slots = lane.as_ref().map_or(0, |(_, _, record)| record.slots);
        applied.lane = lane;
        self.revision = revision.revision;
        self.last_zxid = self.zxid(revision.revision, slots.saturating_sub(1));
        Ok(applied)
    }

    /// What watchers of `self` must hear when `new` takes its place (after a compaction): paths in byte order,
    /// deletions last and children before parents.
    pub fn difference(&self, new: &Replica) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut deleted = Vec::new();
        let mut push = |kind, path: &str| {
            changes.push(Change { place: Place::default(), kind, path: path.to_owned() });
        };
        for node in new.iter() {
            match self.node(node.path()) {
                None => push(ChangeKind::Created, node.path()),
                Some(old) if old.czxid != node.czxid => {
                    push(ChangeKind::Deleted, node.path());
                    push(ChangeKind::Created, node.path());
                }
                Some(old) if old.mzxid != node.mzxid => push(ChangeKind::DataChanged, node.path()),
                Some(_) => {}
            }
        }
        for node in self.iter() {
            if new.node(node.path()).is_none() {
                deleted.push(Change {
                    place: Place::default(),
                    kind: ChangeKind::Deleted,
                    path: node.path().to_owned(),
                });
            }
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        deleted.sort_by(|a, b| b.path.cmp(&a.path));
        changes.extend(deleted);
        changes
    }

    /// Nodes of both whose child record differs: their child watches fire after a [`Replica::difference`], even
    /// where the same children are there again.
    pub fn children_changed(&self, new: &Replica) -> Vec<String> {
        let differs = |node: &&Node| {
            let old = self.node(node.path());
            old.is_some_and(|old| old.czxid == node.czxid && old.children_revision() != node.children_revision())
        };
        new.iter().filter(differs).map(|node| node.path().to_owned()).collect()
    }

    pub fn node(&self, path: &str) -> Option<&Node> {
        self.id(path).and_then(|id| self.get(id))
    }

    /// Whether the store has a record under the key.
    pub fn has(&self, key: &[u8]) -> bool {
        match key::parse(key) {
            Parsed::Node(path) => self.node(path).is_some_and(Node::has_key),
            Parsed::Children(path) => self.node(path).is_some_and(|node| node.children_revision() > 0),
            Parsed::Acl(path) => self.node(path).is_some_and(|node| node.acl_revision() > 0),
            Parsed::Session(id) => self.sessions.contains_key(&id),
            Parsed::Lane { .. } | Parsed::Claim { .. } | Parsed::Meta | Parsed::Began | Parsed::Foreign => false,
        }
    }

    /// Which revision created the znode's key; 0 where it has none.
    pub fn create_revision(&self, node: &Node) -> i64 {
        node.older_revision().unwrap_or_else(|| self.written_at(node.czxid))
    }

    /// The revision of the last put of the znode's key; 0 where it has none.
    pub fn mod_revision(&self, node: &Node) -> i64 {
        self.written_at(node.mzxid)
    }

    /// Names of the node's children, in no particular order (ZooKeeper's is that of a hash set).
    pub fn children<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a str> {
        node.child_ids().iter().filter_map(|id| self.get(*id)).map(Node::name)
    }

    /// All nodes below, the node itself not counted (`getAllChildrenNumber`).
    pub fn descendants(&self, node: &Node) -> usize {
        let mut stack = node.child_ids().to_vec();
        let mut count = 0;
        while let Some(id) = stack.pop() {
            count += 1;
            stack.extend_from_slice(self.get(id).map_or(&[], Node::child_ids));
        }
        count
    }

    pub fn session(&self, id: i64) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub fn sessions(&self) -> impl Iterator<Item = (i64, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// Paths of a session's ephemerals, in no particular order.
    pub fn ephemerals(&self, session: i64) -> impl Iterator<Item = &str> {
        let ids = self.ephemerals.get(&session).into_iter().flatten();
        ids.filter_map(|id| self.get(*id)).map(Node::path)
    }

    /// Sessions that own ephemerals.
    pub fn owners(&self) -> impl Iterator<Item = i64> + '_ {
        self.ephemerals.keys().copied()
    }

    /// Container and TTL nodes.
    pub fn transient(&self) -> impl Iterator<Item = &Node> {
        self.transient.iter().filter_map(|id| self.get(*id))
    }

    /// Every node, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(HashSet::len).sum()
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes of paths and data, as `DataTree.approximateDataSize` counts.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The last revision applied.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The zxid of this prefix's last change: what reads carry.
    pub fn last_zxid(&self) -> i64 {
        self.last_zxid
    }

    /// `zxid` was shown here before: the last one is never below it. A snapshot does not show its last deletions.
    pub fn seen_zxid(&mut self, zxid: i64) {
        self.last_zxid = self.last_zxid.max(zxid);
    }

    pub fn lane_number(&self, server: u64, lane: usize) -> Option<u64> {
        self.lanes.get(&(server, lane)).map(|put| put.number)
    }

    /// The lanes of all servers.
    pub fn lanes(&self) -> impl Iterator<Item = (u64, usize, LanePut)> {
        self.lanes.iter().map(|(&(server, lane), &put)| (server, lane, put))
    }

    /// The revision at which the last server began or ended; 0: none has said so.
    pub fn began(&self) -> i64 {
        self.began
    }

    pub fn meta(&self) -> Option<&(MetaRecord, i64)> {
        self.meta.as_ref()
    }

    /// `(base + revision) << 12 | slot`.
    pub fn zxid(&self, revision: i64, slot: u16) -> i64 {
        let bases = self.meta.as_ref().map_or(&[][..], |(meta, _)| &meta.bases[..]);
        let base = bases.iter().rev().find(|(from, _)| *from <= revision).map_or(0, |(_, base)| *base);
        base.wrapping_add(revision) << SLOT_BITS | i64::from(slot)
    }

    /// The revision part of a zxid, with this prefix's current base taken off.
    pub fn revision_of(&self, zxid: i64) -> i64 {
        let base = self.meta.as_ref().and_then(|(meta, _)| meta.bases.last()).map_or(0, |(_, base)| *base);
        (zxid >> SLOT_BITS) - base
    }

    /// The revision that gave a znode this zxid, by the base of its time; 0: none. Bases rise, and what one of them begins
    /// with is above all that was given before it.
    fn written_at(&self, zxid: i64) -> i64 {
        let part = zxid >> SLOT_BITS;
        let bases = self.meta.as_ref().map_or(&[][..], |(meta, _)| &meta.bases[..]);
        let base = bases.iter().rev().find(|(from, base)| from + base <= part).map_or(0, |(_, base)| *base);
        if part == 0 { 0 } else { part - base }
    }

    fn get(&self, id: u32) -> Option<&Node> {
        self.nodes.get(id)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Node> {
        self.nodes.get_mut(id)
    }

    fn id(&self, path: &str) -> Option<u32> {
        self.nodes.find(path.as_bytes())
    }

    fn seed(&mut self, path: &str) {
        let parent = path::parent(path).and_then(|parent| self.id(parent));
        self.insert(Node::new(path, Some(&[]), 0), parent);
        if path == path::CONFIG {
            self.seed_config_acl();
        }
    }

    /// `DataTree.addConfigNode`: world may read, and the ACL's version is -1.
    fn seed_config_acl(&mut self) {
        let list: Arc<[Acl]> = super::acl::read_only().into();
        if let Some(node) = self.id(path::CONFIG).and_then(|id| self.get_mut(id)) {
            node.set_acl(Some(NodeAcl { list, aversion: -1, mod_revision: 0 }));
        }
    }

    fn insert(&mut self, node: Node, parent: Option<u32>) -> u32 {
        self.data_bytes += node.size();
        let owner = node.owner();
        let id = self.nodes.insert(node);
        if let Some(parent) = parent.and_then(|parent| self.get_mut(parent)) {
            let ids = &mut parent.children_mut().ids;
            let sibling = ids.len() as u32;
            ids.push(id);
            if let Some(node) = self.get_mut(id) {
                node.sibling = sibling;
            }
        }
        match path::OwnerKind::of(owner) {
            path::OwnerKind::Session(session) => {
                self.ephemerals.entry(session).or_default().insert(id);
            }
            path::OwnerKind::Container | path::OwnerKind::Ttl(_) => {
                self.transient.insert(id);
            }
            path::OwnerKind::None => {}
        }
        self.count_new(id);
        id
    }

    fn remove(&mut self, path: &str) {
        let Some(id) = self.id(path) else { return };
        let Some(node) = self.nodes.remove(id) else { return };
        self.data_bytes = self.data_bytes.saturating_sub(node.size());
        if let path::OwnerKind::Session(session) = path::OwnerKind::of(node.owner())
            && let Some(ids) = self.ephemerals.get_mut(&session)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
        self.transient.remove(&id);
        let parent = path::parent(path).and_then(|parent| self.id(parent));
        let moved = parent.and_then(|parent| self.get_mut(parent)).and_then(|parent| {
            let ids = parent.child_ids_mut()?;
            assert_eq!(ids.get(node.sibling as usize), Some(&id), "a node is where it says among its siblings");
            ids.swap_remove(node.sibling as usize);
            ids.get(node.sibling as usize).copied()
        });
        if let Some(moved) = moved.and_then(|moved| self.get_mut(moved)) {
            moved.sibling = node.sibling;
        }
        if let Some(limited) = quota::limited(node.path()) {
            self.quotas.remove(limited);
        }
        self.count(node.path(), Usage { znodes: -1, bytes: -(node.data_length() as i64) });
    }

    /// Counts a node that came, in every quota above it. It may make a quota, or be where one's usage is shown.
    fn count_new(&mut self, id: u32) {
        let Some(node) = self.get(id) else { return };
        let limited = quota::limited(node.path()).map(Box::from);
        if limited.is_none() && self.quotas.is_empty() {
            return;
        }
        let (path, bytes) = (node.path().to_owned(), node.data_length() as i64);
        self.count(&path, Usage { znodes: 1, bytes });
        if let Some(limited) = limited {
            self.quotas.insert(limited, self.usage(quota::limited(&path).unwrap_or_default()));
        }
        self.show_usage_of(&path);
    }

    /// Adds to the usage of every quota above `path`, and its own.
    fn count(&mut self, path: &str, more: Usage) {
        if self.quotas.is_empty() {
            return;
        }
        let mut at = Some(path);
        while let Some(above) = at {
            if let Some(usage) = self.quotas.get_mut(above) {
                usage.znodes += more.znodes;
                usage.bytes += more.bytes;
                self.show_usage(above);
            }
            at = path::parent(above);
        }
    }

    fn usage(&self, path: &str) -> Usage {
        let mut usage = Usage::default();
        let mut stack: Vec<u32> = self.id(path).into_iter().collect();
        while let Some(node) = stack.pop().and_then(|id| self.get(id)) {
            usage.znodes += 1;
            usage.bytes += node.data_length() as i64;
            stack.extend_from_slice(node.child_ids());
        }
        usage
    }

    /// After a change of the limits, or of what shows the usage.
    fn show_usage_of(&mut self, path: &str) {
        if let Some(limited) = quota::limited(path).or_else(|| quota::measured(path)) {
            self.show_usage(limited);
        }
    }

    /// ZooKeeper, too, changes the data alone: no version, no zxid, no event.
    fn show_usage(&mut self, limited: &str) {
        let Some(usage) = self.quotas.get(limited) else { return };
        let text = usage.to_string();
        if let Some(node) = self.id(&quota::stats(limited)).and_then(|id| self.get_mut(id)) {
            let (shrunk, grown) = (node.data_length() as u64, text.len() as u64);
            node.set_data(Some(text.as_bytes()));
            self.data_bytes = (self.data_bytes + grown).saturating_sub(shrunk);
        }
    }

    /// The new state of `n<path>`.
    fn put_node(&mut self, path: &str, kv: &KeyValue) -> Result<NodeRecord, ApplyError> {
        let record = read(kv, NodeRecord::decode)?;
        let mzxid = self.zxid(kv.mod_revision, record.stamp.place.slot);
        let czxid = self.czxid(&record, kv.mod_revision);
        let older = (self.written_at(czxid) != kv.create_revision).then_some(kv.create_revision);
        let data = record.data.as_deref();
        if let Some(id) = self.id(path) {
            let grown = data.map_or(0, <[u8]>::len) as u64;
            if let Some(node) = self.get_mut(id) {
                let shrunk = node.data_length() as u64;
                node.set_data(data);
                node.mzxid = mzxid;
                node.mtime = record.mtime;
                node.version = record.version;
                node.set_older_revision(older);
                self.data_bytes = (self.data_bytes + grown).saturating_sub(shrunk);
                self.count(path, Usage { znodes: 0, bytes: grown as i64 - shrunk as i64 });
                self.show_usage_of(path);
            }
            return Ok(record);
        }
        let parent = path::parent(path).map(|parent| self.id(parent));
        if parent == Some(None) {
            return Err(ApplyError::Orphan(path.to_owned()));
        }
        let mut node = Node::new(path, data, record.owner);
        node.czxid = czxid;
        node.mzxid = mzxid;
        node.ctime = record.ctime;
        node.mtime = record.mtime;
        node.version = record.version;
        node.set_older_revision(older);
        self.insert(node, parent.flatten());
        Ok(record)
    }

    /// A multi may delete nodes and make them again, which leaves puts only: the old incarnations go first, children
    /// before their parents.
    fn remove_old(&mut self, put: &[(&str, &KeyValue)], applied: &mut Applied) -> Result<(), ApplyError> {
        for (path, kv) in put.iter().rev() {
            let record = read(kv, NodeRecord::decode)?;
            let czxid = self.czxid(&record, kv.mod_revision);
            if let Some(old) = self.node(path).filter(|old| old.czxid != czxid) {
                if let Born::Here(until) = record.born {
                    applied.old_acls.insert((*path).to_owned(), OldAcl { until, list: old.acl().cloned() });
                }
                self.note_gone(path, applied);
                self.remove(path);
            }
        }
        Ok(())
    }

    fn czxid(&self, record: &NodeRecord, mod_revision: i64) -> i64 {
        match record.born {
            Born::Here(place) => self.zxid(mod_revision, place.slot),
            Born::At(czxid) => czxid,
        }
    }

    /// The change that the record itself still shows. Earlier ones of the same revision are in the lane's record.
    fn put_node_change(&mut self, path: &str, kv: &KeyValue) -> Result<Change, ApplyError> {
        let record = self.put_node(path, kv)?;
        let place = record.stamp.place;
        let kind = if record.born == Born::Here(place) { ChangeKind::Created } else { ChangeKind::DataChanged };
        Ok(Change { place, kind, path: path.to_owned() })
    }

    fn put_children(&mut self, path: &str, kv: &KeyValue) -> Result<(), ApplyError> {
        let record = read(kv, ChildRecord::decode)?;
        let pzxid = self.zxid(kv.mod_revision, record.stamp.place.slot);
        if let Some(node) = self.id(path).and_then(|id| self.get_mut(id)) {
            let children = node.children_mut();
            children.created = record.created;
            children.pzxid = pzxid;
            children.mod_revision = kv.mod_revision;
        }
        Ok(())
    }

    /// Gives the place of the request that set it.
    fn put_acl(&mut self, path: &str, kv: &KeyValue) -> Result<Place, ApplyError> {
        let record = read(kv, AclRecord::decode)?;
        if let Some(node) = self.id(path).and_then(|id| self.get_mut(id)) {
            let list = record.list.into();
            node.set_acl(Some(NodeAcl { list, aversion: record.aversion, mod_revision: kv.mod_revision }));
        }
        Ok(record.stamp.place)
    }

    fn drop_acl(&mut self, path: &str) {
        if let Some(node) = self.id(path).and_then(|id| self.get_mut(id)) {
            node.set_acl(None);
        }
    }

    fn put_session(&mut self, id: i64, kv: &KeyValue) -> Result<(), ApplyError> {
        let record = read(kv, SessionRecord::decode)?;
        self.sessions.insert(id, Session { record, mod_revision: kv.mod_revision });
        Ok(())
    }

    fn put_meta(&mut self, kv: &KeyValue) -> Result<(), ApplyError> {
        let mut meta = read(kv, MetaRecord::decode)?;
        // The last base counts from this very put, whose revision its writer could not know: the revisions just
        // before it may hold batches of servers that had not seen it.
        if let Some((from, _)) = meta.bases.last_mut() {
            *from = (*from).max(kv.mod_revision);
        }
        self.meta = Some((meta, kv.mod_revision));
        Ok(())
    }

    fn note_gone(&self, path: &str, applied: &mut Applied) {
        if let Some(node) = self.node(path) {
            applied.gone_acls.insert(path.to_owned(), node.acl().cloned());
        }
    }

    /// How far each server has come, and which began or ended last.
    fn note_servers(&mut self, revision: &Revision) {
        for change in &revision.changes {
            match (key::parse(change.key()), change) {
                (Parsed::Lane { server, lane }, StoreChange::Put(kv)) => {
                    let number = self.next_number(server, lane);
                    self.lanes.insert((server, lane), LanePut { number, mod_revision: kv.mod_revision });
                }
                (Parsed::Lane { server, lane }, StoreChange::Delete { .. }) => {
                    self.lanes.remove(&(server, lane));
                }
                (Parsed::Began, StoreChange::Put(kv)) => self.began = kv.mod_revision,
                (Parsed::Began, StoreChange::Delete { .. }) => self.began = 0,
                _ => {}
            }
        }
    }

    /// The number of a lane's next put; one that is not known begins with 0.
    fn next_number(&self, server: u64, lane: usize) -> u64 {
        self.lane_number(server, lane).map_or(0, |last| last + 1)
    }

    /// The batch that a revision is, whose number must be the next.
    fn lane_of(&self, revision: &Revision) -> Result<Option<(u64, usize, LaneRecord)>, ApplyError> {
        for change in &revision.changes {
            let (StoreChange::Put(kv), Parsed::Lane { server, lane }) = (change, key::parse(change.key())) else {
                continue;
            };
            let record = read(kv, LaneRecord::decode)?;
            let found = record.number;
            let expected = self.next_number(server, lane);
            if found != expected {
                return Err(ApplyError::Gap { server, lane, expected, found });
            }
            // Several lanes in one revision: their creation, which has no past.
            if found > 0 {
                return Ok(Some((server, lane, record)));
            }
        }
        Ok(None)
    }
}

/// The record of a key of ours.
///
/// # Errors
/// [`ApplyError::Bad`], with the key without the prefix.
pub fn read<T>(kv: &KeyValue, decode: fn(Bytes) -> Result<T, BadRecord>) -> Result<T, ApplyError> {
    let bad = |record| ApplyError::Bad { key: kv.key.escape_ascii().to_string(), record };
    decode(kv.value.clone()).map_err(bad)
}

/// Adds what the records cannot show any more, for the groups that took effect.
fn add_past(record: &LaneRecord, revision: &Revision, changes: &mut Vec<Change>) {
    if record.past.is_empty() {
        return;
    }
    let keys: HashSet<&Bytes> = revision.changes.iter().map(StoreChange::key).collect();
    for group in record.past.iter().filter(|group| keys.contains(&group.witness)) {
        changes.extend(group.changes.iter().map(|past| Change {
            place: past.place,
            kind: past.kind,
            path: past.path.clone(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::record::Stamp;

    /// Whatever base a znode's zxids had: the revisions of its key come out of them again.
    #[test]
    fn revisions_are_told_from_zxids() {
        let kv = |key: Bytes, value, create_revision, mod_revision| KeyValue {
            key,
            value,
            create_revision,
            mod_revision,
            version: 1,
            lease: 0,
        };
        let place = |slot| Place { slot, index: 0 };
        let node = |path, born, slot, created, put| {
            let stamp = Stamp { server: 1, batch: 1, place: place(slot) };
            let record = NodeRecord { stamp, born, ctime: 0, mtime: 0, version: 0, owner: 0, data: None };
            kv(key::node(path), record.encode(), created, put)
        };
        let here = |slot| Born::Here(place(slot));
        let meta = MetaRecord { cluster_id: 1, bases: vec![(0, 0), (9, 100), (20, 1_000)] };
        let mut entries = vec![
            kv(key::META.into(), meta.encode(), 2, 20),
            // At the very first base, before and after the second, and after the third.
            node("/a", here(3), 3, 8, 8),
            node("/b", here(0xffe), 0xffe, 9, 9),
            node("/c", here(0), 0, 21, 21),
            // Made at one base and set at another.
            node("/d", Born::At(5 << SLOT_BITS), 7, 5, 30),
            node("/e", Born::At((112 << SLOT_BITS) | 1), 7, 12, 19),
            // Made again by a multi: etcd has it for the key of before.
            node("/f", here(1), 1, 6, 22),
            // `/` exists before it has a key.
            node("/", Born::At(0), 2, 23, 23),
        ];
        let replica = Replica::load(Snapshot { revision: 40, entries: entries.clone() }).unwrap();
        for entry in entries.split_off(1) {
            let Parsed::Node(path) = key::parse(&entry.key) else { panic!("a znode") };
            let node = replica.node(path).unwrap();
            let told = (replica.create_revision(node), replica.mod_revision(node));
            assert_eq!(told, (entry.create_revision, entry.mod_revision), "{path}");
        }
        let unwritten = replica.node("/zookeeper").unwrap();
        assert_eq!((replica.create_revision(unwritten), replica.mod_revision(unwritten)), (0, 0));
    }

    /// Whoever wrote it there has to be told where.
    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let foreign = KeyValue {
            key: "n/\n".into(),
            value: "?".into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 0,
        };
        let error = Replica::load(Snapshot { revision: 2, entries: vec![foreign] }).unwrap_err();
        assert_eq!(error.to_string(), r"a node record that this version cannot read, under the key n/\n");
    }
}
