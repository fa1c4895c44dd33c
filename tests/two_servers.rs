//! Two servers over one store: what each verdict compares, and that nothing is lost, doubled or out of order.

#[path = "support/drive.rs"]
mod drive;
mod support;

use drive::{Talker, Zketcd, stat};
use support::client::{check_op, create_op, create_request, delete_op, set_op};
use support::{children, create, delete, exists, get, set};
use zketcd::jute::{Acl, CreateMode, ErrorCode, Id, MultiResult, Perms, Reply, Request, op};
use zketcd::session::SLOW_MS;
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

    /// Leaves a watch that stays with both clients.
    async fn watch(&mut self, path: &str, mode: i32) {
        let clients = [(&mut self.near, &mut self.near_client), (&mut self.far, &mut self.far_client)];
        for (server, client) in clients {
            server.ok(client, Request::AddWatch { path: path.into(), mode }).await;
        }
    }

    /// Commits what waits at the near server, so many requests in one batch, and both servers hear of it.
    async fn commit_together(&mut self, requests: usize) {
        let sent = self.near.build().unwrap();
        assert_eq!(sent.outgoing.requests, requests);
        let result = self.near.commit(&sent).await;
        self.near.answer(sent.lane, result).unwrap();
        self.near.pull().unwrap();
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
        let node = |node: &zketcd::tree::node::Node| {
            (node.path().to_owned(), node.stat(), node.data().map(<[u8]>::to_vec), node.acl().cloned())
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

/// What the far server's client is shown of the near server's write: nothing, until it has been told.
#[tokio::test]
async fn an_error_too_is_decided_by_the_store() {
    let mut pair = Pair::new().await;
    // The far server believes that there is no /a: its NoNode would be wrong.
    let (failed, verdict) = pair.race(create("/a", b"", PERSISTENT), delete("/a", 0)).await;
    assert_eq!((failed, verdict), (true, ErrorCode::Ok));
}

/// "Exists, and no more than that": what does not matter to a verdict does not make it fail.
#[tokio::test]
async fn a_change_that_does_not_matter_disturbs_no_verdict() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    pair.prepare(create("/b", b"", PERSISTENT)).await;
    let cases = [
        (set("/a", b"", -1), create("/a/x", b"", PERSISTENT)),
        (create("/a/y", b"", PERSISTENT), set("/a", b"", -1)),
        (set("/b", b"", -1), set("/a", b"", -1)),
        (create("/a/z", b"", PERSISTENT), Request::Multi(vec![check_op("/a", -1)])),
    ];
    for (meanwhile, request) in cases {
        assert_eq!(pair.race(meanwhile, request.clone()).await, (false, ErrorCode::Ok), "{request:?}");
    }
}

/// Merged into one put, a delete and a create leave etcd's create_revision as it was: the child record tells.
#[tokio::test]
async fn a_node_deleted_and_created_by_one_multi_is_another_node() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"old", PERSISTENT)).await;
    let before = stat(&pair.near(exists("/a", false)).await);
    pair.far.pull().unwrap();
    let again = Request::Multi(vec![delete_op("/a", -1), create_op("/a", b"", CreateMode::Ephemeral)]);
    // A child of what the far server takes for a persistent node.
    let (failed, verdict) = pair.race(again, create("/a/x", b"", PERSISTENT)).await;
    assert_eq!((failed, verdict), (true, ErrorCode::NoChildrenForEphemerals));
    let after = stat(&pair.near(exists("/a", false)).await);
    assert!(after.czxid > before.mzxid, "a czxid of its own");
    assert_eq!((after.czxid, after.version), (after.mzxid, 0));
    // The next put writes the czxid out in full.
    let set = stat(&pair.near(set("/a", b"new", -1)).await);
    assert_eq!((set.czxid, set.version), (after.czxid, 1));
    pair.far.pull().unwrap();
    assert_same_tree(&pair.near, &pair.far);
    let third = Zketcd::start(pair.near.store.clone()).await;
    assert_eq!(third.replica().node("/a").map(|node| node.stat()), Some(set), "from a snapshot, too");
}

/// The watchers of the old node hear of both, in order.
#[tokio::test]
async fn a_node_deleted_and_created_by_one_multi_is_told_as_both() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    pair.far.ok(&mut pair.far_client, Request::AddWatch { path: "/a".into(), mode: 1 }).await;
    pair.near(Request::Multi(vec![delete_op("/a", -1), create_op("/a", b"", PERSISTENT), set_op("/a", b"1", 0)])).await;
    pair.far.pull().unwrap();
    let events = [(support::DELETED, "/a"), (support::CREATED, "/a"), (support::DATA_CHANGED, "/a")];
    assert_eq!(pair.far_client.events(), events.map(|(kind, path)| (kind, path.to_owned())));
}

