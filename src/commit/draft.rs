//! A draft: one request's reads and writes while its verdict is found.
//!
//! Reads see the request's own writes, then those of the batch's earlier requests, then the replica. What is read
//! from the replica becomes a compare; what is read from the batch ties the request to the group that wrote it.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::jute::{Acl, ErrorCode, Id, Perms, Stat};
use crate::store::{Compare, Op};
use crate::tree::acl;
use crate::tree::key;
use crate::tree::record::{AclRecord, Born, ChangeKind, ChildRecord, NodeRecord, Past, Place, SessionRecord, Stamp};
use crate::tree::replica::{Replica, cversion};

/// A zxid of the batch under way, whose revision is not known yet: negative, with the slot in it.
pub fn pending_zxid(slot: u16) -> i64 {
    -1 - i64::from(slot)
}

/// The slot of a [`pending_zxid`].
pub fn pending_slot(zxid: i64) -> Option<u16> {
    if zxid < 0 { u16::try_from(-1 - zxid).ok() } else { None }
}

/// What the batch will leave under a key.
#[derive(Debug, Clone)]
pub enum Value {
    Node(Option<NodeDraft>),
    Children(Option<ChildDraft>),
    Acl(Option<AclDraft>),
    Session(Option<SessionRecord>),
}

#[derive(Debug, Clone)]
pub struct NodeDraft {
    pub view: NodeView,
    pub born: Born,
    pub place: Place,
    pub kind: ChangeKind,
    pub data: Option<Bytes>,
}

#[derive(Debug, Clone, Copy)]
pub struct ChildDraft {
    pub view: ChildView,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub struct AclDraft {
    pub list: Arc<[Acl]>,
    pub aversion: i32,
    pub place: Place,
}

/// A znode as a verdict sees it. Zxids may be pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeView {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub owner: i64,
    pub data_length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildView {
    pub created: i32,
    pub count: i32,
    /// 0 where no child was ever created: then the czxid counts.
    pub pzxid: i64,
}

/// How much of a node a verdict depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// That it is there, or is not.
    Existence,
    /// Its version and data too, or that it will be overwritten or deleted.
    Whole,
}

/// A `Stat` for the answer. What the verdict did not depend on is looked up again when the answer is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftStat {
    pub path: String,
    pub stat: Stat,
    /// Whether the node's own fields are what the verdict read whole, or wrote.
    pub node_known: bool,
    /// Whether cversion, numChildren and pzxid are the batch's own doing, not to be looked up again.
    pub children_known: bool,
    /// The same for aversion.
    pub acl_known: bool,
}

impl DraftStat {
    /// The keys that are looked up when the answer is released.
    pub fn open_keys(&self) -> Vec<Bytes> {
        let node = (!self.node_known).then(|| key::node(&self.path));
        let children = (!self.children_known).then(|| key::children(&self.path));
        let acl = (!self.acl_known).then(|| key::acl(&self.path));
        node.into_iter().chain(children).chain(acl).collect()
    }

    /// What it says of that key now is what the answer shows.
    pub fn settle(&mut self, written: &Bytes) {
        match key::parse(written) {
            key::Parsed::Node(path) if path == self.path => self.node_known = true,
            key::Parsed::Children(path) if path == self.path => self.children_known = true,
            key::Parsed::Acl(path) if path == self.path => self.acl_known = true,
            _ => {}
        }
    }
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub session: i64,
    pub ids: &'a [Id],
    /// Milliseconds since the Unix epoch: ctime and mtime of what is written.
    pub now: i64,
}

/// Values written by the batch so far, each with the request that wrote it last.
#[derive(Debug, Default)]
pub struct Overlay {
    pub values: HashMap<Bytes, (Value, usize)>,
}

#[derive(Debug)]
pub struct Draft<'a> {
    replica: &'a Replica,
    overlay: &'a Overlay,
    pub asker: Asker<'a>,
    pub place: Place,
    own: HashMap<Bytes, Value>,
    pub effects: Effects,
}

/// What a finished draft leaves.
#[derive(Debug, Default)]
pub struct Effects {
    /// What was read from the replica.
    pub compares: Vec<Compare>,
    /// Keys read from the batch's earlier requests.
    pub touched: Vec<Bytes>,
    pub past: Vec<Past>,
    pub values: Vec<(Bytes, Value)>,
    /// A create and a delete of one path by different requests never share a batch; nor do two that touch its list,
    /// so that each event is judged by the list of its moment.
    pub defer: bool,
}

