//! check, in a multi: outside of one ZooKeeper does not know it.

use super::next_version;
use crate::commit::draft::{Draft, Need};
use crate::jute::{ErrorCode, Perms};
use crate::tree::path;

pub fn check(draft: &mut Draft<'_>, path: &str, version: i32) -> Result<(), ErrorCode> {
    path::validate(path)?;
    let need = if version == -1 { Need::Existence } else { Need::Whole };
    let node = draft.node(path, need).ok_or(ErrorCode::NoNode)?;
    draft.permits(path, Perms::READ)?;
    next_version(node.version, version)?;
    Ok(())
}
