//! A ZooKeeper client that hides nothing: it shows every answer and event in the order of the wire.
//!
//! Written for assertions rather than for use: it does not reconnect, sends no ping unless somebody waits for a
//! frame, and panics where a server breaks the protocol (an answer out of order).

// Every test file that uses the client uses another part of it.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::{Instant, timeout_at};
use zketcd::jute::client::{self, Packet};
use zketcd::jute::{
    Acl, AuthPacket, ConnectRequest, ConnectResponse, CreateMode, CreateRequest, ErrorCode, Id, Malformed, MultiOp,
    MultiReadOp, MultiResult, Perms, Reply, ReplyHeader, Request, Stat, WatcherEvent, next_frame, op, xid,
};

/// How long the client waits for anything before it fails: far beyond what a loaded machine needs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The longest frame that a server may send: more than any test asks for.
const MAX_FRAME: usize = 64 << 20;

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server said no.
    #[error("the server answered {0:?}")]
    Server(ErrorCode),
    /// The server said a number that ZooKeeper doesn't know.
    #[error("the server answered with an unknown error {0}")]
    Unknown(i32),
    /// The session asked for is no more (or the password was wrong).
    #[error("the server refused the session")]
    Expired,
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    #[error("nothing came for {DEADLINE:?}")]
    Deadline,
    #[error("the server sent a bad record: {0}")]
    Malformed(#[from] Malformed),
    #[error("the connection failed: {0}")]
    Io(io::ErrorKind),
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Error {
        Error::Server(code)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Error::Closed
            }
            kind => Error::Io(kind),
        }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What came from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Reply { header: ReplyHeader, reply: Reply<'static> },
    Event { zxid: i64, event: WatcherEvent<'static> },
}

/// How to connect. The default asks for a new session of 30 s.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The session timeout to ask for.
    pub timeout: Duration,
    /// Id and password of the session to go on with; id 0: a new one.
    pub session: (i64, [u8; 16]),
    /// What this client has seen so far.
    pub last_zxid: i64,
    /// `None`: as clients before 3.4, that do not know of read-only servers.
    pub read_only: Option<bool>,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions { timeout: Duration::from_secs(30), session: (0, [0; 16]), last_zxid: 0, read_only: Some(false) }
    }
}

/// Anything that bytes go through: a socket, a socket under TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, before or without a session: raw bytes out, frames in.
pub struct Wire {
    stream: Box<dyn Stream>,
    received: BytesMut,
}

impl Wire {
    pub async fn connect(addr: impl ToSocketAddrs) -> Result<Wire> {
        let stream = timeout_at(deadline(), TcpStream::connect(addr)).await.map_err(|_| Error::Deadline)??;
        stream.set_nodelay(true)?;
        Ok(Wire::over(stream))
    }

