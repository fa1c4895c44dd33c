//! The embedded store's data directory.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
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
        store.lease_grant(lease, 3).await.unwrap();
        apply(&*store, [put_leased("leased", "1", lease)]).await;
    }
    let opened = Instant::now();
    let store = Embedded::open(dir.path()).unwrap();
    let mut stream = store.changes(revision(&*store).await + 1).await.unwrap();
    let seen = next(&mut stream, 1).await;
    assert_eq!(brief(&seen[0]), ["-leased"]);
    assert!(opened.elapsed() >= Duration::from_secs(3), "the lease had its full ttl again");
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

/// A journal that was cut anywhere gives what was acknowledged before the cut, and nothing else.
#[tokio::test]
async fn a_journal_cut_short_gives_whole_transactions() {
    const GROUPS: i64 = 12;
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let before = revision(&*store).await;
    let (journal, start) = journal(dir.path());
    let mut ends = vec![start];
    for n in 0..GROUPS {
        let n = n.to_string();
        apply(&*store, [put(&format!("first/{n}"), &n), put("counter", &n), put(&format!("second/{n}"), &n)]).await;
        let end = used(&journal);
        assert!(end > ends[ends.len() - 1], "it is in the journal when it is acknowledged");
        ends.push(end);
    }
    // As the power's failure would leave it: the store is still open.
    let copy = tempfile::tempdir().unwrap();
    for cut in (start..=used(&journal)).step_by(7).chain(ends.iter().copied()) {
        fs::remove_dir_all(copy.path()).unwrap();
        copy_tree(dir.path(), copy.path(), &journal, cut);
        let store = Embedded::open(copy.path()).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as i64 - 1;
        assert_eq!(revision(&*store).await, before + whole, "cut at {cut} of {ends:?}");
        let newest = (whole > 0).then(|| (whole - 1).to_string());
        assert_eq!(value(&*store, "counter").await, newest);
        for n in 0..GROUPS {
            for half in ["first", "second"] {
                let there = value(&*store, &format!("{half}/{n}")).await.is_some();
                assert_eq!(there, n < whole, "{half}/{n}, cut at {cut} of {ends:?}");
            }
        }
        // What comes after it is kept too.
        apply(&*store, [put("after", "1")]).await;
        drop(store);
        let store = Embedded::open(copy.path()).unwrap();
        assert_eq!(revision(&*store).await, before + whole + 1);
        assert_eq!(value(&*store, "after").await.as_deref(), Some("1"));
    }
}

/// So much that tables are written and merged, and journals come and go.
#[tokio::test]
async fn more_than_a_journal_is_there_after_a_reopen() {
    const KEYS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let (first, _) = journal(dir.path());
    let mut n = 0;
    while first.exists() {
        assert!(n < 1000, "the first journal is never removed");
        let key = format!("k{}", n % KEYS);
        match n % 7 {
            6 => apply(&*store, [delete(&key)]).await,
            _ => apply(&*store, [put(&key, &format!("{n}-{}", "v".repeat(500_000)))]).await,
        };
        n += 1;
    }
    let snapshot = sorted(&*store).await;
    drop(store);
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(sorted(&*store).await, snapshot);
}

/// The newest journal in `dir`, and how much of it is written.
fn journal(dir: &Path) -> (PathBuf, u64) {
    let mut journals: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            journals.extend(fs::read_dir(entry.path()).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    journals.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    assert_eq!(journals.len(), 1, "{journals:?}");
    let journal = journals.remove(0);
    let used = used(&journal);
    (journal, used)
}

/// Room for a journal is made ahead, and reads as zeros.
fn used(journal: &Path) -> u64 {
    fs::read(journal).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Copies `from`, of `journal` the first `cut` bytes.
fn copy_tree(from: &Path, to: &Path, journal: &Path, cut: u64) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &to, journal, cut);
        } else {
            let length = if path == journal { cut } else { u64::MAX };
            io::copy(&mut fs::File::open(&path).unwrap().take(length), &mut fs::File::create(to).unwrap()).unwrap();
        }
    }
}

async fn sorted(store: &dyn Store) -> zketcd::store::Snapshot {
    let mut snapshot = store.snapshot().await.unwrap();
    snapshot.entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    snapshot
}
