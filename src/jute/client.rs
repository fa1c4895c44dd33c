//! The client's side of the wire: requests into frames, frames into answers and events. For the load generator, the
//! tests and the fuzz targets; the server needs none of it.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use nom::number::complete::{be_i32, be_i64};
use nom::{Err, Parser};

use super::read::{self, Malformed, Parsed, refuse};
use super::{
    Acl, ConnectRequest, ConnectResponse, CreateRequest, ErrorCode, MultiOp, MultiReadOp, MultiResult, Reply,
    ReplyHeader, Request, WatcherEvent, op, write, xid,
};

/// The fewest bytes of a string: its length.
const MIN_STRING: usize = 4;

/// A frame from a server, after the connect response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// An answer. Which body it has depends on what was asked: [`decode_reply`].
    Reply { header: ReplyHeader, body: Bytes },
    /// A watch event; `zxid` is that of the change (-1 from servers before 3.9).
    Event { zxid: i64, event: WatcherEvent<'static> },
}

/// Appends a connect request, a frame with its length.
pub fn encode_connect(out: &mut BytesMut, request: &ConnectRequest) {
    write::frame(out, |out| {
        out.put_i32(request.protocol_version);
        out.put_i64(request.last_zxid_seen);
        out.put_i32(request.timeout);
        out.put_i64(request.session_id);
        write::buffer(out, Some(&request.password));
        if let Some(read_only) = request.read_only {
            write::boolean(out, read_only);
        }
    });
}

/// Appends a request, header and body, a frame with its length. What a [`Request`] does not carry is written as a
/// client that wants nothing special would: a reconfig of nothing, reads of a multiRead without watches.
pub fn encode_request(out: &mut BytesMut, xid: i32, request: &Request) {
    write::frame(out, |out| {
        out.put_i32(xid);
        out.put_i32(request.op());
        body(out, request);
    });
}

/// Reads the answer to a connect request.
///
/// # Errors
///
/// The frame is too short, or the password isn't of 16 bytes.
pub fn decode_connect_response(frame: &[u8]) -> Result<ConnectResponse, Malformed> {
    let fields = (be_i32, be_i32, be_i64, read::buffer, nom::combinator::opt(read::boolean));
    let (_, timeout, session_id, password, read_only) = read::parse(fields, frame)?;
    let password = password.ok_or(Malformed::Null)?;
    let password = password.try_into().map_err(|_| Malformed::Password(password.len()))?;
    Ok(ConnectResponse { timeout, session_id, password, read_only_byte: read_only.is_some() })
}

/// Reads a frame from a server, of an answer no more than its header.
///
/// # Errors
///
/// The frame is too short for a header, or for the event that the header announces.
pub fn decode_packet(frame: &Bytes) -> Result<Packet, Malformed> {
    let header = |input| (be_i32, be_i64, be_i32).map(|(xid, zxid, err)| ReplyHeader { xid, zxid, err }).parse(input);
    let event = |input| {
        (be_i32, be_i32, read::string)
            .map(|(kind, state, path)| WatcherEvent { kind, state, path: Cow::Owned(path) })
            .parse(input)
    };
    let (header, body) = read::parse((header, nom::combinator::rest), frame)?;
    if header.xid == xid::NOTIFICATION {
        let event = read::parse(event, body)?;
        return Ok(Packet::Event { zxid: header.zxid, event });
    }
    Ok(Packet::Reply { header, body: frame.slice_ref(body) })
}

