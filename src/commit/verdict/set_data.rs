//! setData.

use bytes::Bytes;

use super::next_version;
use crate::commit::draft::{Draft, DraftStat, Need};
use crate::jute::{ErrorCode, Perms};
use crate::tree::path;

pub fn set_data(draft: &mut Draft<'_>, path: &str, data: Option<Bytes>, version: i32) -> Result<DraftStat, ErrorCode> {
    path::validate(path)?;
    let node = draft.node(path, Need::Whole).ok_or(ErrorCode::NoNode)?;
    draft.permits(path, Perms::WRITE)?;
    let version = next_version(node.version, version)?;
    draft.set_node(path, node, version, data);
    let view = draft.node(path, Need::Whole).ok_or(ErrorCode::NoNode)?;
    Ok(draft.stat(path, view))
}
