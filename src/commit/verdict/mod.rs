//! Verdicts: what each write does, or why it fails, in ZooKeeper's order of checks (`PrepRequestProcessor`).
//!
//! One file for each request type. A verdict reads through its [`Draft`] only, so that everything it depended on
//! is compared when it is committed.

mod check;
mod create;
mod delete;
mod multi;
mod session;
mod set_acl;
mod set_data;

use std::sync::Arc;

use bytes::Bytes;

use crate::commit::draft::{Draft, DraftStat};
use crate::jute::{CreateRequest, ErrorCode, Id, MultiOp, Request};
use crate::tree::key;
use crate::tree::path;
use crate::tree::record::SessionRecord;

/// Something to be decided by the store.
#[derive(Debug, Clone)]
pub enum Write {
    /// A client's request. `attached` is the revision of this connection's attach.
    Request { session: i64, attached: i64, ids: Arc<[Id]>, request: Arc<Request> },
    /// A new session, whose lease has been granted.
    Open { id: i64, record: SessionRecord },
    /// A client that comes back with its session's id and password.
    Attach { id: i64, password: Vec<u8> },
    /// A session whose client was silent for its timeout. `attached` as above: an attach elsewhere undoes it.
    Expire { session: i64, attached: i64 },
    /// Ephemerals that an ended session left: as many as fit.
    Reap { session: i64 },
    /// An empty container or an expired TTL node.
    Sweep { path: String },
    /// Nothing: its answer shows how far the store has come.
    Sync,
}

impl Write {
    /// The key that this is most likely to share with others: where it is busy, no verdict need be found.
    pub fn hot_key(&self) -> Option<Bytes> {
        let Write::Request { request, .. } = self else { return None };
        let children = |path| parent_of(path).ok().map(key::children);
        match &**request {
            Request::Create(CreateRequest { path, .. }) | Request::Delete { path, .. } => children(path),
            Request::SetData { path, .. } => Some(key::node(path)),
            Request::Multi(ops) => ops.iter().find_map(|op| match op {
                MultiOp::Create(CreateRequest { path, .. }) | MultiOp::Delete { path, .. } => children(path),
                MultiOp::SetData { .. } | MultiOp::Check { .. } => None,
            }),
            _ => None,
        }
    }
}

/// A verdict, and what is told about it when the replica has applied it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Empty,
    Path(String),
    PathStat(String, DraftStat),
    Stat(DraftStat),
    Multi(Vec<MultiAnswer>),
    /// One code for each operation.
    MultiFailed(Vec<ErrorCode>),
    Error(ErrorCode),
    Attached(SessionRecord),
    /// The session is over. `more`: ephemerals of it are left for [`Write::Reap`].
    Ended {
        more: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiAnswer {
    Create(String),
    Create2(String, DraftStat),
    Delete,
    SetData(DraftStat),
    Check,
}

impl Answer {
    /// The `Stat`s that it shows.
    pub fn stats(&mut self) -> impl Iterator<Item = &mut DraftStat> {
        let (one, many) = match self {
            Answer::PathStat(_, stat) | Answer::Stat(stat) => (Some(stat), &mut [][..]),
            Answer::Multi(answers) => (None, &mut answers[..]),
            _ => (None, &mut [][..]),
        };
        one.into_iter().chain(many.iter_mut().filter_map(|answer| match answer {
            MultiAnswer::Create2(_, stat) | MultiAnswer::SetData(stat) => Some(stat),
            MultiAnswer::Create(_) | MultiAnswer::Delete | MultiAnswer::Check => None,
        }))
    }

    /// A failed request writes nothing.
    pub fn is_error(&self) -> bool {
        matches!(self, Answer::Error(_) | Answer::MultiFailed(_))
    }
}

/// Finds the verdict of `write`. `reap_limit`: how many ephemerals one transaction may delete.
pub fn decide(draft: &mut Draft<'_>, write: &Write, reap_limit: usize) -> Answer {
    match write {
        Write::Request { session, attached, request, .. } => {
            decide_request(draft, *session, *attached, request, reap_limit).unwrap_or_else(Answer::Error)
        }
        Write::Open { id, record } => session::open(draft, *id, *record),
        Write::Attach { id, password } => session::attach(draft, *id, password),
        Write::Expire { session, attached } => {
            session::end(draft, *session, *attached, reap_limit).unwrap_or_else(Answer::Error)
        }
        Write::Reap { session } => session::reap(draft, *session, reap_limit),
        Write::Sweep { path } => match delete::sweep(draft, path) {
            Ok(()) => Answer::Empty,
            Err(error) => Answer::Error(error),
        },
        Write::Sync => Answer::Empty,
    }
}

fn decide_request(
    draft: &mut Draft<'_>,
    session: i64,
    attached: i64,
    request: &Request,
    reap_limit: usize,
) -> Result<Answer, ErrorCode> {
    if let Request::CloseSession = request {
        return session::end(draft, session, attached, reap_limit);
    }
    draft.session(session, attached)?;
    match request {
        Request::Create(create) => create::answer(draft, create),
        Request::Delete { path, version } => delete::delete(draft, path, *version).map(|()| Answer::Empty),
        Request::DeleteContainer { path } => delete::delete_container(draft, path).map(|()| Answer::Empty),
        Request::SetData { path, data, version } => {
            set_data::set_data(draft, path, data.clone(), *version).map(Answer::Stat)
        }
        Request::SetAcl { path, acl, version } => {
            set_acl::set_acl(draft, path, acl.as_deref(), *version).map(Answer::Stat)
        }
        Request::Multi(ops) => Ok(multi::multi(draft, ops)),
        Request::Sync { path } => Ok(Answer::Path(path.clone())),
        _ => Err(ErrorCode::Unimplemented),
    }
}

/// The path before the last slash, as ZooKeeper cuts it; the root for what is directly below it.
fn parent_of(path: &str) -> Result<&str, ErrorCode> {
    match path.rfind('/') {
        Some(_) if path.contains('\0') => Err(ErrorCode::BadArguments),
        Some(0) => Ok(path::ROOT),
        Some(slash) => Ok(&path[..slash]),
        None => Err(ErrorCode::BadArguments),
    }
}

/// `checkAndIncVersion`: -1 is any version.
fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected == -1 || expected == current { Ok(current.wrapping_add(1)) } else { Err(ErrorCode::BadVersion) }
}
