//! The tree as clients see it: kinds of znodes, their Stats, sequential names, multi, reserved znodes.

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::client::{Client, DEADLINE, Incoming, check_op, create_op, create_request, delete_op, open_acl, set_op};
use support::{Site, code, create, delete, each_site, get, refused, set};
use zketcd::jute::{
    Acl, CreateMode, CreateRequest, ErrorCode, Id, MultiOp, MultiReadOp, MultiResult, Perms, Reply, Request, Stat, op,
};
use zketcd::store::{Op, Txn};
use zketcd::tree::key;
use zketcd::tree::record::{AclRecord, Born, ChildRecord, NodeRecord, Stamp};

each_site! {
    all: [
        a_new_znode_has_a_fresh_stat,
        set_data_moves_what_it_should,
        a_parent_counts_its_children,
        a_long_list_of_children_is_that_of_the_moment,
        an_ephemerals_parent_counts_it_too,
        set_acl_moves_aversion_alone,
        sequential_names_count_all_children_ever_created,
        the_counter_of_names_survives_deletes_and_failures,
        pipelined_sequential_creates_get_consecutive_names,
        a_sequential_name_may_be_the_number_alone,
        ephemerals_have_an_owner_and_no_children,
        a_container_goes_after_its_last_child,
        a_ttl_znode_goes_when_its_time_has_passed,
        a_ttl_znode_with_children_stays,
        delete_container_is_for_what_is_empty_and_not_ephemeral,
        versions_are_checked,
        data_may_be_null_empty_or_large,
        a_multi_is_all_or_nothing,
        a_multi_lists_its_results_and_stats,
        a_failed_multi_lists_an_error_for_each_operation,
        a_multi_may_create_and_then_set,
        a_multi_may_delete_and_create_again,
        a_multi_may_create_and_then_delete,
        a_multi_may_build_and_tear_down_a_subtree,
        a_multi_may_change_a_path_many_times,
        a_multi_may_replace_a_znode_by_another_kind,
        a_multi_names_sequential_znodes_in_order,
        a_multi_checks_what_it_has_itself_written,
        the_writes_of_a_multi_share_one_zxid,
        a_multi_read_answers_each_read_for_itself,
        all_descendants_are_counted,
        ephemerals_are_listed_by_prefix,
        what_exists_from_the_start_cannot_be_deleted,
        the_config_is_empty_and_read_only,
        the_reserved_znodes_can_be_used,
        stats_in_one_burst_are_those_of_their_own_moment,
        stats_in_a_multi_are_those_of_their_own_moment,
        a_znode_created_again_is_a_new_one,
        null_and_empty_data_are_told_apart_everywhere,
        a_multi_of_nothing_or_of_checks_takes_a_zxid,
        ttls_have_limits,
        a_write_begins_a_ttl_anew,
        quotas_count_what_is_below_their_znode,
    ],
    ours: [
        a_fresh_tree_has_zookeepers_znodes,
        the_counter_of_names_overflows_as_javas_does,
        versions_overflow_as_javas_do,
        a_container_goes_however_many_children_it_had,
        a_negative_ttl_for_no_ttl_znode_is_refused,
        zxids_in_stats_follow_the_order_of_writes_on_two_servers,
        two_servers_show_the_same_tree,
        two_servers_writing_one_parent_lose_nothing,
        a_server_that_starts_later_shows_the_same_tree,
    ],
}

const NONE: [&str; 0] = [];

async fn stat(client: &mut Client, path: &str) -> Stat {
    client.exists(path, false).await.unwrap().unwrap_or_else(|| panic!("{path} is not there"))
}

fn mode_request(op: i32, path: &str, mode: CreateMode) -> CreateRequest {
    create_request(op, path, b"data", mode)
}

async fn a_new_znode_has_a_fresh_stat(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let me = client.session_id();
    let cases = [
        (op::CREATE2, CreateMode::Persistent, 0),
        (op::CREATE2, CreateMode::PersistentSequential, 0),
        (op::CREATE2, CreateMode::Ephemeral, me),
        (op::CREATE2, CreateMode::EphemeralSequential, me),
        (op::CREATE_CONTAINER, CreateMode::Container, 0),
        (op::CREATE_TTL, CreateMode::PersistentWithTtl, 0),
        (op::CREATE_TTL, CreateMode::PersistentSequentialWithTtl, 0),
    ];
    let mut last = 0;
    for (n, (op, mode, owner)) in cases.into_iter().enumerate() {
        let ttl = if op == op::CREATE_TTL { 3_600_000 } else { 0 };
        let request = CreateRequest { ttl, ..mode_request(op, &format!("{room}/{n}-"), mode) };
        let (path, new) = client.create_with(request).await.unwrap();
        assert!(new.czxid > last, "{mode:?}: {new:?}");
        assert!(new.ctime > 1_600_000_000_000, "{new:?}");
        let expected = Stat {
            czxid: new.czxid,
            mzxid: new.czxid,
            pzxid: new.czxid,
            ctime: new.ctime,
            mtime: new.ctime,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: owner,
            data_length: 4,
            num_children: 0,
        };
        assert_eq!(new, expected, "{mode:?}");
        assert_eq!(stat(&mut client, &path).await, expected, "{mode:?}");
        last = new.czxid;
    }
    client.close().await.unwrap();
}

async fn set_data_moves_what_it_should(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let before = stat(&mut client, &room).await;
    let (header, reply) = client.call(set(&room, b"seven..", 0)).await.unwrap();
    let Reply::Stat(after) = reply else { panic!("{reply:?}") };
    assert!(after.mzxid > before.mzxid && after.mtime >= before.mtime);
    assert_eq!(header.zxid, after.mzxid);
    let expected = Stat { mzxid: after.mzxid, mtime: after.mtime, version: 1, data_length: 7, ..before };
    assert_eq!(after, expected);
    assert_eq!(client.get(&room, false).await, Ok((b"seven..".to_vec(), expected)));
    client.close().await.unwrap();
}

/// Lists are kept as they were sent: each change of the children must be seen in the next, and another znode of the same
/// path has its own.
async fn a_long_list_of_children_is_that_of_the_moment(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let parent = format!("{room}/p");
    for round in ["a", "b"] {
        client.create(&parent, b"", CreateMode::Persistent).await.unwrap();
        let mut names: Vec<String> = (10..60).map(|n| format!("{round}{n}")).collect();
        for name in &names {
            client.create(&format!("{parent}/{name}"), b"", CreateMode::Persistent).await.unwrap();
        }
        for next in 60..63 {
            assert_eq!(client.children(&parent, false).await.unwrap(), names);
            let (listed, stat) = client.children2(&parent, false).await.unwrap();
            assert_eq!((&listed, stat.num_children), (&names, names.len() as i32));
            client.delete(&format!("{parent}/{}", names.remove(7)), -1).await.unwrap();
            names.push(format!("{round}{next}"));
            client.create(&format!("{parent}/{round}{next}"), b"", CreateMode::Persistent).await.unwrap();
        }
        assert_eq!(client.children(&parent, false).await.unwrap(), names);
        for name in names {
            client.delete(&format!("{parent}/{name}"), -1).await.unwrap();
        }
        assert_eq!(client.children(&parent, false).await.unwrap(), Vec::<String>::new());
        client.delete(&parent, -1).await.unwrap();
    }
}

