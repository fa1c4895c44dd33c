//! The contract.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::time::interval;
use zketcd::store::embedded::Embedded;
use zketcd::store::{Change, Compare, CompareOp, KeyValue, Op, OpResult, Revision, Store, StoreError, Target, Txn};

use crate::etcd_process::Version;
use crate::fixture::{
    Fixture, Kind, apply, brief, compare, delete, failure, get, in_time, key, lease_id, next, put, put_leased,
    revision, then, value, when,
};

/// Runs each test against each store.
macro_rules! contract {
    ($($test:ident),+ $(,)?) => {
        contract!(memory, Kind::Memory, $($test),+);
        contract!(durable, Kind::Durable, $($test),+);
        contract!(etcd_3_4, Kind::Etcd(Version::V34), $($test),+);
        contract!(etcd_3_6, Kind::Etcd(Version::V36), $($test),+);
    };
    ($module:ident, $kind:expr, $($test:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(Fixture::new($kind).await).await;
                }
            )+
        }
    };
}

contract!(
    revisions_move_with_writes_only,
    counters_follow_a_key,
    compares_hold_as_etcd_says,
    compares_come_before_all_writes,
    groups_succeed_or_fail_alone,
    reads_see_the_writes_before_them,
    a_key_is_written_once,
    branches_are_alternatives,
    limits_are_told_and_kept,
    streams_give_whole_revisions_in_order,
    a_stream_begins_where_it_is_told,
    streams_resume_without_a_gap,
    a_stream_waits_for_a_revision_to_come,
    compaction_ends_what_is_too_old,
    a_snapshot_holds_all_at_one_revision,
    a_lease_takes_its_keys_with_it,
    the_last_put_decides_the_lease,
    leases_that_are_not_there,
    a_lease_expires_and_is_kept_alive,
    many_leases_are_kept_alive_at_once,
    concurrent_increments_are_all_counted,
    random_transactions_do_what_the_embedded_store_does,
    it_says_what_it_is,
);

async fn revisions_move_with_writes_only(fixture: Fixture) {
    let store = &*fixture.store;
    let before = revision(store).await;
    assert_eq!(apply(store, [put("a", "1")]).await.revision, before + 1);
    assert_eq!(apply(store, [put("a", "1")]).await.revision, before + 2, "the same value again is a write");
    assert_eq!(apply(store, [put("b", "1"), put("c", "1"), delete("a")]).await.revision, before + 3);
    assert_eq!(apply(store, [delete("a")]).await.revision, before + 3, "a delete of an absent key is none");
    assert_eq!(apply(store, []).await.revision, before + 3);
    let failed = store.transact(when([Compare::version(key("b"), 7)], [put("b", "2")], [])).await.unwrap();
    assert_eq!((failed.revision, failed.succeeded), (before + 3, false));
    let lease = lease_id();
    store.lease_grant(lease, 60).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(revision(store).await, before + 3, "a lease without keys moves nothing");
}

async fn counters_follow_a_key(fixture: Fixture) {
    let store = &*fixture.store;
    let read = async || {
        let result = apply(store, [get("k")]).await;
        let [OpResult::Get(found)] = &result.results[..] else { panic!("{result:?}") };
        found.as_ref().map(|kv| (kv.create_revision, kv.mod_revision, kv.version, kv.lease))
    };
    assert_eq!(read().await, None);
    let r1 = apply(store, [put("k", "1")]).await.revision;
    assert_eq!(read().await, Some((r1, r1, 1, 0)));
    apply(store, [put("other", "1")]).await;
    let r2 = apply(store, [put("k", "2")]).await.revision;
    assert_eq!(read().await, Some((r1, r2, 2, 0)));
    let deleted = apply(store, [delete("k"), delete("absent")]).await;
    assert_eq!(deleted.results, [OpResult::Delete { deleted: 1 }, OpResult::Delete { deleted: 0 }]);
    assert_eq!(read().await, None);
    let r3 = apply(store, [put("k", "3")]).await.revision;
    assert_eq!(read().await, Some((r3, r3, 1, 0)), "a new incarnation begins anew");
}

