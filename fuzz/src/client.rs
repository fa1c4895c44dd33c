//! A ZooKeeper client that believes nothing: each frame that comes is checked against what was asked and seen before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use zketcd::jute::client::{Packet, decode_connect_response, decode_packet, decode_reply};
use zketcd::jute::{ErrorCode, MultiResult, Reply, ReplyHeader, Request, Stat, WatcherEvent, next_frame, xid};
use zketcd::session::{CloseReason, ConnectionId, Outbox, Outgo};
use zketcd::tree::watches::EventType;

/// Bytes that may wait for a client: it reads at every step.
const UNSENT: usize = 1 << 30;

/// A session as its client knows it.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: i64,
    pub password: [u8; 16],
    /// The last zxid that a reply carried, as the Java client keeps it.
    pub last_zxid: i64,
    /// By path, what was seen of it last: mzxid and pzxid. They never go back.
    seen: HashMap<String, (i64, i64)>,
}

/// A connection from the client's side.
pub struct Connection {
    pub server: usize,
    pub id: ConnectionId,
    pub outbox: Arc<Outbox>,
    /// Whose it is to be; the server has confirmed it where `attached`.
    pub session: Session,
    pub attached: bool,
    /// The session was asked for with another password than its own.
    pub wrong_password: bool,
    /// Nothing is sent before the server has room.
    pub full: bool,
    bytes: BytesMut,
    asked: VecDeque<(i32, Asked)>,
    pings: usize,
    auths: usize,
    next_xid: i32,
    /// Of the last reply and of the last event.
    replied: i64,
    told: i64,
    /// Watches set here, with what their client knows: the mzxid of a node (`None`: it is not there), and the pzxid.
    data_watches: HashMap<String, Option<i64>>,
    child_watches: HashMap<String, i64>,
    /// Nobody may be kept from reading, so every watch must fire.
    all_open: bool,
}

/// What is kept of a request until its answer comes.
#[derive(Debug)]
enum Asked {
    Request(Request),
    Malformed(ErrorCode),
}

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// The server closed it.
    Closed(CloseReason),
    /// The server says that the session is over.
    Refused,
}

impl Session {
    pub fn new(id: i64, password: [u8; 16]) -> Self {
        Session { id, password, last_zxid: 0, seen: HashMap::new() }
    }

    fn see(&mut self, path: &str, stat: &Stat) {
        let now = (stat.mzxid, stat.pzxid);
        if let Some(before) = self.seen.insert(path.to_owned(), now) {
            assert!(now.0 >= before.0 && now.1 >= before.1, "{path} goes back from {before:x?} to {now:x?}");
        }
    }
}

impl Connection {
    pub fn new(server: usize, session: Session, all_open: bool) -> Self {
        Connection {
            server,
            id: 0,
            outbox: Arc::new(Outbox::new(UNSENT, Arc::default())),
            session,
            attached: false,
            wrong_password: false,
            full: true,
            bytes: BytesMut::new(),
            asked: VecDeque::new(),
            pings: 0,
            auths: 0,
            next_xid: 1,
            replied: 0,
            told: 0,
            data_watches: HashMap::new(),
            child_watches: HashMap::new(),
            all_open,
        }
    }

    /// Whether the server takes requests now.
    pub fn may_send(&mut self) -> bool {
        if self.full && self.outbox.room().now_or_never().is_some() {
            self.full = false;
        }
        !self.full && self.outbox.closed().is_none()
    }

    /// The request's xid; its answer is awaited from now on.
    pub fn ask(&mut self, request: &Request) -> i32 {
        let xid = match request {
            Request::Ping => {
                self.pings += 1;
                return xid::PING;
            }
            Request::Auth(_) => {
                self.auths += 1;
                return xid::AUTH;
            }
            Request::SetWatches(_) | Request::SetWatches2(_) => xid::SET_WATCHES,
            _ => self.new_xid(),
        };
        self.asked.push_back((xid, Asked::Request(request.clone())));
        xid
    }

