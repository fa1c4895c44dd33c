//! What users of zookeeper-client rely on: see ../../README.md.

mod harness;
mod recipes;

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use harness::{
    control, fires, is_lost, spawn, stays, until, within, Check, Network, World, EPHEMERAL, EPHEMERAL_NUMBERED,
    NUMBERED, PERSISTENT, SESSION, SHORT,
};
use recipes::{count, enter, leave, number, take, Cache};
use tokio::sync::mpsc;
use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, AuthUser, CheckWriteError, Client, CreateMode, EnsembleUpdate, Error, EventType,
    LockOptions, LockPrefix, MultiReadResult, MultiWriteError, MultiWriteResult, Permission, SessionState,
};

const CHECKS: &[Check] = &[
    check!(session_ends_with_its_ephemerals),
    check!(session_timeout_is_agreed),
    check!(session_of_a_dead_program_expires),
    check!(session_is_taken_up_by_another_client),
    check!(session_that_expired_is_told_so),
    check!(session_goes_on_at_another_server),
    check!(watches_hear_what_they_missed),
    check!(writes_go_on_while_the_server_dies),
    check!(nodes),
    check!(nodes_with_all_their_parents),
    check!(nodes_in_sequence),
    check!(nodes_that_go_by_themselves),
    check!(data_of_every_size),
    check!(many_requests_in_the_pipe),
    check!(descendants_and_ephemerals),
    check!(watches_fire_once),
    check!(persistent_watch_stays),
    check!(recursive_watch_hears_the_tree),
    check!(watches_of_all_kinds_on_one_path),
    check!(lock_is_held_by_one),
    check!(lock_of_a_dead_program_passes_on),
    check!(lock_is_kept_at_another_server),
    check!(lock_guards_writes),
    check!(election_has_one_leader),
    check!(barrier_joins_and_parts),
    check!(queue_gives_each_entry_once),
    check!(counter_counts),
    check!(cache_follows),
    check!(multi_is_all_or_nothing),
    check!(multi_reads_one_state),
    check!(check_writer_tells_what_failed),
    check!(acls_are_enforced),
    check!(authentication_goes_along_to_another_server),
    check!(unknown_authentication_fails),
    check!(chroot_is_invisible),
    check!(configuration),
];

const ROLES: &[Check] = &[check!(holds_ephemeral), check!(holds_lock)];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let code = runtime.block_on(harness::main(CHECKS, ROLES));
    std::process::exit(code);
}

// sessions

async fn session_ends_with_its_ephemerals(w: World) {
    let (watching, leaving) = (w.client().await, w.client().await);
    leaving.create(&w.root, b"here", &EPHEMERAL).await.unwrap();
    watching.sync(&w.root).await.unwrap();
    let (stat, gone) = watching.check_and_watch_stat(&w.root).await.unwrap();
    assert_ne!(leaving.session_id().0, 0);
    assert_eq!(stat.unwrap().ephemeral_owner, leaving.session_id().0);
    let mut states = leaving.state_watcher();
    drop(leaving);
    fires(gone, EventType::NodeDeleted, &w.root).await;
    until(&mut states, SessionState::Closed).await;
    assert_eq!(watching.check_stat(&w.root).await.unwrap(), None);
}

async fn session_timeout_is_agreed(w: World) {
    // what is asked for is also how long the library waits for the session
    for (asked, agreed) in [(500, 1000), (10_000, 10_000), (1_000_000, 60_000)] {
        let connector = Client::connector().with_session_timeout(Duration::from_millis(asked));
        let client = within("a session", connector.connect(&w.servers)).await.unwrap();
        assert_eq!(client.session_timeout(), Duration::from_millis(agreed));
    }
}

async fn session_of_a_dead_program_expires(w: World) {
    let client = w.client().await;
    let mut program = w.program("holds_ephemeral").await;
    client.sync(&w.root).await.unwrap();
    let (stat, gone) = client.check_and_watch_stat(&w.root).await.unwrap();
    assert!(stat.is_some());
    program.kill().await.unwrap();
    fires(gone, EventType::NodeDeleted, &w.root).await;
}

async fn holds_ephemeral(w: World) {
    let client = w.short().await;
    client.create(&w.root, b"", &EPHEMERAL).await.unwrap();
    stays().await;
}

async fn session_is_taken_up_by_another_client(w: World) {
    let first = w.connect(Client::connector().with_detached()).await;
    first.create(&w.root, b"", &EPHEMERAL).await.unwrap();
    let session = first.into_session();
    let second = w.connect(Client::connector().with_session(session.clone())).await;
    assert_eq!(second.session_id(), session.id());
    let stat = second.check_stat(&w.root).await.unwrap().unwrap();
    assert_eq!(stat.ephemeral_owner, session.id().0);
    let watching = w.client().await;
    watching.sync(&w.root).await.unwrap();
    let (_, gone) = watching.check_and_watch_stat(&w.root).await.unwrap();
    drop(second);
    fires(gone, EventType::NodeDeleted, &w.root).await;
    let connector = Client::connector().with_session(session).with_session_timeout(SESSION);
    let late = within("an answer", connector.connect(&w.servers)).await;
    assert_eq!(late.err(), Some(Error::SessionExpired));
}