async fn compares_hold_as_etcd_says(fixture: Fixture) {
    let store = &*fixture.store;
    let created = apply(store, [put("k", "b")]).await.revision;
    let modified = apply(store, [put("k", "m")]).await.revision;
    let holds =
        async |key: &str, op, target| store.transact(when([compare(key, op, target)], [], [])).await.unwrap().succeeded;
    type Number = fn(i64) -> Target;
    let version: Number = Target::Version;
    for (target, number) in [(version, 2), (Target::CreateRevision, created), (Target::ModRevision, modified)] {
        for (than, equal, greater, less) in
            [(number - 1, false, true, false), (number, true, false, false), (number + 1, false, false, true)]
        {
            assert_eq!(holds("k", CompareOp::Equal, target(than)).await, equal, "{:?}", target(than));
            assert_eq!(holds("k", CompareOp::Greater, target(than)).await, greater, "{:?}", target(than));
            assert_eq!(holds("k", CompareOp::Less, target(than)).await, less, "{:?}", target(than));
        }
        assert!(holds("absent", CompareOp::Equal, target(0)).await, "an absent key has zeros");
        assert!(holds("absent", CompareOp::Less, target(1)).await);
        assert!(!holds("absent", CompareOp::Greater, target(0)).await);
    }
    for (than, equal, greater, less) in
        [("lzz", false, true, false), ("m", true, false, false), ("m\0", false, false, true)]
    {
        let than = || Target::Value(key(than));
        assert_eq!(holds("k", CompareOp::Equal, than()).await, equal);
        assert_eq!(holds("k", CompareOp::Greater, than()).await, greater);
        assert_eq!(holds("k", CompareOp::Less, than()).await, less);
    }
    for op in [CompareOp::Equal, CompareOp::Greater, CompareOp::Less] {
        assert!(!holds("absent", op, Target::Value(Bytes::new())).await, "no value compare of an absent key holds");
    }
    let both = [Compare::version(key("k"), 2), Compare::version(key("absent"), 1)];
    assert!(!store.transact(when(both, [], [])).await.unwrap().succeeded, "all compares have to hold");
}

async fn compares_come_before_all_writes(fixture: Fixture) {
    let store = &*fixture.store;
    let inner = when([Compare::version(key("a"), 0)], [put("b", "a was absent")], [put("b", "a was there")]);
    let result = apply(store, [put("a", "1"), Op::Txn(inner)]).await;
    let inner = OpResult::Txn { succeeded: true, results: vec![OpResult::Put] };
    assert_eq!(result.results, [OpResult::Put, inner]);
    assert_eq!(value(store, "b").await.as_deref(), Some("a was absent"));
}

async fn groups_succeed_or_fail_alone(fixture: Fixture) {
    let store = &*fixture.store;
    let before = apply(store, [put("taken", "1")]).await.revision;
    let create =
        |name: &str| Op::Txn(when([Compare::create_revision(key(name), 0)], [put(name, "2"), get(name)], [get(name)]));
    let nested = Op::Txn(then([create("deep")]));
    let result = apply(store, [create("new"), create("taken"), nested]).await;
    assert_eq!(result.revision, before + 1, "one revision for all that was written");
    let kv = |name: &str, value: &str, revision| {
        let (key, value) = (key(name), key(value));
        OpResult::Get(Some(KeyValue {
            key,
            value,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        }))
    };
    let created = |name| OpResult::Txn { succeeded: true, results: vec![OpResult::Put, kv(name, "2", before + 1)] };
    assert_eq!(
        result.results,
        [
            created("new"),
            OpResult::Txn { succeeded: false, results: vec![kv("taken", "1", before)] },
            OpResult::Txn { succeeded: true, results: vec![created("deep")] },
        ]
    );
}

async fn reads_see_the_writes_before_them(fixture: Fixture) {
    let store = &*fixture.store;
    apply(store, [put("gone", "1")]).await;
    let result = apply(store, [get("k"), put("k", "1"), get("k"), delete("gone"), get("gone")]).await;
    let found = |result: &OpResult| match result {
        OpResult::Get(found) => found.as_ref().map(|kv| (kv.value.clone(), kv.mod_revision)),
        other => panic!("{other:?}"),
    };
    assert_eq!(found(&result.results[0]), None);
    assert_eq!(found(&result.results[2]), Some((key("1"), result.revision)));
    assert_eq!(found(&result.results[4]), None);
}

