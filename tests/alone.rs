//! A server that is alone: what its batches compare in place of what their verdicts read, and all that must make them
//! fail.

#[path = "support/drive.rs"]
mod drive;
mod support;

use std::collections::HashSet;
use std::sync::Arc;

use drive::{Sent, Talker, Zketcd};
use futures::StreamExt;
use support::{create, delete, get, set};
use zketcd::jute::{CreateMode, ErrorCode, Reply, Request};
use zketcd::server::bootstrap;
use zketcd::session::{ALONE_AFTER_MS, SLOW_MS};
use zketcd::store::embedded::Embedded;
use zketcd::store::{Op, OpResult, Store, Txn, TxnResult};
use zketcd::tree::key::{self, Parsed};

const PERSISTENT: CreateMode = CreateMode::Persistent;

/// A server of a store with `/a` and `/b`, and two clients of it.
async fn begin(store: Arc<Embedded>) -> (Zketcd, Talker, Talker) {
    let mut server = Zketcd::start(store).await;
    let (mut one, other) = (server.client().await, server.client().await);
    for path in ["/a", "/b"] {
        server.ok(&mut one, create(path, b"", PERSISTENT)).await;
    }
    (server, one, other)
}

/// The groups of a batch.
fn groups(sent: &Sent) -> Vec<&Txn> {
    let [Op::Put { key, .. }, groups @ ..] = &sent.outgoing.txn.then[..] else { panic!("no lane") };
    assert!(matches!(key::parse(key), Parsed::Lane { .. }));
    let groups = groups.iter().map(|op| if let Op::Txn(group) = op { group } else { panic!("{op:?} is no group") });
    groups.collect()
}

fn only(sent: &Sent) -> &Txn {
    let [group] = groups(sent)[..] else { panic!("one group: {sent:?}") };
    group
}

/// Whether it compares `began`, and not the znodes.
fn is_guarded(group: &Txn) -> bool {
    let compared = |key: &[u8]| group.compare.iter().any(|compare| compare.key == key);
    compared(key::BEGAN) && !group.compare.iter().any(|compare| matches!(key::parse(&compare.key), Parsed::Node(_)))
}

fn all_failed(result: &TxnResult) -> bool {
    assert!(result.succeeded, "the lane holds its number");
    matches!(result.results[..], [OpResult::Put, OpResult::Txn { succeeded: false, .. }])
}

/// One group, which compares that no other server has begun, and each session; and deletes no record that is not there.
#[tokio::test]
async fn a_batch_compares_the_guard_and_its_sessions() {
    let (mut server, mut one, mut other) = begin(Embedded::memory()).await;
    for request in [set("/a", b"1", 0), create("/a/x", b"", PERSISTENT)] {
        server.send(&mut one, request);
    }
    server.send(&mut other, delete("/b", -1));
    let sent = server.build().unwrap();
    let group = only(&sent);
    let mut compared: Vec<&[u8]> = group.compare.iter().map(|compare| &compare.key[..]).collect();
    compared.sort();
    let lane = key::lane(server.engine.identity().server, 1);
    let mut expected = [&lane[..], key::BEGAN, &key::session(one.session()), &key::session(other.session())];
    expected.sort();
    assert_eq!(compared, expected);
    let mut written: Vec<String> = group.then.iter().map(written).collect();
    written.sort();
    assert_eq!(written, ["delete n/b", "put c/", "put c/a", "put n/a", "put n/a/x"]);
    let result = server.commit(&sent).await;
    server.answer(sent.lane, result).unwrap();
    assert_eq!(one.replies().iter().map(|(header, _)| header.err).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(other.verdict(), ErrorCode::Ok);
}

fn written(op: &Op) -> String {
    match op {
        Op::Put { key, .. } => format!("put {}", key.escape_ascii()),
        Op::Delete { key } => format!("delete {}", key.escape_ascii()),
        other => panic!("{other:?}"),
    }
}

/// Who wrote meanwhile, whatever became of them since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    /// A server that was there before.
    Known,
    /// The same, which ended before the batch came to the store.
    KnownAndGone,
    /// One that nobody here has heard of.
    New,
    /// The same, which ended before the batch came to the store.
    NewAndGone,
}

