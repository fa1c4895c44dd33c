//! Exactly once, across all that may happen between a server and its store: answers, requests and revisions that are
//! lost or come twice, lanes that end, history that is compacted.

#[path = "support/drive.rs"]
mod drive;
mod support;

use std::sync::Arc;

use drive::{Zketcd, stat};
use support::client::{self, Client, ConnectOptions, Error, create_op, delete_op, set_op};
use support::server::Running;
use support::{children, create, delete, event, get, set};
use zketcd::jute::{CreateMode, ErrorCode, MultiOp, Reply, Request};
use zketcd::session::{CloseReason, LaneAnswer, SLOW_MS};
use zketcd::store::embedded::Embedded;
use zketcd::store::faults::{Faults, Faulty};
use zketcd::store::{Change, Store};
use zketcd::tree::key;
use zketcd::tree::replica::{ApplyError, Replica};

const PERSISTENT: CreateMode = CreateMode::Persistent;

/// A server over a store that fails on command, and a client with a znode `/a`.
async fn faulty(flags: &[&str]) -> (Running, Client, Faults, Arc<Embedded>) {
    let embedded = Embedded::memory();
    let (store, faults) = Faulty::new(embedded.clone());
    let server = Running::start(store, flags).await;
    let mut client = Client::connect(server.address, ConnectOptions::default()).await.unwrap();
    client.create("/a", b"", PERSISTENT).await.unwrap();
    (server, client, faults, embedded)
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_applied_once() {
    let (_server, mut client, faults, _) = faulty(&[]).await;
    for lost in 1..4 {
        let before = faults.seen().transacts;
        faults.lose_answers(lost);
        assert_eq!(client.set("/a", b"x", -1).await.unwrap().version, lost as i32);
        assert!(faults.seen().transacts > before + lost, "it was asked again");
    }
    faults.lose_answers(2);
    let path = client.create("/a/n-", b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(path, "/a/n-0000000000");
    assert_eq!(client.children("/a", false).await.unwrap(), ["n-0000000000"]);
}

#[tokio::test]
async fn a_write_whose_request_is_lost_is_applied_once() {
    let (_server, mut client, faults, _) = faulty(&[]).await;
    faults.lose_requests(3);
    assert_eq!(client.set("/a", b"x", 0).await.unwrap().version, 1);
}

#[tokio::test]
async fn a_verdict_that_is_an_error_survives_a_lost_answer() {
    let (_server, mut client, faults, _) = faulty(&[]).await;
    faults.lose_answers(1);
    assert_eq!(client.set("/a", b"x", 7).await, support::refused(ErrorCode::BadVersion));
    faults.lose_answers(1);
    assert_eq!(client.delete("/b", -1).await, support::refused(ErrorCode::NoNode));
}

/// The store is slow: what was sent stays sent, and is applied once, in order.
#[tokio::test]
async fn a_stall_loses_and_doubles_nothing() {
    let (_server, mut client, faults, _) = faulty(&[]).await;
    faults.hold_answers();
    let xids = client.send_all((0..20).map(|at| set("/a", b"x", at))).await.unwrap();
    faults.until(|seen| seen.held > 0).await;
    faults.break_streams();
    faults.release();
    for (at, xid) in xids.into_iter().enumerate() {
        let (header, reply) = client.reply(xid).await.unwrap();
        assert_eq!((header.err, stat(&reply).version), (0, at as i32 + 1));
    }
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_was() {
    let (_server, mut client, faults, _) = faulty(&[]).await;
    client.get("/a", true).await.unwrap();
    for at in 1..4 {
        let streams = faults.seen().streams;
        faults.break_streams();
        assert_eq!(client.set("/a", b"x", -1).await.unwrap().version, at);
        assert_eq!(faults.until(|seen| seen.streams > streams).await.streams, streams + 1);
    }
    assert_eq!(support::bare(client.settled_events().await.unwrap()), [event(support::DATA_CHANGED, "/a")]);
}

#[tokio::test]
async fn a_revision_that_comes_twice_counts_once() {
    let (_server, mut client, faults, _) = faulty(&[]).await;
    client.add_watch("/a", 0).await.unwrap();
    for at in 1..4 {
        faults.duplicate_revision();
        assert_eq!(client.set("/a", b"x", -1).await.unwrap().version, at);
    }
    let events = support::bare(client.settled_events().await.unwrap());
    assert_eq!(events, vec![event(support::DATA_CHANGED, "/a"); 3]);
}

/// Another server's revision is lost: its next batch shows the gap, and a snapshot fills it.
#[tokio::test]
async fn a_revision_that_the_stream_lost_is_found_missing() {
    let embedded = Embedded::memory();
    let (store, faults) = Faulty::new(embedded.clone());
    let server = Running::start(store, &[]).await;
    let other = Running::start(embedded, &["--lanes=1"]).await;
    let mut watcher = Client::connect(server.address, ConnectOptions::default()).await.unwrap();
    let mut writer = Client::connect(other.address, ConnectOptions::default()).await.unwrap();
    writer.create("/a", b"", PERSISTENT).await.unwrap();
    watcher.sync("/").await.unwrap();
    watcher.exists("/lost", true).await.unwrap();
    faults.drop_revision();
    writer.create("/lost", b"", PERSISTENT).await.unwrap();
    writer.set("/a", b"x", -1).await.unwrap();
    assert_eq!(watcher.next_event().await.unwrap().1, event(support::CREATED, "/lost"));
    watcher.sync("/").await.unwrap();
    assert_eq!(watcher.get("/a", false).await.unwrap().1.version, 1);
}

/// The same where the server's own batches make it apply what the stream brought before.
#[tokio::test]
async fn a_revision_that_the_stream_lost_between_own_batches_is_found_missing() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::with(store, 1, drive::LIMITS).await;
    let mut client = near.client().await;
    let mut other = far.client().await;
    near.pull().unwrap();
    near.send(&mut client, create("/a", b"", PERSISTENT));
    let sent = near.build().unwrap();
    let result = near.commit(&sent).await;
    let own = result.revision;
    for path in ["/lost", "/seen"] {
        far.ok(&mut other, create(path, b"", PERSISTENT)).await;
    }
    let mut changes = near.store.changes(own).await.unwrap();
    let run = futures::StreamExt::next(&mut changes).await.unwrap().unwrap();
    let [first, _lost, seen] = &run[..] else { panic!("three revisions: {run:?}") };
    near.engine.changed(vec![first.clone(), seen.clone()]).unwrap();
    assert_eq!(client.replies(), [], "the answer is not known yet");
    near.answer(sent.lane, result).unwrap();
    assert_eq!(client.replies().len(), 1);
    assert!(near.engine.has_lost());
    assert!(near.engine.changed(Vec::new()).is_err(), "nothing goes on before the snapshot");
    assert!(near.replica().node("/seen").is_none());
    near.resync().await;
    assert!(!near.engine.has_lost());
    assert!(near.replica().node("/lost").is_some() && near.replica().node("/seen").is_some());
}

/// A server's own batch that the stream leaves out, after another server's that it has not brought yet: the next
/// revision shows it, or time does.
#[tokio::test]
async fn an_own_revision_that_the_stream_lost_is_found_missing() {
    for by_time in [false, true] {
        let store = Embedded::memory();
        let mut near = Zketcd::start(store.clone()).await;
        let mut far = Zketcd::with(store, 1, drive::LIMITS).await;
        let mut client = near.client().await;
        let mut other = near.client().await;
        far.client().await;
        near.pull().unwrap();
        near.send(&mut client, create("/a", b"", PERSISTENT));
        let sent = near.build().unwrap();
        // The near server knows that it is not alone: this does not concern its batch.
        far.client().await;
        let result = near.commit(&sent).await;
        let lost = result.revision;
        near.answer(sent.lane, result).unwrap();
        if by_time {
            near.pass(5_000);
            assert!(!near.engine.has_lost(), "a stream may lag");
            near.pass(1);
        } else {
            near.send(&mut other, Request::Sync { path: "/".into() });
            near.pass(SLOW_MS);
            let next = near.build().unwrap();
            let result = near.commit(&next).await;
            let mut changes = near.store.changes(result.revision).await.unwrap();
            near.answer(next.lane, result).unwrap();
            let run = futures::StreamExt::next(&mut changes).await.unwrap().unwrap();
            assert_eq!(near.engine.changed(run), Err(ApplyError::Missed { lane: sent.lane, revision: lost }));
        }
        assert!(near.engine.has_lost());
        near.resync().await;
        assert_eq!(client.verdict(), ErrorCode::Ok, "the answer told what became of it");
        near.settle().await;
        near.ok(&mut client, set("/a", b"", 0)).await;
    }
}

/// History is compacted under a server that goes on by its own answers: it lacks nothing, and its clients notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_compacted_costs_a_busy_server_nothing() {
    let (_server, mut client, faults, _) = faulty(&[]).await;
    let mut version = 0;
    for _ in 0..3 {
        let streams = faults.seen().streams;
        faults.compact(1);
        faults.break_streams();
        while faults.seen().streams == streams {
            version = client.set("/a", b"", version).await.expect("the connection stays").version;
        }
    }
    assert_eq!(client.get("/a", false).await.unwrap().1.version, version);
}

/// Where nobody came between, a batch takes effect with its answer, and as the stream will tell it.
#[tokio::test]
async fn an_answer_that_follows_directly_needs_no_stream() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::with(store, 1, drive::LIMITS).await;
    let mut client = near.client().await;
    let mut watcher = near.client().await;
    for path in ["/a", "/gone", "/again"] {
        near.ok(&mut client, create(path, b"", PERSISTENT)).await;
    }
    near.ok(&mut watcher, children("/", true)).await;
    // Every kind of change: a put of a new key, an overwrite, a delete, and a delete and a create that merge.
    let multi = Request::Multi(vec![
        set_op("/a", b"1", 0),
        delete_op("/gone", 0),
        delete_op("/again", 0),
        create_op("/again", b"2", PERSISTENT),
        create_op("/again/below", b"", CreateMode::Ephemeral),
    ]);
    near.send(&mut client, multi);
    let sent = near.build().unwrap();
    let result = near.commit(&sent).await;
    near.answer(sent.lane, result).unwrap();
    assert_eq!(client.verdict(), ErrorCode::Ok);
    assert_eq!(watcher.events(), [(support::CHILDREN_CHANGED, "/".to_owned())]);

    let at_answer = tree(near.replica());
    near.pull().unwrap();
    assert_eq!(tree(near.replica()), at_answer, "the stream's copy changes nothing");
    far.pull().unwrap();
    assert_eq!(tree(far.replica()), at_answer);
}