/// Reads the body of the answer to a request of type `kind`. An answer with an error has none, whatever was asked.
///
/// # Errors
///
/// The body is not one of this kind, or the kind is none that a server answers.
pub fn decode_reply(kind: i32, header: &ReplyHeader, body: &[u8]) -> Result<Reply<'static>, Malformed> {
    if header.err != ErrorCode::Ok.code() {
        return Ok(Reply::Empty);
    }
    let path = |input| read::string.map(Cow::Owned).parse(input);
    match kind {
        op::CREATE | op::SYNC => read::parse(path.map(Reply::Path), body),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            read::parse((path, read::stat).map(|(path, stat)| Reply::PathStat(path, stat)), body)
        }
        op::EXISTS | op::SET_DATA | op::SET_ACL => read::parse(read::stat.map(Reply::Stat), body),
        op::GET_DATA | op::RECONFIG => {
            read::parse((data, read::stat).map(|(data, stat)| Reply::Data(data, stat)), body)
        }
        op::GET_ACL => {
            let acl = read::acls.map(Option::<Vec<Acl>>::unwrap_or_default);
            read::parse((acl, read::stat).map(|(acl, stat)| Reply::Acl(acl, stat)), body)
        }
        op::GET_CHILDREN | op::GET_EPHEMERALS => read::parse(names.map(Reply::Children), body),
        op::GET_CHILDREN2 => read::parse((names, read::stat).map(|(names, stat)| Reply::Children2(names, stat)), body),
        op::GET_ALL_CHILDREN_NUMBER => read::parse(be_i32.map(Reply::Count), body),
        op::MULTI | op::MULTI_READ => read::parse(multi_results.map(Reply::Multi), body),
        op::WHO_AM_I => read::parse(read::ids.map(Reply::WhoAmI), body),
        op::SASL => read::parse(data.map(Reply::Sasl), body),
        op::ADD_WATCH => read::parse(be_i32::<_, Malformed>.map(|_| Reply::AddWatch), body),
        op::DELETE
        | op::DELETE_CONTAINER
        | op::PING
        | op::CHECK_WATCHES
        | op::REMOVE_WATCHES
        | op::AUTH
        | op::SET_WATCHES
        | op::SET_WATCHES2
        | op::CLOSE_SESSION => Ok(Reply::Empty),
        kind => Err(Malformed::ReplyKind(kind)),
    }
}

fn body(out: &mut BytesMut, request: &Request) {
    match request {
        Request::Create(request) => create(out, request),
        Request::Exists { path, watch }
        | Request::GetData { path, watch }
        | Request::GetChildren { path, watch }
        | Request::GetChildren2 { path, watch } => {
            write::string(out, path);
            write::boolean(out, *watch);
        }
        Request::SetData { path, data, version } => set_data(out, path, data.as_deref(), *version),
        Request::SetAcl { path, acl, version } => {
            write::string(out, path);
            acls(out, acl.as_deref());
            out.put_i32(*version);
        }
        Request::GetAcl { path }
        | Request::Sync { path }
        | Request::DeleteContainer { path }
        | Request::GetEphemerals { prefix: path }
        | Request::GetAllChildrenNumber { path } => write::string(out, path),
        Request::Delete { path, version: number }
        | Request::CheckWatches { path, kind: number }
        | Request::RemoveWatches { path, kind: number }
        | Request::AddWatch { path, mode: number } => path_and_number(out, path, *number),
        Request::Multi(operations) => {
            operations.iter().for_each(|operation| multi_op(out, operation));
            write::multi_end(out);
        }
        Request::MultiRead(operations) => {
            operations.iter().for_each(|operation| multi_read_op(out, operation));
            write::multi_end(out);
        }
        Request::MultiReadOfWrites => {
            multi_op(out, &MultiOp::Check { path: "/".to_owned(), version: -1 });
            write::multi_end(out);
        }
        Request::Reconfig => {
            (0..3).for_each(|_| write::buffer(out, None));
            out.put_i64(-1);
        }
        Request::Auth(packet) => {
            out.put_i32(packet.kind);
            write::string(out, &packet.scheme);
            write::buffer(out, packet.auth.as_deref());
        }
        Request::SetWatches(watches) => {
            out.put_i64(watches.relative_zxid);
            for paths in [&watches.data, &watches.exist, &watches.child] {
                write::strings(out, paths);
            }
        }
        Request::SetWatches2(watches) => {
            out.put_i64(watches.relative_zxid);
            let one_shot = [&watches.data, &watches.exist, &watches.child];
            for paths in one_shot.into_iter().chain([&watches.persistent, &watches.persistent_recursive]) {
                write::strings(out, paths);
            }
        }
        Request::Sasl { token } => write::buffer(out, Some(token)),
        Request::CreateSession => out.put_i32(0),
        Request::Ping | Request::WhoAmI | Request::CloseSession | Request::Unknown { .. } => {}
    }
}

