//! Requests that the replica alone answers (`FinalRequestProcessor`).

use std::borrow::Cow;

use super::apply::Told;
use super::connection::{Pending, What};
use super::engine::{ConnectionId, Engine};
use super::lists::Lists;
use super::outbox::CloseReason;
use crate::jute::{
    ErrorCode, Id, MultiReadOp, MultiResult, Perms, Reply, ReplyHeader, Request, SetWatches2, Stat, WatcherEvent,
    WatcherType,
};
use crate::tree::node::Node;
use crate::tree::replica::Replica;
use crate::tree::watches::Mode;
use crate::tree::{acl, path, watches};

/// `KeeperState.SyncConnected`: the only state that a server's events carry.
pub(super) const SYNC_CONNECTED: i32 = 3;

/// The zxid of an event whose change is not known any more (`WatchedEvent.NO_ZXID`), and of what has none.
const UNKNOWN_ZXID: i64 = -1;

impl Engine {
    /// Answers a read, as of what is applied now.
    pub(super) fn read(&mut self, id: ConnectionId, pending: Pending) {
        if !self.is_safe(id) {
            return;
        }
        let zxid = self.replica.last_zxid();
        let Some(conn) = self.connections.get(&id) else { return };
        let bytes = match &pending.what {
            What::Request(request) if **request == Request::CreateSession => {
                let Some(session) = self.replica.session(conn.session) else { return };
                conn.answer_connect(&session.record)
            }
            What::Request(request) => {
                let (watches, lists, replica) = (&mut self.watches, &mut self.lists, &self.replica);
                let mut reader = Reader { id, replica, ids: &pending.ids, watches, lists };
                let mut told = Told::default();
                if let Request::SetWatches(_) | Request::SetWatches2(_) = **request {
                    reader.set_watches(request, |event| {
                        let bytes = conn.outbox.push(|out| crate::jute::encode_event(out, UNKNOWN_ZXID, &event));
                        told.add(id, bytes);
                    });
                }
                let shown = match **request {
                    // Answered before ZooKeeper's processors give it a zxid.
                    Request::Unknown { .. } => UNKNOWN_ZXID,
                    Request::Sasl { .. } => 0,
                    _ => zxid,
                };
                let bytes = match reader.answer(request, conn.session) {
                    // It fails at the first write, with the results so far.
                    _ if **request == Request::MultiReadOfWrites => {
                        let header = ReplyHeader::error(pending.xid, shown, ErrorCode::MarshallingError);
                        conn.reply(header, &Reply::Multi(Vec::new()))
                    }
                    Ok(reply) => conn.reply(ReplyHeader::ok(pending.xid, shown), &reply),
                    Err(code) => conn.reply(ReplyHeader::error(pending.xid, shown, code), &Reply::Empty),
                };
                self.notified(&told);
                bytes
            }
            What::Malformed(code) => conn.reply(ReplyHeader::error(pending.xid, zxid, *code), &Reply::Empty),
            What::Fence => return,
        };
        self.answered(id, &pending, zxid, bytes);
        if let What::Request(request) = &pending.what
            && let Request::Unknown { .. } = **request
        {
            self.close(id, CloseReason::UnknownRequest);
        }
    }
}

struct Reader<'a> {
    id: ConnectionId,
    replica: &'a Replica,
    ids: &'a [Id],
    watches: &'a mut watches::Watches,
    lists: &'a mut Lists,
}

