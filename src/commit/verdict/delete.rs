//! delete, and deleteContainer, which the sweeper and ZooKeeper's own servers send.

use super::{next_version, parent_of};
use crate::commit::draft::{Draft, Need};
use crate::jute::{ErrorCode, Perms};
use crate::tree::path::{self, OwnerKind};

pub fn delete(draft: &mut Draft<'_>, path: &str, version: i32) -> Result<(), ErrorCode> {
    let parent = parent_of_deletable(path)?;
    draft.node(parent, Need::Existence).ok_or(ErrorCode::NoNode)?;
    draft.permits(parent, Perms::DELETE)?;
    let node = draft.node(path, Need::Whole).ok_or(ErrorCode::NoNode)?;
    next_version(node.version, version)?;
    if draft.children(path).count > 0 {
        return Err(ErrorCode::NotEmpty);
    }
    let children = draft.children(parent);
    draft.delete_node(path, (parent, children));
    Ok(())
}

/// Asks for no permission and no version: it takes only what is empty and not ephemeral.
pub fn delete_container(draft: &mut Draft<'_>, path: &str) -> Result<(), ErrorCode> {
    let parent = parent_of_deletable(path)?;
    let node = draft.node(path, Need::Whole).ok_or(ErrorCode::NoNode)?;
    if draft.children(path).count > 0 {
        return Err(ErrorCode::NotEmpty);
    }
    if let OwnerKind::Session(_) = OwnerKind::of(node.owner) {
        return Err(ErrorCode::BadVersion);
    }
    draft.node(parent, Need::Existence).ok_or(ErrorCode::NoNode)?;
    let children = draft.children(parent);
    draft.delete_node(path, (parent, children));
    Ok(())
}

/// Deletes what is still due: since the sweeper looked, the znode may have been changed, or be another one.
pub fn sweep(draft: &mut Draft<'_>, path: &str) -> Result<(), ErrorCode> {
    let node = draft.node(path, Need::Whole).ok_or(ErrorCode::NoNode)?;
    let due = match OwnerKind::of(node.owner) {
        OwnerKind::Container => draft.children(path).created != 0,
        OwnerKind::Ttl(ttl) => draft.asker.now.saturating_sub(node.mtime) > ttl,
        OwnerKind::Session(_) | OwnerKind::None => false,
    };
    if due { delete_container(draft, path) } else { Err(ErrorCode::BadVersion) }
}

fn parent_of_deletable(path: &str) -> Result<&str, ErrorCode> {
    if path::is_reserved(path) { Err(ErrorCode::BadArguments) } else { parent_of(path) }
}
