//! Access control: who may do what, on every request.

mod support;

use bytes::Bytes;
use support::client::{Client, Error, check_op, create_op, create_request, delete_op, open_acl, set_op};
use support::{SUPER_DIGEST, Site, children, code, create, delete, each_site, exists, get, refused, set};
use zketcd::jute::{
    Acl, AuthPacket, CreateMode, CreateRequest, ErrorCode, Id, MultiOp, MultiReadOp, MultiResult, Perms, Request, op,
};

each_site! {
    all: [
        each_permission_allows_its_requests_and_no_others,
        a_multi_obeys_the_lists,
        a_list_made_in_a_multi_counts_for_its_later_operations,
        the_lists_of_schemes_world_digest_and_ip,
        auth_stands_for_the_identities_of_the_moment,
        lists_that_say_nonsense_are_refused,
        duplicates_are_dropped,
        get_acl_hides_digests_from_those_who_may_not_change_them,
        a_failed_authentication_ends_the_connection_and_not_the_session,
        identities_belong_to_the_connection,
        authentication_counts_from_its_place_in_a_burst,
        the_super_user_may_do_everything,
        who_am_i_names_every_identity,
        an_ephemerals_end_asks_for_no_permission,
        auth_in_a_multi_is_resolved_once_and_for_all,
        the_super_user_may_write_the_config,
    ],
    ours: [
        a_list_changed_in_a_burst_counts_for_what_comes_after,
        every_server_enforces_the_same_lists,
        nobody_is_super_without_the_flag,
    ],
}

fn id(scheme: &str, id: &str) -> Id {
    Id { scheme: scheme.into(), id: id.into() }
}

fn entry(perms: Perms, scheme: &str, name: &str) -> Acl {
    Acl { perms, id: id(scheme, name) }
}

fn create_with(path: &str, acl: Vec<Acl>) -> Request {
    Request::Create(CreateRequest { acl: Some(acl), ..create_request(op::CREATE, path, b"", CreateMode::Persistent) })
}

const NO_AUTH: i32 = ErrorCode::NoAuth as i32;
/// `digest` of `alice:secret`.
const ALICE: &str = "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E=";

async fn each_permission_allows_its_requests_and_no_others(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut admin = server.client().await;
    admin.auth("digest", b"admin:admin").await.unwrap();
    admin.sync("/").await.unwrap();
    let all = [Perms::READ, Perms::WRITE, Perms::CREATE, Perms::DELETE, Perms::ADMIN];
    for perms in all {
        let path = format!("{room}/{}", perms.0);
        let child = format!("{path}/c");
        admin.create(&path, b"", CreateMode::Persistent).await.unwrap();
        admin.create(&child, b"", CreateMode::Persistent).await.unwrap();
        let list = vec![entry(perms, "world", "anyone"), entry(Perms::ALL, "auth", "")];
        admin.set_acl(&path, list, -1).await.unwrap();
        client.sync("/").await.unwrap();
        let ttl = CreateRequest {
            ttl: 1000,
            ..create_request(op::CREATE_TTL, &format!("{path}/t"), b"", CreateMode::PersistentWithTtl)
        };
        let container = create_request(op::CREATE_CONTAINER, &format!("{path}/k"), b"", CreateMode::Container);
        let create2 = create_request(op::CREATE2, &format!("{path}/n"), b"", CreateMode::Persistent);
        let cases: [(i32, Vec<Request>); 6] = [
            (
                Perms::READ.0,
                vec![
                    get(&path, false),
                    children(&path, false),
                    exists(&path, false),
                    Request::GetChildren2 { path: path.clone(), watch: false },
                    Request::GetAllChildrenNumber { path: path.clone() },
                ],
            ),
            (Perms::WRITE.0, vec![set(&path, b"", -1)]),
            (
                Perms::CREATE.0,
                vec![
                    create(&format!("{path}/m"), b"", CreateMode::Persistent),
                    create(&format!("{path}/s"), b"", CreateMode::EphemeralSequential),
                    Request::Create(create2),
                    Request::Create(container),
                    Request::Create(ttl),
                ],
            ),
            (Perms::DELETE.0, vec![delete(&child, -1)]),
            (Perms::READ.0 | Perms::ADMIN.0, vec![Request::GetAcl { path: path.clone() }]),
            (
                Perms::ADMIN.0,
                vec![Request::SetAcl {
                    path: path.clone(),
                    acl: Some(vec![entry(perms, "world", "anyone")]),
                    version: -1,
                }],
            ),
        ];
        for (needed, requests) in cases {
            for request in requests {
                let expected = if needed & perms.0 != 0 { 0 } else { NO_AUTH };
                assert_eq!(code(&mut client, request.clone()).await, expected, "{perms:?} {request:?}");
            }
        }
    }
    client.close().await.unwrap();
}

