//! What a client sends: the connect request, the header and body of each request type.

use bytes::Bytes;

/// Reserved transaction ids of the protocol (`ClientCnxn`).
pub mod xid {
    pub const NOTIFICATION: i32 = -1;
    pub const PING: i32 = -2;
    pub const AUTH: i32 = -4;
    pub const SET_WATCHES: i32 = -8;
}

/// Opcodes, as `ZooDefs.OpCode` numbers them.
pub mod op {
    /// No request: the type of a multi's result that is an error.
    pub const ERROR: i32 = -1;
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    /// Stands for the connect request, which has no opcode on the wire.
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
}

/// The first frame of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    pub protocol_version: i32,
    pub last_zxid_seen: i64,
    /// Milliseconds.
    pub timeout: i32,
    pub session_id: i64,
    pub password: Bytes,
    /// `None` where the client sent no such byte (before 3.4): its answer must not have it either.
    pub read_only: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    pub xid: i32,
    pub op: i32,
}

/// An identity: scheme and id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

/// Permission bits, as `ZooDefs.Perms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Perms(pub i32);

impl Perms {
    pub const READ: Perms = Perms(1);
    pub const WRITE: Perms = Perms(2);
    pub const CREATE: Perms = Perms(4);
    pub const DELETE: Perms = Perms(8);
    pub const ADMIN: Perms = Perms(16);
    pub const ALL: Perms = Perms(31);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Perms) -> bool {
        self.0 & other.0 == other.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acl {
    pub perms: Perms,
    pub id: Id,
}

/// The `flags` of a create, as `CreateMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    Persistent = 0,
    Ephemeral = 1,
    PersistentSequential = 2,
    EphemeralSequential = 3,
    Container = 4,
    PersistentWithTtl = 5,
    PersistentSequentialWithTtl = 6,
}

impl CreateMode {
    /// The mode of that number, `None` where `CreateMode.fromFlag` knows none.
    pub fn from_flags(flags: i32) -> Option<CreateMode> {
        match flags {
            0 => Some(CreateMode::Persistent),
            1 => Some(CreateMode::Ephemeral),
            2 => Some(CreateMode::PersistentSequential),
            3 => Some(CreateMode::EphemeralSequential),
            4 => Some(CreateMode::Container),
            5 => Some(CreateMode::PersistentWithTtl),
            6 => Some(CreateMode::PersistentSequentialWithTtl),
            _ => None,
        }
    }

    /// The number on the wire.
    pub fn flags(self) -> i32 {
        self as i32
    }

    pub fn is_sequential(self) -> bool {
        use CreateMode::{EphemeralSequential, PersistentSequential, PersistentSequentialWithTtl};
        matches!(self, PersistentSequential | EphemeralSequential | PersistentSequentialWithTtl)
    }

    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    pub fn is_ttl(self) -> bool {
        matches!(self, CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl)
    }
}

/// create, create2, createContainer and createTTL: one body, the opcode tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRequest {
    /// One of `op::{CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL}`; the answers differ, and what is created: outside
    /// of a multi ZooKeeper goes by this, not by the flags, to make a container or a TTL node. In a multi the flags
    /// decide, and this has been set by them.
    pub op: i32,
    pub path: String,
    /// `None`: the client sent a null buffer (length -1).
    pub data: Option<Bytes>,
    /// `None`: a null vector.
    pub acl: Option<Vec<Acl>>,
    /// Raw: `CreateMode::from_flags` says whether it names a mode.
    pub flags: i32,
    /// Milliseconds; 0 but for createTTL.
    pub ttl: i64,
}

/// One operation of a multi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiOp {
    Create(CreateRequest),
    Delete { path: String, version: i32 },
    SetData { path: String, data: Option<Bytes>, version: i32 },
    Check { path: String, version: i32 },
}

/// One operation of a multiRead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiReadOp {
    GetData { path: String },
    GetChildren { path: String },
}

/// `AuthPacket`: addauth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthPacket {
    pub kind: i32,
    pub scheme: String,
    pub auth: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetWatches {
    pub relative_zxid: i64,
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetWatches2 {
    pub relative_zxid: i64,
    pub data: Vec<String>,
    pub exist: Vec<String>,
    pub child: Vec<String>,
    pub persistent: Vec<String>,
    pub persistent_recursive: Vec<String>,
}

/// `Watcher.WatcherType`: which watches checkWatches and removeWatches mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatcherType {
    Children = 1,
    Data = 2,
    Any = 3,
    Persistent = 4,
    PersistentRecursive = 5,
}

