//! A znode in memory.

use std::sync::Arc;

use super::path;
use crate::jute::{Acl, Stat};
use crate::table::Row;

/// A znode. There may be millions of them, so what few have is apart.
#[derive(Debug)]
pub struct Node {
    /// The path, then the data: two allocations would take 24 bytes more.
    bytes: Box<[u8]>,
    path_length: u32,
    /// This node's place among its parent's children.
    pub(super) sibling: u32,
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// ZooKeeper tells a null buffer from an empty one.
    has_data: bool,
    more: Option<Box<More>>,
}

impl Row for Node {
    fn key(&self) -> &[u8] {
        self.path_bytes()
    }
}

/// What a persistent, open znode without children does not have.
#[derive(Debug, Default)]
struct More {
    owner: i64,
    /// See [`Node::older_revision`]; 0: none.
    older_revision: i64,
    children: Children,
    acl: Option<Box<NodeAcl>>,
}

impl Node {
    /// A node without children, open to all, whose numbers are all 0.
    pub(super) fn new(path: &str, data: Option<&[u8]>, owner: i64) -> Self {
        Node {
            bytes: joined(path.as_bytes(), data),
            path_length: path.len() as u32,
            sibling: 0,
            czxid: 0,
            mzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            has_data: data.is_some(),
            more: (owner != 0).then(|| Box::new(More { owner, ..More::default() })),
        }
    }

    pub fn path(&self) -> &str {
        // It was a `str` when it was put there.
        std::str::from_utf8(self.path_bytes()).unwrap_or_default()
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        path::name(self.path())
    }

    pub(super) fn path_bytes(&self) -> &[u8] {
        &self.bytes[..self.path_length as usize]
    }

    pub fn data(&self) -> Option<&[u8]> {
        self.has_data.then(|| &self.bytes[self.path_length as usize..])
    }

    pub(super) fn set_data(&mut self, data: Option<&[u8]>) {
        self.bytes = joined(self.path_bytes(), data);
        self.has_data = data.is_some();
    }

    pub fn data_length(&self) -> usize {
        self.bytes.len() - self.path_length as usize
    }

    /// Bytes of the path and the data.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether the store has a record of it: `/` and `/zookeeper` exist without.
    pub fn has_key(&self) -> bool {
        self.mzxid != 0
    }

    /// As in `Stat`, but for TTL nodes and containers: [`path::OwnerKind`].
    pub fn owner(&self) -> i64 {
        self.more.as_ref().map_or(0, |more| more.owner)
    }

    /// Which revision created its key, where that is not the one of its czxid: one multi deleted the znode before and made
    /// this one, which etcd takes for an overwritten key.
    pub(super) fn older_revision(&self) -> Option<i64> {
        self.more.as_ref().map(|more| more.older_revision).filter(|revision| *revision != 0)
    }

    /// See [`Node::older_revision`].
    pub(super) fn set_older_revision(&mut self, revision: Option<i64>) {
        if revision.is_some() || self.older_revision().is_some() {
            self.more.get_or_insert_default().older_revision = revision.unwrap_or(0);
        }
    }

    /// Children ever created: the counter of sequential names.
    pub fn created(&self) -> i32 {
        self.more.as_ref().map_or(0, |more| more.children.created)
    }

    /// Of the key `c<path>`; 0 where there is none.
    pub fn children_revision(&self) -> i64 {
        self.more.as_ref().map_or(0, |more| more.children.mod_revision)
    }

    pub fn child_count(&self) -> usize {
        self.child_ids().len()
    }

    pub(super) fn child_ids(&self) -> &[u32] {
        self.more.as_ref().map_or(&[], |more| &more.children.ids)
    }

    pub(super) fn child_ids_mut(&mut self) -> Option<&mut Vec<u32>> {
        self.more.as_mut().map(|more| &mut more.children.ids)
    }

    pub(super) fn children_mut(&mut self) -> &mut Children {
        &mut self.more.get_or_insert_default().children
    }

    pub fn pzxid(&self) -> i64 {
        match &self.more {
            Some(more) if more.children.mod_revision > 0 => more.children.pzxid,
            _ => self.czxid,
        }
    }

    fn node_acl(&self) -> Option<&NodeAcl> {
        self.more.as_ref()?.acl.as_deref()
    }

    pub(super) fn set_acl(&mut self, acl: Option<NodeAcl>) {
        if acl.is_some() || self.node_acl().is_some() {
            self.more.get_or_insert_default().acl = acl.map(Box::new);
        }
    }

    /// `None`: open to all, the default.
    pub fn acl(&self) -> Option<&Arc<[Acl]>> {
        self.node_acl().map(|acl| &acl.list)
    }

    pub fn aversion(&self) -> i32 {
        self.node_acl().map_or(0, |acl| acl.aversion)
    }

    /// Of the key `a<path>`; 0 where there is none.
    pub fn acl_revision(&self) -> i64 {
        self.node_acl().map_or(0, |acl| acl.mod_revision)
    }

    /// As `DataNode.copyStat` computes it.
    pub fn stat(&self) -> Stat {
        let count = self.child_count() as i32;
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: cversion(self.created(), count),
            aversion: self.aversion(),
            ephemeral_owner: path::shown_owner(self.owner()),
            data_length: self.data_length() as i32,
            num_children: count,
            pzxid: self.pzxid(),
        }
    }
}

/// ZooKeeper shows creations and deletions of children, and stores the creations.
pub fn cversion(created: i32, count: i32) -> i32 {
    created.wrapping_mul(2).wrapping_sub(count)
}

#[derive(Debug, Default)]
pub(super) struct Children {
    pub(super) created: i32,
    pub(super) pzxid: i64,
    pub(super) mod_revision: i64,
    pub(super) ids: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct NodeAcl {
    pub(super) list: Arc<[Acl]>,
    pub(super) aversion: i32,
    pub(super) mod_revision: i64,
}

fn joined(path: &[u8], data: Option<&[u8]>) -> Box<[u8]> {
    [path, data.unwrap_or_default()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_data_share_an_allocation() {
        let mut node = Node::new("/ä/b", Some(b"data"), 0);
        assert_eq!((node.path(), node.name(), node.data()), ("/ä/b", "b", Some(&b"data"[..])));
        for (data, length) in [(Some(&b"longer data"[..]), 11), (None, 0), (Some(&b""[..]), 0), (Some(b"/"), 1)] {
            node.set_data(data);
            assert_eq!((node.path(), node.name(), node.data(), node.data_length()), ("/ä/b", "b", data, length));
        }
        assert_eq!(Node::new("/", None, 0).name(), "");
    }

    /// A million of them are a million times this.
    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Option<Node>>() <= 72);
    }
}