async fn a_multi_obeys_the_lists(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    client.create(&path, b"", CreateMode::Persistent).await.unwrap();
    client.create(&format!("{path}/c"), b"", CreateMode::Persistent).await.unwrap();
    client.set_acl(&path, vec![entry(Perms(0), "world", "anyone")], -1).await.unwrap();
    let ops: [MultiOp; 4] = [
        check_op(&path, -1),
        set_op(&path, b"", -1),
        create_op(&format!("{path}/d"), b"", CreateMode::Persistent),
        delete_op(&format!("{path}/c"), -1),
    ];
    for op in ops {
        let results = client.multi(vec![set_op(&room, b"", -1), op.clone()]).await.unwrap();
        assert_eq!(results, [ErrorCode::Ok, ErrorCode::NoAuth].map(MultiResult::Error), "{op:?}");
    }
    let reads = vec![MultiReadOp::GetData { path: path.clone() }, MultiReadOp::GetChildren { path: path.clone() }];
    assert_eq!(client.multi_read(reads).await.unwrap(), [ErrorCode::NoAuth; 2].map(MultiResult::Error));
    // Whoever owns the parent may delete it all the same.
    assert_eq!(client.get(&room, false).await.unwrap().1.version, 0);
    client.close().await.unwrap();
}

async fn a_list_made_in_a_multi_counts_for_its_later_operations(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    let closed = CreateRequest {
        acl: Some(vec![entry(Perms::READ, "world", "anyone")]),
        ..create_request(op::CREATE, &path, b"", CreateMode::Persistent)
    };
    let ops = |last| vec![MultiOp::Create(closed.clone()), last];
    for last in [set_op(&path, b"", -1), create_op(&format!("{path}/c"), b"", CreateMode::Persistent)] {
        let results = client.multi(ops(last)).await.unwrap();
        assert_eq!(results, [ErrorCode::Ok, ErrorCode::NoAuth].map(MultiResult::Error));
    }
    assert_eq!(client.multi(ops(check_op(&path, 0))).await.unwrap().len(), 2);
    // Made anew, it has a new list.
    let again = vec![delete_op(&path, -1), create_op(&path, b"", CreateMode::Persistent), set_op(&path, b"", 0)];
    assert_eq!(client.multi(again).await.unwrap()[1], MultiResult::Create { path: path.clone().into() });
    assert_eq!(client.get_acl(&path).await.unwrap().0, open_acl());
    client.close().await.unwrap();
}

/// ZooKeeper judges what comes while a setACL is under way by the list before it.
async fn a_list_changed_in_a_burst_counts_for_what_comes_after(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let perms = |perms: i32| Request::SetAcl {
        path: room.clone(),
        acl: Some(vec![entry(Perms(perms), "world", "anyone")]),
        version: -1,
    };
    let burst = [
        set(&room, b"", -1),
        perms(Perms::ADMIN.0),
        set(&room, b"", -1),
        get(&room, false),
        create(&format!("{room}/x"), b"", CreateMode::Persistent),
        perms(31),
        set(&room, b"", -1),
        get(&room, false),
        perms(0),
        perms(31),
    ];
    let xids = client.send_all(burst).await.unwrap();
    let mut codes = Vec::new();
    for xid in xids {
        codes.push(client.reply(xid).await.unwrap().0.err);
    }
    assert_eq!(codes, [0, 0, NO_AUTH, NO_AUTH, NO_AUTH, 0, 0, 0, 0, NO_AUTH]);
    client.close().await.unwrap();
}

async fn the_lists_of_schemes_world_digest_and_ip(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut alice = server.client().await;
    alice.auth("digest", b"alice:secret").await.unwrap();
    alice.sync("/").await.unwrap();
    let lists = [
        (entry(Perms::READ, "world", "anyone"), true, true),
        (entry(Perms::READ, "digest", ALICE), false, true),
        (entry(Perms::READ, "digest", "alice:wrong"), false, false),
        (entry(Perms::READ, "ip", "127.0.0.1"), true, true),
        (entry(Perms::READ, "ip", "127.0.0.2"), false, false),
        (entry(Perms::READ, "ip", "127.0.0.0/8"), true, true),
        (entry(Perms::READ, "ip", "10.0.0.0/8"), false, false),
    ];
    for (n, (acl, everybody, to_alice)) in lists.into_iter().enumerate() {
        let path = format!("{room}/{n}");
        client.ok(create_with(&path, vec![acl.clone()])).await.unwrap();
        alice.sync("/").await.unwrap();
        let expected = |allowed| if allowed { 0 } else { NO_AUTH };
        assert_eq!(code(&mut client, get(&path, false)).await, expected(everybody), "{acl:?}");
        assert_eq!(code(&mut alice, get(&path, false)).await, expected(to_alice), "{acl:?}");
    }
    client.close().await.unwrap();
}