impl<'a> Reader<'a> {
    fn answer(&mut self, request: &'a Request, session: i64) -> Result<Reply<'a>, ErrorCode> {
        Ok(match request {
            Request::Exists { path, watch } => {
                if path.contains('\0') {
                    return Err(ErrorCode::BadArguments);
                }
                let node = find(self.replica, path);
                if let Some(node) = node {
                    self.permits(node, Perms::READ)?;
                }
                if *watch {
                    self.watches.add(path, self.id, Mode::Data);
                }
                Reply::Stat(node.ok_or(ErrorCode::NoNode)?.stat())
            }
            Request::GetData { path, watch } => {
                let node = self.readable(path)?;
                if *watch {
                    self.watches.add(path, self.id, Mode::Data);
                }
                Reply::Data(node.data().map(Cow::Borrowed), node.stat())
            }
            Request::GetChildren { path, watch } => {
                let node = self.readable(path)?;
                if *watch {
                    self.watches.add(path, self.id, Mode::Child);
                }
                self.list(node, None)
            }
            Request::GetChildren2 { path, watch } => {
                let node = self.readable(path)?;
                if *watch {
                    self.watches.add(path, self.id, Mode::Child);
                }
                self.list(node, Some(node.stat()))
            }
            Request::GetAcl { path } => self.get_acl(path)?,
            Request::GetAllChildrenNumber { path } => {
                let node = self.readable(path)?;
                // By the empty path the root is asked for as one of those below it.
                let itself = usize::from(path.is_empty());
                Reply::Count((self.replica.descendants(node) + itself) as i32)
            }
            Request::GetEphemerals { prefix } => {
                let all = prefix.trim().is_empty() || prefix.trim() == path::ROOT;
                let mine = self.replica.ephemerals(session).filter(|path| all || path.starts_with(prefix.as_str()));
                Reply::Children(mine.map(Cow::Borrowed).collect())
            }
            Request::MultiRead(ops) => Reply::Multi(ops.iter().map(|op| self.multi_read(op)).collect()),
            Request::AddWatch { path, mode } => {
                let mode = match mode {
                    0 => Mode::Persistent,
                    1 => Mode::PersistentRecursive,
                    _ => return Err(ErrorCode::MarshallingError),
                };
                self.watches.add(path, self.id, mode);
                Reply::AddWatch
            }
            Request::CheckWatches { path, kind } => {
                let kind = WatcherType::from_raw(*kind).ok_or(ErrorCode::MarshallingError)?;
                if !self.watches.contains(path, self.id, kind) {
                    return Err(ErrorCode::NoWatcher);
                }
                Reply::Empty
            }
            Request::RemoveWatches { path, kind } => {
                let kind = WatcherType::from_raw(*kind).ok_or(ErrorCode::MarshallingError)?;
                self.watches.remove(path, self.id, kind).map_err(|_| ErrorCode::NoWatcher)?;
                Reply::Empty
            }
            Request::WhoAmI => Reply::WhoAmI(acl::who_am_i(self.ids)),
            Request::SetWatches(_) | Request::SetWatches2(_) | Request::Ping => Reply::Empty,
            // What a server without SASL answers: no token.
            Request::Sasl { .. } => Reply::Sasl(None),
            Request::Reconfig => return Err(ErrorCode::ReconfigDisabled),
            Request::MultiReadOfWrites => return Err(ErrorCode::MarshallingError),
            Request::Unknown { .. } => return Err(ErrorCode::Unimplemented),
            // Writes and auth do not come here.
            _ => return Err(ErrorCode::SystemError),
        })
    }

    fn multi_read(&self, op: &'a MultiReadOp) -> MultiResult<'a> {
        let result = match op {
            MultiReadOp::GetData { path } => self
                .readable(path)
                .map(|node| MultiResult::GetData { data: node.data().map(Cow::Borrowed), stat: node.stat() }),
            MultiReadOp::GetChildren { path } => {
                self.readable(path).map(|node| MultiResult::GetChildren { children: self.names(node) })
            }
        };
        result.unwrap_or_else(MultiResult::Error)
    }

    fn get_acl(&self, path: &str) -> Result<Reply<'a>, ErrorCode> {
        let node = find(self.replica, path).ok_or(ErrorCode::NoNode)?;
        let list = node.acl().map_or(&acl::OPEN_ACL_UNSAFE[..], |list| list);
        Ok(Reply::Acl(acl::shown(list, self.ids)?, node.stat()))
    }

    fn readable(&self, path: &str) -> Result<&'a Node, ErrorCode> {
        let node = find(self.replica, path).ok_or(ErrorCode::NoNode)?;
        self.permits(node, Perms::READ)?;
        Ok(node)
    }

    fn permits(&self, node: &Node, perms: Perms) -> Result<(), ErrorCode> {
        let allowed = node.acl().is_none_or(|list| acl::permits(list, perms, self.ids));
        if allowed { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// The answer to a getChildren, or with a `stat` to a getChildren2.
    fn list(&mut self, node: &'a Node, stat: Option<Stat>) -> Reply<'a> {
        match (self.lists.names(self.replica, node), stat) {
            (Some(names), stat) => Reply::Listed(names, stat),
            (None, Some(stat)) => Reply::Children2(self.names(node), stat),
            (None, None) => Reply::Children(self.names(node)),
        }
    }

    fn names(&self, node: &'a Node) -> Vec<Cow<'a, str>> {
        self.replica.children(node).map(Cow::Borrowed).collect()
    }

    /// Registers the watches of a client that reconnects, and tells it what it missed.
    fn set_watches(&mut self, request: &Request, mut tell: impl FnMut(WatcherEvent<'_>)) {
        let from_first;
        let set = match request {
            Request::SetWatches(first) => {
                from_first = SetWatches2 {
                    relative_zxid: first.relative_zxid,
                    data: first.data.clone(),
                    exist: first.exist.clone(),
                    child: first.child.clone(),
                    ..SetWatches2::default()
                };
                &from_first
            }
            Request::SetWatches2(set) => set,
            _ => return,
        };
        let replica = self.replica;
        let state =
            |path: &str| find(replica, path).map(|node| watches::NodeZxids { mzxid: node.mzxid, pzxid: node.pzxid() });
        self.watches.set_watches(self.id, set, state, |kind, path| {
            tell(WatcherEvent { kind: kind as i32, state: SYNC_CONNECTED, path: Cow::Borrowed(path) });
        });
    }
}

/// `DataTree.getNode`: the empty path is the root, too.
fn find<'a>(replica: &'a Replica, path: &str) -> Option<&'a Node> {
    replica.node(if path.is_empty() { path::ROOT } else { path })
}