/// All that a replica knows of its znodes.
fn tree(replica: &Replica) -> Vec<String> {
    let mut nodes: Vec<String> = replica
        .iter()
        .map(|node| {
            let own = (replica.create_revision(node), replica.mod_revision(node));
            let revisions = (own, node.children_revision(), node.acl_revision());
            format!("{} {:?} {revisions:?}", node.path(), node.stat())
        })
        .collect();
    nodes.sort();
    nodes
}

/// A batch whose answer comes after the snapshot that contains it: by then the client has been shown later zxids.
#[tokio::test]
async fn an_answer_after_the_snapshot_does_not_go_back() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::with(store, 1, drive::LIMITS).await;
    let mut client = near.client().await;
    let mut other = far.client().await;
    near.pull().unwrap();
    near.send(&mut client, create("/a", b"", PERSISTENT));
    let sent = near.build().unwrap();
    let result = near.commit(&sent).await;
    far.ok(&mut other, create("/later", b"", PERSISTENT)).await;
    near.resync().await;
    near.send(&mut client, Request::Ping);
    near.answer(sent.lane, result).unwrap();
    let zxids: Vec<i64> = client.replies().iter().map(|(header, _)| header.zxid).collect();
    let last = near.replica().last_zxid();
    assert_eq!(zxids, [last, last], "the ping's and the create's");
    let made = near.replica().node("/a").unwrap().czxid;
    assert!(made < last, "the znode keeps its own");
}