async fn session_that_expired_is_told_so(w: World) {
    let mut network = Network::new(&w.servers).await;
    let watching = w.client().await;
    let client = Client::connector().with_session_timeout(SHORT).connect(&network.address).await.unwrap();
    client.create(&w.root, b"", &EPHEMERAL).await.unwrap();
    let (_, own) = client.check_and_watch_stat(&w.root).await.unwrap();
    watching.sync(&w.root).await.unwrap();
    let (_, gone) = watching.check_and_watch_stat(&w.root).await.unwrap();
    let mut states = client.state_watcher();
    network.cut().await;
    fires(gone, EventType::NodeDeleted, &w.root).await;
    network.heal().await;
    until(&mut states, SessionState::Expired).await;
    let event = within("the watcher's end", own.changed()).await;
    assert_eq!((event.event_type, event.session_state), (EventType::Session, SessionState::Expired));
    assert_eq!(client.check_stat(&w.root).await, Err(Error::SessionExpired));
}

async fn session_goes_on_at_another_server(w: World) {
    control("alone").await;
    let (client, other) = (w.client().await, w.client().await);
    let [own, data, fresh, tree] = ["/own", "/data", "/new", "/tree"].map(|name| w.at(name));
    client.create(&w.root, b"", &PERSISTENT).await.unwrap();
    client.create(&own, b"", &EPHEMERAL).await.unwrap();
    client.create(&data, b"", &PERSISTENT).await.unwrap();
    client.create(&tree, b"", &PERSISTENT).await.unwrap();
    let (_, _, changed) = client.get_and_watch_data(&data).await.unwrap();
    let (_, made) = client.check_and_watch_stat(&fresh).await.unwrap();
    let (_, children) = client.list_and_watch_children(&w.root).await.unwrap();
    let (mut states, mut others) = (client.state_watcher(), other.state_watcher());
    control("move").await;
    until(&mut states, SessionState::SyncConnected).await;
    until(&mut others, SessionState::SyncConnected).await;
    // version 0.11 does not set persistent watches again: its users do
    let mut stays = client.watch(&data, AddWatchMode::Persistent).await.unwrap();
    let mut below = client.watch(&tree, AddWatchMode::PersistentRecursive).await.unwrap();
    let stat = other.check_stat(&own).await.unwrap().unwrap();
    assert_eq!(stat.ephemeral_owner, client.session_id().0);
    other.set_data(&data, b"1", None).await.unwrap();
    fires(changed, EventType::NodeDataChanged, &data).await;
    fires(&mut stays, EventType::NodeDataChanged, &data).await;
    other.set_data(&data, b"2", None).await.unwrap();
    fires(&mut stays, EventType::NodeDataChanged, &data).await;
    other.create(&fresh, b"", &PERSISTENT).await.unwrap();
    fires(made, EventType::NodeCreated, &fresh).await;
    fires(children, EventType::NodeChildrenChanged, &w.root).await;
    other.create(&w.at("/tree/leaf"), b"", &PERSISTENT).await.unwrap();
    fires(&mut below, EventType::NodeCreated, &w.at("/tree/leaf")).await;
    control("heal").await;
}

async fn watches_hear_what_they_missed(w: World) {
    let mut network = Network::new(&w.servers).await;
    let other = w.client().await;
    let client = w.connect_by(&network).await;
    let [a, b, n] = ["/a", "/b", "/n"].map(|name| w.at(name));
    other.create(&w.root, b"", &PERSISTENT).await.unwrap();
    other.create(&a, b"", &PERSISTENT).await.unwrap();
    other.create(&b, b"", &PERSISTENT).await.unwrap();
    client.sync(&w.root).await.unwrap();
    let (_, _, data) = client.get_and_watch_data(&a).await.unwrap();
    let (_, gone) = client.check_and_watch_stat(&b).await.unwrap();
    let (_, made) = client.check_and_watch_stat(&n).await.unwrap();
    let (_, children) = client.list_and_watch_children(&w.root).await.unwrap();
    let mut states = client.state_watcher();
    network.cut().await;
    until(&mut states, SessionState::Disconnected).await;
    other.set_data(&a, b"missed", None).await.unwrap();
    other.delete(&b, None).await.unwrap();
    other.create(&n, b"", &PERSISTENT).await.unwrap();
    network.heal().await;
    until(&mut states, SessionState::SyncConnected).await;
    fires(data, EventType::NodeDataChanged, &a).await;
    fires(gone, EventType::NodeDeleted, &b).await;
    fires(made, EventType::NodeCreated, &n).await;
    fires(children, EventType::NodeChildrenChanged, &w.root).await;
}

