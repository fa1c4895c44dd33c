//! setACL.

use super::next_version;
use crate::commit::draft::{Draft, DraftStat, Need};
use crate::jute::{Acl, ErrorCode, Perms};
use crate::tree::{acl, path};

pub fn set_acl(draft: &mut Draft<'_>, path: &str, list: Option<&[Acl]>, version: i32) -> Result<DraftStat, ErrorCode> {
    path::validate(path)?;
    let list = acl::resolve(list, draft.asker.ids)?;
    // Whole: the answer shows the incarnation that the list went to.
    let node = draft.node(path, Need::Whole).ok_or(ErrorCode::NoNode)?;
    draft.permits(path, Perms::ADMIN)?;
    let (_, aversion) = draft.acl(path);
    let aversion = next_version(aversion, version)?;
    draft.put_acl(path, list.into(), aversion);
    Ok(draft.stat(path, node))
}