/// The same with an attach, and the session has moved on by then: its client is elsewhere.
#[tokio::test]
async fn an_attach_answered_after_the_session_moved_holds_nothing() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::with(store, 1, drive::LIMITS).await;
    let session = far.client().await.session();
    near.pull().unwrap();
    let first = near.attach(session);
    let sent = near.build().unwrap();
    let result = near.commit(&sent).await;
    far.pull().unwrap();
    let mut second = far.attach(session);
    far.settle().await;
    assert_eq!(second.attached(), Some(session));
    near.resync().await;
    near.answer(sent.lane, result).unwrap();
    assert_eq!(first.closed(), Some(CloseReason::SessionMoved));
    far.ok(&mut second, create("/a", b"", PERSISTENT)).await;
}

/// More ephemerals than one transaction can take, and a request behind the closeSession: that one's answer is the last.
#[tokio::test]
async fn what_comes_behind_a_close_session_gets_no_answer() {
    let mut near = Zketcd::start(Embedded::memory()).await;
    let mut client = near.client().await;
    for n in 0..40 {
        near.ok(&mut client, create(&format!("/e{n}"), b"", CreateMode::Ephemeral)).await;
    }
    let close = near.send(&mut client, Request::CloseSession);
    near.send(&mut client, create("/late", b"", PERSISTENT));
    near.settle().await;
    let answered: Vec<i32> = client.replies().iter().map(|(header, _)| header.xid).collect();
    assert_eq!(answered, [close]);
    assert_eq!(client.closed(), Some(CloseReason::SessionClosed));
    assert!(near.replica().node("/e39").is_none() && near.replica().node("/late").is_none());
}