async fn writes_go_on_while_the_server_dies(w: World) {
    control("alone").await;
    let client = w.client().await;
    client.create(&w.root, b"", &PERSISTENT).await.unwrap();
    let (begun, mut written) = mpsc::unbounded_channel();
    let (writer, root) = (client.clone(), w.root.clone());
    let writes = spawn(async move {
        for n in 0..200 {
            let path = format!("{root}/{n:03}");
            loop {
                match writer.create(&path, b"", &PERSISTENT).await {
                    Err(error) if is_lost(&error) => continue,
                    // it may have been made, and only the answer lost
                    Ok(_) | Err(Error::NodeExists) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            begun.send(n).unwrap();
        }
    });
    while within("a write", written.recv()).await.unwrap() < 20 {}
    control("move").await;
    writes.end().await;
    let (children, stat) = client.get_children(&w.root).await.unwrap();
    assert_eq!((children.len(), stat.cversion), (200, 200));
    control("heal").await;
}

// nodes

async fn nodes(w: World) {
    let (client, root) = (w.client().await, w.root.as_str());
    let (made, _) = client.create(root, b"one", &PERSISTENT).await.unwrap();
    assert_eq!((made.version, made.cversion, made.data_length, made.num_children), (0, 0, 3, 0));
    assert_eq!((made.mzxid, made.pzxid, made.mtime, made.ephemeral_owner), (made.czxid, made.czxid, made.ctime, 0));
    assert_eq!(client.get_data(root).await.unwrap(), (b"one".to_vec(), made));
    assert_eq!(client.create(root, b"", &PERSISTENT).await.err(), Some(Error::NodeExists));
    let newer = client.set_data(root, b"three", Some(0)).await.unwrap();
    assert_eq!((newer.version, newer.czxid, newer.data_length), (1, made.czxid, 5));
    assert!(newer.mzxid > made.mzxid);
    assert_eq!(client.set_data(root, b"", Some(0)).await.err(), Some(Error::BadVersion));
    assert_eq!(client.delete(root, Some(7)).await.err(), Some(Error::BadVersion));
    let child = w.at("/child");
    client.create(&child, b"", &PERSISTENT).await.unwrap();
    assert_eq!(client.delete(root, None).await.err(), Some(Error::NotEmpty));
    let (children, stat) = client.get_children(root).await.unwrap();
    assert_eq!((children, stat.cversion, stat.num_children, stat.version), (vec!["child".to_owned()], 1, 1, 1));
    assert!(stat.pzxid > stat.mzxid);
    client.delete(&child, Some(0)).await.unwrap();
    client.delete(root, Some(1)).await.unwrap();
    assert_eq!(client.check_stat(root).await.unwrap(), None);
    assert_eq!(client.get_data(root).await.err(), Some(Error::NoNode));
    assert_eq!(client.set_data(root, b"", None).await.err(), Some(Error::NoNode));
    assert_eq!(client.delete(root, None).await.err(), Some(Error::NoNode));
    assert_eq!(client.list_children(root).await.err(), Some(Error::NoNode));
    assert_eq!(client.get_acl(root).await.err(), Some(Error::NoNode));
    assert_eq!(client.create(&child, b"", &PERSISTENT).await.err(), Some(Error::NoNode));
}

async fn nodes_with_all_their_parents(w: World) {
    let client = w.client().await;
    client.mkdir(&w.at("/a/b/c"), &PERSISTENT).await.unwrap();
    client.mkdir(&w.at("/a/b/d"), &CreateMode::Container.with_acls(Acls::anyone_all())).await.unwrap();
    client.mkdir(&w.at("/a/b/c"), &PERSISTENT).await.unwrap();
    let mut names = client.list_children(&w.at("/a/b")).await.unwrap();
    names.sort();
    assert_eq!(names, ["c", "d"]);
}

async fn nodes_in_sequence(w: World) {
    let (client, other) = (w.client().await, w.client().await);
    client.create(&w.root, b"", &PERSISTENT).await.unwrap();
    for n in 0..3 {
        let (_, sequence) = client.create(&w.at("/n-"), b"", &NUMBERED).await.unwrap();
        assert_eq!((sequence.into_i64(), sequence.to_string()), (n, format!("{n:010}")));
    }
    client.delete(&w.at("/n-0000000002"), None).await.unwrap();
    client.create(&w.at("/plain"), b"", &PERSISTENT).await.unwrap();
    let (_, sequence) = other.create(&w.at("/m-"), b"", &EPHEMERAL_NUMBERED).await.unwrap();
    assert_eq!(sequence.into_i64(), 4);
    let child = w.at("/m-0000000004/child");
    assert_eq!(client.create(&child, b"", &PERSISTENT).await.err(), Some(Error::NoChildrenForEphemerals));
}

async fn nodes_that_go_by_themselves(w: World) {
    let client = w.client().await;
    client.create(&w.root, b"held", &CreateMode::Container.with_acls(Acls::anyone_all())).await.unwrap();
    client.create(&w.at("/child"), b"", &PERSISTENT).await.unwrap();
    let (_, gone) = client.check_and_watch_stat(&w.root).await.unwrap();
    client.delete(&w.at("/child"), None).await.unwrap();
    fires(gone, EventType::NodeDeleted, &w.root).await;

    client.create(&w.root, b"", &PERSISTENT.with_ttl(Duration::from_secs(1))).await.unwrap();
    let (_, gone) = client.check_and_watch_stat(&w.root).await.unwrap();
    fires(gone, EventType::NodeDeleted, &w.root).await;
    let hour = Duration::from_secs(3600);
    let (stat, _) = client.create(&w.at("-"), b"", &NUMBERED.with_ttl(hour)).await.unwrap();
    assert_eq!(stat.ephemeral_owner, 0);
}

async fn data_of_every_size(w: World) {
    let client = w.client().await;
    // the largest frame that a server takes is 1,048,575 bytes
    for size in [0, 1, 4095, 65_536, 1_000_000] {
        let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let path = w.at(&format!("-{size}"));
        client.create(&path, &data, &PERSISTENT).await.unwrap();
        assert!(client.get_data(&path).await.unwrap().0 == data, "{size} bytes came back changed");
    }
    let mut states = client.state_watcher();
    let path = w.at("-1");
    let error = client.set_data(&path, &vec![0; 1_048_576], None).await.unwrap_err();
    assert!(is_lost(&error), "{error:?}");
    until(&mut states, SessionState::SyncConnected).await;
    assert_eq!(client.get_data(&path).await.unwrap().0.len(), 1);
}

async fn many_requests_in_the_pipe(w: World) {
    let (client, other) = (w.client().await, w.client().await);
    client.create(&w.root, b"", &PERSISTENT).await.unwrap();
    let prefix = w.at("/n-");
    let made: Vec<_> = (0..1000).map(|_| client.create(&prefix, b"", &NUMBERED)).collect();
    let listed = client.list_children(&w.root);
    for (n, created) in futures::future::join_all(made).await.into_iter().enumerate() {
        assert_eq!(created.unwrap().1.into_i64(), n as i64);
    }
    assert_eq!(listed.await.unwrap().len(), 1000);
    other.sync(&w.root).await.unwrap();
    assert_eq!(other.check_stat(&w.root).await.unwrap().unwrap().cversion, 1000);
}

async fn descendants_and_ephemerals(w: World) {
    let (client, other) = (w.client().await, w.client().await);
    client.mkdir(&w.at("/a/b"), &PERSISTENT).await.unwrap();
    client.create(&w.at("/a/own"), b"", &EPHEMERAL).await.unwrap();
    client.create(&w.at("/own"), b"", &EPHEMERAL).await.unwrap();
    other.create(&w.at("/other"), b"", &EPHEMERAL).await.unwrap();
    client.sync(&w.root).await.unwrap();
    assert_eq!(client.count_descendants_number(&w.root).await.unwrap(), 5);
    let mut own = client.list_ephemerals(&w.root).await.unwrap();
    own.sort();
    assert_eq!(own, [w.at("/a/own"), w.at("/own")]);
    assert_eq!(client.list_ephemerals(&w.at("/a")).await.unwrap(), [w.at("/a/own")]);
}

// watches

async fn watches_fire_once(w: World) {
    let (client, other, root) = (w.client().await, w.client().await, w.root.as_str());
    let (stat, made) = client.check_and_watch_stat(root).await.unwrap();
    assert_eq!(stat, None);
    let (created, _) = other.create(root, b"", &PERSISTENT).await.unwrap();
    assert_eq!(fires(made, EventType::NodeCreated, root).await, created.czxid);
    let (_, _, data) = client.get_and_watch_data(root).await.unwrap();
    let (_, _, children) = client.get_and_watch_children(root).await.unwrap();
    let changed = other.set_data(root, b"1", None).await.unwrap();
    assert_eq!(fires(data, EventType::NodeDataChanged, root).await, changed.mzxid);
    let (child, _) = other.create(&w.at("/child"), b"", &PERSISTENT).await.unwrap();
    assert_eq!(fires(children, EventType::NodeChildrenChanged, root).await, child.czxid);
    other.delete(&w.at("/child"), None).await.unwrap();
    client.sync(root).await.unwrap();
    let (_, _, data) = client.get_and_watch_data(root).await.unwrap();
    let (_, children) = client.list_and_watch_children(root).await.unwrap();
    let (_, stat) = client.check_and_watch_stat(root).await.unwrap();
    other.delete(root, None).await.unwrap();
    fires(data, EventType::NodeDeleted, root).await;
    fires(children, EventType::NodeDeleted, root).await;
    fires(stat, EventType::NodeDeleted, root).await;
}

async fn persistent_watch_stays(w: World) {
    let (client, other, root) = (w.client().await, w.client().await, w.root.as_str());
    let mut watch = client.watch(root, AddWatchMode::Persistent).await.unwrap();
    let child = w.at("/child");
    for _ in 0..2 {
        other.create(root, b"", &PERSISTENT).await.unwrap();
        fires(&mut watch, EventType::NodeCreated, root).await;
        other.set_data(root, b"1", None).await.unwrap();
        fires(&mut watch, EventType::NodeDataChanged, root).await;
        other.create(&child, b"", &PERSISTENT).await.unwrap();
        fires(&mut watch, EventType::NodeChildrenChanged, root).await;
        // not of the child itself
        other.set_data(&child, b"1", None).await.unwrap();
        other.delete(&child, None).await.unwrap();
        fires(&mut watch, EventType::NodeChildrenChanged, root).await;
        other.delete(root, None).await.unwrap();
        fires(&mut watch, EventType::NodeDeleted, root).await;
    }
}

async fn recursive_watch_hears_the_tree(w: World) {
    let (client, other, root) = (w.client().await, w.client().await, w.root.as_str());
    let mut watch = client.watch(root, AddWatchMode::PersistentRecursive).await.unwrap();
    let leaf = w.at("/a/b");
    other.mkdir(&leaf, &PERSISTENT).await.unwrap();
    for path in [root, &w.at("/a"), &leaf] {
        fires(&mut watch, EventType::NodeCreated, path).await;
    }
    let set = other.set_data(&leaf, b"1", None).await.unwrap();
    assert_eq!(fires(&mut watch, EventType::NodeDataChanged, &leaf).await, set.mzxid);
    let mut writer = other.new_multi_writer();
    writer.add_set_data(root, b"1", None).unwrap();
    writer.add_create(&w.at("/c"), b"", &PERSISTENT).unwrap();
    writer.add_delete(&leaf, None).unwrap();
    writer.commit().await.unwrap();
    fires(&mut watch, EventType::NodeDataChanged, root).await;
    fires(&mut watch, EventType::NodeCreated, &w.at("/c")).await;
    fires(&mut watch, EventType::NodeDeleted, &leaf).await;
}

async fn watches_of_all_kinds_on_one_path(w: World) {
    let (client, other, root) = (w.client().await, w.client().await, w.root.as_str());
    other.create(root, b"", &PERSISTENT).await.unwrap();
    client.sync(root).await.unwrap();
    let (_, once) = client.list_and_watch_children(root).await.unwrap();
    let mut stays = client.watch(root, AddWatchMode::Persistent).await.unwrap();
    let mut below = client.watch(root, AddWatchMode::PersistentRecursive).await.unwrap();
    let child = w.at("/child");
    other.create(&child, b"", &PERSISTENT).await.unwrap();
    fires(once, EventType::NodeChildrenChanged, root).await;
    fires(&mut stays, EventType::NodeChildrenChanged, root).await;
    fires(&mut below, EventType::NodeCreated, &child).await;
    // the library takes a watch away when its watcher is dropped; the other one stays
    drop(stays);
    client.sync(root).await.unwrap();
    other.set_data(root, b"1", None).await.unwrap();
    fires(&mut below, EventType::NodeDataChanged, root).await;
    drop(below);
    let mut again = client.watch(root, AddWatchMode::Persistent).await.unwrap();
    other.set_data(root, b"2", None).await.unwrap();
    fires(&mut again, EventType::NodeDataChanged, root).await;
}

// recipes

fn lock_options() -> LockOptions<'static> {
    LockOptions::new(Acls::anyone_all()).with_ancestor_options(PERSISTENT).unwrap()
}

async fn lock_is_held_by_one(w: World) {
    let (inside, turns) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0)));
    let mut parts = Vec::new();
    for _ in 0..4 {
        let (client, root, inside, turns) = (w.client().await, w.root.clone(), inside.clone(), turns.clone());
        parts.push(spawn(async move {
            for _ in 0..5 {
                let prefix = LockPrefix::new_curator(&root, "lock-").unwrap();
                let lock = client.lock(prefix, b"", lock_options()).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                turns.fetch_add(1, Ordering::SeqCst);
                assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                drop(lock);
            }
        }));
    }
    for part in parts {
        part.end().await;
    }
    assert_eq!(turns.load(Ordering::SeqCst), 20);
}