async fn a_key_is_written_once(fixture: Fixture) {
    let store = &*fixture.store;
    let before = revision(store).await;
    let twice = [
        then([put("k", "1"), put("k", "2")]),
        then([put("k", "1"), delete("k")]),
        then([put("k", "1"), Op::Txn(then([put("k", "2")]))]),
        then([put("k", "1"), Op::Txn(then([delete("k")]))]),
        then([Op::Txn(then([put("k", "1")])), Op::Txn(then([put("k", "2")]))]),
        then([Op::Txn(then([delete("k")])), Op::Txn(then([put("k", "2")]))]),
        // Also in branches that are not taken.
        when([Compare::version(key("k"), 7)], [put("k", "1"), put("k", "2")], []),
    ];
    for txn in twice {
        let refused = store.transact(txn.clone()).await;
        assert!(matches!(refused, Err(StoreError::Rejected(_))), "{txn:?}: {refused:?}");
    }
    assert_eq!(revision(store).await, before, "nothing happened");
}

async fn branches_are_alternatives(fixture: Fixture) {
    let store = &*fixture.store;
    let either = when([Compare::version(key("k"), 0)], [put("k", "new"), put("only", "1")], [put("k", "old")]);
    store.transact(either.clone()).await.unwrap();
    apply(store, [Op::Txn(either)]).await;
    assert_eq!(value(store, "k").await.as_deref(), Some("old"));
    apply(store, [Op::Txn(when([], [put("k", "1")], [delete("k")]))]).await;
    apply(store, [delete("k"), delete("k")]).await;
    assert_eq!(value(store, "k").await, None);
}

async fn limits_are_told_and_kept(fixture: Fixture) {
    let store = &*fixture.store;
    let limits = store.limits();
    let before = revision(store).await;
    let gets = |count: usize| (0..count).map(|n| get(&format!("{n}"))).collect::<Vec<_>>();
    let outer = limits.txn_ops / 2;
    let mut nested = gets(outer - 1);
    nested.push(Op::Txn(then(gets(limits.txn_ops - outer))));
    store.transact(then(gets(limits.txn_ops))).await.expect("as many as the limit says");
    store.transact(then(nested.clone())).await.expect("nested, too");
    nested.pop();
    nested.push(Op::Txn(then(gets(limits.txn_ops - outer + 1))));
    for too_many in [gets(limits.txn_ops + 1), nested] {
        let refused = store.transact(then(too_many)).await;
        assert!(
            matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("too many operations")),
            "{refused:?}"
        );
    }
    // etcd's own words differ with how much too large it is.
    for bytes in [limits.request_bytes + 1, 2 * limits.request_bytes] {
        let large = Op::Put { key: key("large"), value: vec![b'x'; bytes].into(), lease: 0 };
        let refused = store.transact(then([large])).await;
        assert!(matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("too large")), "{refused:?}");
    }
    let refused = store.transact(then([put("", "1")])).await;
    assert!(matches!(refused, Err(StoreError::Rejected(_))) || prefixed(&fixture), "{refused:?}");
    assert!(revision(store).await <= before + 1);
}

/// Under a prefix the empty key is not empty.
fn prefixed(fixture: &Fixture) -> bool {
    !format!("{:?}", fixture.store).starts_with("embedded")
}

async fn streams_give_whole_revisions_in_order(fixture: Fixture) {
    let store = &*fixture.store;
    let from = revision(store).await + 1;
    let mut early = store.changes(from).await.unwrap();
    apply(store, [put("a", "1")]).await;
    apply(store, [put("b", "1"), delete("a"), Op::Txn(then([put("c", "1"), put("d", "1")]))]).await;
    apply(store, [delete("nothing")]).await;
    for n in 0..300 {
        apply(store, [put("a", &n.to_string()), put("b", &n.to_string())]).await;
    }
    let mut late = store.changes(from).await.unwrap();
    let seen = next(&mut early, 302).await;
    assert_eq!(brief(&seen[0]), ["+a=1"]);
    assert_eq!(brief(&seen[1]), ["-a", "+b=1", "+c=1", "+d=1"]);
    for (n, revision) in seen[2..].iter().enumerate() {
        assert_eq!(brief(revision), [format!("+a={n}"), format!("+b={n}")]);
    }
    assert!(seen.iter().map(|r| r.revision).eq(from..from + 302));
    let of_a = |change: &Change| match change {
        Change::Put(kv) if kv.key == "a" => Some((kv.create_revision, kv.mod_revision, kv.version)),
        _ => None,
    };
    assert_eq!(seen[301].changes.iter().find_map(of_a), Some((from + 2, from + 301, 300)));
    let again = next(&mut late, 302).await;
    let sorted = |revisions: &[Revision]| revisions.iter().map(brief).collect::<Vec<_>>();
    assert_eq!(sorted(&again), sorted(&seen), "every stream tells the same");
}