/// Own revisions lost, with real streams and tasks: the lane is not stuck.
#[tokio::test]
async fn a_lane_whose_revision_was_lost_goes_on() {
    let (_server, mut client, faults, embedded) = faulty(&[]).await;
    let other = Running::start(embedded, &[]).await;
    let mut writer = Client::connect(other.address, ConnectOptions::default()).await.unwrap();
    faults.drop_revision();
    let xid = client.send(set("/a", b"1", 0)).await.unwrap();
    writer.sync("/").await.unwrap();
    while writer.get("/a", false).await.unwrap().1.version == 0 {
        writer.sync("/").await.unwrap();
    }
    // Anything that comes later shows that something was left out.
    writer.create("/b", b"", PERSISTENT).await.unwrap();
    assert_eq!(client.reply(xid).await.unwrap().0.err, 0);
    assert_eq!(client.set("/a", b"2", 1).await.unwrap().version, 2);
}

/// The server's lease has ended: its lanes are gone. It begins anew, its clients come back with their sessions.
#[tokio::test]
async fn a_server_whose_lanes_are_gone_begins_anew() {
    let (server, mut client, faults, embedded) = faulty(&[]).await;
    client.create("/mine", b"", CreateMode::Ephemeral).await.unwrap();
    let snapshot = embedded.snapshot().await.unwrap();
    let lane = snapshot.entries.iter().find(|kv| matches!(key::parse(&kv.key), key::Parsed::Lane { .. })).unwrap();
    faults.expire_lease(lane.lease).await.unwrap();
    assert_eq!(client.set("/a", b"x", -1).await, Err(Error::Closed), "no answer that nobody can know");
    let mut client = loop {
        match Client::connect(server.address, client.resume()).await {
            Ok(client) => break client,
            Err(Error::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(client.get("/a", false).await.unwrap().1.version, 0, "without its lane a batch cannot be applied");
    assert_eq!(client.ephemerals("/").await.unwrap(), ["/mine"], "the session goes on");
    assert_eq!(client.set("/a", b"x", -1).await.unwrap().version, 1);
    client.close().await.unwrap();
}

/// The history is gone while the stream was broken: the difference of two snapshots fires the watches that it touches.
#[tokio::test]
async fn watches_fire_by_the_difference_where_history_is_gone() {
    let (_server, mut client, faults, embedded) = faulty(&[]).await;
    for path in ["/gone", "/again", "/data", "/parent", "/quiet"] {
        client.create(path, b"", PERSISTENT).await.unwrap();
    }
    client.create("/parent/child", b"", PERSISTENT).await.unwrap();
    for path in ["/gone", "/again", "/data", "/quiet"] {
        client.get(path, true).await.unwrap();
    }
    client.exists("/came", true).await.unwrap();
    client.children("/parent", true).await.unwrap();
    client.children("/quiet", true).await.unwrap();
    client.add_watch("/again", 0).await.unwrap();
    let other = Running::start(embedded, &[]).await;
    let mut writer = Client::connect(other.address, ConnectOptions::default()).await.unwrap();
    faults.hold_streams();
    writer.delete("/gone", -1).await.unwrap();
    writer.delete("/again", -1).await.unwrap();
    writer.create("/again", b"", PERSISTENT).await.unwrap();
    writer.set("/data", b"1", -1).await.unwrap();
    writer.set("/data", b"2", -1).await.unwrap();
    writer.create("/came", b"", PERSISTENT).await.unwrap();
    // The same children as before: only the record tells.
    writer.delete("/parent/child", -1).await.unwrap();
    writer.create("/parent/child", b"", PERSISTENT).await.unwrap();
    let streams = faults.seen().streams;
    faults.compact(1);
    faults.break_streams();
    faults.release();
    faults.until(|seen| seen.streams > streams).await;
    let mut events = support::bare(client.settled_events().await.unwrap());
    let again: Vec<i32> = events.iter().filter(|one| one.path == "/again").map(|one| one.kind).collect();
    assert_eq!(again, [support::DELETED, support::CREATED], "another incarnation is both, in order");
    events.retain(|one| one.path != "/again");
    events.sort_by(|a, b| a.path.cmp(&b.path));
    let expected = [
        event(support::CREATED, "/came"),
        event(support::DATA_CHANGED, "/data"),
        event(support::DELETED, "/gone"),
        event(support::CHILDREN_CHANGED, "/parent"),
    ];
    assert_eq!(events, expected);
    assert_eq!(client.get("/data", false).await.unwrap().0, b"2");
    assert_eq!(client.set("/data", b"3", 2).await.unwrap().version, 3, "writes go on");
}

/// The stream no longer has the revision that would tell: no answer, and no second try.
#[tokio::test]
async fn an_outcome_that_nobody_can_tell_is_not_told() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store).await;
    let mut client = near.client().await;
    let mut bystander = near.client().await;
    near.ok(&mut client, create("/a", b"", PERSISTENT)).await;
    near.send(&mut client, set("/a", b"x", -1));
    let sent = near.build().unwrap();
    near.commit(&sent).await;
    near.resync().await;
    assert_eq!(client.closed(), None, "the answer may still come, and tell");
    // The first one is lost; the second copy's only says that the first was applied.
    let result = near.commit(&sent).await;
    near.answer(sent.lane, result).unwrap();
    assert_eq!(client.closed(), Some(CloseReason::OutcomeUnknown));
    assert_eq!(client.replies(), []);
    let mut again = near.attach(client.session());
    near.settle().await;
    again.attached().expect("the session goes on");
    let Reply::Data(_, after) = near.ok(&mut again, get("/a", false)).await else { panic!("data") };
    assert_eq!(after.version, 1, "applied, and never again");
    assert_eq!(bystander.closed(), None);
    near.ok(&mut bystander, set("/a", b"y", 1)).await;
}

/// A lost answer and a group that failed: the keys' events tell which of the groups took effect.
#[tokio::test]
async fn after_a_lost_answer_the_stream_tells_which_groups_took_effect() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::start(store).await;
    let mut client = near.client().await;
    let mut clients = [near.client().await, near.client().await, near.client().await, near.client().await];
    for path in ["/stale", "/set", "/gone"] {
        near.ok(&mut client, create(path, b"", PERSISTENT)).await;
    }
    let mut other = far.client().await;
    far.ok(&mut other, set("/stale", b"", -1)).await;
    let requests = [set("/stale", b"", 0), set("/set", b"", 0), delete("/gone", 0), set("/nothing", b"", 0)];
    for (client, request) in clients.iter_mut().zip(requests) {
        near.send(client, request);
    }
    let sent = near.build().unwrap();
    assert_eq!(sent.outgoing.requests, 4);
    near.commit(&sent).await;
    let again = near.commit(&sent).await;
    assert!(!again.succeeded, "the lane holds the batch's own number");
    near.answer(sent.lane, again).unwrap();
    near.settle().await;
    let verdicts = clients.each_mut().map(|client| client.verdict());
    assert_eq!(verdicts, [ErrorCode::BadVersion, ErrorCode::Ok, ErrorCode::Ok, ErrorCode::NoNode]);
    assert_eq!(near.replica().node("/set").map(|node| node.version), Some(1));
    assert_eq!(near.replica().node("/gone").map(|node| node.version), None);
}