    /// The same for a request that cannot be read.
    pub fn ask_malformed(&mut self, code: ErrorCode) -> i32 {
        let xid = self.new_xid();
        self.asked.push_back((xid, Asked::Malformed(code)));
        xid
    }

    fn new_xid(&mut self) -> i32 {
        self.next_xid += 1;
        self.next_xid
    }

    /// Requests without an answer.
    pub fn unanswered(&self) -> usize {
        self.asked.len() + self.pings + self.auths
    }

    /// Reads and checks all that has come.
    pub fn read(&mut self) -> State {
        loop {
            match self.outbox.next().now_or_never() {
                None => return State::Open,
                Some(Outgo::End(reason)) => {
                    assert!(self.bytes.is_empty(), "half a frame");
                    return State::Closed(reason);
                }
                Some(Outgo::Bytes(bytes)) => self.bytes.unsplit(bytes),
            }
            while let Some(frame) = next_frame(&mut self.bytes, usize::MAX).expect("a sane length") {
                if self.attached {
                    self.packet(&frame);
                } else if !self.connected(&frame) {
                    return State::Refused;
                }
            }
        }
    }

    /// The first frame. False: the session is over.
    fn connected(&mut self, frame: &Bytes) -> bool {
        let response = decode_connect_response(frame).expect("a connect response");
        if response.timeout == 0 {
            assert_eq!((response.session_id, response.password), (0, [0; 16]));
            return false;
        }
        assert!(!self.wrong_password, "attached by a wrong password");
        assert_eq!((response.session_id, response.password), (self.session.id, self.session.password));
        self.attached = true;
        true
    }

    fn packet(&mut self, frame: &Bytes) {
        match decode_packet(frame).expect("a packet") {
            Packet::Event { zxid, event } => self.event(zxid, &event),
            Packet::Reply { header, body } => self.reply(header, &body),
        }
    }

    fn event(&mut self, zxid: i64, event: &WatcherEvent<'_>) {
        if zxid == -1 {
            let front = self.asked.front().map(|(_, asked)| asked);
            let missed = matches!(front, Some(Asked::Request(Request::SetWatches(_) | Request::SetWatches2(_))));
            assert!(missed, "an event without a zxid, and no setWatches to answer");
        } else {
            assert!(zxid > self.replied, "an event of {zxid:#x} after the answer of {:#x}", self.replied);
            assert!(zxid >= self.told, "an event of {zxid:#x} after that of {:#x}", self.told);
            self.told = zxid;
        }
        let data = [EventType::NodeCreated, EventType::NodeDataChanged, EventType::NodeDeleted];
        if data.iter().any(|kind| kind.code() == event.kind) {
            self.data_watches.remove(&*event.path);
        }
        let child = [EventType::NodeChildrenChanged, EventType::NodeDeleted];
        if child.iter().any(|kind| kind.code() == event.kind) {
            self.child_watches.remove(&*event.path);
        }
    }

    fn reply(&mut self, header: ReplyHeader, body: &[u8]) {
        if header.xid == xid::AUTH {
            self.auths = self.auths.checked_sub(1).expect("an auth was sent");
            return;
        }
        if header.xid == xid::PING {
            self.pings = self.pings.checked_sub(1).expect("a ping was sent");
            assert_eq!(header.err, 0);
            self.showed(header.zxid);
            return;
        }
        let (xid, asked) = self.asked.pop_front().expect("an answer to something");
        assert_eq!(header.xid, xid, "answers in the order of the requests: {asked:?}");
        match &asked {
            // Answered before a zxid is looked at, as ZooKeeper does it.
            Asked::Request(Request::Unknown { .. }) => assert_eq!(header.zxid, -1),
            Asked::Request(Request::Sasl { .. }) => assert_eq!(header.zxid, 0),
            _ => self.showed(header.zxid),
        }
        match asked {
            Asked::Malformed(code) => assert_eq!(header.err, code.code()),
            Asked::Request(request) => {
                let reply = decode_reply(request.op(), &header, body).expect("an answer of its kind");
                self.answered(&header, &request, &reply);
            }
        }
    }

