//! What is played: requests of several sessions, step by step, and its text form (RON), which parses back.
//!
//! Paths are of the case's own room, a znode that no other case has: `/` is the room, `/a` a child of it. What begins
//! with `@` goes out as it stands behind that (`@/zookeeper`, `@`: the empty path, `@/`: the root), and so does what
//! has no slash in front. The characters U+E080 to U+E0FF stand for single bytes, so that a path can be no UTF-8.

use serde::{Deserialize, Serialize};

use crate::wire::op;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Needs servers to itself: it touches what all rooms share.
    #[serde(default)]
    pub alone: bool,
    /// How many sessions there are, from 0 on.
    pub sessions: usize,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// A session sends these without waiting in between.
    Send(usize, Vec<Ask>),
    /// A session's connection is closed from the client's side.
    Drop(usize),
    /// A session connects (again); an open connection of it stays open on the client's side.
    Connect(usize, How),
    /// A session's connection is closed, and the end of the session awaited.
    Expire(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum How {
    Resume,
    /// With the zxid 0 as the last one seen.
    Forgetful,
    WrongPassword,
    /// A new session takes the place of the old one, which stays behind.
    Fresh,
}

/// A request. Numbers are as they go out, legal or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Ask {
    Create(Create),
    Delete(String, i32),
    DeleteContainer(String),
    Exists(String, bool),
    GetData(String, bool),
    GetChildren(String, bool),
    GetChildren2(String, bool),
    GetAcl(String),
    SetAcl(String, Acls, i32),
    SetData(String, Option<String>, i32),
    Sync(String),
    Ping,
    /// Outside of a multi.
    Check(String, i32),
    Multi(Vec<Op>),
    MultiRead(Vec<Op>),
    CheckWatches(String, i32),
    RemoveWatches(String, i32),
    AddWatch(String, i32),
    /// Data, exist and child watches.
    SetWatches(Since, [Vec<String>; 3]),
    /// Data, exist, child, persistent and persistent recursive watches.
    SetWatches2(Since, [Vec<String>; 5]),
    GetEphemerals(String),
    GetAllChildrenNumber(String),
    WhoAmI,
    Auth(String, Option<String>),
    Reconfig,
    Sasl(Option<String>),
    CloseSession,
    Unknown(i32),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Create {
    /// create, create2, createContainer or createTTL.
    pub op: i32,
    pub path: String,
    pub data: Option<String>,
    pub acl: Acls,
    pub flags: i32,
    /// Goes out with createTTL only.
    pub ttl: i64,
}

/// Permissions, scheme, id.
pub type Acls = Option<Vec<(i32, String, String)>>;

/// An operation of a multi or a multiRead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    Create(Create),
    Delete(String, i32),
    SetData(String, Option<String>, i32),
    Check(String, i32),
    /// A read, or an opcode that has no place here. Its body is a path and a boolean.
    Read(i32, String),
}

/// The zxid from which setWatches asks for what was missed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Since {
    Zero,
    /// The last one that this session has seen.
    Seen,
    /// That of the case's write so many before the last, whoever wrote.
    Write(usize),
    Future,
}

impl Ask {
    pub fn op(&self) -> i32 {
        match self {
            Ask::Create(create) => create.op,
            Ask::Delete(..) => op::DELETE,
            Ask::DeleteContainer(_) => op::DELETE_CONTAINER,
            Ask::Exists(..) => op::EXISTS,
            Ask::GetData(..) => op::GET_DATA,
            Ask::GetChildren(..) => op::GET_CHILDREN,
            Ask::GetChildren2(..) => op::GET_CHILDREN2,
            Ask::GetAcl(_) => op::GET_ACL,
            Ask::SetAcl(..) => op::SET_ACL,
            Ask::SetData(..) => op::SET_DATA,
            Ask::Sync(_) => op::SYNC,
            Ask::Ping => op::PING,
            Ask::Check(..) => op::CHECK,
            Ask::Multi(_) => op::MULTI,
            Ask::MultiRead(_) => op::MULTI_READ,
            Ask::CheckWatches(..) => op::CHECK_WATCHES,
            Ask::RemoveWatches(..) => op::REMOVE_WATCHES,
            Ask::AddWatch(..) => op::ADD_WATCH,
            Ask::SetWatches(..) => op::SET_WATCHES,
            Ask::SetWatches2(..) => op::SET_WATCHES2,
            Ask::GetEphemerals(_) => op::GET_EPHEMERALS,
            Ask::GetAllChildrenNumber(_) => op::GET_ALL_CHILDREN_NUMBER,
            Ask::WhoAmI => op::WHO_AM_I,
            Ask::Auth(..) => op::AUTH,
            Ask::Reconfig => op::RECONFIG,
            Ask::Sasl(_) => op::SASL,
            Ask::CloseSession => op::CLOSE_SESSION,
            Ask::Unknown(op) => *op,
        }
    }

    /// Whether it may leave a watch on its connection.
    pub fn watches(&self) -> bool {
        match self {
            Ask::Exists(_, watch)
            | Ask::GetData(_, watch)
            | Ask::GetChildren(_, watch)
            | Ask::GetChildren2(_, watch) => *watch,
            Ask::AddWatch(..) | Ask::SetWatches(..) | Ask::SetWatches2(..) => true,
            _ => false,
        }
    }
}

impl Case {
    /// Its text form.
    pub fn text(&self) -> String {
        let pretty = ron::ser::PrettyConfig::new().depth_limit(2).separate_tuple_members(false);
        ron::ser::to_string_pretty(self, pretty).expect("a case can be written")
    }

    /// Reads the text form. What stands before the first parenthesis at a line's beginning is the case's comment.
    pub fn parse(text: &str) -> Result<Case, String> {
        ron::from_str(text).map_err(|error| error.to_string())
    }

    /// Requests and other steps.
    pub fn size(&self) -> usize {
        let size = |step: &Step| if let Step::Send(_, asks) = step { asks.len() } else { 1 };
        self.steps.iter().map(size).sum()
    }

    /// Whether a session is to expire, and so needs a short timeout.
    pub fn expires(&self, session: usize) -> bool {
        self.steps.contains(&Step::Expire(session))
    }
}