async fn lock_of_a_dead_program_passes_on(w: World) {
    let client = w.client().await;
    let mut program = w.program("holds_lock").await;
    let (heir, root) = (client.clone(), w.root.clone());
    let waiting = spawn(async move {
        let prefix = format!("{root}/lock-");
        let lock = heir.lock(LockPrefix::new_shared(&prefix).unwrap(), b"", lock_options()).await.unwrap();
        lock.lock_path().to_owned()
    });
    program.kill().await.unwrap();
    assert_eq!(waiting.end().await, w.at("/lock-0000000001"));
}

async fn holds_lock(w: World) {
    let client = w.short().await;
    let prefix = w.at("/lock-");
    let _lock = client.lock(LockPrefix::new_shared(&prefix).unwrap(), b"", lock_options()).await.unwrap();
    stays().await;
}

async fn lock_is_kept_at_another_server(w: World) {
    control("alone").await;
    let (client, other) = (w.client().await, w.client().await);
    let prefix = LockPrefix::new_curator(&w.root, "lock-").unwrap();
    let lock = client.lock(prefix, b"", lock_options()).await.unwrap();
    let (_, joined) = client.list_and_watch_children(&w.root).await.unwrap();
    let (waits, root) = (other.clone(), w.root.clone());
    let waiting = spawn(async move {
        loop {
            let prefix = LockPrefix::new_curator(&root, "lock-").unwrap();
            match waits.lock(prefix, b"", lock_options()).await {
                // what the library does not take for the loss of a connection: it has left the line
                Err(Error::Custom(_)) => continue,
                locked => return locked.unwrap().lock_path().to_owned(),
            }
        }
    });
    fires(joined, EventType::NodeChildrenChanged, &w.root).await;
    let mut states = client.state_watcher();
    control("move").await;
    until(&mut states, SessionState::SyncConnected).await;
    let held = client.check_stat(lock.lock_path()).await.unwrap().unwrap();
    assert_eq!(held.ephemeral_owner, client.session_id().0);
    drop(lock);
    waiting.end().await;
    control("heal").await;
}