async fn a_stream_begins_where_it_is_told(fixture: Fixture) {
    let store = &*fixture.store;
    apply(store, [put("k", "1")]).await;
    let second = apply(store, [put("k", "2")]).await.revision;
    apply(store, [put("k", "3")]).await;
    let seen = next(&mut store.changes(second).await.unwrap(), 2).await;
    assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), [["+k=2"], ["+k=3"]]);
}

async fn streams_resume_without_a_gap(fixture: Fixture) {
    let store = &*fixture.store;
    let from = revision(store).await + 1;
    let writing = async {
        for n in 0..200 {
            apply(store, [put("k", &n.to_string())]).await;
        }
    };
    let reading = async {
        let mut expected = from;
        while expected < from + 200 {
            let mut stream = store.changes(expected).await.unwrap();
            // One item, then the stream is dropped and taken up again.
            let run = in_time("a revision", stream.next()).await.unwrap().unwrap();
            for revision in run {
                assert_eq!(revision.revision, expected);
                assert_eq!(brief(&revision), [format!("+k={}", expected - from)]);
                expected += 1;
            }
        }
    };
    tokio::join!(writing, reading);
}

async fn a_stream_waits_for_a_revision_to_come(fixture: Fixture) {
    let store = &*fixture.store;
    let now = revision(store).await;
    let mut stream = store.changes(now + 3).await.unwrap();
    for n in 1..=4 {
        apply(store, [put("k", &n.to_string())]).await;
    }
    let seen = next(&mut stream, 2).await;
    assert_eq!(seen.iter().map(|r| r.revision).collect::<Vec<_>>(), [now + 3, now + 4]);
}

async fn compaction_ends_what_is_too_old(fixture: Fixture) {
    let store = &*fixture.store;
    let first = apply(store, [put("k", "1")]).await.revision;
    let mut running = store.changes(first).await.unwrap();
    next(&mut running, 1).await;
    for n in 2..=5 {
        apply(store, [put("k", &n.to_string())]).await;
    }
    next(&mut running, 4).await;
    fixture.compact(first + 4).await;
    let too_old = match store.changes(first + 1).await {
        Ok(mut stream) => failure(&mut stream).await,
        Err(error) => error,
    };
    assert_eq!(too_old, StoreError::Compacted { revision: first + 4 });
    apply(store, [put("k", "6")]).await;
    assert_eq!(brief(&next(&mut running, 1).await[0]), ["+k=6"], "a stream that has kept up goes on");
    let mut resumed = store.changes(first + 5).await.unwrap();
    assert_eq!(brief(&next(&mut resumed, 1).await[0]), ["+k=6"]);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.revision, snapshot.entries.len()), (first + 5, 1));
}

async fn a_snapshot_holds_all_at_one_revision(fixture: Fixture) {
    let store = &*fixture.store;
    let empty = store.snapshot().await.unwrap();
    assert_eq!(empty.entries, []);
    let mut expected = BTreeMap::new();
    for hundred in 0..50 {
        let names: Vec<String> =
            (0..100).map(|n| format!("n/jobs/{:03}/{}", (hundred * 37) % 91, hundred * n)).collect();
        let names: std::collections::BTreeSet<String> = names.into_iter().collect();
        let ops: Vec<Op> = names.iter().map(|name| put(name, "value")).collect();
        let written = apply(store, ops).await.revision;
        expected.extend(names.into_iter().map(|name| (key(name), written)));
    }
    let writing = async {
        for n in 0..50 {
            apply(store, [put("pair/a", &n.to_string()), put("pair/b", &n.to_string())]).await;
        }
    };
    let reading = async {
        for _ in 0..5 {
            let before = revision(store).await;
            let snapshot = store.snapshot().await.unwrap();
            assert!(snapshot.revision >= before, "older than what was answered before");
            let of = |name: &str| snapshot.entries.iter().find(|kv| kv.key == name).map(|kv| kv.value.clone());
            assert_eq!(of("pair/a"), of("pair/b"), "of two revisions");
        }
    };
    tokio::join!(writing, reading);
    let mut snapshot = store.snapshot().await.unwrap();
    snapshot.entries.retain(|kv| !kv.key.starts_with(b"pair/"));
    let found: BTreeMap<Bytes, i64> = snapshot.entries.iter().map(|kv| (kv.key.clone(), kv.mod_revision)).collect();
    assert_eq!(snapshot.entries.len(), found.len(), "a key came twice");
    assert_eq!(found, expected);
}

