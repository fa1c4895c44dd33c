//! Traps that such a server falls into: outages, leases, clocks, limits, backups, and races that only step by step
//! can be repeated.

#[path = "support/drive.rs"]
mod drive;
mod support;
#[path = "support/swap.rs"]
mod swap;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drive::{SESSION_MS, Zketcd};
use support::client::{Client, ConnectOptions, Error, create_op, create_request};
use support::server::Running;
use support::{create, delete, event, exists, get, set};
use swap::Swap;
use zketcd::jute::{CreateMode, CreateRequest, ErrorCode, Reply, Request, op};
use zketcd::session::CloseReason;
use zketcd::store::embedded::Embedded;
use zketcd::store::faults::Faulty;
use zketcd::store::{Limits, OpResult, Store};
use zketcd::tree::key;

const PERSISTENT: CreateMode = CreateMode::Persistent;

async fn connect(server: &Running, millis: u64) -> Client {
    let options = ConnectOptions { timeout: Duration::from_millis(millis), ..ConnectOptions::default() };
    Client::connect(server.address, options).await.expect("a session")
}

/// Connects until the server takes clients again.
async fn reconnect(server: &Running, options: ConnectOptions) -> Result<Client, Error> {
    loop {
        match Client::connect(server.address, options.clone()).await {
            Err(Error::Closed) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => return other,
        }
    }
}

// The store is away.

#[tokio::test]
async fn while_the_store_is_away_pings_and_reads_go_on_and_writes_wait() {
    let (store, faults) = Faulty::new(Embedded::memory());
    let server = Running::start(store, &[]).await;
    let mut client = connect(&server, 30_000).await;
    client.create("/a", b"old", PERSISTENT).await.unwrap();
    let mut reader = connect(&server, 30_000).await;
    faults.set_away(true);
    let write = client.send(set("/a", b"new", -1)).await.unwrap();
    let read = client.send(get("/a", false)).await.unwrap();
    let sent = faults.seen().transacts;
    faults.until(|seen| seen.transacts > sent).await;
    client.ping().await.expect("a ping overtakes a write that waits");
    assert_eq!(reader.get("/a", false).await.unwrap().0, b"old");
    faults.set_away(false);
    assert_eq!(client.reply(write).await.unwrap().0.err, 0);
    let (_, reply) = client.reply(read).await.unwrap();
    assert!(matches!(reply, Reply::Data(Some(data), _) if *data == *b"new"), "the read has waited for the write");
}

#[tokio::test]
async fn a_store_that_stays_away_closes_the_connections_and_comes_back_by_itself() {
    let (store, faults) = Faulty::new(Embedded::memory());
    let server = Running::start(store, &["--etcd-timeout=1s"]).await;
    let mut idle = connect(&server, 30_000).await;
    let mut client = connect(&server, 30_000).await;
    client.create("/mine", b"", CreateMode::Ephemeral).await.unwrap();
    faults.set_away(true);
    let write = client.send(set("/mine", b"x", -1)).await.unwrap();
    assert_eq!(client.reply(write).await, Err(Error::Closed));
    idle.closed().await.expect("reads would be ever older");
    faults.set_away(false);
    let mut client = reconnect(&server, client.resume()).await.expect("the session has outlived it");
    let version = client.get("/mine", false).await.unwrap().1.version;
    assert!(version <= 1, "the write was applied once or never");
    assert_eq!(client.set("/mine", b"y", -1).await.unwrap().version, version + 1);
}