async fn lock_guards_writes(w: World) {
    let client = w.client().await;
    client.create(&w.at("-data"), b"", &PERSISTENT).await.unwrap();
    let prefix = LockPrefix::new_custom(w.at("/x-1-"), "x-").unwrap();
    let lock = client.lock(prefix, b"", lock_options()).await.unwrap();
    assert_eq!(lock.set_data(&w.at("-data"), b"1", Some(0)).await.unwrap().version, 1);
    let (_, sequence) = lock.create(&w.at("-n-"), b"", &NUMBERED).await.unwrap();
    lock.delete(&w.at(&format!("-n-{sequence}")), None).await.unwrap();
    // whoever has not got the lock any more cannot write by it
    client.delete(lock.lock_path(), None).await.unwrap();
    assert_eq!(lock.set_data(&w.at("-data"), b"2", None).await.err(), Some(Error::RuntimeInconsistent));
    assert_eq!(client.get_data(&w.at("-data")).await.unwrap().0, b"1");
}

async fn election_has_one_leader(w: World) {
    let (leads, mut leading) = mpsc::unbounded_channel();
    let mut goers = Vec::new();
    let mut parts = Vec::new();
    for n in 0..3 {
        let (client, root, leads) = (w.client().await, w.root.clone(), leads.clone());
        let (go, mut went) = mpsc::unbounded_channel::<()>();
        goers.push(go);
        parts.push(spawn(async move {
            let prefix = LockPrefix::new_curator(&root, "latch-").unwrap();
            let _latch = client.lock(prefix, b"", lock_options()).await.unwrap();
            leads.send(n).unwrap();
            went.recv().await;
            // the leader goes with its session
            drop(client.clone());
        }));
    }
    let mut led = Vec::new();
    for _ in 0..3 {
        let leader = within("a leader", leading.recv()).await.unwrap();
        assert!(leading.try_recv().is_err(), "two lead");
        led.push(leader);
        goers[leader].send(()).unwrap();
    }
    led.sort();
    assert_eq!(led, [0, 1, 2]);
    for part in parts {
        part.end().await;
    }
}

