//! Watches: what fires, how often, in which order, and what a reconnect brings back.

mod support;

use std::collections::HashSet;

use support::client::{Client, ConnectOptions, Incoming, create_op, delete_op, set_op};
use support::gate::Gated;
use support::server::Running;
use support::{
    CHILDREN_CHANGED, CREATED, DATA_CHANGED, DELETED, Server, Site, answer, bare, children, create, delete, each_site,
    event, exists, get, refused, set,
};
use zketcd::jute::{
    Acl, CreateMode, CreateRequest, ErrorCode, Id, MultiOp, MultiReadOp, Perms, Reply, Request, SetWatches,
    SetWatches2, WatcherType, op,
};

each_site! {
    all: [
        data_watches_fire_once,
        exists_watches_fire_for_what_is_not_there_yet,
        child_watches_fire_once,
        a_deletion_fires_every_kind_once,
        a_persistent_watch_fires_each_time,
        a_recursive_watch_sees_the_whole_subtree,
        watches_of_several_kinds_on_one_path,
        a_watch_set_twice_fires_once,
        setting_the_same_data_fires_and_setting_an_acl_does_not,
        failed_writes_fire_nothing,
        a_multi_fires_for_each_of_its_operations,
        events_carry_the_zxid_of_their_change,
        the_event_comes_before_the_writers_own_answer,
        the_event_comes_before_any_answer_that_shows_the_change,
        events_of_many_changes_keep_their_order,
        every_change_of_a_busy_znode_is_one_event_for_a_persistent_watch,
        only_those_who_may_read_hear_of_a_change,
        watches_go_with_their_connection,
        watches_are_checked_by_kind,
        watches_are_removed_by_kind,
        removing_one_kind_leaves_the_others,
        a_persistent_watch_changes_its_mode,
        set_watches_tells_what_was_missed,
        set_watches_sets_what_was_not_missed,
        set_watches2_brings_back_the_persistent_ones,
        a_client_that_set_no_watch_hears_nothing,
        ephemerals_that_go_fire_in_order,
        multi_read_and_others_set_no_watches,
        watches_of_all_kinds_on_one_path_fire_once_each,
        removing_a_kind_of_several_leaves_the_rest_to_fire,
        set_watches_of_thousands_of_paths_in_several_frames,
        whoever_leaves_takes_only_their_own_watches,
        an_event_obeys_the_list_of_its_own_moment,
        a_session_that_closes_hears_of_its_own_ephemerals_first,
        watches_of_what_is_not_there_can_be_checked_and_removed,
    ],
    ours: [
        watches_fire_on_every_server,
        nothing_is_lost_on_the_way_to_another_server,
        a_lagging_server_shows_the_event_before_the_change,
    ],
}

/// The room's path and two clients: one that watches, one that changes.
async fn cast(server: &Server) -> (Client, Client, String) {
    let (watcher, room) = server.room().await;
    let mut other = server.client().await;
    other.sync("/").await.unwrap();
    (watcher, other, room)
}

async fn data_watches_fire_once(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.get(&room, true).await.unwrap();
    other.set(&room, b"1", -1).await.unwrap();
    other.set(&room, b"2", -1).await.unwrap();
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);
    watcher.exists(&room, true).await.unwrap();
    other.create(&format!("{room}/child"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(watcher.settled_events().await.unwrap(), []);
    other.set(&room, b"3", -1).await.unwrap();
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);
}

async fn exists_watches_fire_for_what_is_not_there_yet(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let path = format!("{room}/x");
    assert_eq!(watcher.exists(&path, true).await, Ok(None));
    // A getData that fails leaves none.
    assert_eq!(watcher.get(&format!("{room}/y"), true).await, refused(ErrorCode::NoNode));
    other.create(&format!("{room}/y"), b"", CreateMode::Persistent).await.unwrap();
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    other.delete(&path, -1).await.unwrap();
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(CREATED, &path)]);
    // The parent need not be there either.
    let deep = format!("{room}/a/b/c");
    assert_eq!(watcher.exists(&deep, true).await, Ok(None));
    for path in ["a", "a/b", "a/b/c"] {
        other.create(&format!("{room}/{path}"), b"", CreateMode::Persistent).await.unwrap();
    }
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(CREATED, &deep)]);
}

async fn child_watches_fire_once(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.children(&room, true).await.unwrap();
    other.set(&room, b"", -1).await.unwrap();
    assert_eq!(watcher.settled_events().await.unwrap(), []);
    other.create(&format!("{room}/a"), b"", CreateMode::Persistent).await.unwrap();
    other.create(&format!("{room}/b"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(CHILDREN_CHANGED, &room)]);
    watcher.children2(&room, true).await.unwrap();
    other.set(&format!("{room}/a"), b"", -1).await.unwrap();
    other.create(&format!("{room}/a/deep"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(watcher.settled_events().await.unwrap(), []);
    other.delete(&format!("{room}/b"), -1).await.unwrap();
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(CHILDREN_CHANGED, &room)]);
}

async fn a_deletion_fires_every_kind_once(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let path = format!("{room}/x");
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    watcher.sync("/").await.unwrap();
    watcher.get(&path, true).await.unwrap();
    watcher.exists(&path, true).await.unwrap();
    watcher.children(&path, true).await.unwrap();
    watcher.children(&room, true).await.unwrap();
    other.delete(&path, -1).await.unwrap();
    let expected = [event(DELETED, &path), event(CHILDREN_CHANGED, &room)];
    assert_eq!(bare(watcher.settled_events().await.unwrap()), expected);
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(watcher.settled_events().await.unwrap(), []);
}

