//! A session's beginning, attach and end.

use super::Answer;
use crate::commit::draft::{Draft, Need};
use crate::jute::ErrorCode;
use crate::tree::record::SessionRecord;

pub fn open(draft: &mut Draft<'_>, id: i64, record: SessionRecord) -> Answer {
    if draft.session_record(id).is_some() {
        return Answer::Error(ErrorCode::SystemError);
    }
    draft.put_session(id, Some(record));
    Answer::Attached(record)
}

/// How often a deletion names the path: in compares, deletes and the lane's record.
const NAMED: usize = 6;

/// Bytes of such names in one transaction: a third of etcd's default `--max-request-bytes`.
const REAP_BYTES: usize = 512 * 1024;

/// The record's timeout stays; the attach counter makes a new revision, which cuts off every other connection.
pub fn attach(draft: &mut Draft<'_>, id: i64, password: &[u8]) -> Answer {
    match draft.session_record(id) {
        Some((record, _)) if record.password == password => {
            let record = SessionRecord { attached: record.attached.wrapping_add(1), ..record };
            draft.put_session(id, Some(record));
            Answer::Attached(record)
        }
        _ => Answer::Error(ErrorCode::SessionExpired),
    }
}

/// closeSession and expiry. The record goes first: with more than `limit` ephemerals, they follow in pieces.
pub fn end(draft: &mut Draft<'_>, session: i64, attached: i64, limit: usize) -> Result<Answer, ErrorCode> {
    draft.session(session, attached)?;
    draft.put_session(session, None);
    let (paths, more) = fitting(draft, session, limit);
    if !more {
        delete_all(draft, paths);
    }
    Ok(Answer::Ended { more })
}

/// Deletes up to `limit` of what an ended session left.
pub fn reap(draft: &mut Draft<'_>, session: i64, limit: usize) -> Answer {
    if draft.session_record(session).is_some() {
        return Answer::Ended { more: false };
    }
    let (paths, more) = fitting(draft, session, limit);
    delete_all(draft, paths);
    Answer::Ended { more }
}

/// As many of the session's ephemerals as one transaction may delete, and whether there are more.
fn fitting(draft: &mut Draft<'_>, session: i64, limit: usize) -> (Vec<String>, bool) {
    let all = draft.ephemerals(session);
    let count = all.len();
    let mut bytes = 0;
    let fits = |path: &String| {
        let first = bytes == 0;
        bytes += path.len() * NAMED;
        first || bytes <= REAP_BYTES
    };
    let paths: Vec<String> = all.into_iter().take(limit).take_while(fits).collect();
    let more = paths.len() < count;
    (paths, more)
}

fn delete_all(draft: &mut Draft<'_>, paths: impl IntoIterator<Item = String>) {
    for (index, path) in paths.into_iter().enumerate() {
        // As many as a limit of the store allows: far below 65,536.
        draft.place.index = u16::try_from(index).unwrap_or(u16::MAX);
        let Ok(parent) = super::parent_of(&path) else { continue };
        if draft.node(&path, Need::Whole).is_none() {
            continue;
        }
        let children = draft.children(parent);
        draft.delete_node(&path, (parent, children));
    }
}
