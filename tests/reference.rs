//! What the codec and the test client take ZooKeeper to say, checked against ZooKeeper itself (`make reference`).
//!
//! Each test works below a znode of its own and leaves it behind.

#[path = "support/client.rs"]
mod client;
#[path = "support/zookeeper.rs"]
mod zookeeper;

use bytes::{Bytes, BytesMut};
use client::{Client, ConnectOptions, Error, Incoming, Wire, check_op, create_request, delete_op, open_acl, set_op};
use zketcd::jute::client::encode_request;
use zketcd::jute::{
    Acl, CreateMode, CreateRequest, ErrorCode, Id, MultiOp, MultiReadOp, MultiResult, Perms, Reply, ReplyHeader,
    Request, SetWatches, SetWatches2, WatcherEvent, WatcherType, op, xid,
};

const CREATED: i32 = 1;
const DELETED: i32 = 2;
const DATA_CHANGED: i32 = 3;
const CHILDREN_CHANGED: i32 = 4;
/// `KeeperState.SyncConnected`, the state of every watch event.
const CONNECTED: i32 = 3;

#[tokio::test]
async fn creates_are_answered_by_path_or_by_path_and_stat() {
    let (mut client, room) = room("create").await;
    let path = format!("{room}/a");
    assert_eq!(client.create(&path, b"1", CreateMode::Persistent).await, Ok(path.clone()));
    assert_eq!(client.create(&path, b"1", CreateMode::Persistent).await, Err(ErrorCode::NodeExists.into()));
    assert_eq!(client.create("a", b"1", CreateMode::Persistent).await, Err(ErrorCode::BadArguments.into()));
    let sequential = client.create(&format!("{room}/s-"), b"", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(sequential, format!("{room}/s-0000000001"));

    let (path, stat) = client.create2(&format!("{room}/b"), b"123", CreateMode::Ephemeral).await.unwrap();
    assert_eq!(path, format!("{room}/b"));
    assert_eq!((stat.version, stat.cversion, stat.aversion, stat.num_children), (0, 0, 0, 0));
    assert_eq!((stat.data_length, stat.ephemeral_owner), (3, client.session_id()));
    assert!(stat.czxid > 0 && stat.czxid == stat.mzxid && stat.czxid == stat.pzxid);
    assert!(stat.ctime > 1_600_000_000_000 && stat.ctime == stat.mtime);

    let container = client.create(&format!("{room}/container"), b"", CreateMode::Container).await.unwrap();
    assert_eq!(client.exists(&container, false).await.unwrap().unwrap().ephemeral_owner, 0);
    let ttl = format!("{room}/ttl");
    let (_, stat) = client.create_ttl(&ttl, b"", CreateMode::PersistentWithTtl, 3_600_000).await.unwrap();
    assert_eq!(stat.ephemeral_owner, 0);

    // Without a list of ACLs, and with null data.
    let bare =
        |path: &str, acl| CreateRequest { op: op::CREATE2, path: path.into(), data: None, acl, flags: 0, ttl: 0 };
    let none = format!("{room}/none");
    assert_eq!(client.create_with(bare(&none, None)).await, Err(ErrorCode::InvalidAcl.into()));
    let (_, stat) = client.create_with(bare(&none, Some(open_acl()))).await.unwrap();
    assert_eq!(stat.data_length, 0);
    let read = client.ok(Request::GetData { path: none.clone(), watch: false }).await.unwrap();
    assert!(matches!(read, Reply::Data(None, _)), "{read:?}");
    let results = client.multi_read(vec![MultiReadOp::GetData { path: none }]).await.unwrap();
    assert!(matches!(results[..], [MultiResult::GetData { data: None, .. }]), "{results:?}");
    let odd = CreateRequest { flags: 99, ..bare(&room, Some(open_acl())) };
    assert_eq!(client.create_with(odd).await, Err(ErrorCode::BadArguments.into()));
    client.close().await.unwrap();
}

#[tokio::test]
async fn reads_and_writes_of_one_znode() {
    let (mut client, room) = room("znode").await;
    let missing = format!("{room}/missing");
    assert_eq!(client.get(&missing, false).await, Err(ErrorCode::NoNode.into()));
    assert_eq!(client.exists(&missing, false).await, Ok(None));
    let stat = client.set(&room, b"two", 0).await.unwrap();
    assert_eq!((stat.version, stat.data_length), (1, 3));
    assert_eq!(client.set(&room, b"", 0).await, Err(ErrorCode::BadVersion.into()));
    assert_eq!(client.get(&room, false).await, Ok((b"two".to_vec(), stat)));
    assert_eq!(client.exists(&room, false).await, Ok(Some(stat)));

    for name in ["x", "y"] {
        client.create(&format!("{room}/{name}"), b"", CreateMode::Ephemeral).await.unwrap();
    }
    assert_eq!(client.children(&room, false).await.unwrap(), ["x", "y"]);
    let (names, stat) = client.children2(&room, false).await.unwrap();
    assert_eq!((names, stat.num_children, stat.cversion), (vec!["x".to_owned(), "y".to_owned()], 2, 2));
    assert_eq!(client.all_children_number(&room).await, Ok(2));
    assert_eq!(client.ephemerals(&room).await.unwrap(), [format!("{room}/x"), format!("{room}/y")]);
    assert_eq!(client.ephemerals("/elsewhere").await.unwrap(), [""; 0]);
    assert_eq!(client.delete(&room, -1).await, Err(ErrorCode::NotEmpty.into()));
    assert_eq!(client.delete(&format!("{room}/x"), 0).await, Ok(()));
    assert_eq!(client.sync(&room).await, Ok(()));
    assert_eq!(client.sync(&missing).await, Ok(()));
    assert_eq!(client.ping().await, Ok(()));

    let (acl, stat) = client.get_acl(&room).await.unwrap();
    assert_eq!((acl, stat.aversion), (open_acl(), 0));
    let id = Id { scheme: "world".into(), id: "anyone".into() };
    let read_only = vec![Acl { perms: Perms::READ, id }];
    assert_eq!(client.set_acl(&room, read_only.clone(), 0).await.unwrap().aversion, 1);
    assert_eq!(client.get_acl(&room).await.unwrap().0, read_only);
    assert_eq!(client.set(&room, b"", -1).await, Err(ErrorCode::NoAuth.into()));
    assert_eq!(client.set_acl(&room, vec![], -1).await, Err(ErrorCode::InvalidAcl.into()));
    assert_eq!(client.ok(Request::Reconfig).await, Err(ErrorCode::ReconfigDisabled.into()));
    let container = Request::DeleteContainer { path: missing };
    assert_eq!(client.ok(container).await, Err(ErrorCode::NoNode.into()));
    client.close().await.unwrap();
}

#[tokio::test]
async fn identities_are_shown_by_who_am_i() {
    let mut client = client().await;
    let ip = |one: &Id| one.scheme == "ip" && one.id == "127.0.0.1";
    assert!(client.who_am_i().await.unwrap().iter().any(ip));
    client.auth("digest", b"user:secret").await.unwrap();
    let digest = Id { scheme: "digest".into(), id: "user".into() };
    assert!(client.who_am_i().await.unwrap().contains(&digest));
    // A server without SASL has no token to answer with.
    let sasl = Request::Sasl { token: Bytes::new() };
    assert_eq!(client.ok(sasl).await, Ok(Reply::Sasl(None)));
    assert_eq!(client.auth("unheard", b"of").await, Err(ErrorCode::AuthFailed.into()));
    client.closed().await.unwrap();
}

#[tokio::test]
async fn a_multi_gives_typed_results_or_errors_only() {
    let (mut client, room) = room("multi").await;
    let path = |name: &str| format!("{room}/{name}");
    let create = |op, name: &str, mode: CreateMode, ttl| {
        MultiOp::Create(CreateRequest { ttl, ..create_request(op, &path(name), b"data", mode) })
    };
    let results = client
        .multi(vec![
            check_op(&room, 0),
            create(op::CREATE, "a", CreateMode::Persistent, 0),
            create(op::CREATE2, "b", CreateMode::Ephemeral, 0),
            create(op::CREATE_CONTAINER, "c", CreateMode::Container, 0),
            create(op::CREATE, "c2", CreateMode::Container, 0),
            create(op::CREATE_TTL, "t", CreateMode::PersistentWithTtl, 3_600_000),
            create(op::CREATE_TTL, "p", CreateMode::Persistent, 9),
            set_op(&path("a"), b"more", 0),
            delete_op(&path("a"), 1),
        ])
        .await
        .unwrap();
    let create2 = |result: &MultiResult<'_>, name: &str| match result {
        MultiResult::Create2 { path: created, stat } => *created == path(name) && stat.data_length == 4,
        _ => false,
    };
    let [check, a, b, c, c2, t, p, set, delete] = &results[..] else { panic!("{results:?}") };
    assert_eq!((check, delete), (&MultiResult::Check, &MultiResult::Delete));
    assert_eq!(*a, MultiResult::Create { path: path("a").into() });
    assert_eq!(*p, MultiResult::Create { path: path("p").into() });
    for (result, name) in [(b, "b"), (c, "c"), (c2, "c2"), (t, "t")] {
        assert!(create2(result, name), "{name}: {result:?}");
    }
    assert!(matches!(set, MultiResult::SetData { stat } if stat.version == 1), "{set:?}");
    assert_eq!(client.multi(vec![]).await.unwrap(), []);

    let failing = vec![check_op(&room, -1), delete_op(&path("none"), -1), delete_op(&path("b"), -1)];
    let (header, reply) = client.call(Request::Multi(failing)).await.unwrap();
    assert_eq!(header.err, ErrorCode::Ok.code());
    let errors = [ErrorCode::Ok, ErrorCode::NoNode, ErrorCode::RuntimeInconsistency];
    assert_eq!(reply, Reply::Multi(errors.map(MultiResult::Error).to_vec()));

    // Flags that name no mode fail in the znode's turn if the type is createTTL, else they spoil the whole request.
    let odd = |op| {
        MultiOp::Create(CreateRequest { flags: 99, ..create_request(op, &path("o"), b"", CreateMode::Persistent) })
    };
    let results = client.multi(vec![odd(op::CREATE_TTL)]).await.unwrap();
    assert_eq!(results, [MultiResult::Error(ErrorCode::BadArguments)]);
    for op in [op::CREATE, op::CREATE2, op::CREATE_CONTAINER] {
        assert_eq!(client.multi(vec![odd(op)]).await, Err(ErrorCode::MarshallingError.into()));
    }
    let ttl = create(op::CREATE, "o", CreateMode::PersistentWithTtl, 0);
    assert_eq!(client.multi(vec![ttl]).await, Err(ErrorCode::MarshallingError.into()));
    let without_acl = |op| {
        MultiOp::Create(CreateRequest { acl: None, ..create_request(op, &path("o"), b"", CreateMode::Persistent) })
    };
    assert_eq!(client.multi(vec![without_acl(op::CREATE)]).await, Err(ErrorCode::MarshallingError.into()));
    let results = client.multi(vec![without_acl(op::CREATE_TTL)]).await.unwrap();
    assert_eq!(results, [MultiResult::Error(ErrorCode::InvalidAcl)]);

    let reads = vec![
        MultiReadOp::GetData { path: room.clone() },
        MultiReadOp::GetData { path: path("none") },
        MultiReadOp::GetChildren { path: room.clone() },
    ];
    let results = client.multi_read(reads).await.unwrap();
    let [
        MultiResult::GetData { data: Some(data), stat },
        MultiResult::Error(error),
        MultiResult::GetChildren { children },
    ] = &results[..]
    else {
        panic!("{results:?}")
    };
    assert_eq!((&data[..], stat.version, *error), (&b"room"[..], 0, ErrorCode::NoNode));
    let mut children = children.clone();
    children.sort();
    assert_eq!(children, ["b", "c", "c2", "p", "t"]);
    client.close().await.unwrap();
}

