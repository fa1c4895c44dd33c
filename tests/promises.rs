//! The promises that applications rely on, by number, as the architecture lists them: each over sockets, with two
//! servers where two matter.

#[path = "support/drive.rs"]
mod drive;
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use support::client::{Client, ConnectOptions, Error, Incoming, check_op, create_op, delete_op, set_op};
use support::gate::Gated;
use support::server::Running;
use support::{bare, create, event, get, refused, set};
use zketcd::jute::{CreateMode, ErrorCode, MultiResult, Reply, Request, SetWatches, SetWatches2};
use zketcd::store::Store;
use zketcd::store::embedded::Embedded;

const PERSISTENT: CreateMode = CreateMode::Persistent;
const EPHEMERAL: CreateMode = CreateMode::Ephemeral;

async fn pair() -> (Running, Running, Arc<Embedded>) {
    let store = Embedded::memory();
    (Running::start(store.clone(), &[]).await, Running::start(store.clone(), &[]).await, store)
}

async fn client(server: &Running) -> Client {
    Client::connect(server.address, ConnectOptions::default()).await.expect("a session")
}

async fn session_of(server: &Running, timeout: Duration) -> Client {
    let options = ConnectOptions { timeout, ..ConnectOptions::default() };
    Client::connect(server.address, options).await.expect("a session")
}

/// A server that sees none of the store's changes before its gate is opened, and one beside it.
async fn behind() -> (Running, Arc<Gated>, Running) {
    let store = Embedded::memory();
    let gated = Gated::new(store.clone());
    let behind = Running::start(gated.clone(), &[]).await;
    let ahead = Running::start(store, &[]).await;
    (behind, gated, ahead)
}

// 1. Linearizable writes, errors included.

#[tokio::test]
async fn a_lock_has_one_holder_whatever_server_is_asked() {
    let (one, other, _) = pair().await;
    let mut tasks = Vec::new();
    for at in 0..8 {
        let address = if at % 2 == 0 { one.address } else { other.address };
        tasks.push(tokio::spawn(async move {
            let mut client = Client::connect(address, ConnectOptions::default()).await.unwrap();
            let mut taken = BTreeSet::new();
            for round in 0..20 {
                match client.create(&format!("/lock-{round}"), b"", EPHEMERAL).await {
                    Ok(_) => drop(taken.insert(round)),
                    Err(error) => assert_eq!(error, Error::Server(ErrorCode::NodeExists)),
                }
            }
            // The locks go with their session.
            (taken, client)
        }));
    }
    let mut all = BTreeSet::new();
    let mut clients = Vec::new();
    for task in tasks {
        let (taken, client) = task.await.unwrap();
        for round in taken {
            assert!(all.insert(round), "lock {round} has two holders");
        }
        clients.push(client);
    }
    assert_eq!(all.len(), 20, "each has one");
}