async fn a_lease_takes_its_keys_with_it(fixture: Fixture) {
    let store = &*fixture.store;
    let (lease, other) = (lease_id(), lease_id());
    store.lease_grant(lease, 60).await.unwrap();
    store.lease_grant(other, 60).await.unwrap();
    let put = apply(store, [put_leased("a", "1", lease), put_leased("b", "1", lease), put_leased("c", "1", other)]);
    let written = put.await.revision;
    assert_eq!(store.snapshot().await.unwrap().entries.iter().filter(|kv| kv.lease == lease).count(), 2);
    let mut stream = store.changes(written + 1).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    let seen = next(&mut stream, 1).await;
    assert_eq!((seen[0].revision, brief(&seen[0])), (written + 1, vec!["-a".to_owned(), "-b".to_owned()]));
    assert_eq!(value(store, "a").await, None);
    assert_eq!(value(store, "c").await.as_deref(), Some("1"));
    assert_eq!(store.lease_keep_alive(lease).await, Err(StoreError::LeaseNotFound { id: lease }));
    store.lease_grant(lease, 60).await.expect("the id is free again");
}

async fn the_last_put_decides_the_lease(fixture: Fixture) {
    let store = &*fixture.store;
    let (first, second) = (lease_id(), lease_id());
    store.lease_grant(first, 60).await.unwrap();
    store.lease_grant(second, 60).await.unwrap();
    apply(store, [put_leased("moved", "1", first), put_leased("freed", "1", first), put_leased("anew", "1", first)])
        .await;
    apply(store, [put_leased("moved", "2", second), put("freed", "2"), delete("anew")]).await;
    apply(store, [put("anew", "2")]).await;
    store.lease_revoke(first).await.unwrap();
    for name in ["moved", "freed", "anew"] {
        assert_eq!(value(store, name).await.as_deref(), Some("2"), "{name}");
    }
    store.lease_revoke(second).await.unwrap();
    assert_eq!(value(store, "moved").await, None);
    assert_eq!(value(store, "freed").await.as_deref(), Some("2"));
}

async fn leases_that_are_not_there(fixture: Fixture) {
    let store = &*fixture.store;
    let (lease, absent) = (lease_id(), lease_id());
    store.lease_grant(lease, 60).await.unwrap();
    assert_eq!(store.lease_grant(lease, 60).await, Err(StoreError::LeaseExists { id: lease }));
    assert_eq!(store.lease_keep_alive(absent).await, Err(StoreError::LeaseNotFound { id: absent }));
    assert_eq!(store.lease_revoke(absent).await, Ok(()));
    let refused = store.transact(then([put("k", "1"), put_leased("l", "1", absent)])).await;
    assert_eq!(refused, Err(StoreError::LeaseNotFound { id: absent }));
    assert_eq!(value(store, "k").await, None, "nothing happened");
    let not_taken = when([Compare::version(key("k"), 7)], [put_leased("l", "1", absent)], []);
    assert!(!store.transact(not_taken).await.unwrap().succeeded, "a branch that is not taken needs no lease");
    assert!(matches!(store.lease_grant(0, 60).await, Err(StoreError::Rejected(_))));
    assert!(matches!(store.lease_grant(absent, i64::MAX).await, Err(StoreError::Rejected(_))));
}

