//! What must hold of a cluster that has settled.

use std::collections::{BTreeMap, BTreeSet};

use zketcd::jute::{Acl, Stat};
use zketcd::session::CloseReason;
use zketcd::store::Snapshot;
use zketcd::tree::node::Node;
use zketcd::tree::path::{self, OwnerKind};
use zketcd::tree::replica::Replica;
use zketcd::tree::{key, key::Parsed};

/// All that a znode is.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    data: Option<Vec<u8>>,
    stat: Stat,
    owner: i64,
    created: i32,
    acl: Option<Vec<Acl>>,
    /// Of its keys.
    revisions: [i64; 4],
    children: BTreeSet<String>,
}

/// The replicas equal one another and what a server that starts now would see; and that is a sound tree.
pub fn replicas(snapshot: Snapshot, replicas: &[&Replica]) {
    no_leftovers(&snapshot);
    for replica in replicas {
        revisions(&snapshot, replica);
    }
    let fresh = Replica::load(snapshot).expect("what the servers wrote can be read");
    let expected = images(&fresh);
    sound(&fresh, &expected);
    for replica in replicas {
        let found = images(replica);
        for path in expected.keys().chain(found.keys()) {
            assert_eq!(found.get(path), expected.get(path), "{path}: a replica and the store");
        }
        assert_eq!(sessions(replica), sessions(&fresh));
        assert_eq!(ephemerals(replica), ephemerals(&fresh));
        assert_eq!(transient(replica), transient(&fresh));
        assert_eq!(replica.meta(), fresh.meta());
        assert_eq!(replica.revision(), fresh.revision());
        assert_eq!((replica.len(), replica.data_bytes()), (fresh.len(), fresh.data_bytes()));
        assert!(replica.last_zxid() >= fresh.last_zxid());
    }
}

/// What a replica tells of the znodes' keys is what the store has.
fn revisions(snapshot: &Snapshot, replica: &Replica) {
    for entry in &snapshot.entries {
        let Parsed::Node(path) = key::parse(&entry.key) else { continue };
        let node = replica.node(path).expect("a replica has what the store has");
        let told = (replica.create_revision(node), replica.mod_revision(node));
        assert_eq!(told, (entry.create_revision, entry.mod_revision), "{path}");
    }
}

/// Reasons that no client here gives.
pub fn may_close(reason: CloseReason) {
    use CloseReason::{BadFrame, HandshakeTimeout, Shutdown, TooManyConnections, UnreadAnswers};
    let never = [BadFrame, HandshakeTimeout, Shutdown, TooManyConnections, UnreadAnswers];
    assert!(!never.contains(&reason), "closed: {}", reason.name());
}

fn sound(replica: &Replica, images: &BTreeMap<String, Image>) {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for path in images.keys() {
        if let Some(parent) = path::parent(path) {
            *counts.entry(parent).or_default() += 1;
            let parent = images.get(parent).expect("a parent");
            assert!(parent.children.contains(path::name(path)), "{path} is no child");
            assert!(!matches!(OwnerKind::of(parent.owner), OwnerKind::Session(_)), "{path} below an ephemeral");
        }
    }
    for (path, image) in images {
        let count = counts.get(path.as_str()).copied().unwrap_or(0);
        assert_eq!(image.stat.num_children, count, "{path}");
        assert_eq!(image.children.len(), count as usize, "{path}");
        if let OwnerKind::Session(session) = OwnerKind::of(image.owner) {
            assert!(replica.session(session).is_some(), "{path} outlives its session {session:#x}");
        }
        let stat = &image.stat;
        let last = replica.last_zxid() | 0xfff;
        assert!(stat.czxid <= stat.mzxid && stat.mzxid <= last && stat.pzxid <= last, "{path}: {stat:x?}");
    }
}

/// Every record belongs to a znode that is there.
fn no_leftovers(snapshot: &Snapshot) {
    let nodes: BTreeSet<&str> = path::RESERVED
        .iter()
        .copied()
        .chain(snapshot.entries.iter().filter_map(|entry| match key::parse(&entry.key) {
            Parsed::Node(path) => Some(path),
            _ => None,
        }))
        .collect();
    for entry in &snapshot.entries {
        match key::parse(&entry.key) {
            Parsed::Children(path) | Parsed::Acl(path) => {
                assert!(nodes.contains(path), "{:?} of no znode", entry.key);
            }
            Parsed::Foreign => panic!("{:?} is no key of ours", entry.key),
            Parsed::Session(id) => assert_eq!(entry.lease, id, "a session without its lease"),
            Parsed::Node(_) => assert_eq!(entry.lease, 0, "a znode with a lease"),
            Parsed::Lane { .. } | Parsed::Claim { .. } => assert_ne!(entry.lease, 0, "a lane without a lease"),
            Parsed::Meta | Parsed::Began => {}
        }
    }
}

fn images(replica: &Replica) -> BTreeMap<String, Image> {
    replica.iter().map(|node| (node.path().to_owned(), image(replica, node))).collect()
}

fn image(replica: &Replica, node: &Node) -> Image {
    let found = replica.node(node.path()).expect("a node by its path");
    assert!(std::ptr::eq(found, node), "{} is there twice", node.path());
    Image {
        data: node.data().map(<[u8]>::to_vec),
        stat: node.stat(),
        owner: node.owner(),
        created: node.created(),
        acl: node.acl().map(|list| list.to_vec()),
        revisions: [
            replica.create_revision(node),
            replica.mod_revision(node),
            node.children_revision(),
            node.acl_revision(),
        ],
        children: replica.children(node).map(str::to_owned).collect(),
    }
}

fn sessions(replica: &Replica) -> BTreeMap<i64, (i64, Vec<u8>)> {
    replica.sessions().map(|(id, session)| (id, (session.mod_revision, session.record.encode().to_vec()))).collect()
}

fn ephemerals(replica: &Replica) -> BTreeMap<i64, BTreeSet<String>> {
    replica.owners().map(|owner| (owner, replica.ephemerals(owner).map(str::to_owned).collect())).collect()
}

fn transient(replica: &Replica) -> BTreeSet<String> {
    replica.transient().map(|node| node.path().to_owned()).collect()
}