/// The connection is closed while the session still lives: no other can have been told that it is over.
#[tokio::test]
async fn a_server_cut_off_lets_go_of_a_client_before_its_lease_ends() {
    let embedded = Embedded::memory();
    let (store, faults) = Faulty::new(embedded.clone());
    let server = Running::start(store, &[]).await;
    let mut leader = connect(&server, 2_000).await;
    leader.create("/leader", b"", CreateMode::Ephemeral).await.unwrap();
    let other = Running::start(embedded.clone(), &[]).await;
    let mut rival = connect(&other, 30_000).await;
    rival.exists("/leader", true).await.unwrap().expect("a leader");
    faults.set_away(true);
    leader.closed().await.unwrap();
    let record = key::session(leader.session_id());
    let snapshot = embedded.snapshot().await.unwrap();
    assert!(snapshot.entries.iter().any(|kv| kv.key == record), "the session was there when its client was let go");
    assert_eq!(rival.next_event().await.unwrap().1, event(support::DELETED, "/leader"));
    faults.set_away(false);
    assert_eq!(reconnect(&server, leader.resume()).await.err(), Some(Error::Expired));
}

/// The same by the clock: up to a tenth of the timeout before the lease could end, and not a moment longer.
#[tokio::test]
async fn a_session_is_told_that_it_lives_while_its_lease_is_known_to_last() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let mut client = server.client().await;
    let begun = server.now();
    server.pass(SESSION_MS / 2);
    server.engine.renewed(client.session(), begun + SESSION_MS / 4);
    // Heard all the time, as clients ping; and the store says nothing.
    for _ in 0..6 {
        server.pass(SESSION_MS / 10);
        server.send(&mut client, Request::Ping);
    }
    server.pass(SESSION_MS / 4 + 9 * SESSION_MS / 10 - (server.now() - begun) - 1);
    server.send(&mut client, Request::Ping);
    server.send(&mut client, exists("/a", false));
    assert_eq!((client.replies().len(), client.closed()), (8, None));
    server.pass(1);
    assert_eq!(client.closed(), Some(CloseReason::LeaseUncertain));
    // Its end is the lease's now: the client may have been heard elsewhere.
    server.pass(10 * SESSION_MS);
    server.settle().await;
    assert!(server.replica().session(client.session()).is_some());
}

#[tokio::test]
async fn a_ping_is_refused_where_the_tick_comes_late() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let mut client = server.client().await;
    let now = server.now();
    server.engine.set_now(zketcd::session::Now { mono: now + SESSION_MS, wall: 0 });
    server.send(&mut client, Request::Ping);
    assert_eq!((client.replies().len(), client.closed()), (0, Some(CloseReason::LeaseUncertain)));
}

// Sessions, step by step.

/// Lets time pass, with the lease renewed as it goes.
fn pass_renewed(server: &mut Zketcd, session: i64, millis: u64) {
    for _ in 0..10 {
        let now = server.now();
        server.engine.renewed(session, now);
        server.pass(millis / 10);
    }
}

#[tokio::test]
async fn a_session_ends_when_its_client_was_silent_for_its_timeout_and_no_sooner() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let mut client = server.client().await;
    server.ok(&mut client, create("/mine", b"", CreateMode::Ephemeral)).await;
    let session = client.session();
    pass_renewed(&mut server, session, SESSION_MS - 10);
    server.send(&mut client, Request::Ping);
    pass_renewed(&mut server, session, SESSION_MS - 10);
    server.settle().await;
    assert!(server.replica().session(session).is_some());
    server.pass(10);
    assert_eq!(client.closed(), Some(CloseReason::Silent));
    server.settle().await;
    assert!(server.replica().session(session).is_none() && server.replica().node("/mine").is_none());
    assert_eq!(server.engine.take_revocations(), [session]);
}

/// Its timeout passes while its attach is on the way: the session goes on, held as before.
#[tokio::test]
async fn a_client_that_comes_back_at_the_last_moment_keeps_its_session() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let client = server.client().await;
    let session = client.session();
    server.engine.disconnect(client.id);
    pass_renewed(&mut server, session, SESSION_MS - 10);
    let mut back = server.attach(session);
    let sent = server.build().expect("the attach");
    pass_renewed(&mut server, session, 1_000);
    assert!(server.build().is_none(), "no expiry");
    let result = server.commit(&sent).await;
    server.answer(sent.lane, result).unwrap();
    server.settle().await;
    back.attached().expect("the session");
    assert_eq!(back.closed(), None);
    server.pass(SESSION_MS / 2);
    assert_eq!(server.engine.due_renewals(), [session], "its lease is renewed again");
    // And its end is noticed again.
    pass_renewed(&mut server, session, SESSION_MS);
    assert_eq!(back.closed(), Some(CloseReason::Silent));
}