async fn a_parent_counts_its_children(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let before = stat(&mut client, &room).await;
    let (_, a) = client.create2(&format!("{room}/a"), b"", CreateMode::Persistent).await.unwrap();
    let expected = Stat { cversion: 1, num_children: 1, pzxid: a.czxid, ..before };
    assert_eq!(stat(&mut client, &room).await, expected);
    let (_, b) = client.create2(&format!("{room}/b"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(stat(&mut client, &room).await, Stat { cversion: 2, num_children: 2, pzxid: b.czxid, ..before });
    let (header, _) = client.call(delete(&format!("{room}/a"), -1)).await.unwrap();
    let expected = Stat { cversion: 3, num_children: 1, pzxid: header.zxid, ..before };
    assert_eq!(stat(&mut client, &room).await, expected);
    // A child's own change is none of its parent's, nor is a grandchild.
    client.set(&format!("{room}/b"), b"x", -1).await.unwrap();
    client.create(&format!("{room}/b/c"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(stat(&mut client, &room).await, expected);
    client.close().await.unwrap();
}

async fn an_ephemerals_parent_counts_it_too(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut other = server.client().await;
    let before = stat(&mut client, &room).await;
    other.create(&format!("{room}/e"), b"", CreateMode::Ephemeral).await.unwrap();
    other.create(&format!("{room}/f"), b"", CreateMode::Ephemeral).await.unwrap();
    client.sync("/").await.unwrap();
    assert_eq!(stat(&mut client, &room).await.cversion, before.cversion + 2);
    other.close().await.unwrap();
    client.sync("/").await.unwrap();
    let after = stat(&mut client, &room).await;
    assert_eq!((after.cversion, after.num_children), (before.cversion + 4, 0));
    assert!(after.pzxid > before.pzxid);
    client.close().await.unwrap();
}

async fn set_acl_moves_aversion_alone(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let before = stat(&mut client, &room).await;
    let (header, reply) =
        client.call(Request::SetAcl { path: room.clone(), acl: Some(open_acl()), version: 0 }).await.unwrap();
    let after = Stat { aversion: 1, ..before };
    assert_eq!((header.err, reply), (0, Reply::Stat(after)));
    assert_eq!(stat(&mut client, &room).await, after);
    assert_eq!(client.set_acl(&room, open_acl(), 0).await, refused(ErrorCode::BadVersion));
    assert_eq!(client.set_acl(&room, open_acl(), -1).await.unwrap().aversion, 2);
    assert_eq!(client.set_acl(&room, open_acl(), 2).await.unwrap().aversion, 3);
    client.close().await.unwrap();
}

async fn sequential_names_count_all_children_ever_created(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let modes = [
        (CreateMode::PersistentSequential, "p-0000000000"),
        (CreateMode::EphemeralSequential, "p-0000000001"),
        (CreateMode::Persistent, "p-"),
        (CreateMode::PersistentSequential, "p-0000000003"),
    ];
    for (mode, name) in modes {
        assert_eq!(client.create(&format!("{room}/p-"), b"", mode).await.unwrap(), format!("{room}/{name}"));
    }
    let ttl = CreateMode::PersistentSequentialWithTtl;
    let (path, _) = client.create_ttl(&format!("{room}/t"), b"", ttl, 3_600_000).await.unwrap();
    assert_eq!(path, format!("{room}/t0000000004"));
    // Each parent has its own.
    let path = client.create(&format!("{room}/p-/x"), b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(path, format!("{room}/p-/x0000000000"));
    client.close().await.unwrap();
}

async fn the_counter_of_names_survives_deletes_and_failures(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let next = format!("{room}/n");
    let first = client.create(&next, b"", CreateMode::PersistentSequential).await.unwrap();
    client.delete(&first, -1).await.unwrap();
    let second = client.create(&next, b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(second, format!("{room}/n0000000001"));
    // A create that fails counts nothing: neither alone nor in a multi.
    assert_eq!(client.create(&second, b"", CreateMode::Persistent).await, refused(ErrorCode::NodeExists));
    let failing = vec![create_op(&next, b"", CreateMode::PersistentSequential), check_op(&room, 99)];
    client.multi(failing).await.unwrap();
    let third = client.create(&next, b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(third, format!("{room}/n0000000002"));
    // The name may be taken already.
    client.create(&format!("{room}/n0000000004"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(client.create(&next, b"", CreateMode::PersistentSequential).await, refused(ErrorCode::NodeExists));
    client.close().await.unwrap();
}

async fn pipelined_sequential_creates_get_consecutive_names(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let request = create(&format!("{room}/s"), b"", CreateMode::EphemeralSequential);
    let xids = client.send_all((0..200).map(|_| request.clone())).await.unwrap();
    for (n, xid) in xids.into_iter().enumerate() {
        let path = format!("{room}/s{n:010}");
        assert_eq!(client.reply(xid).await.unwrap().1, Reply::Path(path.into()));
    }
    client.close().await.unwrap();
}

async fn a_sequential_name_may_be_the_number_alone(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = client.create(&format!("{room}/"), b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(path, format!("{room}/0000000000"));
    assert_eq!(client.create(&format!("{room}/"), b"", CreateMode::Persistent).await, refused(ErrorCode::BadArguments));
    client.close().await.unwrap();
}

async fn ephemerals_have_an_owner_and_no_children(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut other = server.client().await;
    let path = format!("{room}/e");
    let (_, created) = client.create2(&path, b"x", CreateMode::Ephemeral).await.unwrap();
    assert_eq!(created.ephemeral_owner, client.session_id());
    let no_children = refused(ErrorCode::NoChildrenForEphemerals);
    for mode in [CreateMode::Persistent, CreateMode::Ephemeral, CreateMode::PersistentSequential] {
        assert_eq!(client.create(&format!("{path}/c"), b"", mode).await, no_children, "{mode:?}");
    }
    // Another session may change it and delete it.
    other.sync("/").await.unwrap();
    assert_eq!(other.set(&path, b"y", 0).await.unwrap().ephemeral_owner, client.session_id());
    other.delete(&path, 1).await.unwrap();
    client.sync("/").await.unwrap();
    assert_eq!(client.exists(&path, false).await, Ok(None));
    assert_eq!(client.ephemerals("/").await.unwrap(), NONE);
    client.close().await.unwrap();
}

const SWEEPING: &[&str] = &["--container-check-interval=50ms"];

async fn a_container_goes_after_its_last_child(site: Site) {
    let server = site.server_with(SWEEPING).await;
    let (mut client, room) = server.room().await;
    let (container, fresh) = (format!("{room}/container"), format!("{room}/fresh"));
    // Both ways to make one, and one that never had a child.
    client.create_with(mode_request(op::CREATE_CONTAINER, &container, CreateMode::Container)).await.unwrap();
    client.create(&fresh, b"", CreateMode::Container).await.unwrap();
    client.create(&format!("{container}/a"), b"", CreateMode::Persistent).await.unwrap();
    client.create(&format!("{container}/b"), b"", CreateMode::Ephemeral).await.unwrap();
    client.exists(&container, true).await.unwrap();
    client.delete(&format!("{container}/a"), -1).await.unwrap();
    // A plain delete of the container's sibling shows that the sweeper had its turns.
    let ttl = format!("{room}/ttl");
    client.create_ttl(&ttl, b"", CreateMode::PersistentWithTtl, 1).await.unwrap();
    if client.exists(&ttl, true).await.unwrap().is_some() {
        assert_eq!(client.next_event().await.unwrap().1, support::event(support::DELETED, &ttl));
    }
    let before = stat(&mut client, &room).await;
    client.delete(&format!("{container}/b"), -1).await.unwrap();
    assert_eq!(client.next_event().await.unwrap().1, support::event(support::DELETED, &container));
    let after = stat(&mut client, &room).await;
    assert_eq!((after.num_children, after.cversion), (before.num_children - 1, before.cversion + 1));
    assert!(client.exists(&fresh, false).await.unwrap().is_some());
    client.close().await.unwrap();
}

async fn a_ttl_znode_goes_when_its_time_has_passed(site: Site) {
    let server = site.server_with(SWEEPING).await;
    let (mut client, room) = server.room().await;
    let (short, long) = (format!("{room}/short"), format!("{room}/long"));
    client.create_ttl(&long, b"", CreateMode::PersistentWithTtl, 3_600_000).await.unwrap();
    let (path, _) = client.create_ttl(&short, b"", CreateMode::PersistentSequentialWithTtl, 100).await.unwrap();
    if client.exists(&path, true).await.unwrap().is_some() {
        let (zxid, event) = client.next_event().await.unwrap();
        assert_eq!(event, support::event(support::DELETED, &path));
        assert_eq!(stat(&mut client, &room).await.pzxid, zxid);
    }
    assert!(client.exists(&long, false).await.unwrap().is_some());
    for (mode, ttl) in [
        (CreateMode::PersistentWithTtl, 0),
        (CreateMode::PersistentWithTtl, -1),
        (CreateMode::PersistentWithTtl, 0x100_0000_0000),
        (CreateMode::PersistentSequentialWithTtl, 0),
    ] {
        assert_eq!(client.create_ttl(&short, b"", mode, ttl).await, refused(ErrorCode::BadArguments), "{ttl}");
    }
    client.close().await.unwrap();
}

async fn a_ttl_znode_with_children_stays(site: Site) {
    let server = site.server_with(SWEEPING).await;
    let (mut client, room) = server.room().await;
    let (parent, witness) = (format!("{room}/parent"), format!("{room}/witness"));
    let create = client.create_ttl(&parent, b"", CreateMode::PersistentWithTtl, 300);
    create.await.unwrap();
    client.create(&format!("{parent}/child"), b"", CreateMode::Persistent).await.unwrap();
    for n in 0..3 {
        // Each comes and goes in sweeps of its own.
        let path = format!("{witness}{n}");
        client.create_ttl(&path, b"", CreateMode::PersistentWithTtl, 150).await.unwrap();
        if client.exists(&path, true).await.unwrap().is_some() {
            client.next_event().await.unwrap();
        }
    }
    assert!(client.exists(&parent, true).await.unwrap().is_some());
    client.delete(&format!("{parent}/child"), -1).await.unwrap();
    assert_eq!(client.next_event().await.unwrap().1, support::event(support::DELETED, &parent));
    client.close().await.unwrap();
}

async fn delete_container_is_for_what_is_empty_and_not_ephemeral(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = |name: &str| format!("{room}/{name}");
    client.create(&path("c"), b"", CreateMode::Container).await.unwrap();
    client.create(&path("c/x"), b"", CreateMode::Persistent).await.unwrap();
    client.create(&path("p"), b"", CreateMode::Persistent).await.unwrap();
    client.create(&path("e"), b"", CreateMode::Ephemeral).await.unwrap();
    let take = |path: &str| Request::DeleteContainer { path: path.into() };
    let cases = [
        (path("c"), ErrorCode::NotEmpty),
        (path("p"), ErrorCode::Ok),
        (path("e"), ErrorCode::BadVersion),
        (path("none"), ErrorCode::NoNode),
        (path("none/x"), ErrorCode::NoNode),
        ("/".into(), ErrorCode::BadArguments),
        ("/zookeeper/quota".into(), ErrorCode::BadArguments),
        ("relative".into(), ErrorCode::BadArguments),
    ];
    for (path, expected) in cases {
        assert_eq!(code(&mut client, take(&path)).await, expected.code(), "{path}");
    }
    client.delete(&path("c/x"), -1).await.unwrap();
    assert_eq!(code(&mut client, take(&path("c"))).await, 0);
    assert_eq!(client.children(&room, false).await.unwrap(), ["e"]);
    client.close().await.unwrap();
}

async fn versions_are_checked(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/v");
    client.create(&path, b"", CreateMode::Persistent).await.unwrap();
    for (version, expected) in
        [(1, ErrorCode::BadVersion), (-2, ErrorCode::BadVersion), (0, ErrorCode::Ok), (-1, ErrorCode::Ok)]
    {
        assert_eq!(code(&mut client, set(&path, b"", version)).await, expected.code(), "{version}");
    }
    assert_eq!(stat(&mut client, &path).await.version, 2);
    for (version, expected) in [(0, ErrorCode::BadVersion), (-2, ErrorCode::BadVersion), (2, ErrorCode::Ok)] {
        assert_eq!(code(&mut client, delete(&path, version)).await, expected.code(), "{version}");
    }
    client.close().await.unwrap();
}

async fn data_may_be_null_empty_or_large(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let put = |data| Request::SetData { path: room.clone(), data, version: -1 };
    for (data, length) in [(None, 0), (Some(vec![]), 0), (Some(vec![7; 1_000_000]), 1_000_000)] {
        let Ok(Reply::Stat(stat)) = client.ok(put(data.clone().map(Into::into))).await else { panic!("no stat") };
        assert_eq!(stat.data_length, length);
        assert_eq!(client.ok(get(&room, false)).await, Ok(Reply::Data(data.map(Into::into), stat)));
    }
    client.close().await.unwrap();
}

async fn a_multi_is_all_or_nothing(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let before = stat(&mut client, &room).await;
    let results = client
        .multi(vec![
            create_op(&format!("{room}/a"), b"", CreateMode::Persistent),
            set_op(&room, b"changed", -1),
            create_op(&format!("{room}/e"), b"", CreateMode::Ephemeral),
            delete_op(&format!("{room}/none"), -1),
        ])
        .await
        .unwrap();
    assert_eq!(results.len(), 4);
    assert_eq!(stat(&mut client, &room).await, before);
    assert_eq!(client.children(&room, false).await.unwrap(), NONE);
    assert_eq!(client.ephemerals("/").await.unwrap(), NONE);
    client.close().await.unwrap();
}

async fn a_multi_lists_its_results_and_stats(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = |name: &str| format!("{room}/{name}");
    let create = |op, name: &str, mode| MultiOp::Create(mode_request(op, &path(name), mode));
    let results = client
        .multi(vec![
            check_op(&room, 0),
            create(op::CREATE, "a", CreateMode::Persistent),
            create(op::CREATE2, "b", CreateMode::EphemeralSequential),
            create(op::CREATE_CONTAINER, "c", CreateMode::Container),
            set_op(&path("a"), b"longer", 0),
            delete_op(&path("a"), 1),
        ])
        .await
        .unwrap();
    let [check, a, b, c, set, delete] = &results[..] else { panic!("{results:?}") };
    assert_eq!((check, delete), (&MultiResult::Check, &MultiResult::Delete));
    assert_eq!(*a, MultiResult::Create { path: path("a").into() });
    let MultiResult::Create2 { path: b_path, stat: b } = b else { panic!("{b:?}") };
    let MultiResult::Create2 { path: c_path, stat: c } = c else { panic!("{c:?}") };
    let MultiResult::SetData { stat: set } = set else { panic!("{set:?}") };
    assert_eq!((b_path.as_ref(), c_path.as_ref()), (&*path("b0000000001"), &*path("c")));
    assert_eq!((b.ephemeral_owner, c.ephemeral_owner, b.data_length), (client.session_id(), 0, 4));
    assert_eq!((set.version, set.data_length, set.czxid, set.mzxid), (1, 6, b.czxid, b.czxid));
    // The stats of what is still there are the ones to be read now.
    assert_eq!((stat(&mut client, b_path).await, stat(&mut client, c_path).await), (*b, *c));
    let parent = stat(&mut client, &room).await;
    assert_eq!((parent.cversion, parent.num_children, parent.pzxid), (4, 2, b.czxid));
    client.close().await.unwrap();
}

async fn a_failed_multi_lists_an_error_for_each_operation(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = |name: &str| format!("{room}/{name}");
    let (fine, late) = (ErrorCode::Ok, ErrorCode::RuntimeInconsistency);
    let cases: Vec<(MultiOp, ErrorCode)> = vec![
        (check_op(&room, 7), ErrorCode::BadVersion),
        (check_op(&path("none"), -1), ErrorCode::NoNode),
        (set_op(&room, b"", 7), ErrorCode::BadVersion),
        (set_op(&path("none"), b"", -1), ErrorCode::NoNode),
        (delete_op(&room, 7), ErrorCode::BadVersion),
        (delete_op(&path("none"), -1), ErrorCode::NoNode),
        (delete_op("/zookeeper", -1), ErrorCode::BadArguments),
        (create_op(&room, b"", CreateMode::Persistent), ErrorCode::NodeExists),
        (create_op(&path("none/x"), b"", CreateMode::Persistent), ErrorCode::NoNode),
        // Its parent comes first.
        (create_op(&path("x/"), b"", CreateMode::Persistent), ErrorCode::NoNode),
        (create_op(&format!("{room}/"), b"", CreateMode::Persistent), ErrorCode::BadArguments),
        (create_op("relative", b"", CreateMode::Persistent), ErrorCode::BadArguments),
        (check_op("relative", -1), ErrorCode::BadArguments),
        (set_op("", b"", -1), ErrorCode::BadArguments),
        (delete_op("relative", -1), ErrorCode::BadArguments),
    ];
    for (op, expected) in cases {
        let ops = vec![check_op(&room, -1), op.clone(), delete_op(&path("none"), -1), check_op(&room, -1)];
        let (header, reply) = client.call(Request::Multi(ops)).await.unwrap();
        let errors = [fine, expected, late, late].map(MultiResult::Error).to_vec();
        assert_eq!((header.err, reply), (0, Reply::Multi(errors)), "{op:?}");
    }
    client.close().await.unwrap();
}

async fn a_multi_may_create_and_then_set(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    let ops = vec![
        create_op(&path, b"1", CreateMode::Persistent),
        set_op(&path, b"22", 0),
        set_op(&path, b"333", 1),
        check_op(&path, 2),
    ];
    let results = client.multi(ops).await.unwrap();
    let [_, MultiResult::SetData { stat: one }, MultiResult::SetData { stat: two }, MultiResult::Check] = &results[..]
    else {
        panic!("{results:?}")
    };
    assert_eq!((one.version, one.data_length, two.version, two.data_length), (1, 2, 2, 3));
    assert_eq!((one.czxid, one.mzxid), (two.czxid, two.mzxid));
    assert_eq!(client.get(&path, false).await, Ok((b"333".to_vec(), *two)));
    client.close().await.unwrap();
}

async fn a_multi_may_delete_and_create_again(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    client.create(&path, b"old", CreateMode::Persistent).await.unwrap();
    client.set(&path, b"older", -1).await.unwrap();
    let closed = vec![Acl { perms: Perms(30), id: Id { scheme: "world".into(), id: "anyone".into() } }];
    client.set_acl(&path, closed, -1).await.unwrap();
    client.create(&format!("{path}/gone"), b"", CreateMode::Persistent).await.unwrap();
    client.delete(&format!("{path}/gone"), -1).await.unwrap();
    let ops =
        vec![delete_op(&path, 1), MultiOp::Create(create_request(op::CREATE2, &path, b"new", CreateMode::Persistent))];
    let results = client.multi(ops).await.unwrap();
    let [MultiResult::Delete, MultiResult::Create2 { stat: new, .. }] = &results[..] else { panic!("{results:?}") };
    assert_eq!((new.version, new.cversion, new.aversion, new.mzxid, new.pzxid), (0, 0, 0, new.czxid, new.czxid));
    assert_eq!(client.get(&path, false).await, Ok((b"new".to_vec(), *new)));
    let parent = stat(&mut client, &room).await;
    assert_eq!((parent.cversion, parent.num_children, parent.pzxid), (3, 1, new.czxid));
    // It goes on as any other.
    let changed = client.set(&path, b"newer", 0).await.unwrap();
    assert_eq!(changed.czxid, new.czxid);
    let name = client.create(&format!("{path}/n"), b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(name, format!("{path}/n0000000000"));
    assert_eq!(stat(&mut client, &path).await.cversion, 1);
    client.close().await.unwrap();
}

async fn a_multi_may_create_and_then_delete(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    let ops = vec![create_op(&path, b"", CreateMode::Ephemeral), set_op(&path, b"1", 0), delete_op(&path, 1)];
    let results = client.multi(ops).await.unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[2], MultiResult::Delete);
    assert_eq!(client.exists(&path, false).await, Ok(None));
    let parent = stat(&mut client, &room).await;
    assert_eq!((parent.cversion, parent.num_children), (2, 0));
    assert_eq!(client.ephemerals("/").await.unwrap(), NONE);
    client.close().await.unwrap();
}

async fn a_multi_may_build_and_tear_down_a_subtree(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = |name: &str| format!("{room}/{name}");
    let build = vec![
        create_op(&path("a"), b"", CreateMode::Persistent),
        create_op(&path("a/b"), b"", CreateMode::Persistent),
        create_op(&path("a/b/c"), b"leaf", CreateMode::Persistent),
    ];
    client.multi(build.clone()).await.unwrap();
    assert_eq!(client.all_children_number(&room).await, Ok(3));
    let a = stat(&mut client, &path("a")).await;
    assert_eq!((a.cversion, a.num_children, a.pzxid), (1, 1, a.czxid));
    let tear = vec![delete_op(&path("a/b/c"), 0), delete_op(&path("a/b"), 0), delete_op(&path("a"), 0)];
    // Down and up again at once.
    client.multi(tear.iter().cloned().chain(build).collect()).await.unwrap();
    let again = stat(&mut client, &path("a")).await;
    assert!(again.czxid > a.czxid);
    assert_eq!((again.cversion, again.num_children, again.pzxid), (1, 1, again.czxid));
    assert_eq!(client.get(&path("a/b/c"), false).await.unwrap().0, b"leaf");
    client.multi(tear).await.unwrap();
    assert_eq!(client.children(&room, false).await.unwrap(), NONE);
    // Only from the leaves up.
    client.create(&path("p"), b"", CreateMode::Persistent).await.unwrap();
    client.create(&path("p/q"), b"", CreateMode::Persistent).await.unwrap();
    let results = client.multi(vec![delete_op(&path("p"), -1), delete_op(&path("p/q"), -1)]).await.unwrap();
    assert_eq!(results, [ErrorCode::NotEmpty, ErrorCode::RuntimeInconsistency].map(MultiResult::Error));
    client.close().await.unwrap();
}

async fn a_multi_may_change_a_path_many_times(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    let (create, delete) = (create_op(&path, b"c", CreateMode::Persistent), delete_op(&path, -1));
    let ops = vec![
        create.clone(),
        delete.clone(),
        create.clone(),
        set_op(&path, b"s", 0),
        delete.clone(),
        create.clone(),
        set_op(&path, b"last", 0),
    ];
    let results = client.multi(ops).await.unwrap();
    let Some(MultiResult::SetData { stat: last }) = results.last() else { panic!("{results:?}") };
    assert_eq!(client.get(&path, false).await, Ok((b"last".to_vec(), *last)));
    let parent = stat(&mut client, &room).await;
    assert_eq!((parent.cversion, parent.num_children, parent.pzxid), (5, 1, last.czxid));
    let results = client.multi(vec![delete.clone(), create, delete]).await.unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(client.exists(&path, false).await, Ok(None));
    assert_eq!(stat(&mut client, &room).await.cversion, 8);
    client.close().await.unwrap();
}

async fn a_multi_may_replace_a_znode_by_another_kind(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    client.create(&path, b"", CreateMode::Ephemeral).await.unwrap();
    let replace = |mode| vec![delete_op(&path, -1), create_op(&path, b"", mode)];
    client.multi(replace(CreateMode::Persistent)).await.unwrap();
    assert_eq!(client.ephemerals("/").await.unwrap(), NONE);
    assert_eq!(stat(&mut client, &path).await.ephemeral_owner, 0);
    client.multi(replace(CreateMode::Ephemeral)).await.unwrap();
    assert_eq!(client.ephemerals("/").await.unwrap(), [path.as_str()]);
    client.close().await.unwrap();
    let mut other = server.client().await;
    other.sync("/").await.unwrap();
    assert_eq!(other.exists(&path, false).await, Ok(None));
    other.close().await.unwrap();
}

async fn a_multi_names_sequential_znodes_in_order(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let next = create_op(&format!("{room}/n"), b"", CreateMode::PersistentSequential);
    let results = client.multi(vec![next.clone(), next.clone(), next]).await.unwrap();
    let paths = (0..3).map(|n| MultiResult::Create { path: format!("{room}/n{n:010}").into() });
    assert_eq!(results, paths.collect::<Vec<_>>());
    client.close().await.unwrap();
}

async fn a_multi_checks_what_it_has_itself_written(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    let gone = vec![create_op(&path, b"", CreateMode::Persistent), delete_op(&path, -1), set_op(&path, b"", -1)];
    let results = client.multi(gone).await.unwrap();
    assert_eq!(results, [ErrorCode::Ok, ErrorCode::Ok, ErrorCode::NoNode].map(MultiResult::Error));
    let full = vec![
        create_op(&path, b"", CreateMode::Persistent),
        create_op(&format!("{path}/y"), b"", CreateMode::Persistent),
        delete_op(&path, -1),
    ];
    let results = client.multi(full).await.unwrap();
    assert_eq!(results, [ErrorCode::Ok, ErrorCode::Ok, ErrorCode::NotEmpty].map(MultiResult::Error));
    let childless = vec![
        create_op(&path, b"", CreateMode::Ephemeral),
        create_op(&format!("{path}/y"), b"", CreateMode::Persistent),
    ];
    let results = client.multi(childless).await.unwrap();
    assert_eq!(results, [ErrorCode::Ok, ErrorCode::NoChildrenForEphemerals].map(MultiResult::Error));
    client.close().await.unwrap();
}

async fn the_writes_of_a_multi_share_one_zxid(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let ops = ["a", "b"].map(|name| create_op(&format!("{room}/{name}"), b"", CreateMode::Persistent));
    let (header, _) = client.call(Request::Multi(ops.to_vec())).await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(stat(&mut client, &format!("{room}/{name}")).await.czxid, header.zxid);
    }
    client.close().await.unwrap();
}

async fn a_multi_read_answers_each_read_for_itself(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.create(&format!("{room}/a"), b"data", CreateMode::Persistent).await.unwrap();
    let hidden = format!("{room}/hidden");
    let write_only = vec![Acl { perms: Perms::WRITE, id: Id { scheme: "world".into(), id: "anyone".into() } }];
    client.create(&hidden, b"", CreateMode::Persistent).await.unwrap();
    client.set_acl(&hidden, write_only, -1).await.unwrap();
    let results = client
        .multi_read(vec![
            MultiReadOp::GetData { path: format!("{room}/a") },
            MultiReadOp::GetData { path: format!("{room}/none") },
            MultiReadOp::GetChildren { path: format!("{room}/none") },
            MultiReadOp::GetData { path: hidden.clone() },
            MultiReadOp::GetChildren { path: hidden },
            MultiReadOp::GetChildren { path: format!("{room}/a") },
            MultiReadOp::GetChildren { path: room.clone() },
        ])
        .await
        .unwrap();
    let a = stat(&mut client, &format!("{room}/a")).await;
    let mut expected = vec![MultiResult::GetData { data: Some(b"data"[..].into()), stat: a }];
    let errors = [ErrorCode::NoNode, ErrorCode::NoNode, ErrorCode::NoAuth, ErrorCode::NoAuth];
    expected.extend(errors.map(MultiResult::Error));
    expected.push(MultiResult::GetChildren { children: vec![] });
    let (last, rest) = results.split_last().unwrap();
    assert_eq!(rest, expected);
    let MultiResult::GetChildren { children } = last else { panic!("{last:?}") };
    let names: HashSet<&str> = children.iter().map(AsRef::as_ref).collect();
    assert_eq!(names, HashSet::from(["a", "hidden"]));
    assert_eq!(client.multi_read(vec![]).await.unwrap(), []);
    client.close().await.unwrap();
}

async fn all_descendants_are_counted(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    assert_eq!(client.all_children_number(&room).await, Ok(0));
    for name in ["a", "a/b", "a/c", "a-", "a/b/d"] {
        client.create(&format!("{room}/{name}"), b"", CreateMode::Persistent).await.unwrap();
    }
    assert_eq!(client.all_children_number(&room).await, Ok(5));
    assert_eq!(client.all_children_number(&format!("{room}/a")).await, Ok(3));
    assert_eq!(client.all_children_number(&format!("{room}/none")).await, refused(ErrorCode::NoNode));
    let all = client.all_children_number("/").await.unwrap();
    assert!(all >= 9);
    // The empty path is the root, too, and then the root itself counts.
    assert_eq!(client.all_children_number("").await, Ok(all + 1));
    client.close().await.unwrap();
}

async fn ephemerals_are_listed_by_prefix(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut other = server.client().await;
    client.create(&format!("{room}/ax"), b"", CreateMode::Ephemeral).await.unwrap();
    client.create(&format!("{room}/ay"), b"", CreateMode::Ephemeral).await.unwrap();
    client.create(&format!("{room}/bz"), b"", CreateMode::Ephemeral).await.unwrap();
    client.create(&format!("{room}/p"), b"", CreateMode::Persistent).await.unwrap();
    other.create(&format!("{room}/others"), b"", CreateMode::Ephemeral).await.unwrap();
    let names = |names: &[&str]| names.iter().map(|name| format!("{room}/{name}")).collect::<Vec<_>>();
    for prefix in ["/", "", " ", " / "] {
        assert_eq!(client.ephemerals(prefix).await.unwrap(), names(&["ax", "ay", "bz"]), "{prefix:?}");
    }
    assert_eq!(client.ephemerals(&format!("{room}/a")).await.unwrap(), names(&["ax", "ay"]));
    // Any beginning of the path, and no other part of it.
    assert_eq!(client.ephemerals(&room[..5]).await.unwrap(), names(&["ax", "ay", "bz"]));
    for prefix in ["/nowhere", &room[1..], &format!(" {room}"), &format!("{room}/ax/")] {
        assert_eq!(client.ephemerals(prefix).await.unwrap(), NONE, "{prefix:?}");
    }
    other.close().await.unwrap();
    client.close().await.unwrap();
}

async fn what_exists_from_the_start_cannot_be_deleted(site: Site) {
    let server = site.server().await;
    let mut client = server.client().await;
    for path in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
        assert_eq!(client.delete(path, -1).await, refused(ErrorCode::BadArguments), "{path}");
        let created = client.create(path, b"", CreateMode::Persistent).await;
        let expected = if path == "/" { ErrorCode::BadArguments } else { ErrorCode::NodeExists };
        let expected = if path == "/" { ErrorCode::NodeExists } else { expected };
        assert_eq!(created, refused(expected), "{path}");
        assert!(client.exists(path, false).await.unwrap().is_some());
    }
    client.close().await.unwrap();
}

async fn the_config_is_empty_and_read_only(site: Site) {
    let server = site.server().await;
    let mut client = server.client().await;
    let (data, stat) = client.get("/zookeeper/config", true).await.unwrap();
    assert_eq!((data.len(), stat.num_children, stat.version, stat.czxid), (0, 0, 0, 0));
    assert_eq!(client.set("/zookeeper/config", b"", -1).await, refused(ErrorCode::NoAuth));
    let create = client.create("/zookeeper/config/x", b"", CreateMode::Persistent).await;
    assert_eq!(create, refused(ErrorCode::NoAuth));
    let (acl, stat) = client.get_acl("/zookeeper/config").await.unwrap();
    let read = vec![Acl { perms: Perms::READ, id: Id { scheme: "world".into(), id: "anyone".into() } }];
    assert_eq!((acl, stat.aversion), (read, -1));
    client.close().await.unwrap();
}

async fn the_reserved_znodes_can_be_used(site: Site) {
    let server = site.server().await;
    let mut client = server.client().await;
    for parent in ["/zookeeper", "/zookeeper/quota", "/"] {
        let before = stat(&mut client, parent).await;
        let slash = if parent == "/" { "" } else { "/" };
        let path = format!("{parent}{slash}mine-{:x}", client.session_id());
        let (_, created) = client.create2(&path, b"", CreateMode::Ephemeral).await.unwrap();
        let after = stat(&mut client, parent).await;
        assert_eq!((after.num_children, after.version), (before.num_children + 1, before.version));
        assert!(after.pzxid >= created.czxid && after.cversion > before.cversion);
        assert_eq!((after.czxid, after.ctime), (before.czxid, before.ctime));
    }
    let before = stat(&mut client, "/zookeeper").await;
    let after = client.set("/zookeeper", b"data", -1).await.unwrap();
    assert_eq!((after.version, after.data_length, after.czxid), (before.version + 1, 4, before.czxid));
    client.set("/zookeeper", b"", -1).await.unwrap();
    client.close().await.unwrap();
}

async fn stats_in_one_burst_are_those_of_their_own_moment(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let x = format!("{room}/x");
    let acl = || Request::SetAcl { path: x.clone(), acl: Some(open_acl()), version: -1 };
    let xids = client
        .send_all([
            Request::Create(create_request(op::CREATE2, &x, b"0", CreateMode::Persistent)),
            set(&x, b"11", -1),
            create(&format!("{x}/c"), b"", CreateMode::Persistent),
            acl(),
            set(&x, b"333", -1),
            delete(&format!("{x}/c"), -1),
            set(&x, b"4444", -1),
            acl(),
        ])
        .await
        .unwrap();
    let mut seen = Vec::new();
    for xid in xids {
        let (header, reply) = client.reply(xid).await.unwrap();
        assert_eq!(header.err, 0);
        if let Reply::Stat(stat) | Reply::PathStat(_, stat) = reply {
            assert!(stat.mzxid <= header.zxid && stat.pzxid <= header.zxid, "{header:?} {stat:?}");
            seen.push((stat.version, stat.data_length, stat.cversion, stat.num_children, stat.aversion));
        }
    }
    let expected =
        [(0, 1, 0, 0, 0), (1, 2, 0, 0, 0), (1, 2, 1, 1, 1), (2, 3, 1, 1, 1), (3, 4, 2, 0, 1), (3, 4, 2, 0, 2)];
    assert_eq!(seen, expected);
    client.close().await.unwrap();
}

async fn stats_in_a_multi_are_those_of_their_own_moment(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let child = format!("{room}/c");
    let create = || MultiOp::Create(create_request(op::CREATE2, &child, b"", CreateMode::Persistent));
    let grandchild = create_op(&format!("{child}/g"), b"", CreateMode::Persistent);
    let ops = vec![set_op(&room, b"1", 0), create(), set_op(&room, b"22", 1), grandchild, set_op(&child, b"", 0)];
    let results = client.multi(ops).await.unwrap();
    let [
        MultiResult::SetData { stat: before },
        MultiResult::Create2 { stat: created, .. },
        MultiResult::SetData { stat: after },
        _,
        MultiResult::SetData { stat: last },
    ] = &results[..]
    else {
        panic!("{results:?}")
    };
    let shown = |stat: &Stat| (stat.version, stat.data_length, stat.cversion, stat.num_children);
    assert_eq!([before, created, after, last].map(shown), [(1, 1, 0, 0), (0, 0, 0, 0), (2, 2, 1, 1), (1, 0, 1, 1)]);
    client.close().await.unwrap();
}

async fn a_znode_created_again_is_a_new_one(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let x = format!("{room}/x");
    let second = Request::Create(create_request(op::CREATE2, &x, b"new", CreateMode::Persistent));
    let burst = [
        create(&x, b"old", CreateMode::Persistent),
        set(&x, b"older", -1),
        create(&format!("{x}/c"), b"", CreateMode::Persistent),
        delete(&x, -1),
        delete(&format!("{x}/c"), -1),
        delete(&x, -1),
        get(&x, false),
        second,
        get(&x, false),
    ];
    let xids = client.send_all(burst).await.unwrap();
    let mut codes = Vec::new();
    let mut last = None;
    for xid in xids {
        let (header, reply) = client.reply(xid).await.unwrap();
        codes.push(header.err);
        last = Some(reply);
    }
    let [not_empty, no_node] = [ErrorCode::NotEmpty, ErrorCode::NoNode].map(ErrorCode::code);
    assert_eq!(codes, [0, 0, 0, not_empty, 0, 0, no_node, 0, 0]);
    let Some(Reply::Data(Some(data), new)) = last else { panic!("{last:?}") };
    assert_eq!((&data[..], new.version, new.cversion, new.pzxid), (&b"new"[..], 0, 0, new.czxid));
    client.close().await.unwrap();
}

async fn null_and_empty_data_are_told_apart_everywhere(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let create = |name: &str, data: Option<&'static [u8]>| CreateRequest {
        data: data.map(Bytes::from_static),
        ..create_request(op::CREATE2, &format!("{room}/{name}"), b"", CreateMode::Persistent)
    };
    let set = |name: &str, data: Option<&'static [u8]>| MultiOp::SetData {
        path: format!("{room}/{name}"),
        data: data.map(Bytes::from_static),
        version: -1,
    };
    client.create_with(create("null", None)).await.unwrap();
    client.create_with(create("empty", Some(b""))).await.unwrap();
    let ops = vec![
        MultiOp::Create(create("multi-null", None)),
        MultiOp::Create(create("multi-empty", Some(b""))),
        MultiOp::Create(create("null-again", Some(b"data"))),
        set("null-again", None),
        MultiOp::Create(create("empty-again", None)),
        set("empty-again", Some(b"")),
    ];
    for result in client.multi(ops).await.unwrap() {
        match result {
            MultiResult::Create2 { path, stat } => {
                assert_eq!(stat.data_length, if path.ends_with("null-again") { 4 } else { 0 }, "{path}");
            }
            MultiResult::SetData { stat } => assert_eq!((stat.version, stat.data_length), (1, 0)),
            other => panic!("{other:?}"),
        }
    }
    // A server that starts later has it from the store.
    let other = site.server().await;
    let mut second = other.client().await;
    second.sync("/").await.unwrap();
    for client in [&mut client, &mut second] {
        for (name, expected) in [
            ("null", None),
            ("empty", Some(vec![])),
            ("multi-null", None),
            ("multi-empty", Some(vec![])),
            ("null-again", None),
            ("empty-again", Some(vec![])),
        ] {
            let path = format!("{room}/{name}");
            let Ok(Reply::Data(data, stat)) = client.ok(get(&path, false)).await else { panic!("no data") };
            assert_eq!((data.map(|data| data.into_owned()), stat.data_length), (expected.clone(), 0), "{name}");
            let read = client.multi_read(vec![MultiReadOp::GetData { path }]).await.unwrap();
            assert_eq!(read, [MultiResult::GetData { data: expected.map(Into::into), stat }], "{name}");
        }
    }
    client.close().await.unwrap();
}

async fn a_multi_of_nothing_or_of_checks_takes_a_zxid(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let before = stat(&mut client, &room).await;
    let mut last = client.last_zxid();
    let checks = vec![check_op(&room, 0), check_op(&room, -1)];
    for (ops, results) in [(vec![], vec![]), (checks, vec![MultiResult::Check, MultiResult::Check])] {
        let (header, reply) = client.call(Request::Multi(ops)).await.unwrap();
        assert_eq!((header.err, reply), (0, Reply::Multi(results)));
        assert!(header.zxid > last, "{header:?} after {last:#x}");
        last = header.zxid;
    }
    let failed = [ErrorCode::Ok, ErrorCode::BadVersion, ErrorCode::RuntimeInconsistency].map(MultiResult::Error);
    let (header, reply) =
        client.call(Request::Multi(vec![check_op(&room, 0), check_op(&room, 1), check_op(&room, 0)])).await.unwrap();
    assert_eq!((header.err, reply), (0, Reply::Multi(failed.to_vec())));
    assert!(header.zxid > last, "{header:?} after {last:#x}");
    assert_eq!(stat(&mut client, &room).await, before);
    client.close().await.unwrap();
}

async fn ttls_have_limits(site: Site) {
    const MAX: i64 = 0xff_ffff_ffff;
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let with = |name: &str, mode, ttl| {
        let path = format!("{room}/{name}");
        CreateRequest { ttl, ..create_request(op::CREATE_TTL, &path, b"", mode) }
    };
    for (mode, name) in [(CreateMode::PersistentWithTtl, "t"), (CreateMode::PersistentSequentialWithTtl, "s")] {
        for ttl in [0, -1, i64::MIN, MAX + 1, i64::MAX] {
            let request = with(name, mode, ttl);
            assert_eq!(client.create_with(request.clone()).await, refused(ErrorCode::BadArguments), "{mode:?} {ttl}");
            let results = client.multi(vec![MultiOp::Create(request)]).await.unwrap();
            assert_eq!(results, [MultiResult::Error(ErrorCode::BadArguments)], "{mode:?} {ttl}");
        }
        let (path, stat) = client.create_with(with(name, mode, MAX)).await.unwrap();
        assert_eq!(stat.ephemeral_owner, 0);
        // It may have children, which may be ephemeral.
        client.create(&format!("{path}/e"), b"", CreateMode::Ephemeral).await.unwrap();
        let results = client.multi(vec![MultiOp::Create(with(&format!("{name}m"), mode, 1_000_000))]).await.unwrap();
        assert!(matches!(results[..], [MultiResult::Create2 { .. }]), "{results:?}");
    }
    let mut names = client.children(&room, false).await.unwrap();
    names.sort();
    assert_eq!(names, ["s0000000002", "sm0000000003", "t", "tm"]);
    client.close().await.unwrap();
}

async fn a_write_begins_a_ttl_anew(site: Site) {
    const TTL: Duration = Duration::from_millis(1000);
    let server = site.server_with(SWEEPING).await;
    let (mut client, room) = server.room().await;
    let (path, witness) = (format!("{room}/written"), format!("{room}/witness"));
    client.create_ttl(&path, b"", CreateMode::PersistentWithTtl, TTL.as_millis() as i64).await.unwrap();
    client.exists(&path, true).await.unwrap();
    let (start, mut last) = (Instant::now(), Instant::now());
    while start.elapsed() < 3 * TTL {
        // One that comes and goes: the sweeper has had its turn.
        client.create_ttl(&witness, b"", CreateMode::PersistentWithTtl, 100).await.unwrap();
        if client.exists(&witness, true).await.unwrap().is_some() {
            client.next_event().await.unwrap();
        }
        let began = Instant::now();
        if client.set(&path, b"", -1).await.is_err() {
            // This test itself was held up for so long.
            assert!(last.elapsed() >= TTL, "it went before its time");
            return;
        }
        last = began;
        client.events();
        client.exists(&path, true).await.unwrap();
    }
    // A child's coming and going does not count as a write.
    let version = stat(&mut client, &path).await.version;
    assert_eq!(client.next_event().await.unwrap().1, support::event(support::DELETED, &path));
    assert!(version > 0);
    client.close().await.unwrap();
}

/// As ZooKeeper's command line makes, reads and removes a quota (`SetQuotaCommand`, `ListQuotaCommand`).
async fn quotas_count_what_is_below_their_znode(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = |name: &str| format!("{room}/{name}");
    for (name, data) in [("a", &b"12345"[..]), ("a/b", b"678")] {
        client.create(&path(name), data, CreateMode::Persistent).await.unwrap();
    }
    client.set(&room, b"1", -1).await.unwrap();
    let quota = format!("/zookeeper/quota{room}");
    let (limits, stats) = (format!("{quota}/zookeeper_limits"), format!("{quota}/zookeeper_stats"));
    let unlimited = &b"count=-1,bytes=-1"[..];
    client.create(&quota, b"", CreateMode::Persistent).await.unwrap();
    client.create(&limits, b"count=1,bytes=1", CreateMode::Persistent).await.unwrap();
    let (_, made) = client.create2(&stats, unlimited, CreateMode::Persistent).await.unwrap();
    assert_eq!(made.data_length, unlimited.len() as i32);
    let shown = async |client: &mut Client| {
        let (data, stat) = client.get(&stats, false).await.unwrap();
        assert_eq!(stat, Stat { data_length: data.len() as i32, ..made });
        assert_eq!(client.exists(&stats, false).await, Ok(Some(stat)));
        assert_eq!(client.children2(&stats, false).await.unwrap().1, stat);
        let read = client.multi_read(vec![MultiReadOp::GetData { path: stats.clone() }]).await.unwrap();
        assert_eq!(read, [MultiResult::GetData { data: Some(data.clone().into()), stat }]);
        String::from_utf8(data).unwrap()
    };
    assert_eq!(shown(&mut client).await, "count=3,bytes=9");
    client.exists(&stats, true).await.unwrap();
    // Limits are told, not enforced.
    client.create(&path("a/b/c"), b"90", CreateMode::Ephemeral).await.unwrap();
    assert_eq!(shown(&mut client).await, "count=4,bytes=11");
    client.set(&path("a"), b"1234567890", -1).await.unwrap();
    assert_eq!(shown(&mut client).await, "count=4,bytes=16");
    client.delete(&path("a/b/c"), -1).await.unwrap();
    assert_eq!(shown(&mut client).await, "count=3,bytes=14");
    // One whose name begins alike is none of it.
    let beside = client.create(&format!("{room}x"), b"", CreateMode::Persistent).await.unwrap();
    let ops = vec![delete_op(&path("a/b"), -1), set_op(&room, b"", -1)];
    client.multi(ops).await.unwrap();
    assert_eq!(shown(&mut client).await, "count=2,bytes=10");
    assert_eq!(client.events(), [], "the stats change without an event");
    // A server that starts later counts the same.
    let other = site.server().await;
    let mut second = other.client().await;
    second.sync("/").await.unwrap();
    assert_eq!(shown(&mut second).await, "count=2,bytes=10");
    client.delete(&stats, -1).await.unwrap();
    client.delete(&limits, -1).await.unwrap();
    client.delete(&quota, -1).await.unwrap();
    client.delete(&beside, -1).await.unwrap();
    client.create(&path("free"), b"", CreateMode::Persistent).await.unwrap();
    client.close().await.unwrap();
}

async fn a_fresh_tree_has_zookeepers_znodes(site: Site) {
    let server = site.server().await;
    let mut client = server.client().await;
    assert_eq!(client.children("/", false).await.unwrap(), ["zookeeper"]);
    assert_eq!(client.children("/zookeeper", false).await.unwrap(), ["config", "quota"]);
    assert_eq!(client.all_children_number("/").await, Ok(3));
    // As ZooKeeper's on an empty directory shows them.
    let fresh = Stat {
        czxid: 0,
        mzxid: 0,
        ctime: 0,
        mtime: 0,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: 0,
        data_length: 0,
        num_children: 0,
        pzxid: 0,
    };
    assert_eq!(stat(&mut client, "/zookeeper/quota").await, fresh);
    assert_eq!(stat(&mut client, "/zookeeper/config").await, Stat { aversion: -1, ..fresh });
    assert_eq!(stat(&mut client, "/zookeeper").await, Stat { num_children: 2, cversion: -2, ..fresh });
    assert_eq!(stat(&mut client, "/").await, Stat { num_children: 1, cversion: -1, ..fresh });
    // Names at the root count from 0.
    let path = client.create("/s", b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(path, "/s0000000000");
    assert_eq!(stat(&mut client, "/").await.cversion, 0);
    client.close().await.unwrap();
}

async fn the_counter_of_names_overflows_as_javas_does(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let next = format!("{room}/n");
    client.create(&next, b"", CreateMode::PersistentSequential).await.unwrap();
    // Two billion creates take too long: the record is written as they would have left it.
    let record = ChildRecord { stamp: Stamp::default(), created: i32::MAX - 1 }.encode();
    let put = Op::Put { key: key::children(&room), value: record, lease: 0 };
    site.store().transact(Txn { then: vec![put], ..Txn::default() }).await.unwrap();
    client.sync("/").await.unwrap();
    for name in ["n2147483646", "n2147483647", "n-2147483648", "n-2147483647"] {
        let path = client.create(&next, b"", CreateMode::PersistentSequential).await.unwrap();
        assert_eq!(path, format!("{room}/{name}"));
    }
    client.close().await.unwrap();
}

async fn a_container_goes_however_many_children_it_had(site: Site) {
    let server = site.server_with(SWEEPING).await;
    let (mut client, room) = server.room().await;
    for created in [i32::MAX, i32::MIN, -1] {
        let path = client.create(&format!("{room}/c{created}"), b"", CreateMode::Container).await.unwrap();
        client.exists(&path, true).await.unwrap();
        let record = ChildRecord { stamp: Stamp::default(), created }.encode();
        let put = Op::Put { key: key::children(&path), value: record, lease: 0 };
        site.store().transact(Txn { then: vec![put], ..Txn::default() }).await.unwrap();
        assert_eq!(client.next_event().await.unwrap().1, support::event(support::DELETED, &path));
    }
    client.close().await.unwrap();
}

async fn versions_overflow_as_javas_do(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let before = stat(&mut client, &room).await;
    // As two billion writes, and as many setACLs, would have left them.
    let at = |version| NodeRecord {
        stamp: Stamp::default(),
        born: Born::At(before.czxid),
        ctime: before.ctime,
        mtime: before.mtime,
        version,
        owner: 0,
        data: None,
    };
    let acl = AclRecord { stamp: Stamp::default(), aversion: i32::MAX, list: open_acl() };
    let put = async |key, value| {
        let put = Op::Put { key, value, lease: 0 };
        site.store().transact(Txn { then: vec![put], ..Txn::default() }).await.unwrap();
    };
    put(key::acl(&room), acl.encode()).await;
    for (now, next) in [(i32::MAX, i32::MIN), (-2, -1), (-1, 0)] {
        put(key::node(&room), at(now).encode()).await;
        client.sync("/").await.unwrap();
        assert_eq!(stat(&mut client, &room).await.version, now);
        assert_eq!(client.set(&room, b"", now.wrapping_sub(7)).await, refused(ErrorCode::BadVersion));
        assert_eq!(client.set(&room, b"", now).await.unwrap().version, next);
    }
    assert_eq!(client.set_acl(&room, open_acl(), i32::MAX).await.unwrap().aversion, i32::MIN);
    client.close().await.unwrap();
}

/// ZooKeeper 3.9.5 takes it into its log and ends, then and at each start: `EphemeralType.validateTTL` lets it pass.
async fn a_negative_ttl_for_no_ttl_znode_is_refused(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    for mode in [CreateMode::Persistent, CreateMode::EphemeralSequential, CreateMode::Container] {
        let request = CreateRequest { ttl: -1, ..create_request(op::CREATE_TTL, &format!("{room}/x"), b"", mode) };
        assert_eq!(client.create_with(request).await, refused(ErrorCode::BadArguments), "{mode:?}");
    }
    assert_eq!(client.children(&room, false).await.unwrap(), NONE);
    client.close().await.unwrap();
}

async fn zxids_in_stats_follow_the_order_of_writes_on_two_servers(site: Site) {
    let (one, two) = (site.server().await, site.server().await);
    let (mut first, room) = one.room().await;
    let mut second = two.client().await;
    let path = format!("{room}/x");
    let mut last = first.last_zxid();
    for round in 0..10 {
        let (writer, reader) = if round % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        // What one server answered comes before what another is asked afterwards, without a sync between them.
        let (_, made) = writer.create2(&path, b"", CreateMode::Persistent).await.unwrap();
        let set = reader.set(&path, b"", 0).await.unwrap();
        let (_, child) = writer.create2(&format!("{path}/c"), b"", CreateMode::Persistent).await.unwrap();
        reader.sync("/").await.unwrap();
        let seen = stat(reader, &path).await;
        assert_eq!((seen.czxid, seen.mzxid, seen.pzxid), (made.czxid, set.mzxid, child.czxid));
        let (deleted, _) = reader.call(delete(&format!("{path}/c"), -1)).await.unwrap();
        writer.sync("/").await.unwrap();
        assert_eq!(stat(writer, &path).await, Stat { pzxid: deleted.zxid, cversion: 2, num_children: 0, ..seen });
        let (gone, _) = writer.call(delete(&path, 1)).await.unwrap();
        reader.sync("/").await.unwrap();
        assert_eq!(stat(reader, &room).await.pzxid, gone.zxid);
        let order = [last, made.czxid, set.mzxid, child.czxid, deleted.zxid, gone.zxid];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:x?}");
        last = gone.zxid;
    }
}

async fn two_servers_show_the_same_tree(site: Site) {
    let (one, two) = (site.server().await, site.server().await);
    let (mut first, room) = one.room().await;
    let mut second = two.client().await;
    second.sync("/").await.unwrap();
    let mut zxids = HashSet::new();
    for n in 0..20 {
        let writer = if n % 2 == 0 { &mut first } else { &mut second };
        writer.sync("/").await.unwrap();
        let path = writer.create(&format!("{room}/s"), b"", CreateMode::PersistentSequential).await.unwrap();
        // The multi below creates one more each time.
        assert_eq!(path, format!("{room}/s{:010}", 2 * n));
        writer.set(&path, b"data", 0).await.unwrap();
        let ops = vec![set_op(&path, b"", 1), delete_op(&path, -1), create_op(&path, b"x", CreateMode::Ephemeral)];
        let (header, _) = writer.call(Request::Multi(ops)).await.unwrap();
        assert!(zxids.insert(header.zxid));
    }
    assert_same(&mut first, &mut second, &room).await;
}

/// Both clients see the same below `path`, once each has synced.
async fn assert_same(first: &mut Client, second: &mut Client, path: &str) {
    first.sync("/").await.unwrap();
    second.sync("/").await.unwrap();
    let (names, stat) = first.children2(path, false).await.unwrap();
    assert_eq!(second.children2(path, false).await.unwrap(), (names.clone(), stat));
    for name in names {
        let path = format!("{path}/{name}");
        assert_eq!(first.get(&path, false).await, second.get(&path, false).await);
        assert_eq!(first.get_acl(&path).await, second.get_acl(&path).await);
    }
}

async fn zxid_of_a_read(client: &mut Client) -> i64 {
    client.exists("/", false).await.unwrap();
    let Incoming::Reply { header, .. } = client.log().last().unwrap() else { panic!("an event") };
    header.zxid
}

async fn two_servers_writing_one_parent_lose_nothing(site: Site) {
    const EACH: usize = 300;
    let (one, two) = (site.server().await, site.server().await);
    let (mut first, room) = one.room().await;
    let mut second = two.client().await;
    let write = async |client: &mut Client, room: &str| {
        client.sync("/").await.unwrap();
        let request = create(&format!("{room}/s"), b"", CreateMode::EphemeralSequential);
        let counter = set(room, b"", -1);
        let requests = (0..EACH).flat_map(|_| [request.clone(), counter.clone()]);
        let xids = client.send_all(requests).await.unwrap();
        let (mut paths, mut versions, mut last) = (Vec::new(), Vec::new(), 0);
        for xid in xids {
            let (header, reply) = client.reply(xid).await.unwrap();
            assert!(header.zxid > last, "zxids go up");
            last = header.zxid;
            match reply {
                Reply::Path(path) => paths.push(path.into_owned()),
                Reply::Stat(stat) => versions.push(stat.version),
                other => panic!("{header:?} {other:?}"),
            }
        }
        assert!(paths.is_sorted() && versions.is_sorted());
        (paths, versions)
    };
    let ((paths, versions), (more_paths, more_versions)) =
        tokio::join!(write(&mut first, &room), write(&mut second, &room));
    let paths: HashSet<String> = paths.into_iter().chain(more_paths).collect();
    let expected: HashSet<String> = (0..2 * EACH).map(|n| format!("{room}/s{n:010}")).collect();
    assert_eq!(paths, expected);
    let versions: HashSet<i32> = versions.into_iter().chain(more_versions).collect();
    assert_eq!(versions, (1..=2 * EACH as i32).collect());
    assert_same(&mut first, &mut second, &room).await;
}

async fn a_server_that_starts_later_shows_the_same_tree(site: Site) {
    let one = site.server().await;
    let (mut first, room) = one.room().await;
    let path = |name: &str| format!("{room}/{name}");
    for name in ["a", "b", "c"] {
        first.create(&path(name), b"1", CreateMode::Persistent).await.unwrap();
        first.create(&path(&format!("{name}/x")), b"1", CreateMode::Ephemeral).await.unwrap();
    }
    first.set(&path("a"), b"22", -1).await.unwrap();
    first.set_acl(&path("b"), open_acl(), -1).await.unwrap();
    let again = vec![
        delete_op(&path("c/x"), -1),
        delete_op(&path("c"), -1),
        create_op(&path("c"), b"again", CreateMode::Container),
    ];
    first.multi(again).await.unwrap();
    first.create(&path("c/y"), b"", CreateMode::Persistent).await.unwrap();
    let two = site.server().await;
    let mut second = two.client().await;
    assert_same(&mut first, &mut second, &room).await;
    for name in ["a", "b", "c"] {
        assert_same(&mut first, &mut second, &path(name)).await;
    }
    // The second's sync may be news to the first's server.
    let same = async { while zxid_of_a_read(&mut first).await != zxid_of_a_read(&mut second).await {} };
    tokio::time::timeout(DEADLINE, same).await.expect("reads carry the zxid of the last change");
}
