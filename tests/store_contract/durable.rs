//! The embedded store's data directory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};
use zketcd::store::embedded::Embedded;
use zketcd::store::{Store, StoreError};

use crate::fixture::{apply, brief, delete, failure, lease_id, next, put, put_leased, revision, value};

/// Where a test tells its child process to write.
const CHILD_DIR: &str = "ZKETCD_TEST_CHILD_DIR";

/// How many acknowledged writes the child makes before it is killed.
const ACKNOWLEDGED: usize = 200;

#[tokio::test]
async fn all_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let lease = lease_id();
    let (identity, snapshot) = {
        let store = Embedded::open(dir.path()).unwrap();
        apply(&*store, [put("a", "1"), put("b", "1")]).await;
        apply(&*store, [put("a", "2"), delete("b")]).await;
        store.lease_grant(lease, 3600).await.unwrap();
        apply(&*store, [put_leased("leased", "1", lease)]).await;
        let gone = lease_id();
        store.lease_grant(gone, 3600).await.unwrap();
        apply(&*store, [put_leased("gone", "1", gone)]).await;
        store.lease_revoke(gone).await.unwrap();
        (store.identity().await.unwrap(), sorted(&*store).await)
    };
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(store.identity().await.unwrap(), identity);
    assert_eq!(sorted(&*store).await, snapshot);
    assert!(matches!(store.changes(snapshot.revision).await, Err(StoreError::Compacted { .. })));
    let mut stream = store.changes(snapshot.revision + 1).await.unwrap();
    assert_eq!(apply(&*store, [put("a", "3")]).await.revision, snapshot.revision + 1, "revisions go on");
    store.lease_keep_alive(lease).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    let seen = next(&mut stream, 2).await;
    assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), [["+a=3"], ["-leased"]]);
}

#[tokio::test]
async fn leases_begin_anew_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let lease = lease_id();
    {
        let store = Embedded::open(dir.path()).unwrap();
        store.lease_grant(lease, 1).await.unwrap();
        apply(&*store, [put_leased("leased", "1", lease)]).await;
    }
    let opened = Instant::now();
    let store = Embedded::open(dir.path()).unwrap();
    let mut stream = store.changes(revision(&*store).await + 1).await.unwrap();
    let seen = next(&mut stream, 1).await;
    assert_eq!(brief(&seen[0]), ["-leased"]);
    assert!(opened.elapsed() >= Duration::from_secs(1), "the lease had its full ttl again");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let mut stream = store.changes(revision(&*store).await + 1).await.unwrap();
    drop(store);
    assert!(matches!(failure(&mut stream).await, StoreError::Unavailable(_)));
}

/// A child process writes and says what was acknowledged; it is killed in the middle of it.
#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "durable::many_writers_are_all_acknowledged"])
        .env(CHILD_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let acknowledged: Vec<(String, i64)> = lines
        .filter_map(|line| {
            let mut words = line.strip_prefix("acknowledged ")?.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?.parse().ok()?))
        })
        .take(ACKNOWLEDGED)
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acknowledged.len(), ACKNOWLEDGED);

    let store = Embedded::open(dir.path()).unwrap();
    let newest = acknowledged.iter().map(|(_, revision)| *revision).max().unwrap();
    assert!(revision(&*store).await >= newest);
    for (name, _) in &acknowledged {
        for half in ["first", "second"] {
            assert_eq!(
                value(&*store, &format!("{half}/{name}")).await.as_ref(),
                Some(name),
                "{half} of {name} is lost"
            );
        }
    }
    let halves = |half: &str, snapshot: &zketcd::store::Snapshot| {
        snapshot.entries.iter().filter(|kv| kv.key.starts_with(half.as_bytes())).count()
    };
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(halves("first", &snapshot), halves("second", &snapshot), "a transaction is there in part");
}

/// Also the child of [`what_was_acknowledged_survives_a_crash`], which then writes until it is killed.
#[tokio::test]
async fn many_writers_are_all_acknowledged() {
    const WRITERS: usize = 8;
    let own = tempfile::tempdir().unwrap();
    let parents = std::env::var_os(CHILD_DIR);
    let rounds = if parents.is_some() { usize::MAX } else { 10 };
    let store = Embedded::open(parents.as_deref().map_or(own.path(), Path::new)).unwrap();
    let write = async |writer: usize| {
        for n in 0..rounds {
            let name = format!("{writer}-{n}");
            let ops = [put(&format!("first/{name}"), &name), put(&format!("second/{name}"), &name)];
            let revision = apply(&*store, ops).await.revision;
            println!("acknowledged {name} {revision}");
        }
    };
    // Where the parent has died, this ends it.
    let written = timeout(Duration::from_secs(60), join_all((0..WRITERS).map(write))).await;
    written.expect("every write is acknowledged");
    assert_eq!(store.snapshot().await.unwrap().entries.len(), 2 * WRITERS * rounds);
}

async fn sorted(store: &dyn Store) -> zketcd::store::Snapshot {
    let mut snapshot = store.snapshot().await.unwrap();
    snapshot.entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    snapshot
}