#[tokio::test]
async fn the_writes_of_a_moved_session_fail_on_its_old_connection() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::start(store).await;
    let mut old = near.client().await;
    far.pull().unwrap();
    let mut new = far.attach(old.session());
    far.settle().await;
    new.attached().expect("the session");
    // The near server has not heard of it.
    near.send(&mut old, create("/a", b"", PERSISTENT));
    let sent = near.build().unwrap();
    let result = near.commit(&sent).await;
    near.answer(sent.lane, result).unwrap();
    near.settle().await;
    assert!(near.replica().node("/a").is_none());
    assert_eq!(old.closed(), Some(CloseReason::SessionMoved));
    far.ok(&mut new, create("/a", b"", PERSISTENT)).await;
}

/// Both connections on one server, and both requests in one batch.
#[tokio::test]
async fn an_attach_earlier_in_the_batch_moves_the_session() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let mut old = server.client().await;
    let mut new = server.attach(old.session());
    server.send(&mut old, create("/a", b"", PERSISTENT));
    let sent = server.build().unwrap();
    assert_eq!(sent.outgoing.requests, 2);
    let result = server.commit(&sent).await;
    server.answer(sent.lane, result).unwrap();
    server.settle().await;
    new.attached().expect("the session");
    assert_eq!(old.closed(), Some(CloseReason::SessionMoved));
    assert!(server.replica().node("/a").is_none());
}

/// Two servers see a session end: its ephemerals go once, and all is quiet then.
#[tokio::test]
async fn two_servers_reap_what_a_session_left_once() {
    let store = Embedded::memory();
    let mut near = Zketcd::start(store.clone()).await;
    let mut far = Zketcd::start(store.clone()).await;
    let mut client = near.client().await;
    near.ok(&mut client, create("/p", b"", PERSISTENT)).await;
    for _ in 0..70 {
        near.ok(&mut client, create("/p/e-", b"", CreateMode::EphemeralSequential)).await;
    }
    store.lease_revoke(client.session()).await.unwrap();
    for _ in 0..5 {
        near.pull().unwrap();
        far.pull().unwrap();
        for server in [&mut near, &mut far] {
            let Some(sent) = server.build() else { continue };
            let result = server.commit(&sent).await;
            server.answer(sent.lane, result).unwrap();
        }
    }
    for server in [&mut near, &mut far] {
        server.settle().await;
        let stat = server.replica().node("/p").unwrap().stat();
        assert_eq!((stat.num_children, stat.cversion), (0, 140));
        assert!(server.build().is_none(), "nothing is left to do");
    }
}

/// Ephemerals beyond what one transaction holds go in pieces; the answer comes after the last, the verdict at once.
#[tokio::test]
async fn a_close_with_many_ephemerals_is_answered_after_the_last() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let mut client = server.client().await;
    for at in 0..100 {
        server.ok(&mut client, create(&format!("/e{at}"), b"", CreateMode::Ephemeral)).await;
    }
    server.send(&mut client, Request::CloseSession);
    let mut batches = 0;
    while let Some(sent) = server.build() {
        assert_eq!(client.replies(), [], "not before the last");
        batches += 1;
        let result = server.commit(&sent).await;
        server.answer(sent.lane, result).unwrap();
        server.pull().unwrap();
        assert!(server.replica().session(client.session()).is_none(), "the record goes first");
    }
    assert_eq!(server.replica().ephemeral_count(), 0);
    assert_eq!((batches, client.verdict(), client.closed()), (5, ErrorCode::Ok, Some(CloseReason::SessionClosed)));
}

