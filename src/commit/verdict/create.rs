//! create, create2, createContainer, createTTL.

use std::sync::Arc;

use super::{Answer, parent_of};
use crate::commit::draft::{Draft, DraftStat};
use crate::jute::{CreateMode, CreateRequest, ErrorCode, Perms, op};
use crate::tree::acl;
use crate::tree::path::{self, OwnerKind};

/// The answer of a create that stands alone.
pub fn answer(draft: &mut Draft<'_>, request: &CreateRequest) -> Result<Answer, ErrorCode> {
    let (path, stat) = create(draft, request)?;
    Ok(if request.op == op::CREATE { Answer::Path(path) } else { Answer::PathStat(path, stat) })
}

/// The path created and its `Stat`.
pub fn create(draft: &mut Draft<'_>, request: &CreateRequest) -> Result<(String, DraftStat), ErrorCode> {
    let mode = CreateMode::from_flags(request.flags).ok_or(ErrorCode::BadArguments)?;
    let owner = owner(request, mode, draft.asker.session)?;
    let parent = parent_of(&request.path)?;
    let list = acl::resolve(request.acl.as_deref(), draft.asker.ids)?;
    let (parent_node, children) = draft.parent(parent).ok_or(ErrorCode::NoNode)?;
    draft.permits(parent, Perms::CREATE)?;
    let mut path = request.path.clone();
    if mode.is_sequential() {
        path.push_str(&path::sequence(children.created));
    }
    path::validate(&path)?;
    if path.len() > path::MAX_PATH {
        return Err(ErrorCode::BadArguments);
    }
    if draft.has_child(&path) {
        return Err(ErrorCode::NodeExists);
    }
    if let OwnerKind::Session(_) = OwnerKind::of(parent_node.owner) {
        return Err(ErrorCode::NoChildrenForEphemerals);
    }
    let list: Option<Arc<[_]>> = if acl::is_open(&list) { None } else { Some(list.into()) };
    let view = draft.create_node(&path, (parent, children), owner, request.data.clone(), list);
    let stat = draft.stat(&path, view);
    Ok((path, stat))
}

/// `Stat.ephemeralOwner`: by the opcode first, as `DataTree.processTxn` does it.
fn owner(request: &CreateRequest, mode: CreateMode, session: i64) -> Result<i64, ErrorCode> {
    if request.op == op::CREATE_TTL {
        return match mode.is_ttl() {
            true => path::ttl_to_owner(request.ttl).ok_or(ErrorCode::BadArguments),
            false => Err(ErrorCode::BadArguments),
        };
    }
    if mode.is_ttl() {
        // No ttl came with it.
        return Err(ErrorCode::BadArguments);
    }
    Ok(match request.op {
        op::CREATE_CONTAINER => path::CONTAINER_OWNER,
        _ if mode.is_ephemeral() => session,
        _ => 0,
    })
}