/// Nothing that another server wrote is overwritten unseen, even where its lanes are gone.
#[tokio::test]
async fn a_batch_fails_where_another_server_wrote() {
    for other in [Other::Known, Other::KnownAndGone, Other::New, Other::NewAndGone] {
        let store = Embedded::memory();
        let (mut near, mut near_client, _) = begin(store.clone()).await;
        let far = match other {
            Other::Known | Other::KnownAndGone => {
                let mut far = Zketcd::start(store.clone()).await;
                let client = far.client().await;
                near.pull().unwrap();
                near.pass_unseen(ALONE_AFTER_MS);
                Some((far, client))
            }
            Other::New | Other::NewAndGone => None,
        };
        near.send(&mut near_client, set("/a", b"near", 0));
        let sent = near.build().unwrap();
        assert!(is_guarded(only(&sent)), "{other:?}: it is alone");
        let (mut far, mut far_client) = match far {
            Some(known) => known,
            None => {
                let mut far = Zketcd::start(store.clone()).await;
                let client = far.client().await;
                (far, client)
            }
        };
        far.ok(&mut far_client, set("/a", b"far", 0)).await;
        if matches!(other, Other::KnownAndGone | Other::NewAndGone) {
            store.lease_revoke(far.engine.identity().lease).await.unwrap();
        }
        let result = near.commit(&sent).await;
        assert!(all_failed(&result), "{other:?} wrote");
        near.answer(sent.lane, result).unwrap();
        near.pull().unwrap();
        let again = near.build().unwrap();
        assert!(!is_guarded(only(&again)), "{other:?}: it knows that it is not alone");
        let result = near.commit(&again).await;
        near.answer(again.lane, result).unwrap();
        assert_eq!(near_client.verdict(), ErrorCode::BadVersion, "{other:?}");
    }
}

/// A server that has only begun has written nothing, but might have.
#[tokio::test]
async fn a_batch_fails_where_another_server_has_begun() {
    let store = Embedded::memory();
    let (mut near, mut client, _) = begin(store.clone()).await;
    near.send(&mut client, set("/a", b"", 0));
    let sent = near.build().unwrap();
    Zketcd::start(store).await;
    let result = near.commit(&sent).await;
    assert!(all_failed(&result));
    near.answer(sent.lane, result).unwrap();
    near.settle().await;
    assert_eq!(client.verdict(), ErrorCode::Ok);
}

/// The store ends a session without a word to anybody: its requests, and they alone, have no effect in the end.
#[tokio::test]
async fn a_session_that_ended_takes_no_other_with_it() {
    let store = Embedded::memory();
    let (mut server, mut one, mut other) = begin(store.clone()).await;
    server.send(&mut one, set("/a", b"one", -1));
    server.send(&mut other, set("/b", b"other", -1));
    let sent = server.build().unwrap();
    store.lease_revoke(one.session()).await.unwrap();
    let result = server.commit(&sent).await;
    assert!(all_failed(&result));
    server.answer(sent.lane, result).unwrap();
    server.settle().await;
    assert!(one.closed().is_some());
    assert_eq!(other.verdict(), ErrorCode::Ok);
    let data = |path| server.replica().node(path).and_then(|node| node.data().map(<[u8]>::to_vec));
    assert_eq!((data("/a"), data("/b")), (Some(Vec::new()), Some(b"other".to_vec())));
}

