//! Answers and events into frames.

use bytes::{BufMut, BytesMut};

use super::frame::LENGTH_BYTES;
use super::write::{self, STAT_BYTES};
use super::{ConnectResponse, ErrorCode, MultiResult, Reply, ReplyHeader, Stat, WatcherEvent, op, xid};

/// Bytes of a [`ReplyHeader`].
const HEADER_BYTES: usize = 16;

impl ConnectResponse {
    /// Appends the answer to a connect request, a frame with its length. Protocol version 0; the read-only byte, where
    /// the client knows it, says no (`ZooKeeperServer.finishSessionInit`).
    pub fn encode(&self, out: &mut BytesMut) {
        write::frame(out, |out| {
            out.put_i32(0);
            out.put_i32(self.timeout);
            out.put_i64(self.session_id);
            write::buffer(out, Some(&self.password));
            if self.read_only_byte {
                write::boolean(out, false);
            }
        });
    }
}

/// Appends an answer, a frame with its length: the header, then whatever `reply` holds (with an error, that should be
/// [`Reply::Empty`]; sasl alone answers with a null token).
pub fn encode_reply(out: &mut BytesMut, header: &ReplyHeader, reply: &Reply<'_>) {
    match reply {
        Reply::Empty => framed(out, header, |_| {}),
        Reply::Path(path) => framed(out, header, |out| write::string(out, path)),
        Reply::PathStat(path, stat) => framed(out, header, |out| {
            write::string(out, path);
            write::stat(out, stat);
        }),
        Reply::Stat(stat) => framed(out, header, |out| write::stat(out, stat)),
        Reply::Data(data, stat) => encode_data(out, header, data.as_deref(), stat),
        Reply::Acl(acl, stat) => framed(out, header, |out| {
            write::acls(out, acl);
            write::stat(out, stat);
        }),
        Reply::Children(children) => framed(out, header, |out| write::strings(out, children)),
        Reply::Children2(children, stat) => framed(out, header, |out| {
            write::strings(out, children);
            write::stat(out, stat);
        }),
        Reply::Listed(names, stat) => {
            out.reserve(LENGTH_BYTES + HEADER_BYTES + names.len() + STAT_BYTES);
            framed(out, header, |out| {
                out.put_slice(names);
                stat.iter().for_each(|stat| write::stat(out, stat));
            });
        }
        Reply::Count(count) => framed(out, header, |out| out.put_i32(*count)),
        Reply::Multi(results) => framed(out, header, |out| {
            results.iter().for_each(|result| multi_result(out, result));
            write::multi_end(out);
        }),
        Reply::WhoAmI(ids) => framed(out, header, |out| write::vector(out, ids, write::id)),
        Reply::Sasl(token) => framed(out, header, |out| write::buffer(out, token.as_deref())),
        Reply::AddWatch => framed(out, header, |out| out.put_i32(ErrorCode::Ok.code())),
    }
}

/// Appends a list of `count` names, as the answer to a getChildren holds it.
pub fn encode_names<'a>(out: &mut BytesMut, count: usize, names: impl Iterator<Item = &'a str>) {
    write::count(out, count);
    names.for_each(|name| write::string(out, name));
}

/// Appends the answer to a getData: the same as [`encode_reply`] of a [`Reply::Data`], from borrowed parts.
pub fn encode_data(out: &mut BytesMut, header: &ReplyHeader, data: Option<&[u8]>, stat: &Stat) {
    out.reserve(LENGTH_BYTES + HEADER_BYTES + LENGTH_BYTES + data.map_or(0, <[u8]>::len) + STAT_BYTES);
    framed(out, header, |out| {
        write::buffer(out, data);
        write::stat(out, stat);
    });
}

/// Appends a watch event, a frame with its length. `zxid`: that of the change (3.9; earlier versions sent -1).
pub fn encode_event(out: &mut BytesMut, zxid: i64, event: &WatcherEvent<'_>) {
    let header = ReplyHeader::ok(xid::NOTIFICATION, zxid);
    framed(out, &header, |out| {
        out.put_i32(event.kind);
        out.put_i32(event.state);
        write::string(out, &event.path);
    });
}

fn framed(out: &mut BytesMut, header: &ReplyHeader, body: impl FnOnce(&mut BytesMut)) {
    write::frame(out, |out| {
        out.put_i32(header.xid);
        out.put_i64(header.zxid);
        out.put_i32(header.err);
        body(out);
    });
}

/// One result behind its header, as `MultiResponse` writes it: an error stands in the header and in the body.
fn multi_result(out: &mut BytesMut, result: &MultiResult<'_>) {
    let kind = match result {
        MultiResult::Create { .. } => op::CREATE,
        MultiResult::Create2 { .. } => op::CREATE2,
        MultiResult::Delete => op::DELETE,
        MultiResult::SetData { .. } => op::SET_DATA,
        MultiResult::Check => op::CHECK,
        MultiResult::GetData { .. } => op::GET_DATA,
        MultiResult::GetChildren { .. } => op::GET_CHILDREN,
        MultiResult::Error(_) => op::ERROR,
    };
    let err = if let MultiResult::Error(code) = result { *code } else { ErrorCode::Ok };
    write::multi_header(out, kind, false, err.code());
    match result {
        MultiResult::Create { path } => write::string(out, path),
        MultiResult::Create2 { path, stat } => {
            write::string(out, path);
            write::stat(out, stat);
        }
        MultiResult::SetData { stat } => write::stat(out, stat),
        MultiResult::GetData { data, stat } => {
            write::buffer(out, data.as_deref());
            write::stat(out, stat);
        }
        MultiResult::GetChildren { children } => write::strings(out, children),
        MultiResult::Error(code) => out.put_i32(code.code()),
        MultiResult::Delete | MultiResult::Check => {}
    }
}