    /// What the client has seen never goes back.
    fn showed(&mut self, zxid: i64) {
        let latest = self.replied.max(self.told);
        assert!(zxid >= latest, "an answer of {zxid:#x} after one of {latest:#x}");
        self.replied = zxid;
        if zxid > 0 {
            self.session.last_zxid = zxid;
        }
    }

    fn answered(&mut self, header: &ReplyHeader, request: &Request, reply: &Reply<'_>) {
        match (request, reply) {
            (
                Request::Exists { path, .. }
                | Request::GetData { path, .. }
                | Request::GetAcl { path }
                | Request::GetChildren2 { path, .. }
                | Request::SetData { path, .. }
                | Request::SetAcl { path, .. },
                Reply::Stat(stat) | Reply::Data(_, stat) | Reply::Acl(_, stat) | Reply::Children2(_, stat),
            ) => self.see(header, path, stat),
            (Request::Create(_), Reply::PathStat(path, stat)) => self.see(header, path, stat),
            (Request::Multi(ops), Reply::Multi(results)) => {
                assert_eq!(ops.len(), results.len());
                for result in results {
                    if let MultiResult::Create2 { stat, .. } | MultiResult::SetData { stat } = result {
                        check_stat(header, stat);
                    }
                }
            }
            (
                Request::Exists { path, .. }
                | Request::GetData { path, .. }
                | Request::GetChildren { path, .. }
                | Request::GetChildren2 { path, .. }
                | Request::GetAcl { path }
                | Request::SetData { path, .. }
                | Request::SetAcl { path, .. },
                Reply::Empty,
            ) if header.err == ErrorCode::NoNode.code() => {
                self.know_data(path, None);
                assert!(!self.all_open || !self.child_watches.contains_key(path), "{path} went without an event");
            }
            (Request::RemoveWatches { path, .. }, _) if header.err == 0 => {
                self.data_watches.remove(path);
                self.child_watches.remove(path);
            }
            _ => {}
        }
        self.watched(header, request, reply);
    }

    /// Watches that the answer has set.
    fn watched(&mut self, header: &ReplyHeader, request: &Request, reply: &Reply<'_>) {
        match (request, reply) {
            // The root is read by this name, too, but no event carries it.
            (Request::Exists { path, .. } | Request::GetData { path, .. } | Request::GetChildren2 { path, .. }, _)
                if path.is_empty() => {}
            (Request::Exists { path, watch: true }, Reply::Empty) if header.err == ErrorCode::NoNode.code() => {
                self.data_watches.insert(path.clone(), None);
            }
            (
                Request::Exists { path, watch: true } | Request::GetData { path, watch: true },
                Reply::Stat(stat) | Reply::Data(_, stat),
            ) => {
                self.data_watches.insert(path.clone(), Some(stat.mzxid));
            }
            (Request::GetChildren2 { path, watch: true }, Reply::Children2(_, stat)) => {
                self.child_watches.insert(path.clone(), stat.pzxid);
            }
            _ => {}
        }
    }

    fn see(&mut self, header: &ReplyHeader, path: &str, stat: &Stat) {
        check_stat(header, stat);
        self.session.see(path, stat);
        self.know_data(path, Some(stat.mzxid));
        if let Some(known) = self.child_watches.get(path).filter(|_| self.all_open) {
            assert_eq!(*known, stat.pzxid, "the children of {path} changed without an event");
        }
    }

    fn know_data(&self, path: &str, mzxid: Option<i64>) {
        if let Some(known) = self.data_watches.get(path).filter(|_| self.all_open) {
            assert_eq!(*known, mzxid, "{path} changed without an event");
        }
    }
}

fn check_stat(header: &ReplyHeader, stat: &Stat) {
    let zxid = header.zxid;
    assert!(0 <= stat.czxid && stat.czxid <= stat.mzxid && stat.mzxid <= zxid, "{stat:x?} at {zxid:#x}");
    assert!(stat.czxid <= stat.pzxid && stat.pzxid <= zxid, "{stat:x?} at {zxid:#x}");
    assert!(stat.version >= 0 && stat.num_children >= 0, "{stat:?}");
}