async fn auth_stands_for_the_identities_of_the_moment(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let auth = || vec![entry(Perms::ALL, "auth", "")];
    assert_eq!(client.ok(create_with(&format!("{room}/none"), auth())).await, refused(ErrorCode::InvalidAcl));
    assert_eq!(client.set_acl(&room, auth(), -1).await, refused(ErrorCode::InvalidAcl));
    client.auth("digest", b"alice:secret").await.unwrap();
    client.ok(create_with(&format!("{room}/one"), auth())).await.unwrap();
    client.auth("digest", b"bob:secret").await.unwrap();
    client.set_acl(&room, auth(), -1).await.unwrap();
    assert_eq!(client.get_acl(&format!("{room}/one")).await.unwrap().0, [entry(Perms::ALL, "digest", ALICE)]);
    let both: Vec<String> = client.get_acl(&room).await.unwrap().0.into_iter().map(|acl| acl.id.id).collect();
    assert_eq!(both.len(), 2);
    assert!(both.contains(&ALICE.to_owned()) && both.iter().any(|id| id.starts_with("bob:")), "{both:?}");
    client.close().await.unwrap();
}

async fn lists_that_say_nonsense_are_refused(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let nonsense = [
        vec![],
        vec![entry(Perms::ALL, "world", "somebody")],
        vec![entry(Perms::ALL, "world", "")],
        vec![entry(Perms::ALL, "unheard", "of")],
        vec![entry(Perms::ALL, "", "")],
        vec![entry(Perms::ALL, "digest", "nocolon")],
        vec![entry(Perms::ALL, "digest", "a:b:c")],
        vec![entry(Perms::ALL, "ip", "no address")],
        vec![entry(Perms::ALL, "ip", "1.2.3")],
        vec![entry(Perms::ALL, "ip", "1.2.3.4/33")],
        vec![entry(Perms::ALL, "super", "")],
        vec![entry(Perms::ALL, "world", "anyone"), entry(Perms::ALL, "world", "nobody")],
    ];
    for acl in nonsense {
        assert_eq!(
            client.ok(create_with(&format!("{room}/x"), acl.clone())).await,
            refused(ErrorCode::InvalidAcl),
            "{acl:?}"
        );
        assert_eq!(client.set_acl(&room, acl.clone(), -1).await, refused(ErrorCode::InvalidAcl), "{acl:?}");
    }
    client.close().await.unwrap();
}

async fn duplicates_are_dropped(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let (read, write) = (entry(Perms::READ, "world", "anyone"), entry(Perms::WRITE, "world", "anyone"));
    client
        .set_acl(&room, vec![read.clone(), entry(Perms::ADMIN, "ip", "127.0.0.1"), read.clone(), write.clone()], -1)
        .await
        .unwrap();
    let list = client.get_acl(&room).await.unwrap().0;
    assert_eq!(list, [read, entry(Perms::ADMIN, "ip", "127.0.0.1"), write]);
    client.close().await.unwrap();
}

async fn get_acl_hides_digests_from_those_who_may_not_change_them(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut alice = server.client().await;
    alice.auth("digest", b"alice:secret").await.unwrap();
    let list = vec![entry(Perms::ALL, "digest", ALICE), entry(Perms::READ, "world", "anyone")];
    client.set_acl(&room, list.clone(), -1).await.unwrap();
    let hidden = vec![entry(Perms::ALL, "digest", "alice:x"), entry(Perms::READ, "world", "anyone")];
    assert_eq!(client.get_acl(&room).await.unwrap().0, hidden);
    alice.sync("/").await.unwrap();
    assert_eq!(alice.get_acl(&room).await.unwrap().0, list);
    client.close().await.unwrap();
}

async fn a_failed_authentication_ends_the_connection_and_not_the_session(site: Site) {
    let server = site.server().await;
    let (mut witness, room) = server.room().await;
    for scheme in ["unheard", "sasl", "world", "auth", ""] {
        let mut client = server.client().await;
        client.sync("/").await.unwrap();
        let path = client.create(&format!("{room}/e"), b"", CreateMode::EphemeralSequential).await.unwrap();
        assert_eq!(client.auth(scheme, b"x:y").await, refused(ErrorCode::AuthFailed), "{scheme}");
        client.closed().await.unwrap();
        let mut again = server.connect(client.resume()).await.unwrap();
        assert!(again.exists(&path, false).await.unwrap().is_some());
        again.close().await.unwrap();
    }
    witness.get(&room, false).await.unwrap();
}

