//! Frames into requests.

use bytes::Bytes;
use nom::Parser;
use nom::number::complete::{be_i32, be_i64};

use super::read::{self, Malformed, Parsed, refuse};
use super::{
    AuthPacket, ConnectRequest, CreateMode, CreateRequest, ErrorCode, MultiOp, MultiReadOp, Request, RequestHeader,
    SetWatches, SetWatches2, op,
};

/// Why a request's frame can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not even a header. ZooKeeper closes the connection without an answer (`NIOServerCnxn.readRequest`).
    #[error("a frame of {0} bytes has no request header")]
    Header(usize),
    /// The header is there, the body is not what its type needs. [`DecodeError::answer`] says what the client hears.
    #[error("malformed request of type {}: {why}", header.op)]
    Body { header: RequestHeader, why: Malformed },
}

impl DecodeError {
    /// The answer of ZooKeeper 3.9.5, in the request's turn; the connection stays open then. `None`: it closes the
    /// connection without an answer.
    ///
    /// Most bodies are read on the way through the request processors, which catch every failure and answer
    /// MarshallingError with an empty body (`PrepRequestProcessor.pRequestHelper`, `FinalRequestProcessor`). That
    /// goes for a null path too, and for a multi that mixes reads and writes, holds an unknown type, or has a create
    /// whose mode can't be. Only auth and sasl are read earlier, in `ZooKeeperServer.processPacket`, where a failure
    /// ends the connection.
    pub fn answer(&self) -> Option<(RequestHeader, ErrorCode)> {
        match *self {
            DecodeError::Header(_) => None,
            DecodeError::Body { header, .. } if matches!(header.op, op::AUTH | op::SASL) => None,
            DecodeError::Body { header, .. } => Some((header, ErrorCode::MarshallingError)),
        }
    }
}

impl ConnectRequest {
    /// Reads a connection's first frame. A null password is read as an empty one; the read-only byte is `None` where
    /// the frame ends before it (`ProtocolManager.deserializeConnectRequest`); what follows it is ignored.
    ///
    /// # Errors
    ///
    /// The frame is too short, or the password's length is none. ZooKeeper closes the connection without an answer.
    pub fn decode(frame: &Bytes) -> Result<ConnectRequest, Malformed> {
        let fixed = (be_i32, be_i64, be_i32, be_i64, data(frame), nom::combinator::opt(read::boolean));
        let request =
            fixed.map(|(protocol_version, last_zxid_seen, timeout, session_id, password, read_only)| ConnectRequest {
                protocol_version,
                last_zxid_seen,
                timeout,
                session_id,
                password: password.unwrap_or_default(),
                read_only,
            });
        read::parse(request, frame)
    }
}

impl Request {
    /// Reads a request: header, then the body that its type asks for. Bytes after the body are ignored. Data, tokens
    /// and passwords are slices of `frame`, not copies.
    ///
    /// A null path makes the frame malformed, as Java runs into it sooner or later, save where ZooKeeper treats it as
    /// it treats an empty one: setData and setACL (BadArguments), checkWatches and removeWatches (NoWatcher), addWatch,
    /// sync and getEphemerals (no error). Null data and null ACLs are kept as `None`, but a multi's create, create2 and
    /// createContainer are malformed without ACLs.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`].
    pub fn decode(frame: Bytes) -> Result<(RequestHeader, Request), DecodeError> {
        let header = (be_i32::<_, Malformed>, be_i32).map(|(xid, op)| RequestHeader { xid, op }).parse(&frame[..]);
        let Ok((input, header)) = header else { return Err(DecodeError::Header(frame.len())) };
        match body(header.op, &frame, input) {
            Ok(request) => Ok((header, request)),
            Err(why) => Err(DecodeError::Body { header, why }),
        }
    }
}