fn create(out: &mut BytesMut, request: &CreateRequest) {
    write::string(out, &request.path);
    write::buffer(out, request.data.as_deref());
    acls(out, request.acl.as_deref());
    out.put_i32(request.flags);
    if request.op == op::CREATE_TTL {
        out.put_i64(request.ttl);
    }
}

fn set_data(out: &mut BytesMut, path: &str, data: Option<&[u8]>, version: i32) {
    write::string(out, path);
    write::buffer(out, data);
    out.put_i32(version);
}

fn path_and_number(out: &mut BytesMut, path: &str, number: i32) {
    write::string(out, path);
    out.put_i32(number);
}

/// A client may send no ACLs at all, unlike a server.
fn acls(out: &mut BytesMut, acl: Option<&[Acl]>) {
    match acl {
        Some(acl) => write::acls(out, acl),
        None => out.put_i32(-1),
    }
}

fn multi_op(out: &mut BytesMut, operation: &MultiOp) {
    let header = |out: &mut BytesMut, kind| write::multi_header(out, kind, false, -1);
    match operation {
        MultiOp::Create(request) => {
            header(out, request.op);
            create(out, request);
        }
        MultiOp::Delete { path, version } => {
            header(out, op::DELETE);
            path_and_number(out, path, *version);
        }
        MultiOp::SetData { path, data, version } => {
            header(out, op::SET_DATA);
            set_data(out, path, data.as_deref(), *version);
        }
        MultiOp::Check { path, version } => {
            header(out, op::CHECK);
            path_and_number(out, path, *version);
        }
    }
}

fn multi_read_op(out: &mut BytesMut, operation: &MultiReadOp) {
    let (kind, path) = match operation {
        MultiReadOp::GetData { path } => (op::GET_DATA, path),
        MultiReadOp::GetChildren { path } => (op::GET_CHILDREN, path),
    };
    write::multi_header(out, kind, false, -1);
    write::string(out, path);
    write::boolean(out, false);
}

fn data(input: &[u8]) -> Parsed<'_, Option<Cow<'static, [u8]>>> {
    read::buffer.map(|bytes| bytes.map(|bytes| Cow::Owned(bytes.to_vec()))).parse(input)
}

fn names(input: &[u8]) -> Parsed<'_, Vec<Cow<'static, str>>> {
    let name = |input| read::string.map(Cow::Owned).parse(input);
    read::vector(MIN_STRING, name).map(Option::unwrap_or_default).parse(input)
}

fn multi_results(mut input: &[u8]) -> Parsed<'_, Vec<MultiResult<'static>>> {
    let mut results = Vec::new();
    loop {
        let (rest, (kind, done, _)) = (be_i32, read::boolean, be_i32).parse(input)?;
        if done {
            return Ok((rest, results));
        }
        let (rest, result) = multi_result(kind, rest)?;
        results.push(result);
        input = rest;
    }
}

fn multi_result(kind: i32, input: &[u8]) -> Parsed<'_, MultiResult<'static>> {
    let path = |input| read::string.map(Cow::Owned).parse(input);
    match kind {
        op::CREATE => path.map(|path| MultiResult::Create { path }).parse(input),
        op::CREATE2 => (path, read::stat).map(|(path, stat)| MultiResult::Create2 { path, stat }).parse(input),
        op::DELETE => Ok((input, MultiResult::Delete)),
        op::SET_DATA => read::stat.map(|stat| MultiResult::SetData { stat }).parse(input),
        op::CHECK => Ok((input, MultiResult::Check)),
        op::GET_DATA => (data, read::stat).map(|(data, stat)| MultiResult::GetData { data, stat }).parse(input),
        op::GET_CHILDREN => names.map(|children| MultiResult::GetChildren { children }).parse(input),
        op::ERROR => {
            let (input, number) = be_i32(input)?;
            let code = ErrorCode::from_code(number).ok_or(Err::Failure(Malformed::ErrorCode(number)))?;
            Ok((input, MultiResult::Error(code)))
        }
        kind => refuse(Malformed::MultiResult(kind)),
    }
}
