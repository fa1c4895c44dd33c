//! A connection's queue, and what order it keeps.
//!
//! A session's requests take effect and are answered in the order sent. Reads run at once where no write is
//! before them; writes of one connection ride in one batch at a time. Pings and auth do not queue.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::engine::{ConnectionId, Engine, Now};
use super::outbox::{CloseReason, Outbox};
use crate::jute::{
    AuthPacket, ConnectResponse, ErrorCode, Id, Reply, ReplyHeader, Request, RequestHeader, encode_reply, xid,
};
use crate::metrics::RequestKind;
use crate::server::stats::ConnectionStats;
use crate::tree::acl;
use crate::tree::record::SessionRecord;

/// A decoded frame.
#[derive(Debug)]
pub enum Incoming {
    Request(RequestHeader, Request),
    /// A body that cannot be read, with what ZooKeeper answers.
    Malformed(RequestHeader, ErrorCode),
}

/// A request that waits for its turn.
#[derive(Debug)]
pub(super) struct Pending {
    pub xid: i32,
    pub op: i32,
    pub what: What,
    /// The connection's identities when the request came.
    pub ids: Arc<[Id]>,
    pub received: u64,
    pub fails: u32,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Request(Arc<Request>),
    Malformed(ErrorCode),
    /// The store's position, for a linearizable read behind it; no answer.
    Fence,
}

impl Pending {
    pub fn is_write(&self) -> bool {
        match &self.what {
            What::Fence => true,
            What::Malformed(_) => false,
            What::Request(request) => matches!(
                **request,
                Request::Create(_)
                    | Request::Delete { .. }
                    | Request::DeleteContainer { .. }
                    | Request::SetData { .. }
                    | Request::SetAcl { .. }
                    | Request::Multi(_)
                    | Request::Sync { .. }
                    | Request::CloseSession
            ),
        }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub outbox: Arc<Outbox>,
    pub peer: SocketAddr,
    pub ids: Arc<[Id]>,
    pub read_only_byte: bool,
    /// 0 before the handshake is done.
    pub session: i64,
    /// The revision of this connection's attach.
    pub attached: Option<i64>,
    pub queue: VecDeque<Pending>,
    /// Requests in an unanswered batch.
    pub in_flight: usize,
    pub ready: bool,
    /// The socket is gone; the writes that were taken go on.
    pub gone: bool,
    /// A closeSession that is answered when the last ephemeral is gone.
    pub closing: Option<Pending>,
    /// Since when a write waits for the store.
    pub write_since: Option<u64>,
    /// When its connect request came.
    pub connected: u64,
    pub stats: ConnectionStats,
    /// Milliseconds since the Unix epoch.
    pub established: i64,
    /// The reading task waits for room.
    pub full: bool,
}

impl Connection {
    pub fn new(outbox: Arc<Outbox>, peer: SocketAddr, ids: Arc<[Id]>, read_only_byte: bool, now: Now) -> Self {
        Connection {
            outbox,
            peer,
            ids,
            read_only_byte,
            session: 0,
            attached: None,
            queue: VecDeque::new(),
            in_flight: 0,
            ready: false,
            gone: false,
            closing: None,
            write_since: None,
            connected: now.mono,
            // The connect request.
            stats: ConnectionStats { received: 1, ..ConnectionStats::default() },
            established: now.wall,
            full: false,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight == 0 && self.closing.is_none()
    }

    /// When the write, or the handshake, came that has waited longest.
    pub fn oldest_write(&self) -> Option<u64> {
        match self.attached {
            None => Some(self.connected),
            Some(_) if self.in_flight > 0 || self.closing.is_some() => self.write_since,
            Some(_) => self.queue.front().map(|pending| pending.received),
        }
    }

    /// The answer to the connect request: the session is attached.
    pub fn answer_connect(&self, record: &SessionRecord) -> usize {
        let response = ConnectResponse {
            timeout: record.timeout,
            session_id: self.session,
            password: record.password,
            read_only_byte: self.read_only_byte,
        };
        self.outbox.push(|out| response.encode(out))
    }

    /// Answers, and gives the answer's length.
    pub fn reply(&self, header: ReplyHeader, reply: &Reply<'_>) -> usize {
        self.outbox.push(|out| encode_reply(out, &header, reply))
    }
}

impl Engine {
    /// Takes what a client sent, in order. False: its queue is full; read no more before the outbox signals room.
    pub fn receive(&mut self, id: ConnectionId, incoming: Vec<Incoming>) -> bool {
        let now = self.now;
        let outstanding = self.config.outstanding;
        let linearizable = self.config.linearizable_reads;
        let draining = self.is_draining();
        if let Some(session) = self.connections.get(&id).map(|conn| conn.session)
            && let Some(held) = self.held.get_mut(&session)
            && held.conn == Some(id)
        {
            held.heard = now.mono;
        }
        for incoming in incoming {
            let Some(conn) = self.connections.get_mut(&id) else { return true };
            conn.stats.record_received();
            self.stats.record_received();
            let (header, what) = match incoming {
                Incoming::Request(header, Request::Auth(packet)) => {
                    self.authenticate(id, header, &packet);
                    continue;
                }
                Incoming::Request(header, Request::Ping) if conn.attached.is_some() => {
                    // Reads that came before are answered before.
                    self.advance(id);
                    self.ping(id, header);
                    continue;
                }
                Incoming::Request(header, request) => (header, What::Request(Arc::new(request))),
                Incoming::Malformed(header, code) => (header, What::Malformed(code)),
            };
            if draining {
                // Too late; what was taken before is still answered, and pings.
                continue;
            }
            let ids = conn.ids.clone();
            let pending = Pending { xid: header.xid, op: header.op, what, ids, received: now.mono, fails: 0 };
            if linearizable
                && !pending.is_write()
                && (conn.in_flight > 0 || conn.queue.back().is_none_or(Pending::is_write))
            {
                let ids = conn.ids.clone();
                conn.queue.push_back(Pending { xid: 0, op: 0, what: What::Fence, ids, received: now.mono, fails: 0 });
            }
            conn.queue.push_back(pending);
        }
        self.advance(id);
        let Some(conn) = self.connections.get_mut(&id) else { return true };
        conn.full = conn.queue.len() >= outstanding;
        !conn.full
    }