    pub fn over(stream: impl Stream + 'static) -> Wire {
        Wire { stream: Box::new(stream), received: BytesMut::new() }
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next frame, without its length.
    pub async fn frame(&mut self) -> Result<Bytes> {
        self.frame_until(deadline()).await
    }

    /// Everything that came before the server closed the connection, frames with their lengths.
    pub async fn closed(&mut self) -> Result<Bytes> {
        let end = deadline();
        loop {
            match self.read_until(end).await {
                Ok(()) => {}
                Err(Error::Closed) => return Ok(self.received.split().freeze()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn frame_until(&mut self, end: Instant) -> Result<Bytes> {
        loop {
            if let Some(frame) = next_frame(&mut self.received, MAX_FRAME).expect("a sane frame length") {
                return Ok(frame);
            }
            self.read_until(end).await?;
        }
    }

    /// Reads something, or fails: the end of the stream is [`Error::Closed`]. Nothing is lost where `end` comes first.
    async fn read_until(&mut self, end: Instant) -> Result<()> {
        let read = self.stream.read_buf(&mut self.received);
        match timeout_at(end, read).await.map_err(|_| Error::Deadline)?? {
            0 => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}

/// What a request that was sent waits for.
#[derive(Debug)]
struct Pending {
    xid: i32,
    op: i32,
    /// A ping of the client's own: nobody is told of its answer.
    quiet: bool,
}

/// A connection with a session.
pub struct Client {
    wire: Wire,
    session: ConnectResponse,
    next_xid: i32,
    last_zxid: i64,
    pending: VecDeque<Pending>,
    /// What has been received and not yet been asked for.
    unread: VecDeque<Incoming>,
    log: Vec<Incoming>,
}

impl Client {
    /// Connects and opens a session, or goes on with one. [`Error::Expired`]: the server refused the session;
    /// [`Error::Closed`]: it closed the connection without a word.
    pub async fn connect(addr: impl ToSocketAddrs, options: ConnectOptions) -> Result<Client> {
        Client::handshake(Wire::connect(addr).await?, options).await
    }

    /// As [`Client::connect`], over a connection that stands already.
    pub async fn handshake(mut wire: Wire, options: ConnectOptions) -> Result<Client> {
        let (session_id, password) = options.session;
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: options.last_zxid,
            timeout: i32::try_from(options.timeout.as_millis()).expect("a session timeout below 24 days"),
            session_id,
            password: Bytes::copy_from_slice(&password),
            read_only: options.read_only,
        };
        let mut out = BytesMut::new();
        client::encode_connect(&mut out, &request);
        wire.send_raw(&out).await?;
        let session = client::decode_connect_response(&wire.frame().await?)?;
        assert_eq!(session.read_only_byte, options.read_only.is_some(), "the read-only byte");
        if session.timeout <= 0 {
            return Err(Error::Expired);
        }
        Ok(Client {
            wire,
            session,
            next_xid: 1,
            last_zxid: options.last_zxid,
            pending: VecDeque::new(),
            unread: VecDeque::new(),
            log: Vec::new(),
        })
    }

    pub fn session_id(&self) -> i64 {
        self.session.session_id
    }

    pub fn password(&self) -> [u8; 16] {
        self.session.password
    }

    /// The session timeout that the server granted.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.session.timeout).unwrap_or(0))
    }

    /// The newest zxid an answer or event has shown, which a client tells the server that it reconnects to.
    pub fn last_zxid(&self) -> i64 {
        self.last_zxid
    }

    /// What a connection that goes on with this one's session asks for.
    pub fn resume(&self) -> ConnectOptions {
        ConnectOptions {
            timeout: self.timeout(),
            session: (self.session_id(), self.password()),
            last_zxid: self.last_zxid,
            read_only: Some(false),
        }
    }

    /// All that came, in the order of the wire; answers to the client's own pings left out.
    pub fn log(&self) -> &[Incoming] {
        &self.log
    }

    /// Sends a request and gives its xid, without waiting for the answer.
    pub async fn send(&mut self, request: Request) -> Result<i32> {
        let xid = match request {
            Request::Ping => xid::PING,
            Request::Auth(_) => xid::AUTH,
            Request::SetWatches(_) | Request::SetWatches2(_) => xid::SET_WATCHES,
            _ => self.fresh_xid(),
        };
        let mut out = BytesMut::new();
        client::encode_request(&mut out, xid, &request);
        self.pending.push_back(Pending { xid, op: request.op(), quiet: false });
        self.wire.send_raw(&out).await?;
        Ok(xid)
    }

    /// Sends many requests in one piece and gives their xids.
    pub async fn send_all(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<Vec<i32>> {
        let mut out = BytesMut::new();
        let mut xids = Vec::new();
        for request in requests {
            let xid = self.fresh_xid();
            client::encode_request(&mut out, xid, &request);
            self.pending.push_back(Pending { xid, op: request.op(), quiet: false });
            xids.push(xid);
        }
        self.wire.send_raw(&out).await?;
        Ok(xids)
    }

    /// Sends bytes as they are. An answer to an xid that the client did not send is shown by its header alone.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send_raw(bytes).await
    }

    /// The next answer or event, in the order of the wire.
    pub async fn recv(&mut self) -> Result<Incoming> {
        match self.unread.pop_front() {
            Some(incoming) => Ok(incoming),
            None => self.receive().await,
        }
    }

    /// The answer to the request of that xid. What comes before it stays to be asked for.
    pub async fn reply(&mut self, xid: i32) -> Result<(ReplyHeader, Reply<'static>)> {
        let wanted = |one: &Incoming| matches!(one, Incoming::Reply { header, .. } if header.xid == xid);
        match self.take(wanted).await? {
            Incoming::Reply { header, reply } => Ok((header, reply)),
            Incoming::Event { .. } => unreachable!("an event is no reply"),
        }
    }

    /// The next event. Answers that come before it stay to be asked for.
    pub async fn next_event(&mut self) -> Result<(i64, WatcherEvent<'static>)> {
        match self.take(|one| matches!(one, Incoming::Event { .. })).await? {
            Incoming::Event { zxid, event } => Ok((zxid, event)),
            Incoming::Reply { .. } => unreachable!("a reply is no event"),
        }
    }

    /// The events received so far and not yet asked for.
    pub fn events(&mut self) -> Vec<(i64, WatcherEvent<'static>)> {
        let mut events = Vec::new();
        self.unread.retain(|one| match one {
            Incoming::Event { zxid, event } => {
                events.push((*zxid, event.clone()));
                false
            }
            Incoming::Reply { .. } => true,
        });
        events
    }

    /// The events of all that has happened before this call: a sync brings them in.
    pub async fn settled_events(&mut self) -> Result<Vec<(i64, WatcherEvent<'static>)>> {
        self.sync("/").await?;
        Ok(self.events())
    }

    /// Sends a request and waits for its answer, whatever it says.
    pub async fn call(&mut self, request: Request) -> Result<(ReplyHeader, Reply<'static>)> {
        let xid = self.send(request).await?;
        self.reply(xid).await
    }

    /// Waits until the server closes the connection, without a word of the client's own. What comes before stays to
    /// be asked for.
    pub async fn closed(&mut self) -> Result<()> {
        let end = deadline();
        loop {
            match self.wire.frame_until(end).await {
                Ok(frame) => {
                    if let Some(incoming) = self.decode(&frame)? {
                        self.unread.push_back(incoming);
                    }
                }
                Err(Error::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes the session and waits until the server closes the connection.
    pub async fn close(mut self) -> Result<()> {
        self.done(Request::CloseSession).await?;
        self.closed().await
    }

    async fn take(&mut self, wanted: impl Fn(&Incoming) -> bool) -> Result<Incoming> {
        if let Some(at) = self.unread.iter().position(&wanted) {
            return Ok(self.unread.remove(at).expect("a position just found"));
        }
        loop {
            let incoming = self.receive().await?;
            if wanted(&incoming) {
                return Ok(incoming);
            }
            self.unread.push_back(incoming);
        }
    }

    /// Reads one answer or event. Pings meanwhile, so that waiting does not cost the session.
    async fn receive(&mut self) -> Result<Incoming> {
        let end = deadline();
        loop {
            let ping = Instant::now() + self.timeout() / 3;
            match self.wire.frame_until(end.min(ping)).await {
                Ok(frame) => {
                    if let Some(incoming) = self.decode(&frame)? {
                        return Ok(incoming);
                    }
                }
                Err(Error::Deadline) if Instant::now() < end => self.quiet_ping().await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn quiet_ping(&mut self) -> Result<()> {
        let mut out = BytesMut::new();
        client::encode_request(&mut out, xid::PING, &Request::Ping);
        self.pending.push_back(Pending { xid: xid::PING, op: op::PING, quiet: true });
        self.wire.send_raw(&out).await
    }

    /// `None`: the answer to one of the client's own pings.
    fn decode(&mut self, frame: &Bytes) -> Result<Option<Incoming>> {
        let incoming = match client::decode_packet(frame)? {
            Packet::Event { zxid, event } => {
                self.last_zxid = self.last_zxid.max(zxid);
                Incoming::Event { zxid, event }
            }
            Packet::Reply { header, body } => {
                self.last_zxid = self.last_zxid.max(header.zxid);
                let Some(pending) = self.answered(header.xid) else {
                    let incoming = Incoming::Reply { header, reply: Reply::Empty };
                    self.log.push(incoming.clone());
                    return Ok(Some(incoming));
                };
                if pending.quiet {
                    return Ok(None);
                }
                let reply = client::decode_reply(pending.op, &header, &body)?;
                Incoming::Reply { header, reply }
            }
        };
        self.log.push(incoming.clone());
        Ok(Some(incoming))
    }

    /// Takes the request that was answered off the list. Ordinary requests are answered in the order sent; those of
    /// reserved xids are so among themselves.
    fn answered(&mut self, xid: i32) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.xid == xid)?;
        if xid > 0 {
            let earlier = self.pending.iter().take(at).find(|pending| pending.xid > 0);
            assert!(earlier.is_none(), "{xid} was answered before {earlier:?}");
        }
        self.pending.remove(at)
    }

    fn fresh_xid(&mut self) -> i32 {
        let xid = self.next_xid;
        self.next_xid = xid.checked_add(1).unwrap_or(1);
        xid
    }
}

/// The requests, one method each. An error of the server's is [`Error::Server`].
impl Client {
    /// Creates an open znode and gives its path.
    pub async fn create(&mut self, path: &str, data: &[u8], mode: CreateMode) -> Result<String> {
        let op = match mode {
            CreateMode::Container => op::CREATE_CONTAINER,
            _ => op::CREATE,
        };
        match self.ok(Request::Create(create_request(op, path, data, mode))).await? {
            Reply::Path(path) | Reply::PathStat(path, _) => Ok(path.into_owned()),
            other => panic!("create was answered by {other:?}"),
        }
    }

    /// create2: as [`Client::create`], with the new znode's stat.
    pub async fn create2(&mut self, path: &str, data: &[u8], mode: CreateMode) -> Result<(String, Stat)> {
        self.create_with(create_request(op::CREATE2, path, data, mode)).await
    }

    /// createTTL; `ttl` in milliseconds.
    pub async fn create_ttl(&mut self, path: &str, data: &[u8], mode: CreateMode, ttl: i64) -> Result<(String, Stat)> {
        let request = create_request(op::CREATE_TTL, path, data, mode);
        self.create_with(CreateRequest { ttl, ..request }).await
    }

    /// Any create that is answered by path and stat: all but [`op::CREATE`].
    pub async fn create_with(&mut self, request: CreateRequest) -> Result<(String, Stat)> {
        match self.ok(Request::Create(request)).await? {
            Reply::PathStat(path, stat) => Ok((path.into_owned(), stat)),
            other => panic!("create was answered by {other:?}"),
        }
    }

    pub async fn delete(&mut self, path: &str, version: i32) -> Result<()> {
        self.done(Request::Delete { path: path.into(), version }).await
    }

    /// `None`: there is no such znode.
    pub async fn exists(&mut self, path: &str, watch: bool) -> Result<Option<Stat>> {
        match self.ok(Request::Exists { path: path.into(), watch }).await {
            Ok(Reply::Stat(stat)) => Ok(Some(stat)),
            Ok(other) => panic!("exists was answered by {other:?}"),
            Err(Error::Server(ErrorCode::NoNode)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Null data is given as empty.
    pub async fn get(&mut self, path: &str, watch: bool) -> Result<(Vec<u8>, Stat)> {
        match self.ok(Request::GetData { path: path.into(), watch }).await? {
            Reply::Data(data, stat) => Ok((data.unwrap_or_default().into_owned(), stat)),
            other => panic!("getData was answered by {other:?}"),
        }
    }

    pub async fn set(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat> {
        let data = Some(Bytes::copy_from_slice(data));
        self.stat(Request::SetData { path: path.into(), data, version }).await
    }

    pub async fn get_acl(&mut self, path: &str) -> Result<(Vec<Acl>, Stat)> {
        match self.ok(Request::GetAcl { path: path.into() }).await? {
            Reply::Acl(acl, stat) => Ok((acl, stat)),
            other => panic!("getACL was answered by {other:?}"),
        }
    }

    pub async fn set_acl(&mut self, path: &str, acl: Vec<Acl>, version: i32) -> Result<Stat> {
        self.stat(Request::SetAcl { path: path.into(), acl: Some(acl), version }).await
    }

    /// getChildren, sorted: servers give them in no particular order.
    pub async fn children(&mut self, path: &str, watch: bool) -> Result<Vec<String>> {
        self.names(Request::GetChildren { path: path.into(), watch }).await
    }

    /// getChildren2, sorted.
    pub async fn children2(&mut self, path: &str, watch: bool) -> Result<(Vec<String>, Stat)> {
        match self.ok(Request::GetChildren2 { path: path.into(), watch }).await? {
            Reply::Children2(names, stat) => Ok((sorted(names), stat)),
            other => panic!("getChildren2 was answered by {other:?}"),
        }
    }

    /// The session's ephemerals below a prefix, sorted.
    pub async fn ephemerals(&mut self, prefix: &str) -> Result<Vec<String>> {
        self.names(Request::GetEphemerals { prefix: prefix.into() }).await
    }

    /// How many znodes are below this one, at any depth.
    pub async fn all_children_number(&mut self, path: &str) -> Result<i32> {
        match self.ok(Request::GetAllChildrenNumber { path: path.into() }).await? {
            Reply::Count(count) => Ok(count),
            other => panic!("getAllChildrenNumber was answered by {other:?}"),
        }
    }

    pub async fn sync(&mut self, path: &str) -> Result<()> {
        match self.ok(Request::Sync { path: path.into() }).await? {
            Reply::Path(_) => Ok(()),
            other => panic!("sync was answered by {other:?}"),
        }
    }

    pub async fn ping(&mut self) -> Result<()> {
        self.done(Request::Ping).await
    }

    /// The results, errors among them: a multi that fails is answered by errors alone.
    pub async fn multi(&mut self, operations: Vec<MultiOp>) -> Result<Vec<MultiResult<'static>>> {
        self.results(Request::Multi(operations)).await
    }

    pub async fn multi_read(&mut self, operations: Vec<MultiReadOp>) -> Result<Vec<MultiResult<'static>>> {
        self.results(Request::MultiRead(operations)).await
    }

    /// addAuth. After a refusal the server closes the connection.
    pub async fn auth(&mut self, scheme: &str, auth: &[u8]) -> Result<()> {
        let auth = Some(Bytes::copy_from_slice(auth));
        self.done(Request::Auth(AuthPacket { kind: 0, scheme: scheme.into(), auth })).await
    }

    pub async fn who_am_i(&mut self) -> Result<Vec<Id>> {
        match self.ok(Request::WhoAmI).await? {
            Reply::WhoAmI(ids) => Ok(ids),
            other => panic!("whoAmI was answered by {other:?}"),
        }
    }

    /// `mode`: 0 persistent, 1 persistent recursive.
    pub async fn add_watch(&mut self, path: &str, mode: i32) -> Result<()> {
        match self.ok(Request::AddWatch { path: path.into(), mode }).await? {
            Reply::AddWatch => Ok(()),
            other => panic!("addWatch was answered by {other:?}"),
        }
    }

    /// `kind`: a `WatcherType`'s number.
    pub async fn remove_watches(&mut self, path: &str, kind: i32) -> Result<()> {
        self.done(Request::RemoveWatches { path: path.into(), kind }).await
    }

    /// `kind`: a `WatcherType`'s number.
    pub async fn check_watches(&mut self, path: &str, kind: i32) -> Result<()> {
        self.done(Request::CheckWatches { path: path.into(), kind }).await
    }

    /// Sends a request and gives its answer's body; an answer with an error is an error.
    pub async fn ok(&mut self, request: Request) -> Result<Reply<'static>> {
        let (header, reply) = self.call(request).await?;
        match ErrorCode::from_code(header.err) {
            Some(ErrorCode::Ok) => Ok(reply),
            Some(code) => Err(Error::Server(code)),
            None => Err(Error::Unknown(header.err)),
        }
    }

    /// As [`Client::ok`], for requests that are answered by a header alone.
    pub async fn done(&mut self, request: Request) -> Result<()> {
        match self.ok(request).await? {
            Reply::Empty => Ok(()),
            other => panic!("an answer without a body was {other:?}"),
        }
    }

    async fn stat(&mut self, request: Request) -> Result<Stat> {
        match self.ok(request).await? {
            Reply::Stat(stat) => Ok(stat),
            other => panic!("an answer with a stat was {other:?}"),
        }
    }

    async fn names(&mut self, request: Request) -> Result<Vec<String>> {
        match self.ok(request).await? {
            Reply::Children(names) => Ok(sorted(names)),
            other => panic!("an answer with names was {other:?}"),
        }
    }

    async fn results(&mut self, request: Request) -> Result<Vec<MultiResult<'static>>> {
        match self.ok(request).await? {
            Reply::Multi(results) => Ok(results),
            other => panic!("a multi was answered by {other:?}"),
        }
    }
}

/// `world:anyone` may do all.
pub fn open_acl() -> Vec<Acl> {
    vec![Acl { perms: Perms::ALL, id: Id { scheme: "world".into(), id: "anyone".into() } }]
}

/// A create with an open ACL; `op` is one of the four creates.
pub fn create_request(op: i32, path: &str, data: &[u8], mode: CreateMode) -> CreateRequest {
    let data = Some(Bytes::copy_from_slice(data));
    CreateRequest { op, path: path.into(), data, acl: Some(open_acl()), flags: mode.flags(), ttl: 0 }
}

/// The operations of a multi, for short.
pub fn create_op(path: &str, data: &[u8], mode: CreateMode) -> MultiOp {
    MultiOp::Create(create_request(op::CREATE, path, data, mode))
}

pub fn delete_op(path: &str, version: i32) -> MultiOp {
    MultiOp::Delete { path: path.into(), version }
}

pub fn set_op(path: &str, data: &[u8], version: i32) -> MultiOp {
    MultiOp::SetData { path: path.into(), data: Some(Bytes::copy_from_slice(data)), version }
}

pub fn check_op(path: &str, version: i32) -> MultiOp {
    MultiOp::Check { path: path.into(), version }
}

fn sorted(names: Vec<std::borrow::Cow<'static, str>>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().map(|name| name.into_owned()).collect();
    names.sort();
    names
}

fn deadline() -> Instant {
    Instant::now() + DEADLINE
}
