//! Bytes for the cases: jute's types, and the bodies of requests.

use zketcd::jute::op;

pub fn int(value: i32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

pub fn long(value: i64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

pub fn byte(value: u8) -> Vec<u8> {
    vec![value]
}

/// A string or a buffer.
pub fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&int(i32::try_from(bytes.len()).expect("a short text"))[..], bytes].concat()
}

pub fn null() -> Vec<u8> {
    int(-1)
}

pub fn list(elements: &[&str]) -> Vec<u8> {
    let count = int(i32::try_from(elements.len()).expect("a short list"));
    count.into_iter().chain(elements.iter().flat_map(text)).collect()
}

pub fn acl(perms: i32, scheme: &str, id: &str) -> Vec<u8> {
    [int(perms), text(scheme), text(id)].concat()
}

/// `world:anyone:cdrwa`, as a list.
pub fn open() -> Vec<u8> {
    [int(1), acl(31, "world", "anyone")].concat()
}

/// A frame behind its length.
pub fn framed(body: impl AsRef<[u8]>) -> Vec<u8> {
    text(body)
}

/// A request in its frame.
pub fn request(xid: i32, op: i32, body: impl AsRef<[u8]>) -> Vec<u8> {
    framed([&int(xid)[..], &int(op), body.as_ref()].concat())
}

pub fn create(path: &str, flags: i32) -> Vec<u8> {
    [text(path), text("d"), open(), int(flags)].concat()
}

pub fn create_ttl(path: &str, flags: i32, ttl: i64) -> Vec<u8> {
    [create(path, flags), long(ttl)].concat()
}

pub fn path_version(path: &str, version: i32) -> Vec<u8> {
    [text(path), int(version)].concat()
}

pub fn path_watch(path: &str, watch: u8) -> Vec<u8> {
    [text(path), byte(watch)].concat()
}

pub fn set_data(path: &str, data: &[u8], version: i32) -> Vec<u8> {
    [text(path), text(data), int(version)].concat()
}

pub fn set_acl(path: &str, acl: Vec<u8>, version: i32) -> Vec<u8> {
    [text(path), acl, int(version)].concat()
}

pub fn auth(scheme: &str, token: &[u8]) -> Vec<u8> {
    [int(0), text(scheme), text(token)].concat()
}

pub fn set_watches(zxid: i64, lists: &[&[&str]]) -> Vec<u8> {
    lists.iter().fold(long(zxid), |body, paths| [body, list(paths)].concat())
}

/// The header before each operation of a multi.
pub fn multi_header(op: i32, done: u8, err: i32) -> Vec<u8> {
    [int(op), byte(done), int(err)].concat()
}

pub fn multi_end() -> Vec<u8> {
    multi_header(-1, 1, -1)
}

/// A multi or a multiRead.
pub fn multi(ops: &[(i32, Vec<u8>)]) -> Vec<u8> {
    let mut body: Vec<u8> =
        ops.iter().flat_map(|(op, body)| [multi_header(*op, 0, -1), body.clone()].concat()).collect();
    body.extend(multi_end());
    body
}

/// Every type of request that has a body, well-formed: its name, opcode and body.
pub fn bodies() -> Vec<(&'static str, i32, Vec<u8>)> {
    let changes = [
        (op::CREATE, create("/c/m", 0)),
        (op::SET_DATA, set_data("/c/m", b"x", 0)),
        (op::CHECK, path_version("/c/m", 1)),
        (op::DELETE, path_version("/c/m", -1)),
    ];
    let reads = [(op::GET_DATA, path_watch("/c", 0)), (op::GET_CHILDREN, path_watch("/c", 0))];
    vec![
        ("create", op::CREATE, create("/c/n", 0)),
        ("create2", op::CREATE2, create("/c/n", 0)),
        ("createContainer", op::CREATE_CONTAINER, create("/c/n", 4)),
        ("createTTL", op::CREATE_TTL, create_ttl("/c/n", 5, 100_000)),
        ("delete", op::DELETE, path_version("/c/n", -1)),
        ("deleteContainer", op::DELETE_CONTAINER, text("/c/n")),
        ("exists", op::EXISTS, path_watch("/c/n", 1)),
        ("getData", op::GET_DATA, path_watch("/c", 1)),
        ("setData", op::SET_DATA, set_data("/c", b"new", -1)),
        ("getACL", op::GET_ACL, text("/c")),
        ("setACL", op::SET_ACL, set_acl("/c", open(), -1)),
        ("getChildren", op::GET_CHILDREN, path_watch("/c", 1)),
        ("getChildren2", op::GET_CHILDREN2, path_watch("/c", 1)),
        ("sync", op::SYNC, text("/c")),
        ("multi", op::MULTI, multi(&changes)),
        ("multiRead", op::MULTI_READ, multi(&reads)),
        ("reconfig", op::RECONFIG, [text("a"), text("b"), text("c"), long(-1)].concat()),
        ("checkWatches", op::CHECK_WATCHES, path_version("/c", 3)),
        ("removeWatches", op::REMOVE_WATCHES, path_version("/c", 3)),
        ("setWatches", op::SET_WATCHES, set_watches(i64::MAX, &[&["/c"], &["/c/none"], &["/c"]])),
        ("setWatches2", op::SET_WATCHES2, set_watches(i64::MAX, &[&["/c"], &["/c/none"], &["/c"], &["/c"], &["/c"]])),
        ("addWatch", op::ADD_WATCH, path_version("/c", 0)),
        ("getEphemerals", op::GET_EPHEMERALS, text("/c")),
        ("getAllChildrenNumber", op::GET_ALL_CHILDREN_NUMBER, text("/c")),
    ]
}