async fn barrier_joins_and_parts(w: World) {
    let watching = w.client().await;
    watching.create(&w.root, b"", &PERSISTENT).await.unwrap();
    let (entered, mut inside) = mpsc::unbounded_channel();
    let (left, mut outside) = mpsc::unbounded_channel();
    let mut parts = Vec::new();
    let mut goers = Vec::new();
    for n in 0..3 {
        if n == 2 {
            // the first two wait for the third
            loop {
                let (members, changed) = watching.list_and_watch_children(&w.root).await.unwrap();
                if members.len() == 2 {
                    break;
                }
                fires(changed, EventType::NodeChildrenChanged, &w.root).await;
            }
            assert!(inside.try_recv().is_err(), "went in without the third");
        }
        let (client, root) = (w.client().await, w.root.clone());
        let (entered, left) = (entered.clone(), left.clone());
        let (go, mut went) = mpsc::unbounded_channel::<()>();
        goers.push(go);
        parts.push(spawn(async move {
            client.sync(&root).await.unwrap();
            let name = format!("member-{n}");
            enter(&client, &root, &name, 3).await;
            entered.send(n).unwrap();
            went.recv().await;
            leave(&client, &root, &name).await;
            left.send(n).unwrap();
        }));
    }
    for _ in 0..3 {
        within("a member inside", inside.recv()).await.unwrap();
    }
    goers[0].send(()).unwrap();
    goers[1].send(()).unwrap();
    watching.sync(&w.root).await.unwrap();
    assert!(outside.try_recv().is_err(), "left without the third");
    goers[2].send(()).unwrap();
    for part in parts {
        part.end().await;
    }
}

async fn queue_gives_each_entry_once(w: World) {
    let client = w.client().await;
    client.create(&w.root, b"", &PERSISTENT).await.unwrap();
    let mut parts = Vec::new();
    for _ in 0..3 {
        let (taker, root) = (w.client().await, w.root.clone());
        taker.sync(&root).await.unwrap();
        parts.push(spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..10 {
                taken.push(take(&taker, &root).await);
            }
            assert!(taken.is_sorted(), "{taken:?}");
            taken
        }));
    }
    for n in 0..30 {
        client.create(&w.at("/entry-"), n.to_string().as_bytes(), &NUMBERED).await.unwrap();
    }
    let mut all = Vec::new();
    for part in parts {
        all.extend(part.end().await);
    }
    all.sort();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
}

async fn counter_counts(w: World) {
    let client = w.client().await;
    client.create(&w.root, b"0", &PERSISTENT).await.unwrap();
    let mut parts = Vec::new();
    for _ in 0..4 {
        let (each, root) = (w.client().await, w.root.clone());
        each.sync(&root).await.unwrap();
        parts.push(spawn(async move {
            for _ in 0..25 {
                count(&each, &root).await;
            }
        }));
    }
    for part in parts {
        part.end().await;
    }
    client.sync(&w.root).await.unwrap();
    let (data, stat) = client.get_data(&w.root).await.unwrap();
    assert_eq!((number(&data), stat.version), (100, 100));
}

