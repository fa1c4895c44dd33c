//! Whatever one side writes, the other reads back; and no bytes at all make a reader panic.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::client::{self, Packet};
use super::*;

proptest! {
    #[test]
    fn requests_survive_the_wire(xid: i32, request in requests()) {
        let mut out = BytesMut::new();
        client::encode_request(&mut out, xid, &request);
        let header = RequestHeader { xid, op: request.op() };
        prop_assert_eq!(Request::decode(only_frame(&mut out)), Ok((header, request)));
    }

    #[test]
    fn a_request_that_is_cut_short_is_refused_with_its_header(xid: i32, request in requests(), cut: prop::sample::Index) {
        let mut out = BytesMut::new();
        client::encode_request(&mut out, xid, &request);
        let frame = only_frame(&mut out);
        let cut = cut.index(frame.len());
        match Request::decode(frame.slice(..cut)) {
            Err(DecodeError::Header(length)) => prop_assert!(length == cut && cut < 8),
            Err(DecodeError::Body { header, why }) => {
                prop_assert_eq!(header, RequestHeader { xid, op: request.op() });
                prop_assert_eq!(why, Malformed::Truncated);
            }
            Ok((_, request)) => prop_assert!(false, "{request:?} out of {cut} of {} bytes", frame.len()),
        }
    }

    #[test]
    fn connects_survive_the_wire(request in connects()) {
        let mut out = BytesMut::new();
        client::encode_connect(&mut out, &request);
        prop_assert_eq!(ConnectRequest::decode(&only_frame(&mut out)), Ok(request));
    }

    #[test]
    fn connect_responses_survive_the_wire(timeout: i32, session_id: i64, password: [u8; 16], read_only_byte: bool) {
        let response = ConnectResponse { timeout, session_id, password, read_only_byte };
        let mut out = BytesMut::new();
        response.encode(&mut out);
        prop_assert_eq!(client::decode_connect_response(&only_frame(&mut out)), Ok(response));
    }

    #[test]
    fn replies_survive_the_wire(xid in 1.., zxid: i64, (op, reply) in replies()) {
        let header = ReplyHeader::ok(xid, zxid);
        let mut out = BytesMut::new();
        encode_reply(&mut out, &header, &reply);
        let packet = client::decode_packet(&only_frame(&mut out)).unwrap();
        let Packet::Reply { header: read, body } = packet else { panic!("{packet:?}") };
        prop_assert_eq!(read, header);
        prop_assert_eq!(client::decode_reply(op, &header, &body), Ok(reply));
    }

    #[test]
    fn events_survive_the_wire(zxid: i64, kind: i32, state: i32, path: String) {
        let event = WatcherEvent { kind, state, path: Cow::Owned(path) };
        let mut out = BytesMut::new();
        encode_event(&mut out, zxid, &event);
        prop_assert_eq!(client::decode_packet(&only_frame(&mut out)), Ok(Packet::Event { zxid, event }));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(op in ops(), bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = ConnectRequest::decode(&bytes);
        let _ = client::decode_connect_response(&bytes);
        let _ = client::decode_packet(&bytes);
        let _ = client::decode_reply(op, &ReplyHeader::ok(1, 1), &bytes);
        let frame = [&[0, 0, 0, 1][..], &op.to_be_bytes(), &bytes].concat();
        let _ = Request::decode(Bytes::from(frame));
    }
}

#[test]
fn connect_responses_are_written_as_zookeeper_does() {
    let response = |timeout, session_id, byte, read_only_byte| {
        let mut out = BytesMut::new();
        ConnectResponse { timeout, session_id, password: [byte; 16], read_only_byte }.encode(&mut out);
        out
    };
    let fixed = [0, 0, 0, 37, 0, 0, 0, 0, 0, 0, 0x75, 0x30, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 16];
    let expected = [&fixed[..], &[9; 16], &[0]].concat();
    assert_eq!(response(30_000, 0x0102_0304_0506_0708, 9, true), expected);
    let expired = [&[0, 0, 0, 36][..], &[0; 16], &[0, 0, 0, 16], &[0; 16]].concat();
    assert_eq!(response(0, 0, 0, false), expired);
}

#[test]
fn data_is_a_slice_of_its_frame() {
    let mut out = BytesMut::new();
    let data = Some(Bytes::from_static(b"some data"));
    client::encode_request(&mut out, 1, &Request::SetData { path: "/a".into(), data, version: -1 });
    let frame = only_frame(&mut out);
    let (_, request) = Request::decode(frame.clone()).unwrap();
    let Request::SetData { data: Some(data), .. } = request else { panic!("{request:?}") };
    assert!(frame.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn a_malformed_body_is_answered_save_where_zookeeper_hangs_up() {
    let decode = |op: i32| Request::decode(Bytes::from([7, op].map(i32::to_be_bytes).concat())).unwrap_err();
    let header = |op| RequestHeader { xid: 7, op };
    assert_eq!(decode(op::CREATE).answer(), Some((header(op::CREATE), ErrorCode::MarshallingError)));
    assert_eq!(decode(op::EXISTS).answer(), Some((header(op::EXISTS), ErrorCode::MarshallingError)));
    assert_eq!(decode(op::AUTH).answer(), None);
    assert_eq!(decode(op::SASL).answer(), None);
    assert_eq!(Request::decode(Bytes::from_static(&[0; 7])).unwrap_err().answer(), None);
}

#[test]
fn in_a_multi_the_flags_decide_what_is_created() {
    let create = |op, flags, ttl, acl| {
        let (path, data) = ("/a".to_owned(), None);
        MultiOp::Create(CreateRequest { op, path, data, acl, flags, ttl })
    };
    let read = |operation: MultiOp| {
        let mut out = BytesMut::new();
        client::encode_request(&mut out, 1, &Request::Multi(vec![operation]));
        match Request::decode(only_frame(&mut out)) {
            Ok((_, Request::Multi(mut operations))) => Ok(operations.remove(0)),
            Ok(other) => panic!("{other:?}"),
            Err(DecodeError::Body { why, .. }) => Err(why),
            Err(why) => panic!("{why}"),
        }
    };
    let none = || Some(vec![]);
    for op in [op::CREATE, op::CREATE2, op::CREATE_CONTAINER] {
        assert_eq!(read(create(op, 4, 0, none())), Ok(create(op::CREATE_CONTAINER, 4, 0, none())));
        assert_eq!(read(create(op, 3, 0, none())), Ok(create(op, 3, 0, none())));
        for flags in [-1, 5, 6, 7] {
            assert_eq!(read(create(op, flags, 0, none())), Err(Malformed::MultiCreate { op, flags }));
        }
        assert_eq!(read(create(op, 0, 0, None)), Err(Malformed::Null));
    }
    assert_eq!(read(create(op::CREATE_TTL, 5, 9, None)), Ok(create(op::CREATE_TTL, 5, 9, None)));
    assert_eq!(read(create(op::CREATE_TTL, 7, 9, None)), Ok(create(op::CREATE_TTL, 7, 9, None)));
    assert_eq!(read(create(op::CREATE_TTL, 1, 9, None)), Ok(create(op::CREATE, 1, 0, none())));
    assert_eq!(read(create(op::CREATE_TTL, 4, 9, none())), Ok(create(op::CREATE_CONTAINER, 4, 0, none())));
}

#[test]
fn an_error_has_no_body_whatever_was_asked() {
    for op in [op::CREATE, op::GET_DATA, op::MULTI, op::SASL] {
        let header = ReplyHeader::error(1, 1, ErrorCode::NoNode);
        assert_eq!(client::decode_reply(op, &header, &[]), Ok(Reply::Empty));
    }
}

#[test]
fn numbers_of_errors_modes_and_watcher_types_are_zookeepers() {
    assert_eq!(ErrorCode::from_code(-101), Some(ErrorCode::NoNode));
    assert_eq!(ErrorCode::from_code(-9), None);
    assert_eq!(ErrorCode::from_code(1), None);
    let known = (-200..=200).filter_map(ErrorCode::from_code).map(ErrorCode::code);
    let codes = "-127 -125 -124 -123 -122 -121 -120 -119 -118 -115 -114 -113 -112 -111 -110 -108 -103 -102 -101 -100 \
                 -14 -13 -12 -8 -7 -6 -5 -4 -3 -2 -1 0";
    assert_eq!(known.map(|code| code.to_string()).collect::<Vec<_>>().join(" "), codes);

    let modes = (-10..10).filter_map(|flags| CreateMode::from_flags(flags).map(|mode| (flags, mode)));
    let modes: Vec<_> = modes.collect();
    assert_eq!(modes.len(), 7);
    assert!(modes.iter().all(|(flags, mode)| mode.flags() == *flags));
    let of = |is: fn(CreateMode) -> bool| -> Vec<i32> {
        modes.iter().filter(|(_, mode)| is(*mode)).map(|(flags, _)| *flags).collect()
    };
    assert_eq!(of(CreateMode::is_sequential), [2, 3, 6]);
    assert_eq!(of(CreateMode::is_ephemeral), [1, 3]);
    assert_eq!(of(CreateMode::is_ttl), [5, 6]);

    let kinds = (-10..10).filter_map(|kind| WatcherType::from_raw(kind).map(|known| (kind, known as i32)));
    assert_eq!(kinds.collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);

    assert!(Perms::ALL.contains(Perms::ADMIN));
    assert!(!Perms::READ.contains(Perms(3)));
}

/// The one frame in `out`, without its length.
fn only_frame(out: &mut BytesMut) -> Bytes {
    let frame = next_frame(out, usize::MAX).unwrap().expect("a whole frame");
    assert!(out.is_empty(), "bytes after the frame");
    frame
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn paths() -> impl Strategy<Value = Vec<String>> {
    vec(any::<String>(), 0..4)
}

fn ids() -> impl Strategy<Value = Id> {
    any::<(String, String)>().prop_map(|(scheme, id)| Id { scheme, id })
}

fn acls() -> impl Strategy<Value = Vec<Acl>> {
    vec((any::<i32>(), ids()).prop_map(|(perms, id)| Acl { perms: Perms(perms), id }), 0..4)
}

fn creates() -> impl Strategy<Value = CreateRequest> {
    let op = prop::sample::select(&[op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL]);
    (op, any::<String>(), option::of(bytes()), option::of(acls()), any::<(i32, i64)>()).prop_map(
        |(op, path, data, acl, (flags, ttl))| {
            let ttl = if op == op::CREATE_TTL { ttl } else { 0 };
            CreateRequest { op, path, data, acl, flags, ttl }
        },
    )
}

/// Creates that a multi leaves as they are.
fn multi_creates() -> impl Strategy<Value = CreateRequest> {
    let kinds = [(op::CREATE, 0), (op::CREATE, 3), (op::CREATE2, 1), (op::CREATE_CONTAINER, 4), (op::CREATE_TTL, 6)];
    (any::<String>(), option::of(bytes()), acls(), prop::sample::select(kinds.to_vec()), any::<i64>()).prop_map(
        |(path, data, acl, (op, flags), ttl)| {
            let ttl = if op == op::CREATE_TTL { ttl } else { 0 };
            CreateRequest { op, path, data, acl: Some(acl), flags, ttl }
        },
    )
}

fn multi_ops() -> impl Strategy<Value = MultiOp> {
    prop_oneof![
        multi_creates().prop_map(MultiOp::Create),
        any::<(String, i32)>().prop_map(|(path, version)| MultiOp::Delete { path, version }),
        (any::<(String, i32)>(), option::of(bytes())).prop_map(|((path, version), data)| MultiOp::SetData {
            path,
            data,
            version
        }),
        any::<(String, i32)>().prop_map(|(path, version)| MultiOp::Check { path, version }),
    ]
}

fn multi_read_ops() -> impl Strategy<Value = MultiReadOp> {
    any::<(bool, String)>().prop_map(|(data, path)| match data {
        true => MultiReadOp::GetData { path },
        false => MultiReadOp::GetChildren { path },
    })
}

fn set_watches() -> impl Strategy<Value = SetWatches> {
    (any::<i64>(), paths(), paths(), paths()).prop_map(|(relative_zxid, data, exist, child)| SetWatches {
        relative_zxid,
        data,
        exist,
        child,
    })
}

fn set_watches2() -> impl Strategy<Value = SetWatches2> {
    (set_watches(), paths(), paths()).prop_map(|(first, persistent, persistent_recursive)| {
        let SetWatches { relative_zxid, data, exist, child } = first;
        SetWatches2 { relative_zxid, data, exist, child, persistent, persistent_recursive }
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let watched = any::<(String, bool)>;
    let numbered = any::<(String, i32)>;
    prop_oneof![
        creates().prop_map(Request::Create),
        numbered().prop_map(|(path, version)| Request::Delete { path, version }),
        watched().prop_map(|(path, watch)| Request::Exists { path, watch }),
        watched().prop_map(|(path, watch)| Request::GetData { path, watch }),
        (numbered(), option::of(bytes())).prop_map(|((path, version), data)| Request::SetData { path, data, version }),
        any::<String>().prop_map(|path| Request::GetAcl { path }),
        (numbered(), option::of(acls())).prop_map(|((path, version), acl)| Request::SetAcl { path, acl, version }),
        watched().prop_map(|(path, watch)| Request::GetChildren { path, watch }),
        any::<String>().prop_map(|path| Request::Sync { path }),
        Just(Request::Ping),
        watched().prop_map(|(path, watch)| Request::GetChildren2 { path, watch }),
        vec(multi_ops(), 0..4).prop_map(Request::Multi),
        Just(Request::Reconfig),
        numbered().prop_map(|(path, kind)| Request::CheckWatches { path, kind }),
        numbered().prop_map(|(path, kind)| Request::RemoveWatches { path, kind }),
        any::<String>().prop_map(|path| Request::DeleteContainer { path }),
        vec(multi_read_ops(), 0..4).prop_map(Request::MultiRead),
        Just(Request::MultiReadOfWrites),
        (numbered(), option::of(bytes()))
            .prop_map(|((scheme, kind), auth)| { Request::Auth(AuthPacket { kind, scheme, auth }) }),
        set_watches().prop_map(Request::SetWatches),
        bytes().prop_map(|token| Request::Sasl { token }),
        any::<String>().prop_map(|prefix| Request::GetEphemerals { prefix }),
        any::<String>().prop_map(|path| Request::GetAllChildrenNumber { path }),
        set_watches2().prop_map(Request::SetWatches2),
        numbered().prop_map(|(path, mode)| Request::AddWatch { path, mode }),
        Just(Request::WhoAmI),
        Just(Request::CreateSession),
        Just(Request::CloseSession),
        prop::sample::select(&[0, -1, -12, 10, 108, i32::MAX]).prop_map(|op| Request::Unknown { op }),
    ]
}

fn connects() -> impl Strategy<Value = ConnectRequest> {
    (any::<(i32, i64, i32, i64)>(), bytes(), any::<Option<bool>>()).prop_map(|(numbers, password, read_only)| {
        let (protocol_version, last_zxid_seen, timeout, session_id) = numbers;
        ConnectRequest { protocol_version, last_zxid_seen, timeout, session_id, password, read_only }
    })
}

fn stats() -> impl Strategy<Value = Stat> {
    let (longs, ints) = (any::<(i64, i64, i64, i64, i64, i64)>(), any::<(i32, i32, i32, i32, i32)>());
    (longs, ints).prop_map(|((czxid, mzxid, ctime, mtime, ephemeral_owner, pzxid), ints)| {
        let (version, cversion, aversion, data_length, num_children) = ints;
        Stat {
            czxid,
            mzxid,
            ctime,
            mtime,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            data_length,
            num_children,
            pzxid,
        }
    })
}

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    any::<String>().prop_map(Cow::Owned)
}

fn names() -> impl Strategy<Value = Vec<Cow<'static, str>>> {
    vec(text(), 0..5)
}

fn payload() -> impl Strategy<Value = Option<Cow<'static, [u8]>>> {
    option::of(vec(any::<u8>(), 0..20).prop_map(Cow::Owned))
}

fn multi_results() -> impl Strategy<Value = MultiResult<'static>> {
    prop_oneof![
        text().prop_map(|path| MultiResult::Create { path }),
        (text(), stats()).prop_map(|(path, stat)| MultiResult::Create2 { path, stat }),
        Just(MultiResult::Delete),
        stats().prop_map(|stat| MultiResult::SetData { stat }),
        Just(MultiResult::Check),
        (payload(), stats()).prop_map(|(data, stat)| MultiResult::GetData { data, stat }),
        names().prop_map(|children| MultiResult::GetChildren { children }),
        prop::sample::select(&[ErrorCode::Ok, ErrorCode::NoNode, ErrorCode::RuntimeInconsistency])
            .prop_map(MultiResult::Error),
    ]
}

/// Replies, each with a type of request that is answered so.
fn replies() -> impl Strategy<Value = (i32, Reply<'static>)> {
    let bare = [op::DELETE, op::PING, op::REMOVE_WATCHES, op::AUTH, op::SET_WATCHES, op::CLOSE_SESSION];
    prop_oneof![
        prop::sample::select(bare.to_vec()).prop_map(|op| (op, Reply::Empty)),
        text().prop_map(|path| (op::CREATE, Reply::Path(path))),
        (text(), stats()).prop_map(|(path, stat)| (op::CREATE2, Reply::PathStat(path, stat))),
        stats().prop_map(|stat| (op::EXISTS, Reply::Stat(stat))),
        (payload(), stats()).prop_map(|(data, stat)| (op::GET_DATA, Reply::Data(data, stat))),
        (acls(), stats()).prop_map(|(acl, stat)| (op::GET_ACL, Reply::Acl(acl, stat))),
        names().prop_map(|names| (op::GET_CHILDREN, Reply::Children(names))),
        (names(), stats()).prop_map(|(names, stat)| (op::GET_CHILDREN2, Reply::Children2(names, stat))),
        any::<i32>().prop_map(|count| (op::GET_ALL_CHILDREN_NUMBER, Reply::Count(count))),
        vec(multi_results(), 0..5).prop_map(|results| (op::MULTI, Reply::Multi(results))),
        vec(ids(), 0..4).prop_map(|ids| (op::WHO_AM_I, Reply::WhoAmI(ids))),
        payload().prop_map(|token| (op::SASL, Reply::Sasl(token))),
        Just((op::ADD_WATCH, Reply::AddWatch)),
    ]
}

fn ops() -> impl Strategy<Value = i32> {
    prop_oneof![0..23_i32, 100..109_i32, any::<i32>()]
}
