//! Two servers over one store: what each verdict compares, and that nothing is lost, doubled or out of order.

#[path = "support/drive.rs"]
mod drive;
mod support;

use std::sync::Arc;

use bytes::Bytes;
use drive::{Talker, Zketcd, stat};
use support::client::{check_op, create_op, create_request, delete_op, set_op};
use support::{children, create, delete, exists, get, set};
use zketcd::jute::{Acl, CreateMode, ErrorCode, Id, MultiResult, Perms, Reply, Request, op};
use zketcd::store::embedded::Embedded;
use zketcd::store::{OpResult, TxnResult};

const PERSISTENT: CreateMode = CreateMode::Persistent;

/// Two servers with a client each. The second one is told of nothing before it is asked to [`Zketcd::pull`].
struct Pair {
    near: Zketcd,
    near_client: Talker,
    far: Zketcd,
    far_client: Talker,
}

impl Pair {
    async fn new() -> Pair {
        let store = Embedded::memory();
        let mut near = Zketcd::start(store.clone()).await;
        let mut far = Zketcd::start(store).await;
        let near_client = near.client().await;
        let far_client = far.client().await;
        near.pull().unwrap();
        Pair { near, near_client, far, far_client }
    }

    /// Carries a request out at the near server, which then has told the far one.
    async fn prepare(&mut self, request: Request) {
        self.near.ok(&mut self.near_client, request).await;
        self.far.pull().unwrap();
    }

    /// Carries a request out at the near server alone.
    async fn near(&mut self, request: Request) -> Reply<'static> {
        self.near.ok(&mut self.near_client, request).await
    }

    /// Sends `request` through the far server, whose verdict is found while `meanwhile` is already in the store but
    /// not yet known there. Gives whether its group failed, and the verdict in the end.
    async fn race(&mut self, meanwhile: Request, request: Request) -> (bool, ErrorCode) {
        self.near(meanwhile).await;
        self.far.send(&mut self.far_client, request);
        let sent = self.far.build().expect("a batch");
        let result = self.far.commit(&sent).await;
        let failed = group_failed(&result, 0);
        self.far.answer(sent.lane, result).unwrap();
        assert_eq!(self.far_client.replies().len(), 0, "no answer before the replica has the revision");
        self.far.settle().await;
        let verdict = self.far_client.verdict();
        self.near.pull().unwrap();
        assert_same_tree(&self.near, &self.far);
        (failed, verdict)
    }
}

fn group_failed(result: &TxnResult, group: usize) -> bool {
    assert!(result.succeeded, "the lane holds its number");
    match &result.results[1 + group] {
        OpResult::Txn { succeeded, .. } => !succeeded,
        other => panic!("{other:?} is no group"),
    }
}

/// The replicas are one tree, in all that clients can see.
fn assert_same_tree(a: &Zketcd, b: &Zketcd) {
    let all = |server: &Zketcd| {
        let node = |node: &zketcd::tree::replica::Node| {
            (node.path().to_owned(), node.stat(), node.data.clone(), node.acl().cloned())
        };
        let mut nodes: Vec<_> = server.replica().iter().map(node).collect();
        nodes.sort_by(|x, y| x.0.cmp(&y.0));
        nodes
    };
    assert_eq!(all(a), all(b));
    assert_eq!(a.replica().last_zxid(), b.replica().last_zxid());
}

fn closed_acl() -> Request {
    let acl = Acl { perms: Perms::READ, id: Id { scheme: "world".into(), id: "anyone".into() } };
    Request::SetAcl { path: "/a".into(), acl: Some(vec![acl]), version: -1 }
}

/// The rows of the design's table of compares: what a verdict read is changed behind the server's back, so its group
/// fails; the verdict is found again, on the state that is.
#[tokio::test]
async fn a_verdict_that_read_a_stale_state_fails_and_is_found_again() {
    let sequential = || create("/a/n-", b"", CreateMode::PersistentSequential);
    let check = |version| Request::Multi(vec![check_op("/a", version)]);
    let cases: Vec<(&str, Vec<Request>, Request, Request, ErrorCode)> = vec![
        (
            "a parent that is gone",
            vec![create("/a", b"", PERSISTENT)],
            delete("/a", -1),
            create("/a/b", b"", PERSISTENT),
            ErrorCode::NoNode,
        ),
        ("a parent that came", vec![], create("/a", b"", PERSISTENT), create("/a/b", b"", PERSISTENT), ErrorCode::Ok),
        (
            "a node that came",
            vec![],
            create("/a", b"1", PERSISTENT),
            create("/a", b"2", PERSISTENT),
            ErrorCode::NodeExists,
        ),
        (
            "a node that is gone",
            vec![create("/a", b"", PERSISTENT)],
            delete("/a", -1),
            create("/a", b"", PERSISTENT),
            ErrorCode::Ok,
        ),
        (
            "a node to set that is gone",
            vec![create("/a", b"", PERSISTENT)],
            delete("/a", -1),
            set("/a", b"", -1),
            ErrorCode::NoNode,
        ),
        ("a node to set that came", vec![], create("/a", b"", PERSISTENT), set("/a", b"", -1), ErrorCode::Ok),
        (
            "a version",
            vec![create("/a", b"", PERSISTENT)],
            set("/a", b"", -1),
            set("/a", b"", 0),
            ErrorCode::BadVersion,
        ),
        (
            "a version that was wrong",
            vec![create("/a", b"", PERSISTENT)],
            set("/a", b"", -1),
            set("/a", b"", 1),
            ErrorCode::Ok,
        ),
        (
            "the data under a blind set",
            vec![create("/a", b"", PERSISTENT)],
            set("/a", b"", -1),
            set("/a", b"", -1),
            ErrorCode::Ok,
        ),
        (
            "the version of a delete",
            vec![create("/a", b"", PERSISTENT)],
            set("/a", b"", -1),
            delete("/a", 0),
            ErrorCode::BadVersion,
        ),
        (
            "emptiness",
            vec![create("/a", b"", PERSISTENT)],
            create("/a/b", b"", PERSISTENT),
            delete("/a", -1),
            ErrorCode::NotEmpty,
        ),
        (
            "a child that is gone",
            vec![create("/a", b"", PERSISTENT), create("/a/b", b"", PERSISTENT)],
            delete("/a/b", -1),
            delete("/a", -1),
            ErrorCode::Ok,
        ),
        ("the counter of children", vec![create("/a", b"", PERSISTENT)], sequential(), sequential(), ErrorCode::Ok),
        ("an ACL", vec![create("/a", b"", PERSISTENT)], closed_acl(), set("/a", b"", -1), ErrorCode::NoAuth),
        (
            "an ACL for children",
            vec![create("/a", b"", PERSISTENT)],
            closed_acl(),
            create("/a/b", b"", PERSISTENT),
            ErrorCode::NoAuth,
        ),
        (
            "the version of an ACL",
            vec![create("/a", b"", PERSISTENT)],
            closed_acl(),
            Request::SetAcl { version: 0, path: "/a".into(), acl: Some(support::client::open_acl()) },
            ErrorCode::NoAuth,
        ),
        ("a check's version", vec![create("/a", b"", PERSISTENT)], set("/a", b"", -1), check(0), ErrorCode::Ok),
        ("a check's node", vec![create("/a", b"", PERSISTENT)], delete("/a", -1), check(-1), ErrorCode::Ok),
    ];
    for (what, before, meanwhile, request, expected) in cases {
        let mut pair = Pair::new().await;
        for one in before {
            pair.prepare(one).await;
        }
        assert_eq!(pair.race(meanwhile, request).await, (true, expected), "{what}");
    }
}
