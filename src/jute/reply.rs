//! What a server sends: the connect answer, reply headers and bodies, watch events.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Acl, ErrorCode, Id, Stat};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectResponse {
    /// Milliseconds; 0: the session is expired or was never there.
    pub timeout: i32,
    pub session_id: i64,
    pub password: [u8; 16],
    /// Whether the client sent the byte, and so expects it.
    pub read_only_byte: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
}

impl ReplyHeader {
    pub fn ok(xid: i32, zxid: i64) -> ReplyHeader {
        ReplyHeader::error(xid, zxid, ErrorCode::Ok)
    }

    pub fn error(xid: i32, zxid: i64, code: ErrorCode) -> ReplyHeader {
        ReplyHeader { xid, zxid, err: code.code() }
    }
}

/// One result of a multi or a multiRead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiResult<'a> {
    Create {
        path: Cow<'a, str>,
    },
    /// create2, createContainer and createTTL in a multi (`MultiResponse` writes type 15 for them all).
    Create2 {
        path: Cow<'a, str>,
        stat: Stat,
    },
    Delete,
    SetData {
        stat: Stat,
    },
    Check,
    /// `None`: a null buffer, for a znode created with one.
    GetData {
        data: Option<Cow<'a, [u8]>>,
        stat: Stat,
    },
    GetChildren {
        children: Vec<Cow<'a, str>>,
    },
    /// In a multiRead: this read failed. In a multi: all did, and each has its own, [`ErrorCode::Ok`] before the one
    /// that failed and [`ErrorCode::RuntimeInconsistency`] after it; the reply's header shows no error.
    Error(ErrorCode),
}

/// A reply's body, by what it holds rather than by opcode: several opcodes share one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Errors, delete, check, ping, closeSession, setWatches, auth…: the header alone.
    Empty,
    /// create, sync.
    Path(Cow<'a, str>),
    /// create2, createContainer, createTTL.
    PathStat(Cow<'a, str>, Stat),
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData. `None`: a null buffer.
    Data(Option<Cow<'a, [u8]>>, Stat),
    /// getACL.
    Acl(Vec<Acl>, Stat),
    /// getChildren, getEphemerals.
    Children(Vec<Cow<'a, str>>),
    /// getChildren2.
    Children2(Vec<Cow<'a, str>>, Stat),
    /// The same two, the names as [`super::encode_names`] wrote them. Never read from the wire.
    Listed(Bytes, Option<Stat>),
    /// getAllChildrenNumber.
    Count(i32),
    Multi(Vec<MultiResult<'a>>),
    /// whoAmI: scheme and the id as it may be shown.
    WhoAmI(Vec<Id>),
    /// sasl: the server's token.
    Sasl(Option<Cow<'a, [u8]>>),
    /// addWatch: ZooKeeper sends an `ErrorResponse` that says Ok.
    AddWatch,
}

/// A watch notification (xid -1). `kind` as `Watcher.Event.EventType`, `state` as `KeeperState`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherEvent<'a> {
    pub kind: i32,
    pub state: i32,
    pub path: Cow<'a, str>,
}