/// The bytes that are sent again are the same, whatever has happened here meanwhile.
#[tokio::test]
async fn a_batch_outlives_the_clients_that_asked_for_it() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store).await;
    let mut client = near.client().await;
    near.ok(&mut client, create("/a", b"", PERSISTENT)).await;
    near.send(&mut client, set("/a", b"1", 0));
    near.send(&mut client, set("/a", b"2", 1));
    let sent = near.build().unwrap();
    near.engine.disconnect(client.id);
    assert!(near.build_on(sent.lane).is_none(), "nothing else goes out on the lane");
    let result = near.commit(&sent).await;
    near.answer(sent.lane, result).unwrap();
    near.pull().unwrap();
    assert_eq!(near.replica().node("/a").map(|node| node.version), Some(2));
}

/// Refused after a copy may have been applied: only the end of the lane makes the outcome certain.
#[tokio::test]
async fn a_batch_in_doubt_that_is_refused_ends_the_lane() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store).await;
    let mut client = near.client().await;
    near.send(&mut client, create("/a", b"", PERSISTENT));
    let sent = near.build().unwrap();
    assert!(near.engine.answered_batch(sent.lane, LaneAnswer::Unknown).is_err());
    assert_eq!(client.replies(), [], "neither success nor error");
}

/// A new session whose lease has ended before its record was written takes no other request with it.
#[tokio::test]
async fn a_session_whose_lease_is_gone_stops_nobody() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut client = near.client().await;
    let mut dying = near.open().await;
    near.send(&mut client, create("/a", b"", PERSISTENT));
    let sent = near.build().unwrap();
    assert_eq!(sent.outgoing.requests, 2);
    let lease = sent.outgoing.txn.then.iter().find_map(session_lease).expect("a session's record");
    store.lease_revoke(lease).await.unwrap();
    assert!(store.transact(sent.outgoing.txn.clone()).await.is_err(), "as a whole, as etcd does");
    near.engine.answered_batch(sent.lane, LaneAnswer::LeaseGone).unwrap();
    near.settle().await;
    assert_eq!(client.verdict(), ErrorCode::Ok);
    assert_eq!((dying.attached(), dying.closed()), (None, Some(CloseReason::StoreAway)));
}