/// Beside another server that writes each request has its own compares, so that what does not concern it fails nothing.
#[tokio::test]
async fn a_server_is_alone_a_while_after_another_wrote() {
    let store = Embedded::memory();
    let (mut near, mut one, mut other) = begin(store.clone()).await;
    let mut others = Vec::new();
    for path in ["/far", "/farther"] {
        let mut server = Zketcd::start(store.clone()).await;
        let mut client = server.client().await;
        server.ok(&mut client, create(path, b"", PERSISTENT)).await;
        others.push((server, client));
    }
    near.pull().unwrap();
    for (wait, expected) in [(0, 2), (ALONE_AFTER_MS - 1, 2), (1, 1)] {
        near.pass_unseen(wait);
        near.send(&mut one, set("/a", b"", -1));
        near.send(&mut other, set("/b", b"", -1));
        let sent = near.build().unwrap();
        assert_eq!(groups(&sent).len(), expected, "after {wait} ms more");
        let result = near.commit(&sent).await;
        near.answer(sent.lane, result).unwrap();
    }
    // What puts a lane and nothing else is a sign of life, unless one server does so again and again.
    for (other, guarded) in [(0, true), (1, true), (1, false)] {
        let (server, client) = &mut others[other];
        server.ok(client, Request::Sync { path: "/".into() }).await;
        near.settle().await;
        near.send(&mut one, set("/a", b"", -1));
        let sent = near.build().unwrap();
        assert_eq!(is_guarded(only(&sent)), guarded);
        let result = near.commit(&sent).await;
        near.answer(sent.lane, result).unwrap();
    }
}

/// What the stream lost, the tree lacks: until the next snapshot no guard says that it is whole.
#[tokio::test]
async fn there_is_no_guard_where_the_stream_lost_something() {
    for begins in [false, true] {
        let store = Embedded::memory();
        let (mut near, mut client, _) = begin(store.clone()).await;
        let known = near.replica().revision();
        let mut far = Zketcd::start(store.clone()).await;
        if !begins {
            near.pull().unwrap();
        }
        let mut far_client = far.client().await;
        far.ok(&mut far_client, set("/a", b"far", 0)).await;
        far.ok(&mut far_client, create("/c", b"", PERSISTENT)).await;
        near.pass_unseen(ALONE_AFTER_MS);
        // All but the last of them is lost; where the server has begun meanwhile, its first put too.
        let mut changes = store.changes(known + 1).await.unwrap();
        let run = changes.next().await.unwrap().unwrap();
        let last = run.last().cloned().into_iter().collect();
        assert!(near.engine.changed(last).unwrap_err().is_loss(), "begins: {begins}");
        near.send(&mut client, set("/a", b"near", 0));
        let sent = near.build().unwrap();
        assert!(!is_guarded(only(&sent)), "begins: {begins}");
        assert!(all_failed(&near.commit(&sent).await), "begins: {begins}");
    }
}

/// Beside another server each sync is a group of its own, which needs no operation but is one.
#[tokio::test]
async fn a_batch_has_no_more_groups_than_etcd_takes() {
    let store = Embedded::memory();
    let (mut near, _, _) = begin(store.clone()).await;
    let mut far = Zketcd::start(store).await;
    far.client().await;
    near.pull().unwrap();
    let mut done = Vec::new();
    for _ in 0..2 * drive::LIMITS.txn_ops {
        let (tell, told) = tokio::sync::oneshot::channel();
        near.engine.sync(tell);
        done.push(told);
    }
    let sent = near.build().unwrap();
    assert_eq!(groups(&sent).len(), drive::LIMITS.txn_ops - 1);
    let result = near.commit(&sent).await;
    near.answer(sent.lane, result).unwrap();
    near.settle().await;
    for told in done {
        told.await.unwrap();
    }
}

/// A server that ends puts `began` once more: a backup of before its last batches is told from what the others know.
#[tokio::test]
async fn a_server_that_ends_says_so() {
    let store = Embedded::memory();
    let (mut near, mut client, _) = begin(store.clone()).await;
    let far = Zketcd::start(store.clone()).await;
    near.pull().unwrap();
    let began = near.replica().began();
    bootstrap::end(&*store, far.engine.identity()).await.unwrap();
    near.pull().unwrap();
    assert!(near.replica().began() > began);
    let servers: HashSet<u64> = near.replica().lanes().map(|(server, ..)| server).collect();
    assert_eq!(servers, HashSet::from([near.engine.identity().server]), "the lanes of the other are gone");
    near.ok(&mut client, set("/a", b"", 0)).await;
}

