//! A draft: one request's reads and writes while its verdict is found.
//!
//! Reads see the request's own writes, then those of the batch's earlier requests, then the replica. What is read
//! from the replica becomes a compare; what is read from the batch ties the request to the group that wrote it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::keys::{KeyId, Keys, Kind};
use crate::jute::{Acl, ErrorCode, Id, Perms, Stat};
use crate::store::{Compare, Op};
use crate::tree::acl;
use crate::tree::key;
use crate::tree::node::{Node, cversion};
use crate::tree::record::{AclRecord, Born, ChangeKind, ChildRecord, NodeRecord, Past, Place, SessionRecord, Stamp};
use crate::tree::replica::Replica;

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

impl Value {
    /// Whether nothing is to be left.
    pub fn is_removal(&self) -> bool {
        matches!(self, Value::Node(None) | Value::Children(None) | Value::Acl(None) | Value::Session(None))
    }
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

impl NodeView {
    fn of(node: &Node) -> NodeView {
        NodeView {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            owner: node.owner(),
            data_length: node.data_length(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildView {
    pub created: i32,
    pub count: i32,
    /// 0 where no child was ever created: then the czxid counts.
    pub pzxid: i64,
}

/// What a verdict read of a key, and what it is to be when it is committed; 0: absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    CreateRevision(i64),
    ModRevision(i64),
}

impl State {
    pub fn compare(self, key: Bytes) -> Compare {
        match self {
            State::CreateRevision(revision) => Compare::create_revision(key, revision),
            State::ModRevision(revision) => Compare::mod_revision(key, revision),
        }
    }
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
    /// The records that are looked up when the answer is released.
    pub fn open(&self) -> impl Iterator<Item = Kind> {
        let open = [(self.node_known, Kind::Node), (self.children_known, Kind::Children), (self.acl_known, Kind::Acl)];
        open.into_iter().filter_map(|(known, kind)| (!known).then_some(kind))
    }

    /// What it says of that record now is what the answer shows.
    pub fn settle(&mut self, kind: Kind) {
        match kind {
            Kind::Node => self.node_known = true,
            Kind::Children => self.children_known = true,
            Kind::Acl => self.acl_known = true,
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
    /// By the keys' numbers.
    values: Vec<Option<(Value, usize)>>,
}

impl Overlay {
    pub fn get(&self, key: KeyId) -> Option<&(Value, usize)> {
        self.values.get(key.index())?.as_ref()
    }

    pub fn put(&mut self, key: KeyId, value: Value, slot: usize) {
        if self.values.len() <= key.index() {
            self.values.resize_with(key.index() + 1, || None);
        }
        self.values[key.index()] = Some((value, slot));
    }

    fn iter(&self) -> impl Iterator<Item = (KeyId, &Value)> {
        let values = self.values.iter().enumerate();
        values.filter_map(|(at, value)| value.as_ref().map(|(value, _)| (KeyId::at(at), value)))
    }
}

/// Values that the request itself wrote.
#[derive(Debug, Default)]
struct Own {
    values: Vec<(KeyId, Value)>,
    /// Where each key is, once there are more than [`Own::FEW`].
    places: HashMap<KeyId, usize>,
}

impl Own {
    /// So many are found by looking at each; most requests write two keys.
    const FEW: usize = 16;

    fn place(&self, key: KeyId) -> Option<usize> {
        if self.values.len() <= Self::FEW {
            return self.values.iter().position(|(one, _)| *one == key);
        }
        self.places.get(&key).copied()
    }

    fn get(&self, key: KeyId) -> Option<&Value> {
        self.place(key).map(|at| &self.values[at].1)
    }

    fn put(&mut self, key: KeyId, value: Value) {
        if let Some(at) = self.place(key) {
            self.values[at].1 = value;
            return;
        }
        self.values.push((key, value));
        match self.values.len() {
            0..=Self::FEW => {}
            n if n == Self::FEW + 1 => {
                self.places = self.values.iter().enumerate().map(|(at, (key, _))| (*key, at)).collect();
            }
            n => {
                self.places.insert(key, n - 1);
            }
        }
    }
}

#[derive(Debug)]
pub struct Draft<'a> {
    replica: &'a Replica,
    overlay: &'a Overlay,
    keys: &'a mut Keys,
    pub asker: Asker<'a>,
    pub place: Place,
    own: Own,
    pub effects: Effects,
}

/// What a finished draft leaves.
#[derive(Debug, Default)]
pub struct Effects {
    /// What was read from the replica: each key is to be as said.
    pub compares: Vec<(KeyId, State)>,
    /// Keys read from the batch's earlier requests.
    pub touched: Vec<KeyId>,
    pub past: Vec<Past>,
    pub values: Vec<(KeyId, Value)>,
    /// A delete, and a create of the same path behind it by another request, never share a batch: the revision shows one
    /// incarnation that ends and one that begins. Nor do two that touch its list, so that each event is judged by the
    /// list of its moment.
    pub defer: bool,
}

impl<'a> Draft<'a> {
    pub fn new(replica: &'a Replica, overlay: &'a Overlay, keys: &'a mut Keys, asker: Asker<'a>, slot: u16) -> Self {
        let place = Place { slot, index: 0 };
        Draft { replica, overlay, keys, asker, place, own: Own::default(), effects: Effects::default() }
    }

    /// The effects of a request that succeeded.
    pub fn finish(mut self) -> Effects {
        self.effects.values = self.own.values;
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
        let key = self.keys.session(id);
        if let Some(Value::Session(record)) = self.known(key) {
            // Its end, or an attach elsewhere, earlier in this batch.
            return Err(if record.is_some() { ErrorCode::SessionMoved } else { ErrorCode::SessionExpired });
        }
        let found = self.replica.session(id).map(|session| session.mod_revision);
        self.compare(key, State::ModRevision(found.unwrap_or(0)));
        match found {
            Some(revision) if revision == attached => Ok(()),
            Some(_) => Err(ErrorCode::SessionMoved),
            None => Err(ErrorCode::SessionExpired),
        }
    }

    /// The session's record and its revision; compared as it is.
    pub fn session_record(&mut self, id: i64) -> Option<(SessionRecord, i64)> {
        let key = self.keys.session(id);
        if let Some(Value::Session(record)) = self.known(key) {
            return record.map(|record| (record, 0));
        }
        let found = self.replica.session(id).map(|session| (session.record, session.mod_revision));
        self.compare(key, State::ModRevision(found.map_or(0, |(_, revision)| revision)));
        found
    }

    pub fn put_session(&mut self, id: i64, record: Option<SessionRecord>) {
        let key = self.keys.session(id);
        self.own.put(key, Value::Session(record));
    }

    pub fn node(&mut self, path: &str, need: Need) -> Option<NodeView> {
        let key = self.keys.of(Kind::Node, path);
        if let Some(Value::Node(node)) = self.known(key) {
            return node.as_ref().map(|node| node.view);
        }
        let Some(node) = self.replica.node(path) else {
            self.compare(key, State::CreateRevision(0));
            return None;
        };
        let state = match need {
            Need::Existence => State::CreateRevision(self.replica.create_revision(node)),
            Need::Whole => State::ModRevision(self.replica.mod_revision(node)),
        };
        self.compare(key, state);
        Some(NodeView::of(node))
    }

    /// A node under which a child is to come, and its children. Where it has a child record, the compare of that stands for
    /// the node's existence: it goes when the node goes, and is put anew with another of its name.
    pub fn parent(&mut self, path: &str) -> Option<(NodeView, ChildView)> {
        let key = self.keys.of(Kind::Children, path);
        let is_recorded = match self.peek(key) {
            Some(value) => matches!(value, Value::Children(Some(_))),
            None => self.base_children(path).1 > 0,
        };
        if !is_recorded {
            let node = self.node(path, Need::Existence)?;
            return Some((node, self.children(path)));
        }
        let children = self.children(path);
        let key = self.keys.of(Kind::Node, path);
        let node = match self.peek(key) {
            Some(Value::Node(node)) => node.as_ref().map(|node| node.view),
            _ => self.replica.node(path).map(NodeView::of),
        };
        node.map(|node| (node, children))
    }

    /// Whether a node is there whose parent's children the verdict has read: their record is put with every child that
    /// comes or goes, so the compare of it stands for this one too.
    pub fn has_child(&mut self, path: &str) -> bool {
        let key = self.keys.of(Kind::Node, path);
        match self.known(key) {
            Some(value) => !matches!(value, Value::Node(None)),
            None => self.replica.node(path).is_some(),
        }
    }

    pub fn children(&mut self, path: &str) -> ChildView {
        let key = self.keys.of(Kind::Children, path);
        if let Some(Value::Children(children)) = self.known(key) {
            return children.map(|children| children.view).unwrap_or_default();
        }
        let (view, revision) = self.base_children(path);
        self.compare(key, State::ModRevision(revision));
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
        let key = self.keys.of(Kind::Acl, path);
        if let Some(Value::Acl(acl)) = self.known(key) {
            return acl.as_ref().map_or((None, 0), |acl| (Some(acl.list.clone()), acl.aversion));
        }
        let node = self.replica.node(path);
        self.compare(key, State::ModRevision(node.map_or(0, |node| node.acl_revision())));
        node.map_or((None, 0), |node| (node.acl().cloned(), node.aversion()))
    }

    pub fn put_acl(&mut self, path: &str, list: Arc<[Acl]>, aversion: i32) {
        let draft = AclDraft { list, aversion, place: self.place };
        self.put_list(path, Some(draft));
    }

    fn put_list(&mut self, path: &str, list: Option<AclDraft>) {
        let key = self.keys.of(Kind::Acl, path);
        if self.overlay.get(key).is_some() {
            self.effects.defer = true;
        }
        self.own.put(key, Value::Acl(list));
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
        let key = self.keys.of(Kind::Node, path);
        // The incarnation before, deleted by this very request: etcd's create_revision will not tell them apart.
        let again = matches!(self.own.get(key), Some(Value::Node(None)));
        if matches!(self.overlay.get(key), Some((Value::Node(None), _))) {
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
        self.own.put(key, Value::Node(Some(draft)));
        if again {
            let view = ChildView { pzxid: zxid, ..ChildView::default() };
            self.put(Kind::Children, path, Value::Children(Some(ChildDraft { view, place })));
        }
        match list {
            Some(list) => self.put_acl(path, list, 0),
            None if again => self.put(Kind::Acl, path, Value::Acl(None)),
            None => {}
        }
        let (parent, children) = parent;
        self.put_children(parent, children.created.wrapping_add(1), children.count + 1);
        view
    }

    /// Overwrites the data of a node that the verdict has read whole.
    pub fn set_node(&mut self, path: &str, old: NodeView, version: i32, data: Option<Bytes>) {
        let key = self.keys.of(Kind::Node, path);
        let born = match self.earlier(key) {
            Some((place, kind, born)) => {
                self.pass(path, place, kind);
                born
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
        self.own.put(key, Value::Node(Some(draft)));
    }

    /// Deletes a node that the verdict has read whole, from a parent whose children it has read.
    pub fn delete_node(&mut self, path: &str, parent: (&str, ChildView)) {
        let key = self.keys.of(Kind::Node, path);
        if let Some((place, kind, born)) = self.earlier(key) {
            let is_of_another = matches!(born, Born::Here(place) if place.slot != self.place.slot);
            if is_of_another && self.replica.node(path).is_some() {
                self.effects.defer = true;
            }
            self.pass(path, place, kind);
        }
        self.pass(path, self.place, ChangeKind::Deleted);
        self.own.put(key, Value::Node(None));
        self.put(Kind::Children, path, Value::Children(None));
        self.put_list(path, None);
        let (parent, children) = parent;
        self.put_children(parent, children.created, children.count - 1);
    }

    /// Paths of the session's ephemerals, the batch's included.
    pub fn ephemerals(&mut self, session: i64) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = self.replica.ephemerals(session).map(str::to_owned).collect();
        for (key, value) in self.overlay.iter() {
            let key::Parsed::Node(path) = key::parse(self.keys.get(key)) else { continue };
            match value {
                Value::Node(Some(node)) if node.view.owner == session => {
                    paths.insert(path.to_owned());
                }
                // Gone only if the request that deletes it takes effect.
                Value::Node(_) if paths.remove(path) => self.effects.touched.push(key),
                _ => {}
            }
        }
        paths
    }

    /// The node's `Stat`, for the answer: reads that are no part of the verdict.
    pub fn stat(&mut self, path: &str, view: NodeView) -> DraftStat {
        let key = self.keys.of(Kind::Node, path);
        let own = self.own.get(key);
        let node_known = own.is_some() || self.overlay.get(key).is_some();
        // Nothing is known of its children and its ACL but what this very request wrote.
        let new = matches!(own, Some(Value::Node(Some(node))) if node.born == Born::Here(node.place));
        let key = self.keys.of(Kind::Children, path);
        let children = match self.known(key) {
            Some(Value::Children(children)) => Some(children.map(|children| children.view).unwrap_or_default()),
            _ => new.then(ChildView::default),
        };
        let key = self.keys.of(Kind::Acl, path);
        let aversion = match self.known(key) {
            Some(Value::Acl(acl)) => Some(acl.as_ref().map_or(0, |acl| acl.aversion)),
            _ => new.then_some(0),
        };
        let shown = children.unwrap_or_else(|| self.base_children(path).0);
        let stat = Stat {
            czxid: view.czxid,
            mzxid: view.mzxid,
            ctime: view.ctime,
            mtime: view.mtime,
            version: view.version,
            cversion: cversion(shown.created, shown.count),
            aversion: aversion.unwrap_or_else(|| self.replica.node(path).map_or(0, |node| node.aversion())),
            ephemeral_owner: crate::tree::path::shown_owner(view.owner),
            data_length: view.data_length as i32,
            num_children: shown.count,
            pzxid: if shown.pzxid == 0 { view.czxid } else { shown.pzxid },
        };
        DraftStat {
            path: path.to_owned(),
            stat,
            node_known,
            children_known: children.is_some(),
            acl_known: aversion.is_some(),
        }
    }

    fn put_children(&mut self, path: &str, created: i32, count: i32) {
        let view = ChildView { created, count, pzxid: pending_zxid(self.place.slot) };
        let place = self.place;
        self.put(Kind::Children, path, Value::Children(Some(ChildDraft { view, place })));
    }

    fn put(&mut self, kind: Kind, path: &str, value: Value) {
        let key = self.keys.of(kind, path);
        self.own.put(key, value);
    }

    /// What the replica knows of the node's children, and their record's revision.
    fn base_children(&self, path: &str) -> (ChildView, i64) {
        self.replica.node(path).map_or_else(Default::default, |node| {
            let view = ChildView { created: node.created(), count: node.child_count() as i32, pzxid: node.pzxid() };
            (view, node.children_revision())
        })
    }

    /// The change that this request, or an earlier one of the batch, left at a node that is there.
    fn earlier(&mut self, key: KeyId) -> Option<(Place, ChangeKind, Born)> {
        match self.known(key) {
            Some(Value::Node(Some(node))) => Some((node.place, node.kind, node.born)),
            _ => None,
        }
    }

    /// A value of this request or of an earlier one of the batch.
    fn known(&mut self, key: KeyId) -> Option<&Value> {
        if let Some(at) = self.own.place(key) {
            return Some(&self.own.values[at].1);
        }
        let (value, _) = self.overlay.get(key)?;
        self.effects.touched.push(key);
        Some(value)
    }

    /// The same, without tying the request to whoever wrote it.
    fn peek(&self, key: KeyId) -> Option<&Value> {
        self.own.get(key).or_else(|| self.overlay.get(key).map(|(value, _)| value))
    }

    fn compare(&mut self, key: KeyId, state: State) {
        self.effects.compares.push((key, state));
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