#[tokio::test]
async fn watches_of_every_kind() {
    let (mut client, room) = room("watch").await;
    let mut other = self::client().await;
    let child = format!("{room}/child");
    let event = |kind, path: &str| WatcherEvent { kind, state: CONNECTED, path: path.to_owned().into() };
    let kinds =
        |events: Vec<(i64, WatcherEvent<'static>)>| events.into_iter().map(|(_, event)| event).collect::<Vec<_>>();

    client.get(&room, true).await.unwrap();
    client.children(&room, true).await.unwrap();
    assert_eq!(client.exists(&child, true).await, Ok(None));
    let (_, stat) = other.create2(&child, b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(client.next_event().await.unwrap(), (stat.czxid, event(CREATED, &child)));
    assert_eq!(client.next_event().await.unwrap(), (stat.czxid, event(CHILDREN_CHANGED, &room)));
    other.set(&room, b"changed", -1).await.unwrap();
    assert_eq!(kinds(client.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);

    client.add_watch(&room, 0).await.unwrap();
    client.add_watch(&child, 1).await.unwrap();
    for kind in [WatcherType::Persistent, WatcherType::Any] {
        assert_eq!(client.check_watches(&room, kind as i32).await, Ok(()));
    }
    assert_eq!(client.check_watches(&room, WatcherType::Data as i32).await, Err(ErrorCode::NoWatcher.into()));
    other.set(&room, b"again", -1).await.unwrap();
    other.delete(&child, -1).await.unwrap();
    let expected = [event(DATA_CHANGED, &room), event(DELETED, &child), event(CHILDREN_CHANGED, &room)];
    assert_eq!(kinds(client.settled_events().await.unwrap()), expected);
    assert_eq!(client.remove_watches(&room, WatcherType::Persistent as i32).await, Ok(()));
    assert_eq!(client.remove_watches(&room, WatcherType::Any as i32).await, Err(ErrorCode::NoWatcher.into()));
    assert_eq!(client.remove_watches(&room, 9).await, Err(ErrorCode::MarshallingError.into()));
    assert_eq!(client.add_watch(&room, 9).await, Err(ErrorCode::MarshallingError.into()));

    // What happened since the zxid named is told at once.
    let watches =
        SetWatches { relative_zxid: stat.czxid, data: vec![room.clone()], exist: vec![], child: vec![child.clone()] };
    client.done(Request::SetWatches(watches)).await.unwrap();
    let expected = [event(DATA_CHANGED, &room), event(DELETED, &child)];
    assert_eq!(kinds(client.settled_events().await.unwrap()), expected);
    let relative_zxid = client.last_zxid();
    let persistent = vec![room.clone()];
    client.done(Request::SetWatches2(SetWatches2 { relative_zxid, persistent, ..Default::default() })).await.unwrap();
    other.set(&room, b"last", -1).await.unwrap();
    assert_eq!(kinds(client.settled_events().await.unwrap()), [event(DATA_CHANGED, &room)]);
    client.close().await.unwrap();
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (mut client, room) = room("pipeline").await;
    let create =
        |n: i32| Request::Create(create_request(op::CREATE, &format!("{room}/{n}"), b"", CreateMode::Persistent));
    let xids = client.send_all((0..100).map(create)).await.unwrap();
    for (n, sent) in xids.into_iter().enumerate() {
        let Incoming::Reply { header, reply } = client.recv().await.unwrap() else { panic!("an event") };
        assert_eq!((header.xid, header.err, reply), (sent, 0, Reply::Path(format!("{room}/{n}").into())));
    }
    assert_eq!(client.log().len(), 101);
    client.close().await.unwrap();
}

#[tokio::test]
async fn sessions_are_opened_resumed_and_refused() {
    let (mut client, room) = room("session").await;
    client.get(&room, false).await.unwrap();
    let mut moved = Client::connect(server(), client.resume()).await.unwrap();
    assert_eq!((moved.session_id(), moved.password()), (client.session_id(), client.password()));
    client.closed().await.unwrap();
    moved.get(&room, false).await.unwrap();

    let resume = moved.resume();
    let wrong = ConnectOptions { session: (moved.session_id(), [1; 16]), ..resume.clone() };
    assert_eq!(Client::connect(server(), wrong).await.err(), Some(Error::Expired));
    let ahead = ConnectOptions { last_zxid: i64::MAX, ..Default::default() };
    assert_eq!(Client::connect(server(), ahead).await.err(), Some(Error::Closed));
    moved = Client::connect(server(), resume.clone()).await.unwrap();
    moved.close().await.unwrap();
    assert_eq!(Client::connect(server(), resume).await.err(), Some(Error::Expired));

    let old = ConnectOptions { read_only: None, ..Default::default() };
    let old = Client::connect(server(), old).await.unwrap();
    assert!(!old.timeout().is_zero());
    old.close().await.unwrap();
}

#[tokio::test]
async fn malformed_bodies_are_answered_and_the_connection_goes_on() {
    let mut client = client().await;
    let null = [0xff; 4];
    let empty = [0; 4];
    let path = [0, 0, 0, 2, b'/', b'm'];
    let end = [0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff];
    let operation = |kind: u8| [0, 0, 0, kind, 0, 0xff, 0xff, 0xff, 0xff];
    let cases: Vec<(i32, Vec<u8>, ErrorCode)> = vec![
        (op::CREATE, vec![], ErrorCode::MarshallingError),
        (op::CREATE, [&null[..], &empty, &empty, &empty].concat(), ErrorCode::MarshallingError),
        (op::DELETE, [&null[..], &empty].concat(), ErrorCode::MarshallingError),
        (op::EXISTS, vec![], ErrorCode::MarshallingError),
        (op::EXISTS, [&null[..], &[0]].concat(), ErrorCode::MarshallingError),
        (op::GET_DATA, [&null[..], &[0]].concat(), ErrorCode::MarshallingError),
        // A length below -1, and one beyond the frame.
        (op::GET_DATA, vec![0xff, 0xff, 0xff, 0xfe, 0], ErrorCode::MarshallingError),
        (op::GET_DATA, vec![0x7f, 0xff, 0xff, 0xff, 0], ErrorCode::MarshallingError),
        (op::SET_DATA, [&null[..], &empty, &empty].concat(), ErrorCode::BadArguments),
        (op::SET_ACL, [&null[..], &empty, &empty].concat(), ErrorCode::BadArguments),
        (op::GET_ACL, null.to_vec(), ErrorCode::MarshallingError),
        (op::GET_CHILDREN2, [&null[..], &[0]].concat(), ErrorCode::MarshallingError),
        (op::SYNC, null.to_vec(), ErrorCode::Ok),
        (op::SYNC, vec![], ErrorCode::MarshallingError),
        (op::GET_EPHEMERALS, null.to_vec(), ErrorCode::Ok),
        (op::GET_ALL_CHILDREN_NUMBER, null.to_vec(), ErrorCode::MarshallingError),
        (op::CHECK_WATCHES, [&null[..], &[0, 0, 0, 3]].concat(), ErrorCode::NoWatcher),
        (op::REMOVE_WATCHES, [&null[..], &[0, 0, 0, 3]].concat(), ErrorCode::NoWatcher),
        (op::ADD_WATCH, [&null[..], &empty].concat(), ErrorCode::Ok),
        (op::DELETE_CONTAINER, null.to_vec(), ErrorCode::MarshallingError),
        (op::RECONFIG, [&null[..], &null, &null].concat(), ErrorCode::MarshallingError),
        (op::SET_WATCHES, vec![0; 19], ErrorCode::MarshallingError),
        (op::SET_WATCHES, [&[0; 8][..], &null, &empty, &empty].concat(), ErrorCode::MarshallingError),
        // A vector's count below -1 is an empty vector: no ACLs at all.
        (op::SET_ACL, [&path[..], &[0xff, 0xff, 0xff, 0xfe], &empty].concat(), ErrorCode::InvalidAcl),
        (op::SET_ACL, [&path[..], &[0x7f, 0xff, 0xff, 0xff], &empty].concat(), ErrorCode::MarshallingError),
        (op::MULTI, operation(op::GET_DATA as u8)[..8].to_vec(), ErrorCode::MarshallingError),
        // Reads in a multi, writes in a multiRead, both in either, unknown types.
        (op::MULTI, [&operation(4)[..], &path, &[0], &end].concat(), ErrorCode::MarshallingError),
        (op::MULTI_READ, [&operation(2)[..], &path, &empty, &end].concat(), ErrorCode::MarshallingError),
        (
            op::MULTI,
            [&operation(2)[..], &path, &empty, &operation(4), &path, &[0], &end].concat(),
            ErrorCode::MarshallingError,
        ),
        (
            op::MULTI_READ,
            [&operation(4)[..], &path, &[0], &operation(2), &path, &empty, &end].concat(),
            ErrorCode::MarshallingError,
        ),
        (op::MULTI, [&operation(3)[..], &path, &[0], &end].concat(), ErrorCode::MarshallingError),
        (op::MULTI, [&operation(13)[..], &null, &empty, &end].concat(), ErrorCode::MarshallingError),
        (op::MULTI, [&operation(5)[..], &null, &null, &empty, &end].concat(), ErrorCode::MarshallingError),
        // Any byte but 0 ends a multi; bytes after a body are ignored.
        (op::MULTI, [&[0, 0, 0, 5, 0x80, 0, 0, 0, 0][..], b"rest"].concat(), ErrorCode::Ok),
        (op::EXISTS, [&path[..], &[0], b"rest"].concat(), ErrorCode::NoNode),
        (op::PING, vec![1, 2, 3], ErrorCode::Ok),
        (op::WHO_AM_I, vec![1, 2, 3], ErrorCode::Ok),
    ];
    for (n, (op, body, code)) in cases.into_iter().enumerate() {
        let xid = 1000 + i32::try_from(n).unwrap();
        let frame = [&xid.to_be_bytes()[..], &op.to_be_bytes(), &body].concat();
        // What we make of it...
        match Request::decode(Bytes::from(frame.clone())) {
            Ok(_) => assert_ne!(code, ErrorCode::MarshallingError, "case {n} of type {op} was read"),
            Err(error) => {
                let (header, answer) = error.answer().unwrap_or_else(|| panic!("case {n}: {error}"));
                assert_eq!((header.xid, header.op, answer), (xid, op, code), "case {n}: {error}");
            }
        }
        // ... and ZooKeeper.
        client.send_raw(&framed(&frame)).await.unwrap();
        let Incoming::Reply { header, .. } = client.recv().await.unwrap() else { panic!("an event") };
        let answered = if op == op::PING { xid::PING } else { xid };
        assert_eq!((header.xid, header.err), (answered, code.code()), "case {n} of type {op}");
    }
    client.close().await.unwrap();
}

#[tokio::test]
async fn some_frames_end_the_connection() {
    let mut silent: Vec<Vec<u8>> = vec![
        // No header: no frame at all, one too short.
        vec![],
        vec![0; 7],
    ];
    let request = |op: i32, body: &[u8]| [&[0, 0, 0, 1][..], &op.to_be_bytes(), body].concat();
    silent.push(request(op::AUTH, &[]));
    silent.push(request(op::SASL, &[]));
    for frame in silent {
        let error = Request::decode(Bytes::from(frame.clone())).unwrap_err();
        assert_eq!(error.answer(), None);
        let mut client = client().await;
        client.send_raw(&framed(&frame)).await.unwrap();
        client.closed().await.unwrap();
        assert_eq!(client.log(), []);
    }
    for length in [-1, i32::MIN, 0x10_0000] {
        let mut client = client().await;
        client.send_raw(&length.to_be_bytes()).await.unwrap();
        client.closed().await.unwrap();
        assert_eq!(client.log(), []);
    }
    // Types that nobody knows, or no client may use: an answer first.
    for op in [op::CHECK, op::ERROR, 0, 10, 108] {
        let mut client = client().await;
        client.send_raw(&framed(&request(op, &[]))).await.unwrap();
        client.closed().await.unwrap();
        let [Incoming::Reply { header, .. }] = client.log() else { panic!("{:?}", client.log()) };
        assert_eq!(*header, ReplyHeader { xid: 1, zxid: header.zxid, err: ErrorCode::Unimplemented.code() });
    }
    // The longest frame passes, header included.
    let mut client = client().await;
    let mut out = BytesMut::new();
    let data = Some(Bytes::from(vec![7; 0xfffff - 8 - 4 - 2 - 4 - 4]));
    encode_request(&mut out, 1, &Request::SetData { path: "/x".into(), data, version: -1 });
    assert_eq!(out.len(), 4 + 0xfffff);
    client.send_raw(&out).await.unwrap();
    let Incoming::Reply { header, .. } = client.recv().await.unwrap() else { panic!("an event") };
    assert_eq!(header.err, ErrorCode::NoNode.code());

    // A connect request that ends too early.
    let mut wire = Wire::connect(server()).await.unwrap();
    wire.send_raw(&framed(&[0; 20])).await.unwrap();
    assert_eq!(wire.closed().await.unwrap(), Bytes::new());
}

/// Where the reference server listens.
fn server() -> std::net::SocketAddr {
    zookeeper::ZooKeeper::shared()
}

async fn client() -> Client {
    Client::connect(server(), ConnectOptions::default()).await.unwrap()
}

/// A client, and a znode of its own.
async fn room(name: &str) -> (Client, String) {
    let mut client = client().await;
    let path = format!("/reference-{name}-{:x}", client.session_id());
    client.create(&path, b"room", CreateMode::Persistent).await.unwrap();
    (client, path)
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap();
    [&length.to_be_bytes()[..], frame].concat()
}