/// A closeSession that leaves an ephemeral to another request of its batch, which deletes it, fails with that one.
#[tokio::test]
async fn a_close_is_not_answered_before_its_ephemerals_are_gone() {
    let mut pair = Pair::new().await;
    pair.far.ok(&mut pair.far_client, create("/a", b"", CreateMode::Ephemeral)).await;
    let mut other = pair.far.client().await;
    pair.near.pull().unwrap();
    pair.near(set("/a", b"", -1)).await;
    pair.far.send(&mut other, delete("/a", 0));
    pair.far.send(&mut pair.far_client, Request::CloseSession);
    let sent = pair.far.build().unwrap();
    assert_eq!(sent.outgoing.requests, 2);
    let result = pair.far.commit(&sent).await;
    assert!(group_failed(&result, 0), "the other server was first");
    pair.far.answer(sent.lane, result).unwrap();
    pair.far.pull().unwrap();
    assert_eq!(pair.far_client.replies(), []);
    pair.far.settle().await;
    assert_eq!((other.verdict(), pair.far_client.verdict()), (ErrorCode::BadVersion, ErrorCode::Ok));
    assert!(pair.far.replica().node("/a").is_none());
}

/// Each transaction costs the store its own share: beside one that is answered soon, no small one goes.
#[tokio::test]
async fn a_small_batch_goes_beside_another_only_where_the_store_is_slow() {
    let mut pair = Pair::new().await;
    let mut other = pair.near.client().await;
    pair.near.send(&mut pair.near_client, create("/a", b"", PERSISTENT));
    let first = pair.near.build().unwrap();
    pair.near.send(&mut other, Request::Sync { path: "/".into() });
    assert!(pair.near.build().is_none(), "the first may be answered soon");
    pair.near.pass_unseen(SLOW_MS);
    let second = pair.near.build().expect("the first is slow");
    for sent in [&second, &first] {
        let result = pair.near.commit(sent).await;
        pair.near.answer(sent.lane, result).unwrap();
    }
    pair.near.settle().await;
    assert_eq!((pair.near_client.verdict(), other.verdict()), (ErrorCode::Ok, ErrorCode::Ok));
}

/// A group that fails takes no other with it.
#[tokio::test]
async fn groups_fail_alone() {
    let mut pair = Pair::new().await;
    let mut other = pair.far.client().await;
    for path in ["/a", "/b"] {
        pair.prepare(create(path, b"", PERSISTENT)).await;
    }
    pair.near(set("/a", b"", -1)).await;
    pair.far.send(&mut pair.far_client, set("/a", b"", 0));
    pair.far.send(&mut other, set("/b", b"", 0));
    let sent = pair.far.build().unwrap();
    assert_eq!(sent.outgoing.requests, 2);
    let result = pair.far.commit(&sent).await;
    assert!(group_failed(&result, 0) && !group_failed(&result, 1));
    pair.far.answer(sent.lane, result).unwrap();
    pair.far.pull().unwrap();
    assert_eq!(other.verdict(), ErrorCode::Ok);
    assert_eq!(pair.far_client.replies(), [], "it waits for its second turn");
    pair.far.settle().await;
    assert_eq!(pair.far_client.verdict(), ErrorCode::BadVersion);
}

/// Writers of one parent are one group: their writes are merged, in order.
#[tokio::test]
async fn writers_of_one_parent_share_a_group_and_a_revision() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(pair.far.client().await);
    }
    for client in &mut clients {
        pair.far.send(client, create("/a/n-", b"", CreateMode::PersistentSequential));
    }
    let sent = pair.far.build().unwrap();
    assert_eq!((sent.outgoing.requests, sent.outgoing.txn.then.len()), (10, 2), "the lane and one group");
    let metrics = pair.far.metrics.clone();
    let counted = || [&metrics.batch_requests, &metrics.batch_bytes].map(|all| all.get_sample_sum());
    let [requests, bytes] = counted();
    let result = pair.far.commit(&sent).await;
    pair.far.answer(sent.lane, result).unwrap();
    let (requests, bytes) = (counted()[0] - requests, counted()[1] - bytes);
    assert!(requests == 10.0 && bytes > 10.0 * "/a/n-0000000000".len() as f64, "{requests} requests, {bytes} bytes");
    pair.far.pull().unwrap();
    let mut zxids = Vec::new();
    for (at, client) in clients.iter_mut().enumerate() {
        let (header, reply) = client.replies().remove(0);
        assert_eq!(reply, Reply::Path(format!("/a/n-{at:010}").into()));
        zxids.push(header.zxid);
    }
    assert_eq!(zxids, (zxids[0]..zxids[0] + 10).collect::<Vec<_>>(), "slots of one revision");
    pair.near.pull().unwrap();
    assert_same_tree(&pair.near, &pair.far);
}