impl WatcherType {
    /// The type of that number. `None` is a MarshallingError in ZooKeeper (`WatcherType.fromInt` throws).
    pub fn from_raw(kind: i32) -> Option<WatcherType> {
        match kind {
            1 => Some(WatcherType::Children),
            2 => Some(WatcherType::Data),
            3 => Some(WatcherType::Any),
            4 => Some(WatcherType::Persistent),
            5 => Some(WatcherType::PersistentRecursive),
            _ => None,
        }
    }
}

/// A request's body. Paths and numbers are as sent, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Create(CreateRequest),
    Delete {
        path: String,
        version: i32,
    },
    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    SetData {
        path: String,
        data: Option<Bytes>,
        version: i32,
    },
    GetAcl {
        path: String,
    },
    SetAcl {
        path: String,
        acl: Option<Vec<Acl>>,
        version: i32,
    },
    GetChildren {
        path: String,
        watch: bool,
    },
    Sync {
        path: String,
    },
    Ping,
    GetChildren2 {
        path: String,
        watch: bool,
    },
    Multi(Vec<MultiOp>),
    /// What is to be reconfigured is not kept: there is no ensemble to do it to.
    Reconfig,
    /// `kind` is raw: `WatcherType::from_raw`.
    CheckWatches {
        path: String,
        kind: i32,
    },
    RemoveWatches {
        path: String,
        kind: i32,
    },
    DeleteContainer {
        path: String,
    },
    MultiRead(Vec<MultiReadOp>),
    /// A multiRead of nothing but well-formed writes, one at least. What they are does not matter.
    MultiReadOfWrites,
    Auth(AuthPacket),
    SetWatches(SetWatches),
    Sasl {
        token: Bytes,
    },
    GetEphemerals {
        prefix: String,
    },
    GetAllChildrenNumber {
        path: String,
    },
    SetWatches2(SetWatches2),
    /// `mode` is raw: 0 persistent, 1 persistent recursive, any other a MarshallingError in ZooKeeper.
    AddWatch {
        path: String,
        mode: i32,
    },
    WhoAmI,
    /// No client sends it, but ZooKeeper takes it: the session's connect answer comes once more. The timeout that it
    /// asks for is not kept: the next request sets the old one again there, too.
    CreateSession,
    CloseSession,
    /// An opcode that ZooKeeper does not know, or takes from no client (check outside of a multi): Unimplemented, then the connection is closed
    /// (`UnimplementedRequestProcessor`). Its body has not been looked at.
    Unknown {
        op: i32,
    },
}

impl Request {
    /// The opcode.
    pub fn op(&self) -> i32 {
        match self {
            Request::Create(request) => request.op,
            Request::Delete { .. } => op::DELETE,
            Request::Exists { .. } => op::EXISTS,
            Request::GetData { .. } => op::GET_DATA,
            Request::SetData { .. } => op::SET_DATA,
            Request::GetAcl { .. } => op::GET_ACL,
            Request::SetAcl { .. } => op::SET_ACL,
            Request::GetChildren { .. } => op::GET_CHILDREN,
            Request::Sync { .. } => op::SYNC,
            Request::Ping => op::PING,
            Request::GetChildren2 { .. } => op::GET_CHILDREN2,
            Request::Multi(_) => op::MULTI,
            Request::Reconfig => op::RECONFIG,
            Request::CheckWatches { .. } => op::CHECK_WATCHES,
            Request::RemoveWatches { .. } => op::REMOVE_WATCHES,
            Request::DeleteContainer { .. } => op::DELETE_CONTAINER,
            Request::MultiRead(_) | Request::MultiReadOfWrites => op::MULTI_READ,
            Request::Auth(_) => op::AUTH,
            Request::SetWatches(_) => op::SET_WATCHES,
            Request::Sasl { .. } => op::SASL,
            Request::GetEphemerals { .. } => op::GET_EPHEMERALS,
            Request::GetAllChildrenNumber { .. } => op::GET_ALL_CHILDREN_NUMBER,
            Request::SetWatches2(_) => op::SET_WATCHES2,
            Request::AddWatch { .. } => op::ADD_WATCH,
            Request::WhoAmI => op::WHO_AM_I,
            Request::CreateSession => op::CREATE_SESSION,
            Request::CloseSession => op::CLOSE_SESSION,
            Request::Unknown { op } => *op,
        }
    }
}