async fn identities_belong_to_the_connection(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.auth("digest", b"alice:secret").await.unwrap();
    client.set_acl(&room, vec![entry(Perms::ALL, "auth", "")], -1).await.unwrap();
    let mut again = server.connect(client.resume()).await.unwrap();
    assert_eq!(again.get(&room, false).await, refused(ErrorCode::NoAuth));
    again.auth("digest", b"alice:wrong").await.unwrap();
    assert_eq!(again.get(&room, false).await, refused(ErrorCode::NoAuth));
    again.auth("digest", b"alice:secret").await.unwrap();
    again.get(&room, false).await.unwrap();
    again.close().await.unwrap();
}

async fn authentication_counts_from_its_place_in_a_burst(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.ok(create_with(&format!("{room}/x"), vec![entry(Perms::ALL, "digest", ALICE)])).await.unwrap();
    let before = client.send(set(&format!("{room}/x"), b"", -1)).await.unwrap();
    let auth = AuthPacket { kind: 0, scheme: "digest".into(), auth: Some(Bytes::from_static(b"alice:secret")) };
    let auth = client.send(Request::Auth(auth)).await.unwrap();
    let after = client.send(set(&format!("{room}/x"), b"", -1)).await.unwrap();
    assert_eq!(client.reply(auth).await.unwrap().0.err, 0);
    assert_eq!(client.reply(before).await.unwrap().0.err, NO_AUTH);
    assert_eq!(client.reply(after).await.unwrap().0.err, 0);
    client.close().await.unwrap();
}

fn super_flag() -> String {
    format!("--super-digest={SUPER_DIGEST}")
}