async fn a_persistent_watch_fires_each_time(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let path = format!("{room}/x");
    watcher.add_watch(&path, 0).await.unwrap();
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    other.set(&path, b"", -1).await.unwrap();
    other.set(&path, b"", -1).await.unwrap();
    other.create(&format!("{path}/c"), b"", CreateMode::Persistent).await.unwrap();
    other.set(&format!("{path}/c"), b"", -1).await.unwrap();
    other.delete(&format!("{path}/c"), -1).await.unwrap();
    other.delete(&path, -1).await.unwrap();
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    let kinds = [CREATED, DATA_CHANGED, DATA_CHANGED, CHILDREN_CHANGED, CHILDREN_CHANGED, DELETED, CREATED];
    assert_eq!(bare(watcher.settled_events().await.unwrap()), kinds.map(|kind| event(kind, &path)));
}

async fn a_recursive_watch_sees_the_whole_subtree(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.add_watch(&room, 1).await.unwrap();
    let (a, b) = (format!("{room}/a"), format!("{room}/a/b"));
    other.create(&a, b"", CreateMode::Persistent).await.unwrap();
    other.create(&b, b"", CreateMode::Persistent).await.unwrap();
    other.set(&room, b"", -1).await.unwrap();
    other.set(&b, b"", -1).await.unwrap();
    other.delete(&b, -1).await.unwrap();
    other.delete(&a, -1).await.unwrap();
    // A path that only begins alike is none of it.
    other.create(&format!("{room}x"), b"", CreateMode::Persistent).await.unwrap();
    // No event about children: those of the children themselves say more.
    let expected =
        [(CREATED, &a), (CREATED, &b), (DATA_CHANGED, &room), (DATA_CHANGED, &b), (DELETED, &b), (DELETED, &a)];
    assert_eq!(bare(watcher.settled_events().await.unwrap()), expected.map(|(kind, path)| event(kind, path)));
}

async fn watches_of_several_kinds_on_one_path(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let path = format!("{room}/x");
    watcher.add_watch(&room, 1).await.unwrap();
    watcher.children(&room, true).await.unwrap();
    watcher.exists(&path, true).await.unwrap();
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    // One client hears of one change of one path once, however many of its watches it meets.
    let expected = [event(CREATED, &path), event(CHILDREN_CHANGED, &room)];
    assert_eq!(bare(watcher.settled_events().await.unwrap()), expected);
    other.set(&path, b"", -1).await.unwrap();
    other.delete(&path, -1).await.unwrap();
    let expected = [event(DATA_CHANGED, &path), event(DELETED, &path)];
    assert_eq!(bare(watcher.settled_events().await.unwrap()), expected);
}

async fn a_watch_set_twice_fires_once(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    for _ in 0..3 {
        watcher.get(&room, true).await.unwrap();
        watcher.exists(&room, true).await.unwrap();
    }
    other.set(&room, b"", -1).await.unwrap();
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);
}