/// Changes of one node by many sessions share a batch, and each is an event for a persistent watch, there and here.
#[tokio::test]
async fn a_persistent_watch_hears_each_set_of_a_batch() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    pair.watch("/a", 0).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(pair.near.client().await);
    }
    for client in &mut clients {
        pair.near.send(client, set("/a", b"x", -1));
    }
    pair.commit_together(5).await;
    for client in [&mut pair.near_client, &mut pair.far_client] {
        assert_eq!(client.events(), vec![(support::DATA_CHANGED, "/a".to_owned()); 5]);
    }
    let versions: Vec<i32> = clients.iter_mut().map(|client| stat(&client.replies()[0].1).version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
}

/// The store never sees the znode, but every watcher does, on both servers, and the parent has counted it.
#[tokio::test]
async fn a_znode_may_come_and_go_in_one_batch() {
    for second in [delete("/a/b", -1), Request::Multi(vec![delete_op("/a/b", -1)])] {
        let mut pair = Pair::new().await;
        let mut other = pair.near.client().await;
        pair.prepare(create("/a", b"", PERSISTENT)).await;
        pair.watch("/a", 1).await;
        pair.near.send(&mut pair.near_client, create("/a/b", b"data", CreateMode::Ephemeral));
        pair.near.send(&mut other, set("/a/b", b"more", 0));
        pair.near.send(&mut other, second);
        pair.commit_together(3).await;
        let told = [support::CREATED, support::DATA_CHANGED, support::DELETED].map(|kind| (kind, "/a/b".to_owned()));
        let heard = pair.near_client.heard();
        let kinds = heard.iter().map(|heard| match heard {
            drive::Heard::Event(_, event) => event.kind,
            drive::Heard::Reply(header, _) => header.err,
        });
        // Its own answer comes before what the others did.
        assert_eq!(kinds.collect::<Vec<_>>(), [told[0].0, 0, told[1].0, told[2].0]);
        assert_eq!(pair.far_client.events(), told);
        assert!(other.replies().iter().all(|(header, _)| header.err == 0));
        assert_same_tree(&pair.near, &pair.far);
        let parent = pair.near.replica().node("/a").unwrap().stat();
        assert_eq!((parent.cversion, parent.num_children, parent.pzxid), (2, 0, pair.near.replica().last_zxid()));
        assert_eq!(pair.near.replica().ephemeral_count(), 0);
    }
}

/// One that was there before, and one of the same path behind it.
#[tokio::test]
async fn a_delete_and_a_create_of_one_path_never_share_a_batch() {
    let mut pair = Pair::new().await;
    let mut other = pair.near.client().await;
    pair.near(create("/a", b"", PERSISTENT)).await;
    let again = Request::Multi(vec![delete_op("/a", -1), create_op("/a", b"", PERSISTENT)]);
    for (first, second) in [(delete("/a", -1), create("/a", b"", PERSISTENT)), (again, delete("/a", -1))] {
        pair.near.send(&mut pair.near_client, first);
        pair.near.send(&mut other, second);
        let sent = pair.near.build().unwrap();
        assert_eq!(sent.outgoing.requests, 1);
        assert!(pair.near.build().is_none(), "the second waits for the first");
        let result = pair.near.commit(&sent).await;
        pair.near.answer(sent.lane, result).unwrap();
        pair.near.settle().await;
        assert_eq!((pair.near_client.verdict(), other.verdict()), (ErrorCode::Ok, ErrorCode::Ok));
    }
    assert!(pair.near.replica().node("/a").is_none());
}

/// Whoever may not read a znode hears of it again when it has been made anew, and of nothing before.
#[tokio::test]
async fn events_are_judged_by_the_list_of_their_own_incarnation() {
    let mut pair = Pair::new().await;
    let mut other = pair.near.client().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    pair.watch("/a", 0).await;
    let id = Id { scheme: "world".into(), id: "anyone".into() };
    let unreadable = Acl { perms: Perms(Perms::ALL.0 & !Perms::READ.0), id };
    pair.prepare(Request::SetAcl { path: "/a".into(), acl: Some(vec![unreadable]), version: -1 }).await;
    let again = vec![delete_op("/a/b", -1), delete_op("/a", -1), create_op("/a", b"", PERSISTENT)];
    for request in [create("/a/b", b"", PERSISTENT), set("/a", b"unseen", -1), Request::Multi(again)] {
        pair.near.send(&mut other, request);
    }
    pair.commit_together(3).await;
    assert!(other.replies().iter().all(|(header, _)| header.err == 0));
    for client in [&mut pair.near_client, &mut pair.far_client] {
        assert_eq!(client.events(), [(support::CREATED, "/a".to_owned())]);
    }
}