#[tokio::test]
async fn a_hot_node_loses_no_write_of_two_servers() {
    let (one, other, _) = pair().await;
    let mut watchers = [client(&one).await, client(&other).await];
    watchers[0].create("/hot", b"", PERSISTENT).await.unwrap();
    watchers[1].sync("/").await.unwrap();
    for watcher in &mut watchers {
        watcher.add_watch("/hot", 0).await.unwrap();
    }
    let mut tasks = Vec::new();
    for at in 0..6 {
        let address = if at % 2 == 0 { one.address } else { other.address };
        tasks.push(tokio::spawn(async move {
            let mut client = Client::connect(address, ConnectOptions::default()).await.unwrap();
            let requests = (0..25).map(|_| set("/hot", b"x", -1));
            let xids = client.send_all(requests).await.unwrap();
            let mut seen = Vec::new();
            for xid in xids {
                let (header, reply) = client.reply(xid).await.unwrap();
                let stat = drive::stat(&reply);
                assert_eq!(stat.mzxid, header.zxid);
                seen.push((stat.version, header.zxid));
            }
            seen
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        let seen = task.await.unwrap();
        assert!(seen.is_sorted(), "versions and zxids of a session rise together");
        all.extend(seen);
    }
    all.sort_unstable();
    assert_eq!(all.iter().map(|(version, _)| *version).collect::<Vec<_>>(), (1..=150).collect::<Vec<_>>());
    let zxids: Vec<i64> = all.iter().map(|(_, zxid)| *zxid).collect();
    assert!(zxids.is_sorted_by(|a, b| a < b), "each write a zxid of its own, in the order of versions");
    for watcher in &mut watchers {
        let events = watcher.settled_events().await.unwrap();
        assert!(events.iter().all(|(_, one)| *one == event(support::DATA_CHANGED, "/hot")));
        let told: Vec<i64> = events.iter().map(|(zxid, _)| *zxid).collect();
        assert_eq!(told, zxids, "both servers tell of the same changes by the same zxids");
    }
}

// 2. FIFO per session.

#[tokio::test]
async fn pipelined_requests_take_effect_and_are_answered_in_order() {
    let (one, other, _) = pair().await;
    let mut busy = client(&other).await;
    let mut client = client(&one).await;
    client.create("/a", b"", PERSISTENT).await.unwrap();
    busy.sync("/").await.unwrap();
    let mut requests = Vec::new();
    for at in 0..40 {
        requests.push(set("/a", format!("{at}").as_bytes(), -1));
        requests.push(get("/a", false));
        requests.push(create(&format!("/a/{at}"), b"", PERSISTENT));
        requests.push(Request::Exists { path: format!("/a/{at}"), watch: false });
    }
    let xids = client.send_all(requests).await.unwrap();
    // Another server's writes of the same parent make groups fail and come again.
    let others = busy.send_all((0..40).map(|at| create(&format!("/a/other-{at}"), b"", PERSISTENT))).await.unwrap();
    for (at, four) in xids.chunks(4).enumerate() {
        let mut replies = Vec::new();
        for xid in four {
            let (header, reply) = client.reply(*xid).await.unwrap();
            assert_eq!(header.err, 0);
            replies.push(reply);
        }
        assert!(matches!(&replies[1], Reply::Data(Some(data), _) if **data == *format!("{at}").as_bytes()));
        assert!(matches!(&replies[3], Reply::Stat(_)), "what was created before is there");
    }
    for xid in others {
        assert_eq!(busy.reply(xid).await.unwrap().0.err, 0);
    }
}

// 3. Reads are local, and never go back in time; sync makes the next one linearizable.

#[tokio::test]
async fn a_client_that_has_seen_more_than_the_server_waits_for_it() {
    let (behind, gate, ahead) = behind().await;
    let mut client = client(&ahead).await;
    client.create("/a", b"", PERSISTENT).await.unwrap();
    gate.let_changes(false);
    client.set("/a", b"new", -1).await.unwrap();
    let resume = client.resume();
    let address = behind.address;
    let reconnect = tokio::spawn(async move { Client::connect(address, resume).await });
    gate.let_changes(true);
    let mut client = reconnect.await.unwrap().expect("the session");
    assert_eq!(client.get("/a", false).await.unwrap().0, b"new");
}

#[tokio::test]
async fn a_client_that_has_seen_more_than_the_server_will_is_turned_away() {
    let (behind, gate, ahead) = behind().await;
    let mut client = client(&ahead).await;
    client.create("/a", b"", PERSISTENT).await.unwrap();
    gate.let_changes(false);
    client.set("/a", b"new", -1).await.unwrap();
    let refused = Client::connect(behind.address, client.resume()).await.err();
    assert_eq!(refused, Some(Error::Closed), "no session rather than an old tree");
}

#[tokio::test]
async fn a_read_is_local_and_sync_makes_the_next_one_linearizable() {
    let (behind, gate, ahead) = behind().await;
    let mut writer = client(&ahead).await;
    let mut reader = client(&behind).await;
    writer.create("/a", b"old", PERSISTENT).await.unwrap();
    reader.sync("/").await.unwrap();
    gate.let_changes(false);
    writer.set("/a", b"new", -1).await.unwrap();
    assert_eq!(reader.get("/a", false).await.unwrap().0, b"old", "what this server has");
    let sync = reader.send(Request::Sync { path: "/a".into() }).await.unwrap();
    let read = reader.send(get("/a", false)).await.unwrap();
    reader.ping().await.unwrap();
    gate.let_changes(true);
    assert_eq!(reader.reply(sync).await.unwrap().0.err, 0);
    assert!(matches!(reader.reply(read).await.unwrap().1, Reply::Data(Some(data), _) if *data == *b"new"));
}

#[tokio::test]
async fn every_read_is_linearizable_where_it_is_asked_for() {
    let store = Embedded::memory();
    let gated = Gated::new(store.clone());
    let behind = Running::start(gated.clone(), &["--linearizable-reads"]).await;
    let ahead = Running::start(store, &[]).await;
    let mut writer = client(&ahead).await;
    let mut reader = client(&behind).await;
    writer.create("/a", b"old", PERSISTENT).await.unwrap();
    for at in 0..5 {
        gated.let_changes(false);
        let data = format!("new {at}");
        writer.set("/a", data.as_bytes(), -1).await.unwrap();
        // Two at once share the wait.
        let reads = reader.send_all([get("/a", false), get("/a", false)]).await.unwrap();
        reader.ping().await.unwrap();
        gated.let_changes(true);
        for read in reads {
            let (_, reply) = reader.reply(read).await.unwrap();
            assert!(matches!(reply, Reply::Data(Some(seen), _) if *seen == *data.as_bytes()));
        }
    }
}

#[tokio::test]
async fn whoever_writes_reads_its_own_write() {
    let (one, _other, _) = pair().await;
    let mut client = client(&one).await;
    client.create("/a", b"", PERSISTENT).await.unwrap();
    for at in 0..50 {
        client.set("/a", &[at], -1).await.unwrap();
        assert_eq!(client.get("/a", false).await.unwrap().0, [at]);
    }
}

// 4. Watches fire once, in order, before the change can be read; nothing is lost across a reconnect.

#[tokio::test]
async fn an_event_comes_before_any_answer_that_shows_its_change() {
    let (one, other, _) = pair().await;
    let mut watcher = client(&one).await;
    let mut writer = client(&other).await;
    writer.create("/a", b"0", PERSISTENT).await.unwrap();
    watcher.sync("/").await.unwrap();
    for at in 1..20 {
        watcher.get("/a", true).await.unwrap();
        writer.set("/a", format!("{at}").as_bytes(), -1).await.unwrap();
        let mut told = false;
        let mut asked = watcher.send(get("/a", false)).await.unwrap();
        loop {
            match watcher.recv().await.unwrap() {
                Incoming::Event { zxid, event: heard } => {
                    assert_eq!(heard, event(support::DATA_CHANGED, "/a"));
                    assert!(zxid > 0 && !told, "once");
                    told = true;
                }
                Incoming::Reply { header, reply: Reply::Data(Some(data), stat) } if header.xid == asked => {
                    if *data == *format!("{at}").as_bytes() {
                        assert!(told, "the change was read before it was told");
                        break;
                    }
                    assert!(header.zxid < stat.mzxid || !told, "told, and still the old data");
                    asked = watcher.send(get("/a", false)).await.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_a_client_missed_is_told_when_it_comes_back_to_another_server() {
    let (one, other, _) = pair().await;
    let mut watcher = client(&one).await;
    let mut writer = client(&other).await;
    for path in ["/changed", "/gone", "/parent", "/quiet"] {
        writer.create(path, b"", PERSISTENT).await.unwrap();
    }
    watcher.sync("/").await.unwrap();
    let resume = watcher.resume();
    drop(watcher);
    writer.set("/changed", b"x", -1).await.unwrap();
    writer.delete("/gone", -1).await.unwrap();
    writer.create("/parent/child", b"", PERSISTENT).await.unwrap();
    writer.create("/came", b"", PERSISTENT).await.unwrap();
    let paths = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let seen = resume.last_zxid;
    let mut watcher = Client::connect(other.address, resume).await.unwrap();
    let watches = SetWatches2 {
        relative_zxid: seen,
        data: paths(&["/changed", "/gone", "/quiet"]),
        exist: paths(&["/came", "/never"]),
        child: paths(&["/parent", "/quiet"]),
        persistent: paths(&["/quiet"]),
        persistent_recursive: Vec::new(),
    };
    watcher.done(Request::SetWatches2(watches)).await.unwrap();
    let mut events = bare(watcher.events());
    events.sort_by(|a, b| a.path.cmp(&b.path));
    let missed = [
        event(support::CREATED, "/came"),
        event(support::DATA_CHANGED, "/changed"),
        event(support::DELETED, "/gone"),
        event(support::CHILDREN_CHANGED, "/parent"),
    ];
    assert_eq!(events, missed);
    // The others stand.
    writer.set("/quiet", b"1", -1).await.unwrap();
    writer.set("/quiet", b"2", -1).await.unwrap();
    writer.create("/never", b"", PERSISTENT).await.unwrap();
    let events = bare(watcher.settled_events().await.unwrap());
    let quiet = event(support::DATA_CHANGED, "/quiet");
    assert_eq!(events, [quiet.clone(), quiet, event(support::CREATED, "/never")]);
}

#[tokio::test]
async fn a_change_in_the_same_revision_as_the_last_seen_is_not_lost() {
    let store = Embedded::memory();
    let mut server = drive::Zketcd::start(store).await;
    let mut clients = [server.client().await, server.client().await];
    let mut watcher = server.client().await;
    for path in ["/a", "/b"] {
        server.ok(&mut watcher, create(path, b"", PERSISTENT)).await;
    }
    server.send(&mut clients[0], set("/a", b"", -1));
    server.send(&mut clients[1], set("/b", b"", -1));
    server.settle().await;
    let seen = clients.each_mut().map(|client| client.replies()[0].0.zxid);
    assert_eq!(seen[0] >> 12, seen[1] >> 12, "one revision");
    let watches = |zxid| {
        let data = vec!["/a".to_owned(), "/b".to_owned()];
        Request::SetWatches(SetWatches { relative_zxid: zxid, data, ..SetWatches::default() })
    };
    server.send(&mut watcher, watches(seen[0]));
    assert_eq!(watcher.events(), [(support::DATA_CHANGED, "/b".to_owned())]);
    server.send(&mut watcher, watches(seen[1]));
    assert_eq!(watcher.events(), []);
}

// 5. zxids are unique and the same on every server.

#[tokio::test]
async fn both_servers_show_the_same_stats() {
    let (one, other, store) = pair().await;
    let mut clients = [client(&one).await, client(&other).await];
    clients[0].create("/a", b"", PERSISTENT).await.unwrap();
    for at in 0..20 {
        let client = &mut clients[at % 2];
        client.sync("/").await.unwrap();
        client.create("/a/n-", b"x", CreateMode::PersistentSequential).await.unwrap();
        client.set("/a", b"y", -1).await.unwrap();
        if at % 3 == 0 {
            client.delete(&format!("/a/n-{at:010}"), -1).await.unwrap();
        }
    }
    let third = Running::start(store, &[]).await;
    let mut all = Vec::new();
    for mut client in [client(&one).await, client(&other).await, client(&third).await] {
        client.sync("/").await.unwrap();
        let names = client.children("/a", false).await.unwrap();
        let mut stats = vec![client.get("/a", false).await.unwrap().1, client.get("/", false).await.unwrap().1];
        for name in &names {
            stats.push(client.get(&format!("/a/{name}"), false).await.unwrap().1);
        }
        let created: BTreeSet<i64> = stats[2..].iter().map(|stat| stat.czxid).collect();
        assert_eq!(created.len(), names.len(), "unique");
        all.push((names, stats));
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2], "also where the tree was read from a snapshot");
}

// 6. A session lives in the store, and ends exactly once.

#[tokio::test]
async fn a_session_survives_its_server() {
    let (one, other, _) = pair().await;
    let mut client = client(&one).await;
    client.create("/mine", b"", EPHEMERAL).await.unwrap();
    one.kill();
    client.closed().await.unwrap();
    let mut client = Client::connect(other.address, client.resume()).await.expect("the session goes on");
    assert_eq!(client.ephemerals("/").await.unwrap(), ["/mine"]);
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_session_whose_server_died_ends_by_its_lease_and_its_watchers_hear() {
    let (one, other, _) = pair().await;
    let mut watcher = client(&other).await;
    let mut lost = session_of(&one, Duration::from_secs(3)).await;
    lost.create("/mine", b"", EPHEMERAL).await.unwrap();
    watcher.sync("/").await.unwrap();
    let before = watcher.exists("/mine", true).await.unwrap().expect("it is there");
    assert_eq!(before.ephemeral_owner, lost.session_id());
    let root = watcher.exists("/", false).await.unwrap().unwrap();
    one.kill();
    let (zxid, heard) = watcher.next_event().await.unwrap();
    assert_eq!(heard, event(support::DELETED, "/mine"));
    let after = watcher.exists("/", false).await.unwrap().unwrap();
    assert_eq!((after.cversion, after.pzxid), (root.cversion + 1, zxid), "the parent shows it, as in ZooKeeper");
    let refused = Client::connect(other.address, lost.resume()).await.err();
    assert_eq!(refused, Some(Error::Expired), "it has ended for good");
}

#[tokio::test]
async fn a_silent_client_is_ended_by_its_server_once() {
    let (one, other, _) = pair().await;
    let mut watcher = client(&other).await;
    watcher.add_watch("/", 1).await.unwrap();
    let mut silent = session_of(&one, Duration::from_secs(3)).await;
    silent.create("/mine", b"", EPHEMERAL).await.unwrap();
    silent.closed().await.unwrap();
    assert_eq!(watcher.next_event().await.unwrap().1, event(support::CREATED, "/mine"));
    assert_eq!(watcher.next_event().await.unwrap().1, event(support::DELETED, "/mine"));
    assert_eq!(watcher.settled_events().await.unwrap(), [], "once");
    for server in [&one, &other] {
        assert_eq!(Client::connect(server.address, silent.resume()).await.err(), Some(Error::Expired));
    }
}

#[tokio::test]
async fn a_session_that_moved_takes_its_writes_from_the_new_connection_only() {
    let (one, other, _) = pair().await;
    let mut old = client(&one).await;
    let mut new = Client::connect(other.address, old.resume()).await.unwrap();
    old.closed().await.unwrap();
    new.create("/mine", b"", EPHEMERAL).await.unwrap();
    // And back to the first, where the old connection is gone.
    let mut back = Client::connect(one.address, new.resume()).await.unwrap();
    new.closed().await.unwrap();
    assert_eq!(back.ephemerals("/").await.unwrap(), ["/mine"]);
}

#[tokio::test]
async fn a_wrong_password_is_as_good_as_an_expired_session() {
    let (one, other, _) = pair().await;
    let mut client = client(&one).await;
    let mut options = client.resume();
    options.session.1[0] ^= 1;
    for server in [&one, &other] {
        assert_eq!(Client::connect(server.address, options.clone()).await.err(), Some(Error::Expired));
    }
    client.create("/a", b"", PERSISTENT).await.expect("the session is untouched");
}

#[tokio::test]
async fn nothing_of_a_closed_session_takes_effect_later() {
    let (one, other, _) = pair().await;
    let mut client = client(&one).await;
    let mut watcher = self::client(&other).await;
    client.create("/mine", b"", EPHEMERAL).await.unwrap();
    watcher.sync("/").await.unwrap();
    watcher.exists("/mine", true).await.unwrap();
    let resume = client.resume();
    let close = client.send(Request::CloseSession).await.unwrap();
    let late = client.send(create("/late", b"", PERSISTENT)).await.unwrap();
    assert_eq!(client.reply(close).await.unwrap().0.err, 0);
    match client.reply(late).await {
        Ok((header, _)) => assert_eq!(header.err, ErrorCode::SessionExpired.code()),
        Err(error) => assert_eq!(error, Error::Closed),
    }
    assert_eq!(watcher.next_event().await.unwrap().1, event(support::DELETED, "/mine"));
    watcher.sync("/").await.unwrap();
    assert_eq!(watcher.exists("/late", false).await.unwrap(), None);
    assert_eq!(Client::connect(other.address, resume).await.err(), Some(Error::Expired));
}

#[tokio::test]
async fn ephemerals_of_sessions_that_ended_while_no_server_ran_are_reaped() {
    let store = Embedded::memory();
    let server = Running::start(store.clone(), &[]).await;
    let mut client = self::client(&server).await;
    client.create("/parent", b"", PERSISTENT).await.unwrap();
    client.create("/parent/mine", b"", EPHEMERAL).await.unwrap();
    let session = client.session_id();
    server.kill();
    store.lease_revoke(session).await.unwrap();
    let server = Running::start(store, &[]).await;
    let mut client = self::client(&server).await;
    // What came before the sync at the server is done when it is answered.
    client.sync("/").await.unwrap();
    assert_eq!(client.children("/parent", false).await.unwrap(), [""; 0]);
    assert_eq!(client.exists("/parent", false).await.unwrap().unwrap().cversion, 2);
}

#[tokio::test]
async fn ten_thousand_ephemerals_go_before_their_close_is_answered() {
    let (one, other, _) = pair().await;
    let mut owner = client(&one).await;
    owner.create("/many", b"", PERSISTENT).await.unwrap();
    for _ in 0..20 {
        let xids = owner.send_all((0..500).map(|_| create("/many/e-", b"", CreateMode::EphemeralSequential)));
        for xid in xids.await.unwrap() {
            assert_eq!(owner.reply(xid).await.unwrap().0.err, 0);
        }
    }
    let mut watcher = client(&other).await;
    watcher.sync("/").await.unwrap();
    assert_eq!(watcher.children("/many", false).await.unwrap().len(), 10_000);
    owner.close().await.unwrap();
    watcher.sync("/").await.unwrap();
    let (left, stat) = watcher.children2("/many", false).await.unwrap();
    assert_eq!((left.len(), stat.cversion), (0, 20_000));
}

// A multi is all or nothing, whoever else writes.

#[tokio::test]
async fn a_multi_is_all_or_nothing_between_servers() {
    let (one, other, _) = pair().await;
    let mut clients = [client(&one).await, client(&other).await];
    for path in ["/from", "/to"] {
        clients[0].create(path, b"", PERSISTENT).await.unwrap();
    }
    clients[0].create("/from/token", b"", PERSISTENT).await.unwrap();
    for round in 0..30 {
        let (from, to) = if round % 2 == 0 { ("/from/token", "/to/token") } else { ("/to/token", "/from/token") };
        let multi = || {
            let ops =
                vec![check_op("/from", -1), delete_op(from, -1), create_op(to, b"", PERSISTENT), set_op(to, b"1", 0)];
            Request::Multi(ops)
        };
        let mut xids = Vec::new();
        for client in &mut clients {
            xids.push(client.send(multi()).await.unwrap());
        }
        let mut won = 0;
        for (client, xid) in clients.iter_mut().zip(xids) {
            let Reply::Multi(results) = client.reply(xid).await.unwrap().1 else { panic!("results") };
            match &results[0] {
                MultiResult::Check => won += 1,
                _ => assert_eq!(results[1], MultiResult::Error(ErrorCode::NoNode), "round {round}"),
            }
        }
        assert_eq!(won, 1, "one of two has moved it");
    }
    assert_eq!(clients[0].delete("/none", -1).await, refused(ErrorCode::NoNode));
}

// SIGTERM drains.

#[tokio::test]
async fn a_server_that_ends_answers_what_it_took() {
    let store = Embedded::memory();
    let gated = Gated::new(store.clone());
    let server = Running::start(gated.clone(), &[]).await;
    let mut client = self::client(&server).await;
    let mut idle = self::client(&server).await;
    client.create("/a", b"", PERSISTENT).await.unwrap();
    gated.let_transactions(false);
    let taken = client.send_all((0..10).map(|_| set("/a", b"x", -1))).await.unwrap();
    // A ping's answer says that what came before it has been taken.
    client.ping().await.unwrap();
    let drained = tokio::spawn(server.drain());
    idle.closed().await.expect("who waits for nothing is let go at once");
    client.send(set("/a", b"too late", -1)).await.unwrap();
    client.ping().await.unwrap();
    gated.let_transactions(true);
    for (at, xid) in taken.into_iter().enumerate() {
        let (header, reply) = client.reply(xid).await.unwrap();
        assert_eq!((header.err, drive::stat(&reply).version), (0, at as i32 + 1));
    }
    client.closed().await.unwrap();
    drained.await.unwrap();
    let next = Running::start(store, &[]).await;
    let mut client = Client::connect(next.address, client.resume()).await.expect("sessions live on");
    assert_eq!(client.get("/a", false).await.unwrap().1.version, 10);
}