async fn setting_the_same_data_fires_and_setting_an_acl_does_not(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.add_watch(&room, 0).await.unwrap();
    other.set_acl(&room, support::client::open_acl(), -1).await.unwrap();
    other.set(&room, b"", -1).await.unwrap();
    assert_eq!(bare(watcher.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);
}

async fn failed_writes_fire_nothing(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.add_watch(&room, 1).await.unwrap();
    watcher.get(&room, true).await.unwrap();
    watcher.children(&room, true).await.unwrap();
    let failing = [
        set(&room, b"", 99),
        delete(&room, 99),
        create(&room, b"", CreateMode::Persistent),
        Request::Multi(vec![
            set_op(&room, b"", -1),
            create_op(&format!("{room}/a"), b"", CreateMode::Persistent),
            delete_op("/none", -1),
        ]),
    ];
    other.send_all(failing).await.unwrap();
    other.sync("/").await.unwrap();
    assert_eq!(watcher.settled_events().await.unwrap(), []);
}

async fn a_multi_fires_for_each_of_its_operations(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let (a, b) = (format!("{room}/a"), format!("{room}/b"));
    watcher.add_watch(&room, 1).await.unwrap();
    let mut second = server.client().await;
    second.sync("/").await.unwrap();
    second.add_watch(&room, 0).await.unwrap();
    let ops = vec![
        create_op(&a, b"", CreateMode::Persistent),
        set_op(&room, b"", -1),
        set_op(&a, b"", -1),
        delete_op(&a, -1),
        create_op(&b, b"", CreateMode::Persistent),
        create_op(&a, b"", CreateMode::Persistent),
    ];
    let (header, _) = other.call(Request::Multi(ops)).await.unwrap();
    let seen = watcher.settled_events().await.unwrap();
    let expected =
        [(CREATED, &a), (DATA_CHANGED, &room), (DATA_CHANGED, &a), (DELETED, &a), (CREATED, &b), (CREATED, &a)];
    assert_eq!(seen, expected.map(|(kind, path)| (header.zxid, event(kind, path))));
    let kinds: Vec<i32> = second.settled_events().await.unwrap().iter().map(|(_, event)| event.kind).collect();
    assert_eq!(kinds, [CHILDREN_CHANGED, DATA_CHANGED, CHILDREN_CHANGED, CHILDREN_CHANGED, CHILDREN_CHANGED]);
}

async fn events_carry_the_zxid_of_their_change(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.add_watch(&room, 1).await.unwrap();
    let path = format!("{room}/x");
    let mut expected = Vec::new();
    for request in [create(&path, b"", CreateMode::Persistent), set(&path, b"", -1), delete(&path, -1)] {
        expected.push(other.call(request).await.unwrap().0.zxid);
    }
    let seen: Vec<i64> = watcher.settled_events().await.unwrap().into_iter().map(|(zxid, _)| zxid).collect();
    assert_eq!(seen, expected);
}

async fn the_event_comes_before_the_writers_own_answer(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.add_watch(&room, 1).await.unwrap();
    let path = format!("{room}/x");
    for request in [create(&path, b"", CreateMode::Persistent), set(&path, b"", -1), delete(&path, -1)] {
        let xid = client.send(request).await.unwrap();
        let Incoming::Event { zxid, .. } = client.recv().await.unwrap() else { panic!("the answer came first") };
        let (header, _) = answer(&mut client).await;
        assert_eq!((header.xid, header.zxid), (xid, zxid));
    }
}

async fn the_event_comes_before_any_answer_that_shows_the_change(site: Site) {
    const ROUNDS: i32 = 200;
    let server = site.server().await;
    shows_event_first(&server, &server, ROUNDS).await;
}

/// One client changes a znode, another reads it without a pause.
async fn shows_event_first(watched: &Server, written: &Server, rounds: i32) {
    let (mut watcher, room) = watched.room().await;
    let mut other = written.client().await;
    other.sync("/").await.unwrap();
    watcher.add_watch(&room, 0).await.unwrap();
    let path = room.clone();
    let writer = tokio::spawn(async move {
        for version in 0..rounds {
            other.set(&path, b"", version).await.unwrap();
        }
        other
    });
    let mut events = 0;
    while events < rounds {
        watcher.send_all([get(&room, false), exists(&room, false)]).await.unwrap();
        let mut answers = 0;
        while answers < 2 {
            match watcher.recv().await.unwrap() {
                Incoming::Event { .. } => events += 1,
                Incoming::Reply { reply: Reply::Data(_, stat) | Reply::Stat(stat), .. } => {
                    assert_eq!(stat.version, events, "a change was read before its event came");
                    answers += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    writer.await.unwrap();
}

async fn events_of_many_changes_keep_their_order(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.add_watch(&room, 1).await.unwrap();
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for n in 0..100 {
        let path = format!("{room}/{}", n % 7);
        requests.extend([create(&path, b"", CreateMode::Persistent), set(&path, b"", -1), delete(&path, -1)]);
        expected.extend([CREATED, DATA_CHANGED, DELETED].map(|kind| event(kind, &path)));
    }
    let xids = other.send_all(requests).await.unwrap();
    other.reply(*xids.last().unwrap()).await.unwrap();
    let seen = watcher.settled_events().await.unwrap();
    assert!(seen.is_sorted_by_key(|(zxid, _)| *zxid));
    assert_eq!(seen.iter().map(|(zxid, _)| zxid).collect::<HashSet<_>>().len(), 300);
    assert_eq!(bare(seen), expected);
}

async fn every_change_of_a_busy_znode_is_one_event_for_a_persistent_watch(site: Site) {
    let server = site.server().await;
    let (mut watcher, room) = server.room().await;
    watcher.add_watch(&room, 0).await.unwrap();
    let write = async || {
        let mut client = server.client().await;
        client.sync("/").await.unwrap();
        let xids = client.send_all((0..50).map(|_| set(&room, b"", -1))).await.unwrap();
        let mut zxids = Vec::new();
        for xid in xids {
            zxids.push(client.reply(xid).await.unwrap().0.zxid);
        }
        zxids
    };
    let written = futures::future::join_all((0..10).map(|_| write())).await;
    let mut written: Vec<i64> = written.into_iter().flatten().collect();
    written.sort();
    let seen: Vec<i64> = watcher.settled_events().await.unwrap().into_iter().map(|(zxid, _)| zxid).collect();
    assert_eq!(seen, written);
}

async fn only_those_who_may_read_hear_of_a_change(site: Site) {
    let server = site.server().await;
    let (mut owner, room) = server.room().await;
    let mut stranger = server.client().await;
    let (path, child) = (format!("{room}/x"), format!("{room}/x/c"));
    owner.auth("digest", b"owner:secret").await.unwrap();
    owner.create(&path, b"", CreateMode::Persistent).await.unwrap();
    stranger.sync("/").await.unwrap();
    for client in [&mut owner, &mut stranger] {
        client.add_watch(&path, 1).await.unwrap();
        client.get(&path, true).await.unwrap();
        client.children(&path, true).await.unwrap();
        client.exists(&child, true).await.unwrap();
    }
    let mine = vec![Acl { perms: Perms::ALL, id: Id { scheme: "auth".into(), id: String::new() } }];
    owner.set_acl(&path, mine.clone(), -1).await.unwrap();
    // The parent's list hides its own events; a child has a list of its own.
    owner.create(&child, b"", CreateMode::Persistent).await.unwrap();
    owner.set(&path, b"", -1).await.unwrap();
    owner.set_acl(&child, mine, -1).await.unwrap();
    owner.set(&child, b"", -1).await.unwrap();
    owner.delete(&child, -1).await.unwrap();
    owner.delete(&path, -1).await.unwrap();
    assert_eq!(bare(stranger.settled_events().await.unwrap()), [event(CREATED, &child)]);
    let expected = [
        event(CREATED, &child),
        event(CHILDREN_CHANGED, &path),
        event(DATA_CHANGED, &path),
        event(DATA_CHANGED, &child),
        event(DELETED, &child),
        event(DELETED, &path),
    ];
    assert_eq!(bare(owner.settled_events().await.unwrap()), expected);
}

async fn watches_go_with_their_connection(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.get(&room, true).await.unwrap();
    watcher.add_watch(&room, 1).await.unwrap();
    let mut again = server.connect(watcher.resume()).await.unwrap();
    other.set(&room, b"", -1).await.unwrap();
    assert_eq!(again.settled_events().await.unwrap(), []);
    assert_eq!(again.check_watches(&room, WatcherType::Any as i32).await, refused(ErrorCode::NoWatcher));
}

const KINDS: [WatcherType; 5] = [
    WatcherType::Children,
    WatcherType::Data,
    WatcherType::Any,
    WatcherType::Persistent,
    WatcherType::PersistentRecursive,
];

/// Which kinds of watches the client has on the path.
async fn kinds(client: &mut Client, path: &str) -> Vec<WatcherType> {
    let mut kinds = Vec::new();
    for kind in KINDS {
        match client.check_watches(path, kind as i32).await {
            Ok(()) => kinds.push(kind),
            error => assert_eq!(error, refused(ErrorCode::NoWatcher)),
        }
    }
    kinds
}

async fn watches_are_checked_by_kind(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = |name: &str| format!("{room}/{name}");
    for name in ["none", "data", "child", "both", "persistent", "recursive"] {
        client.create(&path(name), b"", CreateMode::Persistent).await.unwrap();
    }
    client.get(&path("data"), true).await.unwrap();
    client.children(&path("child"), true).await.unwrap();
    client.exists(&path("both"), true).await.unwrap();
    client.children2(&path("both"), true).await.unwrap();
    client.add_watch(&path("persistent"), 0).await.unwrap();
    client.add_watch(&path("recursive"), 1).await.unwrap();
    let [child, data, any, persistent, recursive] = KINDS;
    assert_eq!(kinds(&mut client, &path("none")).await, []);
    assert_eq!(kinds(&mut client, &path("data")).await, [data, any]);
    assert_eq!(kinds(&mut client, &path("child")).await, [child, any]);
    assert_eq!(kinds(&mut client, &path("both")).await, [child, data, any]);
    assert_eq!(kinds(&mut client, &path("persistent")).await, [any, persistent]);
    assert_eq!(kinds(&mut client, &path("recursive")).await, [any, recursive]);
    // Below a recursive watch there is none.
    assert_eq!(kinds(&mut client, &path("recursive/x")).await, []);
    for kind in [0, 6, -1] {
        assert_eq!(client.check_watches(&room, kind).await, refused(ErrorCode::MarshallingError));
        assert_eq!(client.remove_watches(&room, kind).await, refused(ErrorCode::MarshallingError));
    }
    for mode in [-1, 2] {
        assert_eq!(client.add_watch(&room, mode).await, refused(ErrorCode::MarshallingError));
    }
    client.close().await.unwrap();
}

async fn watches_are_removed_by_kind(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let [child, data, any, persistent, recursive] = KINDS;
    for kind in KINDS {
        assert_eq!(client.remove_watches(&room, kind as i32).await, refused(ErrorCode::NoWatcher), "{kind:?}");
    }
    client.get(&room, true).await.unwrap();
    client.children(&room, true).await.unwrap();
    client.remove_watches(&room, data as i32).await.unwrap();
    assert_eq!(client.remove_watches(&room, data as i32).await, refused(ErrorCode::NoWatcher));
    assert_eq!(kinds(&mut client, &room).await, [child, any]);
    client.remove_watches(&room, child as i32).await.unwrap();
    client.add_watch(&room, 0).await.unwrap();
    client.remove_watches(&room, persistent as i32).await.unwrap();
    client.add_watch(&room, 1).await.unwrap();
    client.remove_watches(&room, recursive as i32).await.unwrap();
    client.get(&room, true).await.unwrap();
    client.children(&room, true).await.unwrap();
    client.remove_watches(&room, any as i32).await.unwrap();
    assert_eq!(kinds(&mut client, &room).await, []);
    client.set(&room, b"", -1).await.unwrap();
    client.create(&format!("{room}/c"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(client.settled_events().await.unwrap(), []);
    client.close().await.unwrap();
}

async fn removing_one_kind_leaves_the_others(site: Site) {
    let server = site.server().await;
    let (mut client, mut other, room) = cast(&server).await;
    client.get(&room, true).await.unwrap();
    client.children(&room, true).await.unwrap();
    other.get(&room, true).await.unwrap();
    client.remove_watches(&room, WatcherType::Data as i32).await.unwrap();
    client.set(&room, b"", -1).await.unwrap();
    client.create(&format!("{room}/c"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(bare(client.settled_events().await.unwrap()), [event(CHILDREN_CHANGED, &room)]);
    // Somebody else's is untouched.
    assert_eq!(bare(other.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);
}

async fn a_persistent_watch_changes_its_mode(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    client.add_watch(&room, 0).await.unwrap();
    client.add_watch(&room, 1).await.unwrap();
    client.create(&path, b"", CreateMode::Persistent).await.unwrap();
    let recursive = bare(client.settled_events().await.unwrap());
    assert!(recursive.contains(&event(CREATED, &path)), "{recursive:?}");
    client.close().await.unwrap();
}

async fn set_watches_tells_what_was_missed(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    missed(&server, &mut watcher, &mut other, &room).await;
}

/// Changes come between two connections of `watcher`, the second to `next`.
async fn missed(next: &Server, watcher: &mut Client, other: &mut Client, room: &str) {
    let path = |name: &str| format!("{room}/{name}");
    for name in ["changed", "same", "deleted", "again", "parent", "quiet"] {
        watcher.create(&path(name), b"", CreateMode::Persistent).await.unwrap();
    }
    let relative_zxid = watcher.last_zxid();
    other.sync("/").await.unwrap();
    other.set(&path("changed"), b"", -1).await.unwrap();
    other.delete(&path("deleted"), -1).await.unwrap();
    other.delete(&path("again"), -1).await.unwrap();
    other.create(&path("again"), b"", CreateMode::Persistent).await.unwrap();
    other.create(&path("new"), b"", CreateMode::Persistent).await.unwrap();
    other.create(&path("parent/c"), b"", CreateMode::Persistent).await.unwrap();
    let mut again = next.connect(watcher.resume()).await.unwrap();
    again.sync("/").await.unwrap();
    let paths = |names: &[&str]| names.iter().map(|name| path(name)).collect::<Vec<_>>();
    let set = SetWatches {
        relative_zxid,
        data: paths(&["changed", "same", "deleted", "again", "never"]),
        exist: paths(&["new", "missing", "same"]),
        child: paths(&["parent", "quiet", "deleted"]),
    };
    again.done(Request::SetWatches(set)).await.unwrap();
    let seen = again.events();
    assert!(seen.iter().all(|(zxid, _)| *zxid == -1), "{seen:?}");
    let expected = [
        (DATA_CHANGED, "changed"),
        (DELETED, "deleted"),
        (DATA_CHANGED, "again"),
        (DELETED, "never"),
        (CREATED, "new"),
        (CREATED, "same"),
        (CHILDREN_CHANGED, "parent"),
        (DELETED, "deleted"),
    ];
    assert_eq!(bare(seen), expected.map(|(kind, name)| event(kind, &path(name))));
    // What was told is not watched any more; the rest is.
    for name in ["changed", "again", "same", "new"] {
        other.set(&path(name), b"", -1).await.unwrap();
    }
    other.create(&path("missing"), b"", CreateMode::Persistent).await.unwrap();
    other.create(&path("quiet/c"), b"", CreateMode::Persistent).await.unwrap();
    other.create(&path("parent/d"), b"", CreateMode::Persistent).await.unwrap();
    let expected = [(DATA_CHANGED, "same"), (CREATED, "missing"), (CHILDREN_CHANGED, "quiet")];
    let expected = expected.map(|(kind, name)| event(kind, &path(name)));
    assert_eq!(bare(again.settled_events().await.unwrap()), expected);
}

async fn set_watches_sets_what_was_not_missed(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    watcher.get(&room, true).await.unwrap();
    let mut again = server.connect(watcher.resume()).await.unwrap();
    let set = SetWatches { relative_zxid: watcher.last_zxid(), data: vec![room.clone()], ..SetWatches::default() };
    again.done(Request::SetWatches(set)).await.unwrap();
    assert_eq!(again.events(), []);
    other.set(&room, b"", -1).await.unwrap();
    other.set(&room, b"", -1).await.unwrap();
    assert_eq!(bare(again.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);
}

async fn set_watches2_brings_back_the_persistent_ones(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let path = format!("{room}/x");
    watcher.add_watch(&room, 0).await.unwrap();
    watcher.add_watch(&room, 1).await.unwrap();
    let relative_zxid = watcher.last_zxid();
    let mut again = server.connect(watcher.resume()).await.unwrap();
    other.set(&room, b"missed", -1).await.unwrap();
    let set = SetWatches2 {
        relative_zxid,
        data: vec![room.clone()],
        persistent: vec![path.clone()],
        persistent_recursive: vec![room.clone()],
        ..SetWatches2::default()
    };
    again.sync("/").await.unwrap();
    again.done(Request::SetWatches2(set)).await.unwrap();
    // Persistent ones are not told what they missed.
    assert_eq!(bare(again.events()), [event(DATA_CHANGED, &room)]);
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    other.create(&format!("{path}/c"), b"", CreateMode::Persistent).await.unwrap();
    other.set(&path, b"", -1).await.unwrap();
    let child = format!("{path}/c");
    let expected =
        [event(CREATED, &path), event(CREATED, &child), event(CHILDREN_CHANGED, &path), event(DATA_CHANGED, &path)];
    assert_eq!(bare(again.settled_events().await.unwrap()), expected);
}

async fn a_client_that_set_no_watch_hears_nothing(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let requests = [get(&room, false), exists(&room, false), children(&room, false)];
    watcher.send_all(requests).await.unwrap();
    watcher.sync("/").await.unwrap();
    other.set(&room, b"", -1).await.unwrap();
    other.create(&format!("{room}/c"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(watcher.settled_events().await.unwrap(), []);
}

async fn ephemerals_that_go_fire_in_order(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let ops = ["a", "b", "c"].map(|name| create_op(&format!("{room}/{name}"), b"", CreateMode::Ephemeral));
    other.multi(ops.to_vec()).await.unwrap();
    watcher.sync("/").await.unwrap();
    watcher.add_watch(&room, 0).await.unwrap();
    watcher.add_watch(&format!("{room}/a"), 0).await.unwrap();
    other.close().await.unwrap();
    let seen = watcher.settled_events().await.unwrap();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|(zxid, _)| *zxid == seen[0].0), "one end, one zxid: {seen:?}");
    let at = |wanted| seen.iter().position(|(_, event)| *event == wanted);
    assert!(at(event(DELETED, &format!("{room}/a"))) < at(event(CHILDREN_CHANGED, &room)).map(|at| at + 3));
}

async fn multi_read_and_others_set_no_watches(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client
        .multi_read(vec![MultiReadOp::GetData { path: room.clone() }, MultiReadOp::GetChildren { path: room.clone() }])
        .await
        .unwrap();
    client.get_acl(&room).await.unwrap();
    client.all_children_number(&room).await.unwrap();
    assert_eq!(kinds(&mut client, &room).await, []);
    client.close().await.unwrap();
}

async fn watches_of_all_kinds_on_one_path_fire_once_each(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let (path, child) = (format!("{room}/x"), format!("{room}/x/c"));
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    watcher.sync("/").await.unwrap();
    watcher.add_watch(&path, 1).await.unwrap();
    watcher.add_watch(&path, 0).await.unwrap();
    watcher.get(&path, true).await.unwrap();
    watcher.children(&path, true).await.unwrap();
    watcher.exists(&child, true).await.unwrap();
    assert_eq!(kinds(&mut watcher, &path).await, KINDS);
    // What those of the path tell of a child's coming: its own creation, and the change of the set.
    for round in 0..2 {
        other.create(&child, b"", CreateMode::Persistent).await.unwrap();
        other.set(&child, b"", -1).await.unwrap();
        other.set(&path, b"", -1).await.unwrap();
        other.create(&format!("{child}/d"), b"", CreateMode::Persistent).await.unwrap();
        other.delete(&format!("{child}/d"), -1).await.unwrap();
        other.delete(&child, -1).await.unwrap();
        let expected = [
            event(CREATED, &child),
            event(CHILDREN_CHANGED, &path),
            event(DATA_CHANGED, &child),
            event(DATA_CHANGED, &path),
            event(CREATED, &format!("{child}/d")),
            event(DELETED, &format!("{child}/d")),
            event(DELETED, &child),
            event(CHILDREN_CHANGED, &path),
        ];
        assert_eq!(bare(watcher.settled_events().await.unwrap()), expected, "round {round}");
        // The one-shot ones are spent, and nobody hears less for it.
        let [_, _, any, persistent, recursive] = KINDS;
        assert_eq!(kinds(&mut watcher, &path).await, [any, persistent, recursive]);
    }
    other.delete(&path, -1).await.unwrap();
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    let expected = [event(DELETED, &path), event(CREATED, &path)];
    assert_eq!(bare(watcher.settled_events().await.unwrap()), expected);
}

async fn removing_a_kind_of_several_leaves_the_rest_to_fire(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let [child, data, any, persistent, recursive] = KINDS;
    let c = format!("{room}/c");
    // Which kind goes, and what is heard of a child's creation and a change of the data then.
    let cases: [(WatcherType, &[(i32, &str)]); 5] = [
        (child, &[(CREATED, &c), (CHILDREN_CHANGED, &room), (DATA_CHANGED, &room)]),
        (data, &[(CREATED, &c), (CHILDREN_CHANGED, &room), (DATA_CHANGED, &room)]),
        (persistent, &[(CREATED, &c), (CHILDREN_CHANGED, &room), (DATA_CHANGED, &room)]),
        (recursive, &[(CHILDREN_CHANGED, &room), (DATA_CHANGED, &room)]),
        (any, &[]),
    ];
    for (gone, expected) in cases {
        watcher.add_watch(&room, 1).await.unwrap();
        watcher.add_watch(&room, 0).await.unwrap();
        watcher.get(&room, true).await.unwrap();
        watcher.children(&room, true).await.unwrap();
        watcher.remove_watches(&room, gone as i32).await.unwrap();
        assert_eq!(watcher.remove_watches(&room, gone as i32).await, refused(ErrorCode::NoWatcher));
        let left: Vec<WatcherType> = KINDS.into_iter().filter(|kind| *kind != gone && gone != any).collect();
        assert_eq!(kinds(&mut watcher, &room).await, left);
        other.create(&c, b"", CreateMode::Persistent).await.unwrap();
        other.set(&room, b"", -1).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|(kind, path)| event(*kind, path)).collect();
        assert_eq!(bare(watcher.settled_events().await.unwrap()), expected, "{gone:?}");
        // The rest goes, the server being told of one kind or of all.
        if gone != any {
            watcher.remove_watches(&room, any as i32).await.unwrap();
        }
        other.delete(&c, -1).await.unwrap();
        assert_eq!(watcher.settled_events().await.unwrap(), []);
    }
}

/// As Java's client, which begins a new frame after 128 KiB of paths (`ClientCnxn.SET_WATCHES_MAX_LENGTH`).
async fn set_watches_of_thousands_of_paths_in_several_frames(site: Site) {
    const PATHS: usize = 6000;
    const FRAME: usize = 128 * 1024;
    let server = site.server().await;
    let (mut watcher, mut other, room) = cast(&server).await;
    let long = "long".repeat(10);
    let path = |n: usize| format!("{room}/{long}{n:04}");
    let creates = (0..PATHS).filter(|n| n % 3 != 2).map(|n| create(&path(n), b"", CreateMode::Persistent));
    let creates: Vec<Request> = creates.collect();
    let xids = other.send_all(creates).await.unwrap();
    other.reply(*xids.last().unwrap()).await.unwrap();
    watcher.sync("/").await.unwrap();
    let relative_zxid = watcher.last_zxid();
    let again = watcher.resume();
    drop(watcher);
    // What is missed: one in five of the existing changes, one in five of the missing comes.
    let mut expected = Vec::new();
    let mut changes = Vec::new();
    for n in (0..PATHS).filter(|n| n % 5 == 0) {
        let (kind, change) = match n % 3 {
            0 => (DATA_CHANGED, set(&path(n), b"", -1)),
            1 => (CHILDREN_CHANGED, create(&format!("{}/c", path(n)), b"", CreateMode::Persistent)),
            _ => (CREATED, create(&path(n), b"", CreateMode::Persistent)),
        };
        changes.push(change);
        expected.push((n, event(kind, &path(n))));
    }
    let xids = other.send_all(changes).await.unwrap();
    other.reply(*xids.last().unwrap()).await.unwrap();
    let mut watcher = server.connect(again).await.unwrap();
    watcher.sync("/").await.unwrap();
    // Frame by frame: of each, data before exist before child, whatever their order in the tree.
    let mut order = Vec::new();
    let mut frames = 0;
    let mut next = 0;
    while next < PATHS {
        let mut set = SetWatches2 { relative_zxid, ..SetWatches2::default() };
        let mut length = 0;
        let first = next;
        while next < PATHS && length < FRAME {
            let lists = [&mut set.data, &mut set.child, &mut set.exist];
            let [data, child, exist] = lists;
            [data, child, exist][next % 3].push(path(next));
            length += path(next).len();
            next += 1;
        }
        for kind in [0, 2, 1] {
            order.extend(expected.iter().filter(|(n, _)| (first..next).contains(n) && n % 3 == kind).cloned());
        }
        frames += 1;
        // The last one also brings a persistent watch.
        if next == PATHS {
            set.persistent_recursive.push(room.clone());
        }
        watcher.done(Request::SetWatches2(set)).await.unwrap();
    }
    assert!(frames > 2, "{frames} frames");
    let seen = bare(watcher.events());
    assert_eq!(seen.len(), order.len());
    for (seen, (_, expected)) in seen.iter().zip(&order) {
        assert_eq!(seen, expected);
    }
    // What was told is not watched; all the rest is.
    let [child, data, any, ..] = KINDS;
    for n in [0, 1, 2, 3, 4, PATHS - 5, PATHS - 4, PATHS - 3, PATHS - 2, PATHS - 1] {
        let one_shot = if n % 3 == 1 { child } else { data };
        let expected = if n % 5 == 0 { vec![] } else { vec![one_shot, any] };
        assert_eq!(kinds(&mut watcher, &path(n)).await, sorted(expected), "{n}");
    }
    other.set(&path(3), b"", -1).await.unwrap();
    other.set(&path(0), b"", -1).await.unwrap();
    let expected = [event(DATA_CHANGED, &path(3)), event(DATA_CHANGED, &path(0))];
    assert_eq!(bare(watcher.settled_events().await.unwrap()), expected);
}

/// In the order of [`KINDS`].
fn sorted(kinds: Vec<WatcherType>) -> Vec<WatcherType> {
    KINDS.into_iter().filter(|kind| kinds.contains(kind)).collect()
}

async fn whoever_leaves_takes_only_their_own_watches(site: Site) {
    let server = site.server().await;
    let (mut first, mut other, room) = cast(&server).await;
    let mut second = server.client().await;
    second.sync("/").await.unwrap();
    let path = format!("{room}/x");
    for round in 0..2 {
        for client in [&mut first, &mut second] {
            client.add_watch(&room, 1).await.unwrap();
            client.exists(&path, true).await.unwrap();
        }
        // The first time one asks for it, the second time its connection goes.
        if round == 0 {
            first.remove_watches(&room, WatcherType::PersistentRecursive as i32).await.unwrap();
            first.remove_watches(&path, WatcherType::Data as i32).await.unwrap();
        } else {
            first = server.connect(first.resume()).await.unwrap();
        }
        other.create(&path, b"", CreateMode::Persistent).await.unwrap();
        other.delete(&path, -1).await.unwrap();
        assert_eq!(first.settled_events().await.unwrap(), []);
        let expected = [event(CREATED, &path), event(DELETED, &path)];
        assert_eq!(bare(second.settled_events().await.unwrap()), expected, "round {round}");
    }
    // The last one goes, and who comes then is heard.
    second.remove_watches(&room, WatcherType::Any as i32).await.unwrap();
    first.add_watch(&room, 1).await.unwrap();
    other.create(&path, b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(second.settled_events().await.unwrap(), []);
    assert_eq!(bare(first.settled_events().await.unwrap()), [event(CREATED, &path)]);
}

async fn an_event_obeys_the_list_of_its_own_moment(site: Site) {
    let server = site.server().await;
    let (mut watcher, mut owner, room) = cast(&server).await;
    owner.auth("digest", b"owner:secret").await.unwrap();
    let acl = |path: &str, open: bool| {
        let mine = vec![Acl { perms: Perms::ALL, id: Id { scheme: "auth".into(), id: String::new() } }];
        let acl = Some(if open { support::client::open_acl() } else { mine });
        Request::SetAcl { path: path.into(), acl, version: -1 }
    };
    watcher.add_watch(&room, 1).await.unwrap();
    for round in 0..20 {
        let path = format!("{room}/{round}");
        let burst = [
            create(&path, b"", CreateMode::Persistent),
            set(&path, b"", -1),
            acl(&path, false),
            set(&path, b"", -1),
            acl(&path, true),
            set(&path, b"", -1),
            acl(&path, false),
            delete(&path, -1),
        ];
        let xids = owner.send_all(burst).await.unwrap();
        let mut zxids = Vec::new();
        for xid in xids {
            let (header, _) = owner.reply(xid).await.unwrap();
            assert_eq!(header.err, 0);
            zxids.push(header.zxid);
        }
        let expected = [(CREATED, zxids[0]), (DATA_CHANGED, zxids[1]), (DATA_CHANGED, zxids[5])];
        let expected = expected.map(|(kind, zxid)| (zxid, event(kind, &path)));
        assert_eq!(watcher.settled_events().await.unwrap(), expected, "round {round}");
    }
    // Made again by a multi, under a list that never let the watcher read.
    let path = format!("{room}/again");
    let mine = vec![Acl { perms: Perms::ALL, id: Id { scheme: "auth".into(), id: String::new() } }];
    let open = support::client::create_request(op::CREATE, &path, b"", CreateMode::Persistent);
    let closed = MultiOp::Create(CreateRequest { acl: Some(mine), ..open });
    owner.multi(vec![closed.clone()]).await.unwrap();
    owner.multi(vec![set_op(&path, b"", -1), delete_op(&path, -1), closed]).await.unwrap();
    assert_eq!(watcher.settled_events().await.unwrap(), []);
}

async fn a_session_that_closes_hears_of_its_own_ephemerals_first(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/e");
    client.create(&path, b"", CreateMode::Ephemeral).await.unwrap();
    client.exists(&path, true).await.unwrap();
    client.children(&room, true).await.unwrap();
    let close = client.send(Request::CloseSession).await.unwrap();
    let mut zxids = Vec::new();
    for expected in [event(DELETED, &path), event(CHILDREN_CHANGED, &room)] {
        let Incoming::Event { zxid, event } = client.recv().await.unwrap() else { panic!("the answer came first") };
        assert_eq!(event, expected);
        zxids.push(zxid);
    }
    let (header, _) = answer(&mut client).await;
    assert_eq!((header.xid, header.err), (close, 0));
    assert_eq!(zxids, [header.zxid, header.zxid]);
    client.closed().await.unwrap();
}

async fn watches_of_what_is_not_there_can_be_checked_and_removed(site: Site) {
    let server = site.server().await;
    let (mut client, mut other, room) = cast(&server).await;
    let deep = format!("{room}/a/b");
    let [_, data, any, persistent, recursive] = KINDS;
    client.exists(&deep, true).await.unwrap();
    client.add_watch(&deep, 0).await.unwrap();
    client.add_watch(&deep, 1).await.unwrap();
    assert_eq!(kinds(&mut client, &deep).await, [data, any, persistent, recursive]);
    for kind in [data, persistent] {
        client.remove_watches(&deep, kind as i32).await.unwrap();
    }
    assert_eq!(kinds(&mut client, &deep).await, [any, recursive]);
    for path in [&format!("{room}/a"), &deep] {
        other.create(path, b"", CreateMode::Persistent).await.unwrap();
    }
    assert_eq!(bare(client.settled_events().await.unwrap()), [event(CREATED, &deep)]);
    // A path that is none can be watched, too; nothing will ever happen there.
    for path in ["", "relative", "//", "/a/"] {
        client.add_watch(path, 0).await.unwrap();
        assert_eq!(kinds(&mut client, path).await, [any, persistent], "{path:?}");
        client.remove_watches(path, any as i32).await.unwrap();
        assert_eq!(client.remove_watches(path, any as i32).await, refused(ErrorCode::NoWatcher), "{path:?}");
    }
}

async fn watches_fire_on_every_server(site: Site) {
    let (one, two) = (site.server().await, site.server().await);
    shows_event_first(&one, &two, 100).await;
    shows_event_first(&two, &one, 100).await;
}

async fn nothing_is_lost_on_the_way_to_another_server(site: Site) {
    let (one, two) = (site.server().await, site.server().await);
    let (mut watcher, room) = one.room().await;
    let mut other = two.client().await;
    other.sync("/").await.unwrap();
    missed(&two, &mut watcher, &mut other, &room).await;
    // Back and forth, with a watch that must fire exactly once for each change.
    let mut version = other.get(&room, false).await.unwrap().1.version;
    let mut client = one.client().await;
    client.sync("/").await.unwrap();
    client.get(&room, true).await.unwrap();
    for n in 0..20 {
        let seen = client.last_zxid();
        let next = if n % 2 == 0 { &two } else { &one };
        let writes = other.set(&room, b"", version);
        let (moved, _) = tokio::join!(next.connect(client.resume()), writes);
        client = moved.unwrap();
        version += 1;
        let data = vec![room.clone()];
        client
            .done(Request::SetWatches(SetWatches { relative_zxid: seen, data, ..SetWatches::default() }))
            .await
            .unwrap();
        assert_eq!(client.next_event().await.unwrap().1, event(DATA_CHANGED, &room));
        let (_, stat) = client.get(&room, true).await.unwrap();
        assert_eq!((stat.version, client.events().len()), (version, 0));
    }
}

async fn a_lagging_server_shows_the_event_before_the_change(site: Site) {
    let gate = Gated::new(site.store());
    let ahead = site.server().await;
    let behind = Running::start(gate.clone(), &[]).await;
    let (mut writer, room) = ahead.room().await;
    let options = ConnectOptions { last_zxid: writer.last_zxid(), ..ConnectOptions::default() };
    let mut watcher = Client::connect(behind.address, options).await.unwrap();
    watcher.get(&room, true).await.unwrap();
    gate.let_changes(false);
    for n in 0..5 {
        writer.set(&room, b"", n).await.unwrap();
    }
    assert_eq!(watcher.get(&room, false).await.unwrap().1.version, 0);
    assert_eq!(watcher.events(), []);
    gate.let_changes(true);
    let xids = watcher.send_all([Request::Sync { path: room.clone() }, get(&room, false)]).await.unwrap();
    let Incoming::Event { event: seen, .. } = watcher.recv().await.unwrap() else { panic!("no event before") };
    assert_eq!(seen, event(DATA_CHANGED, &room));
    let (_, reply) = watcher.reply(xids[1]).await.unwrap();
    assert!(matches!(reply, Reply::Data(_, stat) if stat.version == 5));
}