fn session_lease(op: &zketcd::store::Op) -> Option<i64> {
    use zketcd::store::Op;
    match op {
        Op::Txn(group) => group.then.iter().find_map(session_lease),
        Op::Put { key, lease, .. } if matches!(key::parse(key), key::Parsed::Session(_)) => Some(*lease),
        _ => None,
    }
}

/// What a lane's record tells of a group that failed does not count.
#[tokio::test]
async fn the_past_of_a_group_that_failed_is_no_event() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::start(store.clone()).await;
    let mut client = near.client().await;
    let mut watcher = near.client().await;
    near.ok(&mut client, create("/a", b"", PERSISTENT)).await;
    near.ok(&mut watcher, Request::AddWatch { path: "/a".into(), mode: 1 }).await;
    let mut other = far.client().await;
    far.ok(&mut other, set("/a", b"", -1)).await;
    let twice: Vec<MultiOp> = vec![set_op("/a", b"1", 0), set_op("/a", b"2", 1), create_op("/a/x", b"", PERSISTENT)];
    near.send(&mut client, Request::Multi(twice));
    let sent = near.build().unwrap();
    let result = near.commit(&sent).await;
    let revision = result.revision;
    near.answer(sent.lane, result).unwrap();
    near.settle().await;
    assert_eq!(watcher.events(), [(support::DATA_CHANGED, "/a".to_owned())], "the far server's change alone");
    let mut changes = store.changes(revision).await.unwrap();
    let run = futures::StreamExt::next(&mut changes).await.unwrap().unwrap();
    assert!(run[0].changes.iter().all(|change| matches!(key::parse(Change::key(change)), key::Parsed::Lane { .. })));
}