/// Reads the body of a request of type `kind`: `input`, which lies in `frame`.
fn body<'a>(kind: i32, frame: &'a Bytes, input: &'a [u8]) -> Result<Request, Malformed> {
    let path_and_watch = (read::string, read::boolean);
    match kind {
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            read::parse(create(kind, frame).map(Request::Create), input)
        }
        op::DELETE => {
            let request = (read::string, be_i32).map(|(path, version)| Request::Delete { path, version });
            read::parse(request, input)
        }
        op::EXISTS => read::parse(path_and_watch.map(|(path, watch)| Request::Exists { path, watch }), input),
        op::GET_DATA => read::parse(path_and_watch.map(|(path, watch)| Request::GetData { path, watch }), input),
        op::SET_DATA => {
            let request = (read::string_or_empty, data(frame), be_i32).map(|(path, data, version)| Request::SetData {
                path,
                data,
                version,
            });
            read::parse(request, input)
        }
        op::GET_ACL => read::parse(read::string.map(|path| Request::GetAcl { path }), input),
        op::SET_ACL => {
            let request = (read::string_or_empty, read::acls, be_i32).map(|(path, acl, version)| Request::SetAcl {
                path,
                acl,
                version,
            });
            read::parse(request, input)
        }
        op::GET_CHILDREN => {
            read::parse(path_and_watch.map(|(path, watch)| Request::GetChildren { path, watch }), input)
        }
        op::SYNC => read::parse(read::string_or_empty.map(|path| Request::Sync { path }), input),
        op::PING => Ok(Request::Ping),
        op::GET_CHILDREN2 => {
            read::parse(path_and_watch.map(|(path, watch)| Request::GetChildren2 { path, watch }), input)
        }
        op::MULTI => read::parse(multi(multi_op(frame)).map(Request::Multi), input),
        op::RECONFIG => {
            let servers = (read::nullable_string, read::nullable_string, read::nullable_string);
            read::parse((servers, be_i64).map(|_| Request::Reconfig), input)
        }
        op::CHECK_WATCHES => {
            read::parse((read::string_or_empty, be_i32).map(|(path, kind)| Request::CheckWatches { path, kind }), input)
        }
        op::REMOVE_WATCHES => read::parse(
            (read::string_or_empty, be_i32).map(|(path, kind)| Request::RemoveWatches { path, kind }),
            input,
        ),
        op::DELETE_CONTAINER => read::parse(read::string.map(|path| Request::DeleteContainer { path }), input),
        op::MULTI_READ => read::parse(multi(multi_read_op), input).map(Request::MultiRead).or_else(|malformed| {
            match read::parse(multi(multi_op(frame)), input) {
                Ok(_) => Ok(Request::MultiReadOfWrites),
                Err(why) if matches!(malformed, Malformed::MultiOp(_)) => Err(why),
                Err(_) => Err(malformed),
            }
        }),
        op::AUTH => {
            let packet = (be_i32, read::string_or_empty, data(frame));
            let packet = packet.map(|(kind, scheme, auth)| Request::Auth(AuthPacket { kind, scheme, auth }));
            read::parse(packet, input)
        }
        op::SET_WATCHES => read::parse(set_watches.map(Request::SetWatches), input),
        op::SASL => match read::parse(data(frame), input)? {
            // Java asks a null token for its length.
            None => Err(Malformed::Null),
            Some(token) => Ok(Request::Sasl { token }),
        },
        op::GET_EPHEMERALS => read::parse(read::string_or_empty.map(|prefix| Request::GetEphemerals { prefix }), input),
        op::GET_ALL_CHILDREN_NUMBER => {
            read::parse(read::string.map(|path| Request::GetAllChildrenNumber { path }), input)
        }
        op::SET_WATCHES2 => read::parse(set_watches2.map(Request::SetWatches2), input),
        op::ADD_WATCH => {
            read::parse((read::string_or_empty, be_i32).map(|(path, mode)| Request::AddWatch { path, mode }), input)
        }
        op::WHO_AM_I => Ok(Request::WhoAmI),
        op::CREATE_SESSION => read::parse(be_i32::<_, Malformed>.map(|_| Request::CreateSession), input),
        op::CLOSE_SESSION => Ok(Request::CloseSession),
        op => Ok(Request::Unknown { op }),
    }
}