/// More operations than a level of a transaction may have go in parts, and all that they changed is told.
#[tokio::test]
async fn a_batch_holds_more_writes_than_a_level_of_a_transaction() {
    const MANY: usize = 300;
    let store = Embedded::memory();
    let (mut server, mut one, mut other) = begin(store.clone()).await;
    server.ok(&mut other, Request::AddWatch { path: "/a".into(), mode: 1 }).await;
    for at in 0..MANY {
        server.send(&mut one, create(&format!("/a/{at}"), b"x", PERSISTENT));
    }
    let sent = server.build().unwrap();
    assert_eq!(sent.outgoing.requests, MANY);
    assert!(only(&sent).then.iter().all(|op| matches!(op, Op::Txn(_))), "parts");
    let result = server.commit(&sent).await;
    server.answer(sent.lane, result).unwrap();
    assert_eq!(one.replies().len(), MANY);
    let events: Vec<String> = other.events().into_iter().map(|(_, path)| path).collect();
    assert_eq!(events, (0..MANY).map(|at| format!("/a/{at}")).collect::<Vec<_>>(), "in their order");
    // The stream tells the same to whoever comes later.
    server.pull().unwrap();
    let mut third = Zketcd::start(store).await;
    let mut client = third.client().await;
    let Reply::Data(data, stat) = third.ok(&mut client, get("/a/299", false)).await else { panic!("data") };
    assert_eq!((data.as_deref(), stat.czxid), (Some(&b"x"[..]), server.replica().node("/a/299").unwrap().czxid));
    assert_eq!(third.replica().node("/a").map(|node| node.stat()), server.replica().node("/a").map(|node| node.stat()));
}

/// What one request may hold is the same beside another server and without one.
#[tokio::test]
async fn a_request_that_is_too_large_for_a_group_is_refused_alone_too() {
    let (mut server, mut client, _) = begin(Embedded::memory()).await;
    let multi = |count: usize| {
        let op = |at| support::client::create_op(&format!("/a/{at}"), b"", PERSISTENT);
        Request::Multi((0..count).map(op).collect())
    };
    // The lane's put, the group, and the parent's record.
    let (header, _) = server.call(&mut client, multi(drive::LIMITS.txn_ops - 2)).await;
    assert_eq!(header.err, ErrorCode::BadArguments.code());
    let (header, _) = server.call(&mut client, multi(drive::LIMITS.txn_ops - 3)).await;
    assert_eq!(header.err, 0);
}

/// What one of a server's own batches reads, a later one may write: they may overlap, but none overtakes another unseen.
#[tokio::test]
async fn a_later_batch_of_the_same_server_may_overlap_and_not_overtake() {
    for overtakes in [false, true] {
        let (mut server, mut one, mut other) = begin(Embedded::memory()).await;
        server.send(&mut one, set("/a/x", b"", -1));
        let first = server.build().unwrap();
        server.pass_unseen(SLOW_MS);
        server.send(&mut other, create("/a/x", b"", PERSISTENT));
        let second = server.build().unwrap();
        assert!(is_guarded(only(&first)) && is_guarded(only(&second)));
        let order = if overtakes { [&second, &first] } else { [&first, &second] };
        for sent in order {
            let result = server.commit(sent).await;
            assert_eq!(all_failed(&result), overtakes && sent.lane == first.lane);
            server.answer(sent.lane, result).unwrap();
        }
        server.settle().await;
        assert_eq!(other.verdict(), ErrorCode::Ok);
        assert_eq!(one.verdict(), if overtakes { ErrorCode::Ok } else { ErrorCode::NoNode });
    }
}

/// A guard that never holds, as where the stream lost that a server has begun, is given up.
#[tokio::test]
async fn a_guard_that_never_holds_is_given_up() {
    let store = Embedded::memory();
    let (mut near, mut client, _) = begin(store.clone()).await;
    let known = near.replica().revision();
    Zketcd::start(store.clone()).await;
    let mut changes = store.changes(known + 2).await.unwrap();
    near.send(&mut client, set("/a", b"", -1));
    for guarded in [true, true, false] {
        let sent = near.build().unwrap();
        assert_eq!(is_guarded(only(&sent)), guarded);
        let result = near.commit(&sent).await;
        assert_eq!(all_failed(&result), guarded);
        near.answer(sent.lane, result).unwrap();
        near.engine.changed(changes.next().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(client.verdict(), ErrorCode::Ok);
}