/// Two servers, one with a failing store, and one queue: nothing is lost, doubled or out of order.
#[tokio::test]
async fn children_are_unique_and_contiguous_through_faults_of_all_kinds() {
    let embedded = Embedded::memory();
    let (store, faults) = Faulty::new(embedded.clone());
    let servers = [Running::start(store, &[]).await, Running::start(embedded, &[]).await];
    let mut first = Client::connect(servers[0].address, ConnectOptions::default()).await.unwrap();
    first.create("/q", b"", PERSISTENT).await.unwrap();
    let mut tasks = Vec::new();
    for at in 0..6 {
        let address = servers[at % 2].address;
        tasks.push(tokio::spawn(async move {
            let mut client = Client::connect(address, ConnectOptions::default()).await.unwrap();
            let mut names = Vec::new();
            for _ in 0..20 {
                names.push(client.create("/q/n-", b"", CreateMode::PersistentSequential).await.unwrap());
            }
            names
        }));
    }
    for round in 0..10 {
        let seen = faults.seen().transacts;
        match round % 3 {
            0 => faults.lose_answers(2),
            1 => faults.lose_requests(2),
            _ => faults.break_streams(),
        }
        faults.duplicate_revision();
        if tasks.iter().all(|task| task.is_finished()) {
            break;
        }
        tokio::select! {
            _ = faults.until(|now| now.transacts > seen + 2) => {}
            () = tokio::time::sleep(client::DEADLINE) => panic!("nothing moves"),
            () = async { while tasks.iter().any(|task| !task.is_finished()) { tokio::task::yield_now().await } } => {}
        }
    }
    let mut all = Vec::new();
    for task in tasks {
        let names = task.await.unwrap();
        assert!(names.is_sorted(), "a session's own in its order");
        all.extend(names);
    }
    all.sort();
    let expected: Vec<String> = (0..120).map(|at| format!("/q/n-{at:010}")).collect();
    assert_eq!(all, expected);
    let Reply::Children(names) = first.ok(children("/q", false)).await.unwrap() else { panic!("names") };
    assert_eq!(names.len(), 120);
}