async fn a_lease_expires_and_is_kept_alive(fixture: Fixture) {
    let store = &*fixture.store;
    let (left, kept) = (lease_id(), lease_id());
    // Both alike, and for longer than a busy machine holds up what keeps one of them.
    store.lease_grant(kept, 5).await.unwrap();
    store.lease_grant(left, 5).await.unwrap();
    let written = apply(store, [put_leased("left", "1", left), put_leased("kept", "1", kept)]).await.revision;
    let mut stream = store.changes(written + 1).await.unwrap();
    let keeping = async {
        let mut ticks = interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            store.lease_keep_alive(kept).await.unwrap();
        }
    };
    let seen = tokio::select! {
        seen = next(&mut stream, 1) => seen,
        () = keeping => unreachable!(),
    };
    assert_eq!(brief(&seen[0]), ["-left"]);
    assert_eq!(store.lease_keep_alive(left).await, Err(StoreError::LeaseNotFound { id: left }));
    assert_eq!(store.lease_keep_alive(kept).await, Ok(()));
    assert_eq!(value(store, "kept").await.as_deref(), Some("1"));
}

async fn many_leases_are_kept_alive_at_once(fixture: Fixture) {
    let store = &*fixture.store;
    let granted: Vec<i64> = (0..300).map(|_| lease_id()).collect();
    let absent: Vec<i64> = (0..300).map(|_| lease_id()).collect();
    for id in join_all(granted.iter().map(|id| store.lease_grant(*id, 60))).await {
        id.unwrap();
    }
    // Twice each, mixed: an answer that goes to the wrong caller shows.
    let calls = granted.iter().zip(&absent).flat_map(|(granted, absent)| [*granted, *absent, *granted, *absent]);
    for (id, answer) in join_all(calls.map(async |id| (id, store.lease_keep_alive(id).await))).await {
        let expected = if granted.contains(&id) { Ok(()) } else { Err(StoreError::LeaseNotFound { id }) };
        assert_eq!(answer, expected);
    }
    join_all(granted.iter().map(|id| store.lease_revoke(*id))).await;
}

async fn concurrent_increments_are_all_counted(fixture: Fixture) {
    let store = &*fixture.store;
    apply(store, [put("counter", "0")]).await;
    let increment = async |_| {
        loop {
            let read = apply(store, [get("counter")]).await;
            let [OpResult::Get(Some(kv))] = &read.results[..] else { panic!("{read:?}") };
            let count: u32 = String::from_utf8(kv.value.to_vec()).unwrap().parse().unwrap();
            let unchanged = Compare::mod_revision(key("counter"), kv.mod_revision);
            let txn = when([unchanged], [put("counter", &(count + 1).to_string())], []);
            let result = store.transact(txn).await.unwrap();
            if result.succeeded {
                return result.revision;
            }
        }
    };
    let mut revisions = join_all((0..30).map(increment)).await;
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 30, "two writes share a revision");
    assert_eq!(value(store, "counter").await.as_deref(), Some("30"));
}