    /// Runs the reads at the head of the connection's queue; a write behind them waits for a batch.
    pub(super) fn advance(&mut self, id: ConnectionId) {
        loop {
            let Some(conn) = self.connections.get_mut(&id) else { return };
            if conn.attached.is_none() || conn.in_flight > 0 || conn.closing.is_some() {
                return;
            }
            let Some(front) = conn.queue.front() else { break };
            if front.is_write() {
                if !conn.ready {
                    conn.ready = true;
                    self.ready.push_back(id);
                }
                break;
            }
            let gone = conn.gone;
            if let Some(pending) = conn.queue.pop_front()
                && !gone
            {
                self.read(id, pending);
            }
        }
        self.after_advance(id);
    }

    fn after_advance(&mut self, id: ConnectionId) {
        let draining = self.is_draining();
        let Some(conn) = self.connections.get_mut(&id) else { return };
        if conn.full && conn.queue.len() <= self.config.outstanding / 2 {
            conn.full = false;
            conn.outbox.signal_room();
        }
        if conn.is_idle() && conn.gone {
            self.forget(id);
        } else if conn.is_idle() && draining {
            self.close(id, CloseReason::Shutdown);
        }
    }

    /// The client's socket is gone. Writes that it sent before still take effect.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.watches.remove_watcher(id);
        let Some(conn) = self.connections.get_mut(&id) else { return };
        conn.gone = true;
        conn.outbox.close(CloseReason::ClientGone);
        let session = conn.session;
        let keep = conn.attached.is_some() && !conn.is_idle();
        if let Some(held) = self.held.get_mut(&session)
            && held.conn == Some(id)
        {
            held.conn = None;
        }
        if keep { self.advance(id) } else { self.forget(id) }
    }

    /// The reading side is over, for this reason.
    pub fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        match reason {
            CloseReason::ClientGone => self.disconnect(id),
            reason => self.close(id, reason),
        }
    }

    /// Closes a connection from this side: what waits in its outbox goes out, nothing more is taken.
    pub(super) fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        if let Some(conn) = self.connections.get(&id) {
            conn.outbox.close(reason);
            tracing::info!(session = format_args!("{:#x}", conn.session), peer = %conn.peer, reason = reason.name(), "connection closed");
        }
        self.forget(id);
    }

    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.watches.remove_watcher(id);
        if let Some(conn) = self.connections.remove(&id)
            && let Some(held) = self.held.get_mut(&conn.session)
            && held.conn == Some(id)
        {
            held.conn = None;
        }
    }

    /// Whether the connection's session may be told that it lives; if not, the connection is closed.
    pub(super) fn is_safe(&mut self, id: ConnectionId) -> bool {
        let session = self.connections.get(&id).map_or(0, |conn| conn.session);
        let safe = self.held.get(&session).is_some_and(|held| held.conn == Some(id) && self.now.mono < held.safe_until);
        if !safe {
            self.close(id, CloseReason::LeaseUncertain);
        }
        safe
    }

    /// Pings overtake writes that wait for the store, and what waits for them: clients know them by their xid.
    fn ping(&mut self, id: ConnectionId, header: RequestHeader) {
        if !self.is_safe(id) {
            return;
        }
        let zxid = self.replica.last_zxid();
        let Some(conn) = self.connections.get(&id) else { return };
        let bytes = conn.reply(ReplyHeader::ok(xid::PING, zxid), &Reply::Empty);
        self.book(id, (xid::PING, header.op), RequestKind::Read, (zxid, bytes), Duration::ZERO);
    }

    /// addauth: at once, for the requests that come after it.
    fn authenticate(&mut self, id: ConnectionId, header: RequestHeader, packet: &AuthPacket) {
        let Some(conn) = self.connections.get_mut(&id) else { return };
        let mut ids = conn.ids.to_vec();
        let super_digest = self.config.super_digest.as_deref();
        let found = acl::authenticate(&packet.scheme, packet.auth.as_deref(), conn.peer.ip(), super_digest)
            .and_then(|gained| acl::add_identities(&mut ids, gained));
        if found.is_err() {
            self.metrics.auth_failed.inc();
            tracing::warn!(session = format_args!("{:#x}", conn.session), peer = %conn.peer, scheme = packet.scheme, "authentication failed");
            conn.reply(ReplyHeader::error(header.xid, 0, ErrorCode::AuthFailed), &Reply::Empty);
            self.close(id, CloseReason::AuthFailed);
            return;
        }
        conn.ids = ids.into();
        conn.reply(ReplyHeader::ok(header.xid, 0), &Reply::Empty);
    }
}