/// A buffer, as a slice of the frame.
fn data<'a>(frame: &'a Bytes) -> impl Fn(&'a [u8]) -> Parsed<'a, Option<Bytes>> {
    move |input| read::buffer.map(|bytes| bytes.map(|bytes| frame.slice_ref(bytes))).parse(input)
}

fn create(kind: i32, frame: &Bytes) -> impl Parser<&[u8], Output = CreateRequest, Error = Malformed> {
    let ttl = move |input| if kind == op::CREATE_TTL { be_i64(input) } else { Ok((input, 0)) };
    (read::string, data(frame), read::acls, be_i32, ttl).map(move |(path, data, acl, flags, ttl)| CreateRequest {
        op: kind,
        path,
        data,
        acl,
        flags,
        ttl,
    })
}

fn set_watches(input: &[u8]) -> Parsed<'_, SetWatches> {
    (be_i64, read::strings, read::strings, read::strings)
        .map(|(relative_zxid, data, exist, child)| SetWatches { relative_zxid, data, exist, child })
        .parse(input)
}

fn set_watches2(input: &[u8]) -> Parsed<'_, SetWatches2> {
    (set_watches, read::strings, read::strings)
        .map(|(first, persistent, persistent_recursive)| SetWatches2 {
            relative_zxid: first.relative_zxid,
            data: first.data,
            exist: first.exist,
            child: first.child,
            persistent,
            persistent_recursive,
        })
        .parse(input)
}

/// A header before each operation, and one that says `done`, of which nothing else counts. Parses each operation with
/// `operation`, which is given its type.
fn multi<'a, T>(operation: impl Fn(i32, &'a [u8]) -> Parsed<'a, T>) -> impl FnMut(&'a [u8]) -> Parsed<'a, Vec<T>> {
    move |mut input| {
        let mut operations = Vec::new();
        loop {
            let (rest, (kind, done, _)) = (be_i32, read::boolean, be_i32).parse(input)?;
            if done {
                return Ok((rest, operations));
            }
            let (rest, one) = operation(kind, rest)?;
            operations.push(one);
            input = rest;
        }
    }
}

fn multi_op<'a>(frame: &'a Bytes) -> impl Fn(i32, &'a [u8]) -> Parsed<'a, MultiOp> {
    move |kind, input| match kind {
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            let (input, request) = create(kind, frame).parse(input)?;
            Ok((input, MultiOp::Create(multi_create(request).or_else(refuse)?)))
        }
        op::DELETE => (read::string, be_i32).map(|(path, version)| MultiOp::Delete { path, version }).parse(input),
        op::SET_DATA => (read::string, data(frame), be_i32)
            .map(|(path, data, version)| MultiOp::SetData { path, data, version })
            .parse(input),
        op::CHECK => (read::string, be_i32).map(|(path, version)| MultiOp::Check { path, version }).parse(input),
        _ => refuse(Malformed::MultiOp(kind)),
    }
}

/// In a multi the mode decides over the type, and some requests are refused that come through on their own
/// (`MultiOperationRecord.deserialize`, `Op.create`).
fn multi_create(mut request: CreateRequest) -> Result<CreateRequest, Malformed> {
    let impossible = Malformed::MultiCreate { op: request.op, flags: request.flags };
    let mode = CreateMode::from_flags(request.flags);
    if request.op == op::CREATE_TTL {
        match mode {
            // The verdict on it is BadArguments, whatever its type.
            None => return Ok(request),
            Some(mode) if mode.is_ttl() => return Ok(request),
            Some(_) => {
                request.op = op::CREATE;
                request.ttl = 0;
                // No list and an empty one meet the same InvalidACL.
                request.acl.get_or_insert_default();
            }
        }
    }
    let mode = mode.filter(|mode| !mode.is_ttl()).ok_or(impossible)?;
    if request.acl.is_none() {
        return Err(Malformed::Null);
    }
    if mode == CreateMode::Container {
        request.op = op::CREATE_CONTAINER;
    }
    Ok(request)
}

/// The watch that a read of a multiRead asks for is not set (`Op.getData`, `Op.getChildren`).
fn multi_read_op(kind: i32, input: &[u8]) -> Parsed<'_, MultiReadOp> {
    match kind {
        op::GET_DATA => (read::string, read::boolean).map(|(path, _)| MultiReadOp::GetData { path }).parse(input),
        op::GET_CHILDREN => {
            (read::string, read::boolean).map(|(path, _)| MultiReadOp::GetChildren { path }).parse(input)
        }
        _ => refuse(Malformed::MultiOp(kind)),
    }
}
