//! A znode in memory.

use std::sync::Arc;

use super::path;
use crate::jute::{Acl, Stat};

/// A znode.
#[derive(Debug)]
pub struct Node {
    pub(super) path: Box<str>,
    pub data: Option<Box<[u8]>>,
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub owner: i64,
    /// Of the key `n<path>`; 0 for a node that exists without its key.
    pub create_revision: i64,
    pub mod_revision: i64,
    /// This node's place among its parent's children.
    pub(super) sibling: u32,
    pub(super) children: Option<Box<Children>>,
    pub(super) acl: Option<Box<NodeAcl>>,
}

impl Node {
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Children ever created: the counter of sequential names.
    pub fn created(&self) -> i32 {
        self.children.as_ref().map_or(0, |c| c.created)
    }

    /// Of the key `c<path>`; 0 where there is none.
    pub fn children_revision(&self) -> i64 {
        self.children.as_ref().map_or(0, |c| c.mod_revision)
    }

    pub fn child_count(&self) -> usize {
        self.children.as_ref().map_or(0, |c| c.ids.len())
    }

    pub fn pzxid(&self) -> i64 {
        match &self.children {
            Some(children) if children.mod_revision > 0 => children.pzxid,
            _ => self.czxid,
        }
    }

    /// `None`: open to all, the default.
    pub fn acl(&self) -> Option<&Arc<[Acl]>> {
        self.acl.as_ref().map(|a| &a.list)
    }

    pub fn aversion(&self) -> i32 {
        self.acl.as_ref().map_or(0, |a| a.aversion)
    }

    /// Of the key `a<path>`; 0 where there is none.
    pub fn acl_revision(&self) -> i64 {
        self.acl.as_ref().map_or(0, |a| a.mod_revision)
    }

    pub fn data_length(&self) -> usize {
        self.data.as_ref().map_or(0, |d| d.len())
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
            ephemeral_owner: path::shown_owner(self.owner),
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