/// The embedded store is the model: what it does with a transaction every store does, revisions counted from the start.
async fn random_transactions_do_what_the_embedded_store_does(fixture: Fixture) {
    let store = &*fixture.store;
    let model = &*Embedded::memory();
    let offset = revision(store).await - revision(model).await;
    let (mut changes, mut model_changes) = (
        store.changes(revision(store).await + 1).await.unwrap(),
        model.changes(revision(model).await + 1).await.unwrap(),
    );
    let mut runner = TestRunner::deterministic();
    let txns = transactions();
    let mut written = 0;
    for _ in 0..400 {
        let mut txn = txns.new_tree(&mut runner).unwrap().current();
        let before = revision(model).await;
        aim(&mut txn, before);
        let expected = match model.transact(txn.clone()).await {
            Ok(expected) => expected,
            Err(StoreError::Rejected(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        shift(&mut txn, offset);
        let result = store.transact(txn.clone()).await.unwrap();
        assert_eq!(result.revision, expected.revision + offset, "{txn:?}");
        assert_eq!(result.succeeded, expected.succeeded, "{txn:?}");
        assert_eq!(result.results, shifted_results(expected.results, offset), "{txn:?}");
        written += usize::from(expected.revision > before);
    }
    assert!(written > 100, "only {written} transactions wrote anything");
    let seen = next(&mut changes, written).await;
    for (seen, expected) in seen.into_iter().zip(next(&mut model_changes, written).await) {
        assert_eq!(seen.revision, expected.revision + offset);
        assert_eq!(sorted(seen.changes, 0), sorted(expected.changes, offset));
    }
    let sorted_entries = |mut entries: Vec<KeyValue>, offset: i64| {
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        entries.into_iter().map(|kv| shifted(kv, offset)).collect::<Vec<_>>()
    };
    let (snapshot, expected) = (store.snapshot().await.unwrap(), model.snapshot().await.unwrap());
    assert_eq!(snapshot.revision, expected.revision + offset);
    assert_eq!(sorted_entries(snapshot.entries, 0), sorted_entries(expected.entries, offset));
}

fn keys() -> impl Strategy<Value = Bytes> {
    (0..8u8).prop_map(|n| key(format!("k{n}")))
}

fn compares() -> impl Strategy<Value = Compare> {
    let op = prop_oneof![Just(CompareOp::Equal), Just(CompareOp::Greater), Just(CompareOp::Less)];
    let target = prop_oneof![
        (0..4i64).prop_map(Target::Version),
        // Aimed at the newest revisions once they are known.
        (0..20i64).prop_map(Target::CreateRevision),
        (0..20i64).prop_map(Target::ModRevision),
        any::<u8>().prop_map(|n| Target::Value(key(n.to_string()))),
    ];
    (keys(), op, target).prop_map(|(key, op, target)| Compare { key, op, target })
}

fn transactions() -> impl Strategy<Value = Txn> {
    let op = prop_oneof![
        3 => (keys(), any::<u8>()).prop_map(|(key, n)| Op::Put { key, value: self::key(n.to_string()), lease: 0 }),
        2 => keys().prop_map(|key| Op::Delete { key }),
        2 => keys().prop_map(|key| Op::Get { key }),
    ];
    let branch = |op| proptest::collection::vec(op, 0..4);
    let inner = (proptest::collection::vec(compares(), 0..2), branch(op.clone().boxed()), branch(op.clone().boxed()))
        .prop_map(|(compare, then, otherwise)| Op::Txn(Txn { compare, then, otherwise }))
        .boxed();
    let mixed = || prop_oneof![2 => op.clone(), 1 => inner.clone()].boxed();
    (proptest::collection::vec(compares(), 0..2), branch(mixed()), branch(mixed()))
        .prop_map(|(compare, then, otherwise)| Txn { compare, then, otherwise })
}

/// Makes the compares' revisions recent ones.
fn aim(txn: &mut Txn, now: i64) {
    each_revision(txn, &|revision| {
        if *revision > 1 {
            *revision = (now + 2 - *revision).max(0)
        }
    });
}

fn shift(txn: &mut Txn, offset: i64) {
    each_revision(txn, &|revision| {
        if *revision > 0 {
            *revision += offset
        }
    });
}

fn each_revision(txn: &mut Txn, change: &dyn Fn(&mut i64)) {
    for compare in &mut txn.compare {
        if let Target::CreateRevision(revision) | Target::ModRevision(revision) = &mut compare.target {
            change(revision);
        }
    }
    for op in txn.then.iter_mut().chain(&mut txn.otherwise) {
        if let Op::Txn(inner) = op {
            each_revision(inner, change);
        }
    }
}

fn shifted(mut kv: KeyValue, offset: i64) -> KeyValue {
    kv.create_revision += offset;
    kv.mod_revision += offset;
    kv
}

fn shifted_results(results: Vec<OpResult>, offset: i64) -> Vec<OpResult> {
    let shift = |result| match result {
        OpResult::Get(Some(kv)) => OpResult::Get(Some(shifted(kv, offset))),
        OpResult::Txn { succeeded, results } => OpResult::Txn { succeeded, results: shifted_results(results, offset) },
        other => other,
    };
    results.into_iter().map(shift).collect()
}

fn sorted(mut changes: Vec<Change>, offset: i64) -> Vec<Change> {
    changes.sort_unstable_by(|a, b| a.key().cmp(b.key()));
    let shift = |change| match change {
        Change::Put(kv) => Change::Put(shifted(kv, offset)),
        delete => delete,
    };
    changes.into_iter().map(shift).collect()
}

async fn it_says_what_it_is(fixture: Fixture) {
    let identity = fixture.store.identity().await.unwrap();
    assert_ne!(identity.cluster_id, 0);
    assert!(identity.description.starts_with("embedded (") || identity.description.starts_with("etcd 3."));
    assert_eq!(fixture.store.identity().await.unwrap(), identity);
}