async fn the_super_user_may_do_everything(site: Site) {
    let flag = super_flag();
    let server = site.server_with(&[&flag]).await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/x");
    client.create(&path, b"", CreateMode::Persistent).await.unwrap();
    client.create(&format!("{path}/c"), b"", CreateMode::Persistent).await.unwrap();
    client.set_acl(&path, vec![entry(Perms(0), "digest", ALICE)], -1).await.unwrap();
    let mut root = server.client().await;
    root.sync("/").await.unwrap();
    root.auth("digest", b"super:wrong").await.unwrap();
    assert_eq!(root.get(&path, false).await, refused(ErrorCode::NoAuth));
    root.auth("digest", b"super:test").await.unwrap();
    root.get(&path, false).await.unwrap();
    root.set(&path, b"", -1).await.unwrap();
    root.children(&path, true).await.unwrap();
    root.delete(&format!("{path}/c"), -1).await.unwrap();
    root.create(&format!("{path}/d"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(root.get_acl(&path).await.unwrap().0, [entry(Perms(0), "digest", ALICE)]);
    assert_eq!(root.settled_events().await.unwrap().len(), 1);
    // What is reserved stays so.
    assert_eq!(root.delete("/zookeeper/config", -1).await, refused(ErrorCode::BadArguments));
    root.set_acl(&path, open_acl(), -1).await.unwrap();
    client.get(&path, false).await.unwrap();
    client.close().await.unwrap();
}

async fn nobody_is_super_without_the_flag(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.set_acl(&room, vec![entry(Perms(0), "world", "anyone")], -1).await.unwrap();
    client.auth("digest", b"super:test").await.unwrap();
    assert_eq!(client.get(&room, false).await, refused(ErrorCode::NoAuth));
    assert_eq!(client.auth("super", b"").await, refused(ErrorCode::AuthFailed));
}

async fn who_am_i_names_every_identity(site: Site) {
    let flag = super_flag();
    let server = site.server_with(&[&flag]).await;
    let mut client = server.client().await;
    assert_eq!(client.who_am_i().await.unwrap(), [id("ip", "127.0.0.1")]);
    client.auth("digest", b"alice:secret").await.unwrap();
    client.auth("digest", b"super:test").await.unwrap();
    let mut ids: Vec<String> =
        client.who_am_i().await.unwrap().iter().map(|id| format!("{}:{}", id.scheme, id.id)).collect();
    ids.sort();
    assert_eq!(ids, ["digest:alice", "digest:super", "ip:127.0.0.1", "super:"]);
    client.close().await.unwrap();
}

async fn an_ephemerals_end_asks_for_no_permission(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut other = server.client().await;
    other.sync("/").await.unwrap();
    other.create(&format!("{room}/e"), b"", CreateMode::Ephemeral).await.unwrap();
    client.sync("/").await.unwrap();
    client.set_acl(&room, vec![entry(Perms::READ, "world", "anyone")], -1).await.unwrap();
    other.close().await.unwrap();
    client.sync("/").await.unwrap();
    assert_eq!(client.children(&room, false).await.unwrap(), [""; 0]);
    client.close().await.unwrap();
}

async fn auth_in_a_multi_is_resolved_once_and_for_all(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let with_auth = |name: &str| {
        MultiOp::Create(CreateRequest {
            acl: Some(vec![entry(Perms::READ, "auth", "ignored"), entry(Perms::ADMIN, "world", "anyone")]),
            ..create_request(op::CREATE, &format!("{room}/{name}"), b"", CreateMode::Persistent)
        })
    };
    let nobody = client.multi(vec![check_op(&room, 0), with_auth("x"), check_op(&room, 0)]).await.unwrap();
    let codes = [ErrorCode::Ok, ErrorCode::InvalidAcl, ErrorCode::RuntimeInconsistency];
    assert_eq!(nobody, codes.map(MultiResult::Error));
    client.auth("digest", b"alice:secret").await.unwrap();
    client.multi(vec![with_auth("x")]).await.unwrap();
    let list = [entry(Perms::READ, "digest", ALICE), entry(Perms::ADMIN, "world", "anyone")];
    assert_eq!(client.get_acl(&format!("{room}/x")).await.unwrap().0, list);
    // Who they become later does not matter, nor who reads it.
    client.auth("digest", b"bob:secret").await.unwrap();
    assert_eq!(client.get_acl(&format!("{room}/x")).await.unwrap().0, list);
    let mut stranger = server.client().await;
    stranger.auth("digest", b"carol:secret").await.unwrap();
    stranger.sync("/").await.unwrap();
    assert_eq!(stranger.get(&format!("{room}/x"), false).await, refused(ErrorCode::NoAuth));
    assert_eq!(stranger.get_acl(&format!("{room}/x")).await.unwrap().0, list);
    client.close().await.unwrap();
}

async fn the_super_user_may_write_the_config(site: Site) {
    const CONFIG: &str = "/zookeeper/config";
    let flag = super_flag();
    let server = site.server_with(&[&flag]).await;
    let (mut client, _) = server.room().await;
    let (before, seen) = client.get(CONFIG, true).await.unwrap();
    let mut root = server.client().await;
    root.auth("digest", b"super:test").await.unwrap();
    root.sync("/").await.unwrap();
    let changed = root.set(CONFIG, b"server.1=a", seen.version).await.unwrap();
    assert_eq!((changed.version, changed.aversion, changed.czxid), (seen.version + 1, -1, 0));
    let told = client.settled_events().await.unwrap();
    assert_eq!(told, [(changed.mzxid, support::event(support::DATA_CHANGED, CONFIG))]);
    assert_eq!(client.get(CONFIG, false).await, Ok((b"server.1=a".to_vec(), changed)));
    assert_eq!(client.set(CONFIG, b"", -1).await, refused(ErrorCode::NoAuth));
    // Its list's version is -1, which a setACL may also mean by "any".
    let list = root.get_acl(CONFIG).await.unwrap().0;
    assert_eq!(root.set_acl(CONFIG, list.clone(), 0).await, refused(ErrorCode::BadVersion));
    assert_eq!(root.set_acl(CONFIG, list, -1).await.unwrap().aversion, 0);
    root.set(CONFIG, &before, -1).await.unwrap();
    client.close().await.unwrap();
}

async fn every_server_enforces_the_same_lists(site: Site) {
    let (one, two) = (site.server().await, site.server().await);
    let (mut owner, room) = one.room().await;
    owner.auth("digest", b"alice:secret").await.unwrap();
    owner.set_acl(&room, vec![entry(Perms::ALL, "auth", "")], -1).await.unwrap();
    // The write is judged by the store's list, even where this server has not heard of it yet.
    let mut stranger = two.client().await;
    let result: Result<_, Error> = stranger.set(&room, b"", -1).await;
    assert_eq!(result, refused(ErrorCode::NoAuth));
    stranger.auth("digest", b"alice:secret").await.unwrap();
    assert_eq!(stranger.get_acl(&room).await, owner.get_acl(&room).await);
    assert_shown(&mut stranger, &room).await;
}

async fn assert_shown(client: &mut Client, path: &str) {
    let (list, stat) = client.get_acl(path).await.unwrap();
    assert_eq!((list, stat.aversion), (vec![entry(Perms::ALL, "digest", ALICE)], 1));
}