impl<'a> Draft<'a> {
    pub fn new(replica: &'a Replica, overlay: &'a Overlay, asker: Asker<'a>, slot: u16) -> Self {
        let place = Place { slot, index: 0 };
        Draft { replica, overlay, asker, place, own: HashMap::new(), effects: Effects::default() }
    }

    /// The effects of a request that succeeded.
    pub fn finish(mut self) -> Effects {
        self.effects.values = self.own.drain().collect();
        self.effects
    }

    /// The effects of a request that failed: what its verdict read.
    pub fn abandon(mut self) -> Effects {
        self.effects.past.clear();
        self.effects
    }

    pub fn replica(&self) -> &'a Replica {
        self.replica
    }

    /// The session lives, and is this connection's: its record is the one of the connection's own attach.
    pub fn session(&mut self, id: i64, attached: i64) -> Result<(), ErrorCode> {
        let key = key::session(id);
        if let Some(Value::Session(record)) = self.known(&key) {
            // Its end, or an attach elsewhere, earlier in this batch.
            return Err(if record.is_some() { ErrorCode::SessionMoved } else { ErrorCode::SessionExpired });
        }
        let found = self.replica.session(id).map(|session| session.mod_revision);
        self.compare(Compare::mod_revision(key, found.unwrap_or(0)));
        match found {
            Some(revision) if revision == attached => Ok(()),
            Some(_) => Err(ErrorCode::SessionMoved),
            None => Err(ErrorCode::SessionExpired),
        }
    }

    /// The session's record and its revision; compared as it is.
    pub fn session_record(&mut self, id: i64) -> Option<(SessionRecord, i64)> {
        let key = key::session(id);
        if let Some(Value::Session(record)) = self.known(&key) {
            return record.map(|record| (record, 0));
        }
        let found = self.replica.session(id).map(|session| (session.record, session.mod_revision));
        self.compare(Compare::mod_revision(key, found.map_or(0, |(_, revision)| revision)));
        found
    }

    pub fn put_session(&mut self, id: i64, record: Option<SessionRecord>) {
        self.own.insert(key::session(id), Value::Session(record));
    }

    pub fn node(&mut self, path: &str, need: Need) -> Option<NodeView> {
        let key = key::node(path);
        if let Some(Value::Node(node)) = self.known(&key) {
            return node.map(|node| node.view);
        }
        let Some(node) = self.replica.node(path) else {
            self.compare(Compare::create_revision(key, 0));
            return None;
        };
        let (create, modified) = (node.create_revision, node.mod_revision);
        self.compare(match need {
            Need::Existence => Compare::create_revision(key, create),
            Need::Whole => Compare::mod_revision(key, modified),
        });
        Some(NodeView {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            owner: node.owner,
            data_length: node.data_length(),
        })
    }

    /// Whether a node is there whose parent's children the verdict has read: their record is put with every child that
    /// comes or goes, so the compare of it stands for this one too.
    pub fn has_child(&mut self, path: &str) -> bool {
        match self.known(&key::node(path)) {
            Some(value) => !matches!(value, Value::Node(None)),
            None => self.replica.node(path).is_some(),
        }
    }

    pub fn children(&mut self, path: &str) -> ChildView {
        let key = key::children(path);
        if let Some(Value::Children(children)) = self.known(&key) {
            return children.map(|children| children.view).unwrap_or_default();
        }
        let view = self.base_children(path);
        let revision = self.replica.node(path).map_or(0, |node| node.children_revision());
        self.compare(Compare::mod_revision(key, revision));
        view
    }

    /// Whether the asker has one of `perms` on the node.
    pub fn permits(&mut self, path: &str, perms: Perms) -> Result<(), ErrorCode> {
        let (list, _) = self.acl(path);
        let allowed = list.is_none_or(|list| acl::permits(&list, perms, self.asker.ids));
        if allowed { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// The node's list (`None`: open) and its version.
    pub fn acl(&mut self, path: &str) -> (Option<Arc<[Acl]>>, i32) {
        let key = key::acl(path);
        if let Some(Value::Acl(acl)) = self.known(&key) {
            return acl.map_or((None, 0), |acl| (Some(acl.list), acl.aversion));
        }
        let node = self.replica.node(path);
        self.compare(Compare::mod_revision(key, node.map_or(0, |node| node.acl_revision())));
        node.map_or((None, 0), |node| (node.acl().cloned(), node.aversion()))
    }

    pub fn put_acl(&mut self, path: &str, list: Arc<[Acl]>, aversion: i32) {
        let key = key::acl(path);
        self.defer_behind_list(&key);
        let draft = AclDraft { list, aversion, place: self.place };
        self.own.insert(key, Value::Acl(Some(draft)));
    }

    fn defer_behind_list(&mut self, key: &Bytes) {
        if matches!(self.overlay.values.get(key), Some((Value::Acl(Some(_)), _))) {
            self.effects.defer = true;
        }
    }

    /// A new node under `parent`, whose children the verdict has read. `list` `None`: open.
    pub fn create_node(
        &mut self,
        path: &str,
        parent: (&str, ChildView),
        owner: i64,
        data: Option<Bytes>,
        list: Option<Arc<[Acl]>>,
    ) -> NodeView {
        let zxid = pending_zxid(self.place.slot);
        let key = key::node(path);
        // The incarnation before, deleted by this very request: etcd's create_revision will not tell them apart.
        let again = matches!(self.own.get(&key), Some(Value::Node(None)));
        if matches!(self.overlay.values.get(&key), Some((Value::Node(None), _))) {
            self.effects.defer = true;
        }
        let view = NodeView {
            czxid: zxid,
            mzxid: zxid,
            ctime: self.asker.now,
            mtime: self.asker.now,
            version: 0,
            owner,
            data_length: data.as_ref().map_or(0, Bytes::len),
        };
        let (place, kind) = (self.place, ChangeKind::Created);
        let draft = NodeDraft { view, born: Born::Here(place), place, kind, data };
        self.own.insert(key, Value::Node(Some(draft)));
        if again {
            let view = ChildView { pzxid: zxid, ..ChildView::default() };
            self.own.insert(key::children(path), Value::Children(Some(ChildDraft { view, place })));
        }
        match list {
            Some(list) => self.put_acl(path, list, 0),
            None if again => {
                self.own.insert(key::acl(path), Value::Acl(None));
            }
            None => {}
        }
        let (parent, children) = parent;
        self.put_children(parent, children.created.wrapping_add(1), children.count + 1);
        view
    }

    /// Overwrites the data of a node that the verdict has read whole.
    pub fn set_node(&mut self, path: &str, old: NodeView, version: i32, data: Option<Bytes>) {
        let key = key::node(path);
        let earlier = match self.known(&key) {
            Some(Value::Node(Some(earlier))) => Some(earlier),
            _ => None,
        };
        let born = match &earlier {
            Some(earlier) => {
                self.pass(path, earlier.place, earlier.kind);
                earlier.born
            }
            None => Born::At(old.czxid),
        };
        let view = NodeView {
            mzxid: pending_zxid(self.place.slot),
            mtime: self.asker.now,
            version,
            data_length: data.as_ref().map_or(0, Bytes::len),
            ..old
        };
        let draft = NodeDraft { view, born, place: self.place, kind: ChangeKind::DataChanged, data };
        self.own.insert(key, Value::Node(Some(draft)));
    }

    /// Deletes a node that the verdict has read whole, from a parent whose children it has read.
    pub fn delete_node(&mut self, path: &str, parent: (&str, ChildView)) {
        let key = key::node(path);
        if let Some(Value::Node(Some(earlier))) = self.known(&key) {
            if matches!(earlier.born, Born::Here(place) if place.slot != self.place.slot) {
                self.effects.defer = true;
            }
            self.pass(path, earlier.place, earlier.kind);
        }
        self.pass(path, self.place, ChangeKind::Deleted);
        self.own.insert(key, Value::Node(None));
        self.own.insert(key::children(path), Value::Children(None));
        let list = key::acl(path);
        self.defer_behind_list(&list);
        self.own.insert(list, Value::Acl(None));
        let (parent, children) = parent;
        self.put_children(parent, children.created, children.count - 1);
    }

    /// Paths of the session's ephemerals, the batch's included.
    pub fn ephemerals(&self, session: i64) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = self.replica.ephemerals(session).map(str::to_owned).collect();
        for (key, (value, _)) in &self.overlay.values {
            let key::Parsed::Node(path) = key::parse(key) else { continue };
            match value {
                Value::Node(Some(node)) if node.view.owner == session => paths.insert(path.to_owned()),
                Value::Node(_) => paths.remove(path),
                _ => continue,
            };
        }
        paths
    }

    /// The node's `Stat`, for the answer: reads that are no part of the verdict.
    pub fn stat(&mut self, path: &str, view: NodeView) -> DraftStat {
        let node_known = self.own.contains_key(&key::node(path)) || self.overlay.values.contains_key(&key::node(path));
        let children = match self.known(&key::children(path)) {
            Some(Value::Children(children)) => Some(children.map(|children| children.view).unwrap_or_default()),
            _ => None,
        };
        let aversion = match self.known(&key::acl(path)) {
            Some(Value::Acl(acl)) => Some(acl.map_or(0, |acl| acl.aversion)),
            _ => None,
        };
        let new = matches!(self.own.get(&key::node(path)), Some(Value::Node(Some(node))) if node.born == Born::Here(node.place));
        let shown = children.unwrap_or_else(|| if new { ChildView::default() } else { self.base_children(path) });
        let base_aversion = || self.replica.node(path).map_or(0, |node| node.aversion());
        let stat = Stat {
            czxid: view.czxid,
            mzxid: view.mzxid,
            ctime: view.ctime,
            mtime: view.mtime,
            version: view.version,
            cversion: cversion(shown.created, shown.count),
            aversion: aversion.unwrap_or_else(|| if new { 0 } else { base_aversion() }),
            ephemeral_owner: crate::tree::path::shown_owner(view.owner),
            data_length: view.data_length as i32,
            num_children: shown.count,
            pzxid: if shown.pzxid == 0 { view.czxid } else { shown.pzxid },
        };
        DraftStat {
            path: path.to_owned(),
            stat,
            node_known,
            children_known: new || children.is_some(),
            acl_known: new || aversion.is_some(),
        }
    }

    fn put_children(&mut self, path: &str, created: i32, count: i32) {
        let view = ChildView { created, count, pzxid: pending_zxid(self.place.slot) };
        self.own.insert(key::children(path), Value::Children(Some(ChildDraft { view, place: self.place })));
    }

    fn base_children(&self, path: &str) -> ChildView {
        self.replica.node(path).map_or_else(ChildView::default, |node| ChildView {
            created: node.created(),
            count: node.child_count() as i32,
            pzxid: node.pzxid(),
        })
    }

    /// A value of this request or of an earlier one of the batch.
    fn known(&mut self, key: &Bytes) -> Option<Value> {
        if let Some(value) = self.own.get(key) {
            return Some(value.clone());
        }
        let (value, _) = self.overlay.values.get(key)?;
        self.effects.touched.push(key.clone());
        Some(value.clone())
    }

    fn compare(&mut self, compare: Compare) {
        self.effects.compares.push(compare);
    }

    fn pass(&mut self, path: &str, place: Place, kind: ChangeKind) {
        self.effects.past.push(Past { place, kind, path: path.to_owned() });
    }
}