// Containers and TTL nodes.

#[tokio::test]
async fn what_the_sweeper_saw_is_looked_at_again() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let mut client = server.client().await;
    let ttl =
        CreateRequest { ttl: 1_000, ..create_request(op::CREATE_TTL, "/ttl", b"", CreateMode::PersistentWithTtl) };
    server.ok(&mut client, Request::Create(ttl.clone())).await;
    let now = server.now();
    server.engine.renewed(client.session(), now);
    server.pass(1_001);
    // The sweeper finds it, and a set comes first.
    server.send(&mut client, set("/ttl", b"", -1));
    let set = server.build().unwrap();
    server.engine.sweep();
    let result = server.commit(&set).await;
    server.answer(set.lane, result).unwrap();
    server.settle().await;
    assert!(server.replica().node("/ttl").is_some(), "changed meanwhile");
    server.pass(1_001);
    server.engine.sweep();
    server.settle().await;
    assert!(server.replica().node("/ttl").is_none());
}

// Limits.

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_multi_that_fits_into_no_transaction_is_refused_and_the_log_says_why() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _log = tracing::subscriber::set_default(log);
    let cases = [
        (Limits { txn_ops: 20, ..drive::LIMITS }, "--max-txn-ops", "--etcd-max-txn-ops"),
        (Limits { request_bytes: 4_000, ..drive::LIMITS }, "--max-request-bytes", "--etcd-max-request-bytes"),
    ];
    for (limits, etcd, ours) in cases {
        let mut server = Zketcd::with(Embedded::memory(), 1, limits).await;
        let mut client = server.client().await;
        let mut other = server.client().await;
        let large = (0..30).map(|at| create_op(&format!("/n{at}"), &[b'x'; 200], PERSISTENT)).collect();
        server.send(&mut other, create("/other", b"", PERSISTENT));
        server.send(&mut client, create("/before", b"", PERSISTENT));
        server.send(&mut client, Request::Multi(large));
        server.send(&mut client, create("/after", b"", PERSISTENT));
        server.settle().await;
        let errors: Vec<i32> = client.replies().iter().map(|(header, _)| header.err).collect();
        assert_eq!(errors, [0, ErrorCode::BadArguments.code(), 0], "in its turn, and alone");
        assert_eq!(other.verdict(), ErrorCode::Ok);
        assert!(server.replica().node("/n0").is_none());
        let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        for part in [etcd, ours, &format!("{:#x}", client.session())] {
            assert!(logged.contains(part), "{part} in {logged}");
        }
    }
}

