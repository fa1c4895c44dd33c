//! The store that fails on command does what it is told.

use std::sync::Arc;

use futures::StreamExt;
use zketcd::store::embedded::Embedded;
use zketcd::store::faults::{Faults, Faulty};
use zketcd::store::{Store, StoreError};

use crate::fixture::{apply, brief, delete, failure, lease_id, next, put, put_leased, revision, then, value};

fn faulty() -> (Arc<Faulty>, Faults) {
    Faulty::new(Embedded::memory())
}

fn is_unavailable<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

#[tokio::test]
async fn answers_and_requests_are_lost() {
    let (store, faults) = faulty();
    faults.lose_requests(1);
    faults.lose_answers(1);
    assert!(is_unavailable(store.transact(then([put("request", "1")])).await));
    assert!(is_unavailable(store.transact(then([put("answer", "1")])).await));
    assert!(store.transact(then([put("neither", "1")])).await.is_ok());
    assert_eq!(value(&*store, "request").await, None);
    assert_eq!(value(&*store, "answer").await.as_deref(), Some("1"));
    assert_eq!(faults.seen().transacts, 5);
}

#[tokio::test]
async fn calls_are_held_before_and_answers_after_the_deed() {
    let inner = Embedded::memory();
    let (store, faults) = Faulty::new(inner.clone());
    for (hold, done) in [(Faults::hold_calls as fn(&Faults), None), (Faults::hold_answers, Some("1"))] {
        hold(&faults);
        let call = tokio::spawn({
            let store = store.clone();
            async move { store.transact(then([put("k", "1")])).await }
        });
        faults.until(|seen| seen.held == 1).await;
        assert_eq!(value(&*inner, "k").await.as_deref(), done);
        faults.release();
        call.await.unwrap().unwrap();
        assert_eq!(faults.seen().held, 0);
        apply(&*inner, [delete("k")]).await;
    }
}

#[tokio::test]
async fn streams_are_held_and_broken() {
    let (store, faults) = faulty();
    let mut stream = store.changes(revision(&*store).await + 1).await.unwrap();
    faults.hold_streams();
    apply(&*store, [put("k", "1")]).await;
    {
        let mut item = stream.next();
        tokio::select! {
            _ = &mut item => panic!("a held stream gave an item"),
            _ = faults.until(|seen| seen.held == 1) => {}
        }
        faults.release();
        assert_eq!(item.await.unwrap().unwrap().len(), 1);
    }
    faults.hold_streams();
    apply(&*store, [put("k", "2")]).await;
    faults.break_streams();
    assert!(matches!(failure(&mut stream).await, StoreError::Unavailable(_)));
    faults.release();
    let mut anew = store.changes(revision(&*store).await + 1).await.unwrap();
    apply(&*store, [put("k", "3")]).await;
    assert_eq!(brief(&next(&mut anew, 1).await[0]), ["+k=3"], "a stream opened afterwards is whole");
    assert_eq!(faults.seen().streams, 2);
}

#[tokio::test]
async fn revisions_are_doubled_and_dropped() {
    let (store, faults) = faulty();
    let mut stream = store.changes(revision(&*store).await + 1).await.unwrap();
    faults.drop_revision();
    faults.duplicate_revision();
    for n in 1..=3 {
        apply(&*store, [put("k", &n.to_string())]).await;
    }
    let seen = next(&mut stream, 3).await;
    assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), [["+k=2"], ["+k=2"], ["+k=3"]]);
}

#[tokio::test]
async fn compaction_expiry_and_absence() {
    let (store, faults) = faulty();
    let now = revision(&*store).await;
    faults.compact(1);
    assert!(matches!(store.changes(now + 1).await, Err(StoreError::Compacted { .. })));
    let mut stream = store.changes(now + 1).await.unwrap();

    let lease = lease_id();
    store.lease_grant(lease, 3600).await.unwrap();
    apply(&*store, [put_leased("k", "1", lease)]).await;
    faults.expire_lease(lease).await.unwrap();
    assert_eq!(brief(&next(&mut stream, 2).await[1]), ["-k"]);
    assert_eq!(store.lease_keep_alive(lease).await, Err(StoreError::LeaseNotFound { id: lease }));

    faults.set_away(true);
    assert!(matches!(failure(&mut stream).await, StoreError::Unavailable(_)));
    assert!(is_unavailable(store.changes(1).await));
    assert!(is_unavailable(store.snapshot().await));
    assert!(is_unavailable(store.transact(then([])).await));
    assert!(is_unavailable(store.lease_grant(lease, 10).await));
    faults.set_away(false);
    assert!(store.snapshot().await.is_ok());
}