/// Requests of a session that wait make its later ones wait, and a failed group's come back before them.
#[tokio::test]
async fn a_session_keeps_its_order_where_a_group_fails() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    pair.near(set("/a", b"near", -1)).await;
    pair.far.send(&mut pair.far_client, set("/a", b"1", 1));
    let sent = pair.far.build().unwrap();
    pair.far.send(&mut pair.far_client, set("/a", b"2", 2));
    pair.far.send(&mut pair.far_client, get("/a", false));
    pair.far.send(&mut pair.far_client, set("/a", b"3", 3));
    assert!(pair.far.build().is_none(), "nothing of the session while a batch of it is unanswered");
    let result = pair.far.commit(&sent).await;
    assert!(group_failed(&result, 0));
    pair.far.answer(sent.lane, result).unwrap();
    pair.far.settle().await;
    let replies = pair.far_client.replies();
    assert_eq!(replies.iter().map(|(header, _)| header.err).collect::<Vec<_>>(), [0; 4]);
    assert!(matches!(&replies[2].1, Reply::Data(Some(data), stat) if **data == *b"2" && stat.version == 3));
    assert_eq!(stat(&replies[3].1).version, 4);
}

/// set, get with a watch, set, sent at once: the get sees the first, and its watch hears of the second.
#[tokio::test]
async fn a_read_between_writes_sees_the_first_and_watches_the_second() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    for request in [set("/a", b"1", -1), get("/a", true), set("/a", b"2", -1)] {
        pair.near.send(&mut pair.near_client, request);
    }
    pair.near.settle().await;
    let heard = pair.near_client.heard();
    let [
        drive::Heard::Reply(..),
        drive::Heard::Reply(_, read),
        drive::Heard::Event(zxid, event),
        drive::Heard::Reply(last, _),
    ] = &heard[..]
    else {
        panic!("an answer, another, the event, then its change's answer: {heard:?}");
    };
    assert!(matches!(read, Reply::Data(Some(data), _) if **data == *b"1"));
    assert_eq!((event.kind, *zxid), (support::DATA_CHANGED, last.zxid));
}

/// Two servers that write one hot parent: the one that always comes too late claims it, and the other stands back.
#[tokio::test]
async fn nobody_starves() {
    let mut pair = Pair::new().await;
    pair.prepare(create("/a", b"", PERSISTENT)).await;
    let sequential = || create("/a/n-", b"", CreateMode::PersistentSequential);
    pair.far.send(&mut pair.far_client, sequential());
    let mut rounds = 0;
    while pair.far_client.replies().is_empty() {
        rounds += 1;
        assert!(rounds < 10, "the far server's write never gets through");
        pair.far.pull().unwrap();
        let sent = pair.far.build().expect("a batch");
        // Before it reaches the store, the near server, which knows all that came before, writes the same parent.
        pair.near.pull().unwrap();
        pair.near.send(&mut pair.near_client, sequential());
        if let Some(fast) = pair.near.build() {
            let result = pair.near.commit(&fast).await;
            pair.near.answer(fast.lane, result).unwrap();
        }
        let result = pair.far.commit(&sent).await;
        pair.far.answer(sent.lane, result).unwrap();
        pair.far.pull().unwrap();
    }
    assert_eq!(rounds, 3, "its second failure brings the claim, which the near server heeds");
    // And the near one goes on when the other has had its turn.
    pair.near.settle().await;
    assert_eq!(pair.near_client.replies().len(), rounds);
    let Reply::Children(names) = pair.near(children("/a", false)).await else { panic!("children") };
    assert_eq!(names.len(), rounds + 1, "nothing lost or doubled");
}

/// A multi's answer lists its operations, whose own effects they show.
#[tokio::test]
async fn a_multi_shares_its_zxid_and_orders_its_operations() {
    let mut pair = Pair::new().await;
    let create2 = |path: &str| zketcd::jute::MultiOp::Create(create_request(op::CREATE2, path, b"", PERSISTENT));
    let reply = pair.near(Request::Multi(vec![create2("/a"), create2("/a/x"), set_op("/a", b"1", 0)])).await;
    let Reply::Multi(results) = reply else { panic!("a multi's answer") };
    let [
        MultiResult::Create2 { stat: a, .. },
        MultiResult::Create2 { stat: x, .. },
        MultiResult::SetData { stat: set },
    ] = &results[..]
    else {
        panic!("{results:?}");
    };
    assert_eq!((a.version, a.num_children), (0, 0));
    assert_eq!((set.version, set.num_children, set.cversion), (1, 1, 1));
    assert_eq!([a.czxid, x.czxid, set.mzxid, set.pzxid], [a.czxid; 4]);
}