async fn cache_follows(w: World) {
    control("alone").await;
    let (client, other, root) = (w.client().await, w.client().await, w.root.as_str());
    let [a, b, leaf] = ["/a", "/b", "/b/leaf"].map(|name| w.at(name));
    other.create(root, b"", &PERSISTENT).await.unwrap();
    other.create(&a, b"1", &PERSISTENT).await.unwrap();
    client.sync(root).await.unwrap();
    let mut cache = Cache::new(client.clone(), root).await;
    cache.until(&[(root, ""), (&a, "1")]).await;
    other.set_data(&a, b"2", None).await.unwrap();
    other.create(&b, b"3", &PERSISTENT).await.unwrap();
    cache.until(&[(root, ""), (&a, "2"), (&b, "3")]).await;
    let (mut states, mut others) = (client.state_watcher(), other.state_watcher());
    control("move").await;
    until(&mut states, SessionState::SyncConnected).await;
    until(&mut others, SessionState::SyncConnected).await;
    other.create(&leaf, b"4", &PERSISTENT).await.unwrap();
    other.delete(&a, None).await.unwrap();
    cache.until(&[(root, ""), (&b, "3"), (&leaf, "4")]).await;
    control("heal").await;
}

// transactions

async fn multi_is_all_or_nothing(w: World) {
    let (client, root) = (w.client().await, w.root.as_str());
    client.create(root, b"", &PERSISTENT).await.unwrap();
    let mut writer = client.new_multi_writer();
    writer.add_check_version(root, 0).unwrap();
    writer.add_create(&w.at("/n-"), b"1", &NUMBERED).unwrap();
    writer.add_create(&w.at("/own"), b"", &EPHEMERAL).unwrap();
    writer.add_set_data(root, b"changed", Some(0)).unwrap();
    writer.add_create(&w.at("/held"), b"", &CreateMode::Container.with_acls(Acls::anyone_all())).unwrap();
    writer.add_create(&w.at("/passing"), b"", &PERSISTENT.with_ttl(SESSION)).unwrap();
    writer.add_delete(&w.at("/passing"), Some(0)).unwrap();
    let results = writer.commit().await.unwrap();
    assert_eq!((&results[0], &results[6]), (&MultiWriteResult::Check, &MultiWriteResult::Delete));
    let made = |result: &MultiWriteResult| match result {
        MultiWriteResult::Create { path, stat } => (path.clone(), *stat),
        other => panic!("{other:?}"),
    };
    assert_eq!(made(&results[1]).0, w.at("/n-0000000000"));
    let (own, stat) = made(&results[2]);
    assert_eq!((own, stat.ephemeral_owner), (w.at("/own"), client.session_id().0));
    assert!(matches!(results[3], MultiWriteResult::SetData { stat } if stat.version == 1));
    let stat = client.check_stat(root).await.unwrap().unwrap();
    assert_eq!((stat.cversion, stat.num_children, stat.mzxid), (5, 3, stat.pzxid));

    writer.add_create(&w.at("/never"), b"", &PERSISTENT).unwrap();
    writer.add_delete(&w.at("/own"), Some(5)).unwrap();
    writer.add_set_data(root, b"never", None).unwrap();
    let failed = MultiWriteError::OperationFailed { index: 1, source: Error::BadVersion };
    assert_eq!(writer.commit().await.err(), Some(failed));
    assert_eq!(client.check_stat(&w.at("/never")).await.unwrap(), None);
    assert_eq!(client.get_data(root).await.unwrap().0, b"changed");
}