// A restore from a backup.

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A store's data directory, and a backup of it.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Disk {
        let disk = Disk(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(disk.data()).unwrap();
        disk
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn backup(&self) -> PathBuf {
        self.0.path().join("backup")
    }

    fn store(&self) -> Arc<Swap> {
        Swap::new(Embedded::open(&self.data()).unwrap())
    }

    /// Copies what the store holds, which is away meanwhile.
    async fn back_up(&self, store: &Swap) {
        store.take();
        copy_when_free(&self.data(), &self.backup()).await;
        store.put(Embedded::open(&self.data()).unwrap());
    }

    fn restored(&self) -> Arc<Embedded> {
        Embedded::open(&self.backup()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_restored_from_a_backup_goes_on_above() {
    let disk = Disk::new();
    let store = disk.store();
    let servers = [Running::start(store.clone(), &[]).await, Running::start(store.clone(), &[]).await];
    let mut early = connect(&servers[0], 30_000).await;
    early.create("/a", b"backed up", PERSISTENT).await.unwrap();
    let (_, old) = early.get("/a", false).await.unwrap();
    drop(early);
    disk.back_up(&store).await;
    let mut late = reconnect(&servers[0], ConnectOptions::default()).await.unwrap();
    for _ in 0..200 {
        late.set("/a", b"lost", -1).await.unwrap();
    }
    let mut far = reconnect(&servers[1], ConnectOptions::default()).await.unwrap();
    far.sync("/").await.unwrap();
    let (_, lost) = far.get("/a", false).await.unwrap();
    store.take();
    copy_when_free(&disk.data(), &disk.0.path().join("lost")).await;
    store.put(disk.restored());
    // Whoever writes finds out; nothing of before counts.
    assert!(late.set("/a", b"in flight", -1).await.is_err());
    let mut zxids = Vec::new();
    for server in servers.iter().chain(&servers) {
        // The first one asks at once; those after it have seen what is lost.
        let last_zxid = if zxids.is_empty() { 0 } else { lost.mzxid };
        let options = ConnectOptions { last_zxid, ..ConnectOptions::default() };
        let mut client = reconnect(server, options).await.expect("a session");
        // The first commit at a server may be the one that finds out.
        while let Err(error) = client.sync("/").await {
            assert_eq!(error, Error::Closed);
            client = reconnect(server, ConnectOptions::default()).await.unwrap();
        }
        let (data, stat) = client.get("/a", false).await.unwrap();
        if zxids.is_empty() {
            assert_eq!((data, stat), (b"backed up".to_vec(), old), "old records keep their zxids");
        }
        zxids.push(client.set("/a", b"new", -1).await.unwrap().mzxid);
        assert!(zxids[0] > lost.mzxid, "{zxids:x?} above {:x}", lost.mzxid);
        let stats = client.get("/a", false).await.unwrap().1;
        assert_eq!(stats.czxid, old.czxid);
    }
    assert!(zxids.is_sorted_by(|a, b| a < b), "{zxids:x?}");
    let mut seen = Vec::new();
    for server in &servers {
        let mut client = reconnect(server, ConnectOptions::default()).await.unwrap();
        client.sync("/").await.unwrap();
        seen.push(client.get("/a", false).await.unwrap());
    }
    assert_eq!(seen[0], seen[1], "and both servers show the same");
}

/// A batch that is built before a restore and comes to the store after it, on a lane that the backup has as it was: what
/// its verdicts read came by the other lane, and is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_outlives_a_restore_takes_no_effect() {
    let disk = Disk::new();
    let store = disk.store();
    let mut server = Zketcd::start(store.clone()).await;
    let mut client = server.client().await;
    disk.back_up(&store).await;
    server.send(&mut client, create("/lost", b"", PERSISTENT));
    let sent = server.build_on(1).unwrap();
    let result = server.commit(&sent).await;
    server.answer(sent.lane, result).unwrap();
    assert_eq!(client.verdict(), ErrorCode::Ok);
    server.send(&mut client, create("/lost/child", b"", PERSISTENT));
    let sent = server.build_on(0).unwrap();
    store.take();
    store.put(disk.restored());
    let result = server.commit(&sent).await;
    assert!(result.succeeded, "its lane is as it was");
    assert!(matches!(result.results[1], OpResult::Txn { succeeded: false, .. }));
    let snapshot = store.snapshot().await.unwrap();
    assert!(snapshot.entries.iter().all(|entry| entry.key != key::node("/lost/child")));
}

/// The database is locked until the last one to hold it has let go.
async fn copy_when_free(data: &Path, to: &Path) {
    loop {
        match Embedded::open(data) {
            Ok(store) => break drop(store),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    copy(data, to);
}

/// Deleted ones too, and those of a batch's later slots.
#[tokio::test]
async fn reads_show_no_older_zxid_after_a_snapshot() {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let mut client = server.client().await;
    let mut dying = server.client().await;
    let session = dying.session();
    server.ok(&mut dying, create("/mine", b"", CreateMode::Ephemeral)).await;
    server.ok(&mut dying, delete("/mine", -1)).await;
    server.store.lease_revoke(session).await.unwrap();
    server.settle().await;
    let seen = server.call(&mut client, exists("/a", false)).await.0.zxid;
    server.resync().await;
    assert_eq!(server.call(&mut client, exists("/a", false)).await.0.zxid, seen);
}