/// The operation that leaves `value` under `key`.
pub fn operation(key: &Bytes, value: &Value, server: u64, batch: u64) -> Op {
    let stamp = |place| Stamp { server, batch, place };
    let put = |value, lease| Op::Put { key: key.clone(), value, lease };
    match value {
        Value::Node(Some(node)) => put(
            NodeRecord {
                stamp: stamp(node.place),
                born: node.born,
                ctime: node.view.ctime,
                mtime: node.view.mtime,
                version: node.view.version,
                owner: node.view.owner,
                data: node.data.clone(),
            }
            .encode(),
            0,
        ),
        Value::Children(Some(children)) => {
            put(ChildRecord { stamp: stamp(children.place), created: children.view.created }.encode(), 0)
        }
        Value::Acl(Some(acl)) => {
            put(AclRecord { stamp: stamp(acl.place), aversion: acl.aversion, list: acl.list.to_vec() }.encode(), 0)
        }
        Value::Session(Some(record)) => {
            let lease = match key::parse(key) {
                key::Parsed::Session(id) => id,
                _ => 0,
            };
            put(record.encode(), lease)
        }
        Value::Node(None) | Value::Children(None) | Value::Acl(None) | Value::Session(None) => {
            Op::Delete { key: key.clone() }
        }
    }
}