async fn multi_reads_one_state(w: World) {
    let client = w.client().await;
    client.create(&w.root, b"data", &PERSISTENT).await.unwrap();
    client.create(&w.at("/child"), b"", &PERSISTENT).await.unwrap();
    let mut reader = client.new_multi_reader();
    reader.add_get_data(&w.root).unwrap();
    reader.add_get_children(&w.root).unwrap();
    reader.add_get_data(&w.at("/none")).unwrap();
    reader.add_get_children(&w.at("/child")).unwrap();
    let mut found = reader.commit().await.unwrap().into_iter();
    match found.next() {
        Some(MultiReadResult::Data { data, stat }) => assert_eq!((data, stat.num_children), (b"data".to_vec(), 1)),
        other => panic!("{other:?}"),
    }
    match found.next() {
        Some(MultiReadResult::Children { children }) => assert_eq!(children, ["child"]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(found.next(), Some(MultiReadResult::Error { err: Error::NoNode })));
    assert!(matches!(found.next(), Some(MultiReadResult::Children { children }) if children.is_empty()));
}

async fn check_writer_tells_what_failed(w: World) {
    let client = w.client().await;
    client.create(&w.root, b"", &PERSISTENT).await.unwrap();
    let writer = client.new_check_writer(&w.root, Some(7)).unwrap();
    let failed = CheckWriteError::CheckFailed { source: Error::BadVersion };
    assert_eq!(writer.commit().await.err(), Some(failed));
    let mut writer = client.new_check_writer(&w.root, Some(0)).unwrap();
    writer.add_delete(&w.at("/none"), None).unwrap();
    let failed = CheckWriteError::OperationFailed { index: 0, source: Error::NoNode };
    assert_eq!(writer.commit().await.err(), Some(failed));
    let mut writer = client.new_check_writer(&w.root, Some(0)).unwrap();
    writer.add_set_data(&w.root, b"1", None).unwrap();
    assert_eq!(writer.commit().await.unwrap().len(), 1);
}

// access

async fn acls_are_enforced(w: World) {
    let root = w.root.as_str();
    let owner = w.connect(Client::connector().with_auth("digest", b"owner:secret")).await;
    let stranger = w.client().await;
    owner.create(root, b"mine", &CreateMode::Persistent.with_acls(Acls::creator_all())).await.unwrap();
    let (acls, stat) = owner.get_acl(root).await.unwrap();
    assert_eq!((acls.len(), acls[0].permission(), acls[0].scheme(), stat.aversion), (1, Permission::ALL, "digest", 0));
    stranger.sync("/").await.unwrap();
    assert_eq!(stranger.get_data(root).await.err(), Some(Error::NoAuth));
    assert_eq!(stranger.list_children(root).await.err(), Some(Error::NoAuth));
    assert_eq!(stranger.set_data(root, b"", None).await.err(), Some(Error::NoAuth));
    assert_eq!(stranger.create(&w.at("/child"), b"", &PERSISTENT).await.err(), Some(Error::NoAuth));
    assert_eq!(stranger.set_acl(root, &Acls::anyone_all(), None).await.err(), Some(Error::NoAuth));
    let readable = [acls[0].clone(), Acl::new(Permission::READ, AuthId::new("world", "anyone"))];
    assert_eq!(owner.set_acl(root, &readable, Some(0)).await.unwrap().aversion, 1);
    assert_eq!(owner.set_acl(root, &readable, Some(0)).await.err(), Some(Error::BadVersion));
    stranger.sync("/").await.unwrap();
    assert_eq!(stranger.get_data(root).await.unwrap().0, b"mine");
    assert_eq!(stranger.set_data(root, b"", None).await.err(), Some(Error::NoAuth));
    stranger.auth("digest", b"owner:secret").await.unwrap();
    stranger.set_data(root, b"yours", None).await.unwrap();
    let users = stranger.list_auth_users().await.unwrap();
    assert!(users.contains(&AuthUser::new("digest", "owner")), "{users:?}");
    assert!(users.contains(&AuthUser::new("ip", "127.0.0.1")), "{users:?}");
    let nobody = w.client().await;
    let creators = CreateMode::Persistent.with_acls(Acls::creator_all());
    assert_eq!(nobody.create(&w.at("-nobody"), b"", &creators).await.err(), Some(Error::InvalidAcl));
}

async fn authentication_goes_along_to_another_server(w: World) {
    control("alone").await;
    let client = w.client().await;
    client.auth("digest", b"owner:secret").await.unwrap();
    client.create(&w.root, b"mine", &CreateMode::Persistent.with_acls(Acls::creator_all())).await.unwrap();
    let mut states = client.state_watcher();
    control("move").await;
    until(&mut states, SessionState::SyncConnected).await;
    assert_eq!(client.get_data(&w.root).await.unwrap().0, b"mine");
    control("heal").await;
}

async fn unknown_authentication_fails(w: World) {
    let client = w.client().await;
    let mut states = client.state_watcher();
    assert_eq!(client.auth("nonsense", b"x:y").await.err(), Some(Error::AuthFailed));
    until(&mut states, SessionState::AuthFailed).await;
}

// chroot

async fn chroot_is_invisible(w: World) {
    let client = w.client().await;
    client.create(&w.root, b"top", &PERSISTENT).await.unwrap();
    let inner = within("a session", Client::connector().connect(&format!("{}{}", w.servers, w.root))).await.unwrap();
    inner.sync("/").await.unwrap();
    assert_eq!(inner.get_data("/").await.unwrap().0, b"top");
    inner.create("/a", b"1", &PERSISTENT).await.unwrap();
    let (_, sequence) = inner.create("/n-", b"", &NUMBERED).await.unwrap();
    assert_eq!(sequence.into_i64(), 1);
    let (_, _, changed) = inner.get_and_watch_data("/a").await.unwrap();
    let mut below = inner.watch("/", AddWatchMode::PersistentRecursive).await.unwrap();
    client.sync("/").await.unwrap();
    client.set_data(&w.at("/a"), b"2", None).await.unwrap();
    fires(changed, EventType::NodeDataChanged, "/a").await;
    fires(&mut below, EventType::NodeDataChanged, "/a").await;
    let mut writer = inner.new_multi_writer();
    writer.add_create("/own", b"", &EPHEMERAL).unwrap();
    assert!(matches!(&writer.commit().await.unwrap()[0], MultiWriteResult::Create { path, .. } if path == "/own"));
    assert_eq!(inner.list_ephemerals("/").await.unwrap(), ["/own"]);
    // a chroot within the same session
    let deeper = client.clone().chroot(w.root.clone()).unwrap();
    deeper.sync("/").await.unwrap();
    assert_eq!(deeper.get_data("/a").await.unwrap().0, b"2");
}

async fn configuration(w: World) {
    let client = w.client().await;
    let (_, _, _watch) = client.get_and_watch_config().await.unwrap();
    let joinings = ["server.9=127.0.0.1:1:2;3"].iter().copied();
    let update = EnsembleUpdate::Incremental { joinings, leavings: [].iter().copied() };
    assert_eq!(client.update_ensemble(update, None).await.err(), Some(Error::ReconfigDisabled));
}
