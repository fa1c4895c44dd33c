//! Lists of children as they are sent, kept until the children change: `ZooKeeperServer` has the same
//! (`getChildrenResponseCache`).

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

use crate::jute::{LENGTH_BYTES, encode_names};
use crate::tree::node::Node;
use crate::tree::replica::Replica;

/// Shorter lists are as quickly written anew.
const LONG: usize = 16;

/// Lists kept: ZooKeeper's `zookeeper.maxGetChildrenResponseCacheSize`.
const LISTS: usize = 400;

/// Bytes of all of them: four lists as long as a default client takes (`jute.maxbuffer`, 1 MiB). A longer one is not kept.
const BYTES: usize = 4 << 20;

#[derive(Debug)]
struct List {
    /// What tells one set of children from every other: the node's incarnation, and its child record's revision.
    of: (i64, i64),
    names: Bytes,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: HashMap<Box<str>, List>,
    bytes: usize,
}

impl Lists {
    /// The names of the node's children, as an answer holds them; none where there are few.
    pub fn names(&mut self, replica: &Replica, node: &Node) -> Option<Bytes> {
        if node.child_count() < LONG {
            return None;
        }
        let of = (node.czxid, node.children_revision());
        if let Some(list) = self.lists.get(node.path()).filter(|list| list.of == of) {
            return Some(list.names.clone());
        }
        let length: usize = replica.children(node).map(|name| LENGTH_BYTES + name.len()).sum();
        let mut out = BytesMut::with_capacity(LENGTH_BYTES + length);
        encode_names(&mut out, node.child_count(), replica.children(node));
        let names = out.freeze();
        self.keep(node.path(), List { of, names: names.clone() });
        Some(names)
    }

    fn keep(&mut self, path: &str, list: List) {
        if list.names.len() > BYTES / 4 {
            return;
        }
        self.bytes += path.len() + list.names.len();
        if let Some(old) = self.lists.insert(path.into(), list) {
            self.bytes -= path.len() + old.names.len();
        }
        while self.lists.len() > LISTS || self.bytes > BYTES {
            // Any of them: in the order of the hashes, which nobody can choose.
            let Some(other) = self.lists.keys().next().cloned() else { return };
            if let Some(list) = self.lists.remove(&other) {
                self.bytes -= other.len() + list.names.len();
            }
        }
    }
}
