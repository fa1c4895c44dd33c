//! The wire, written and read apart from zketcd's own codec: a mistake there must not hide itself here.
//!
//! An answer is taken apart to the last byte: what a type's answer does not call for is shown as it is.

use crate::case::{Acls, Ask, Create, Op, Since};

/// Opcodes, as `ZooDefs.OpCode` numbers them.
pub mod op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;

    /// Every request type that a client may send, with its name.
    pub const ALL: [(i32, &str); 30] = [
        (CREATE, "create"),
        (CREATE2, "create2"),
        (CREATE_CONTAINER, "createContainer"),
        (CREATE_TTL, "createTTL"),
        (DELETE, "delete"),
        (DELETE_CONTAINER, "deleteContainer"),
        (EXISTS, "exists"),
        (GET_DATA, "getData"),
        (SET_DATA, "setData"),
        (GET_ACL, "getACL"),
        (SET_ACL, "setACL"),
        (GET_CHILDREN, "getChildren"),
        (GET_CHILDREN2, "getChildren2"),
        (SYNC, "sync"),
        (PING, "ping"),
        (CHECK, "check"),
        (MULTI, "multi"),
        (MULTI_READ, "multiRead"),
        (RECONFIG, "reconfig"),
        (CHECK_WATCHES, "checkWatches"),
        (REMOVE_WATCHES, "removeWatches"),
        (ADD_WATCH, "addWatch"),
        (AUTH, "auth"),
        (SASL, "sasl"),
        (SET_WATCHES, "setWatches"),
        (SET_WATCHES2, "setWatches2"),
        (GET_EPHEMERALS, "getEphemerals"),
        (GET_ALL_CHILDREN_NUMBER, "getAllChildrenNumber"),
        (WHO_AM_I, "whoAmI"),
        (CLOSE_SESSION, "closeSession"),
    ];

    pub fn name(op: i32) -> String {
        ALL.iter().find(|(one, _)| *one == op).map_or_else(|| format!("type {op}"), |(_, name)| (*name).to_owned())
    }

    /// Whether ZooKeeper makes a transaction of it, with a zxid of its own.
    pub fn is_write(op: i32) -> bool {
        matches!(
            op,
            CREATE
                | CREATE2
                | CREATE_CONTAINER
                | CREATE_TTL
                | DELETE
                | DELETE_CONTAINER
                | SET_DATA
                | SET_ACL
                | MULTI
                | CLOSE_SESSION
        )
    }
}

pub const XID_EVENT: i32 = -1;
pub const XID_PING: i32 = -2;
const XID_AUTH: i32 = -4;
const XID_SET_WATCHES: i32 = -8;

pub mod error {
    pub const MARSHALLING: i32 = -5;
    pub const UNIMPLEMENTED: i32 = -6;
    pub const AUTH_FAILED: i32 = -115;
}

/// The xid that clients use for such a request, or their next one.
pub fn xid_of(ask: &Ask, next: i32) -> i32 {
    match ask {
        Ask::Ping => XID_PING,
        Ask::Auth(..) => XID_AUTH,
        Ask::SetWatches(..) | Ask::SetWatches2(..) => XID_SET_WATCHES,
        _ => next,
    }
}

/// Bytes on their way out.
#[derive(Default)]
pub struct Out(pub Vec<u8>);

impl Out {
    pub fn int(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn long(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn boolean(&mut self, value: bool) -> &mut Self {
        self.0.push(u8::from(value));
        self
    }

    pub fn buffer(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            None => self.int(-1),
            Some(bytes) => {
                self.int(bytes.len() as i32);
                self.0.extend(bytes);
                self
            }
        }
    }

    /// The frame, behind its length.
    pub fn frame(self) -> Vec<u8> {
        [&(self.0.len() as u32).to_be_bytes()[..], &self.0].concat()
    }
}

/// A connect request.
pub fn connect(last_zxid: i64, timeout: i32, session: i64, password: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.int(0).long(last_zxid).int(timeout).long(session).buffer(Some(password)).boolean(false);
    out.frame()
}

/// What a path is on the wire.
pub fn path(text: &str, room: &str) -> Vec<u8> {
    let text = match text.strip_prefix('@') {
        Some(verbatim) => verbatim.to_owned(),
        None if text == "/" => room.to_owned(),
        None if text.starts_with('/') => format!("{room}{text}"),
        None => text.to_owned(),
    };
    raw(&text)
}

/// The bytes of a text, some of which may be no UTF-8.
fn raw(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for c in text.chars() {
        match u32::from(c) {
            byte @ 0xe080..=0xe0ff => bytes.push(byte as u8),
            _ => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// A request of a case, as a frame. `since` finds the zxid that a setWatches names.
pub fn request(xid: i32, ask: &Ask, room: &str, since: impl Fn(Since) -> i64) -> Vec<u8> {
    let mut out = Out::default();
    let path = |text: &str| path(text, room);
    out.int(xid).int(ask.op());
    match ask {
        Ask::Create(request) => create(&mut out, request, room),
        Ask::Delete(at, number)
        | Ask::Check(at, number)
        | Ask::CheckWatches(at, number)
        | Ask::RemoveWatches(at, number)
        | Ask::AddWatch(at, number) => {
            out.buffer(Some(&path(at))).int(*number);
        }
        Ask::DeleteContainer(at)
        | Ask::GetAcl(at)
        | Ask::Sync(at)
        | Ask::GetEphemerals(at)
        | Ask::GetAllChildrenNumber(at) => {
            out.buffer(Some(&path(at)));
        }
        Ask::Exists(at, watch)
        | Ask::GetData(at, watch)
        | Ask::GetChildren(at, watch)
        | Ask::GetChildren2(at, watch) => {
            out.buffer(Some(&path(at))).boolean(*watch);
        }
        Ask::SetAcl(at, list, version) => {
            out.buffer(Some(&path(at)));
            acls(&mut out, list);
            out.int(*version);
        }
        Ask::SetData(at, data, version) => {
            out.buffer(Some(&path(at))).buffer(data.as_deref().map(raw).as_deref()).int(*version);
        }
        Ask::Multi(ops) | Ask::MultiRead(ops) => {
            for op in ops {
                multi_op(&mut out, op, room);
            }
            out.int(-1).boolean(true).int(-1);
        }
        Ask::SetWatches(from, lists) => watches(&mut out, since(*from), lists, room),
        Ask::SetWatches2(from, lists) => watches(&mut out, since(*from), lists, room),
        Ask::Auth(scheme, token) => {
            out.int(0).buffer(Some(&raw(scheme))).buffer(token.as_deref().map(raw).as_deref());
        }
        Ask::Reconfig => {
            out.buffer(None).buffer(None).buffer(None).long(-1);
        }
        Ask::Sasl(token) => {
            out.buffer(token.as_deref().map(raw).as_deref());
        }
        Ask::Ping | Ask::WhoAmI | Ask::CloseSession | Ask::Unknown(_) => {}
    }
    out.frame()
}

fn create(out: &mut Out, request: &Create, room: &str) {
    out.buffer(Some(&path(&request.path, room))).buffer(request.data.as_deref().map(raw).as_deref());
    acls(out, &request.acl);
    out.int(request.flags);
    if request.op == op::CREATE_TTL {
        out.long(request.ttl);
    }
}

fn acls(out: &mut Out, list: &Acls) {
    let Some(list) = list else {
        out.int(-1);
        return;
    };
    out.int(list.len() as i32);
    for (perms, scheme, id) in list {
        out.int(*perms).buffer(Some(&raw(scheme))).buffer(Some(&raw(id)));
    }
}

fn multi_op(out: &mut Out, op: &Op, room: &str) {
    let kind = match op {
        Op::Create(request) => request.op,
        Op::Delete(..) => op::DELETE,
        Op::SetData(..) => op::SET_DATA,
        Op::Check(..) => op::CHECK,
        Op::Read(kind, _) => *kind,
    };
    out.int(kind).boolean(false).int(-1);
    match op {
        Op::Create(request) => create(out, request, room),
        Op::Delete(at, version) | Op::Check(at, version) => {
            out.buffer(Some(&path(at, room))).int(*version);
        }
        Op::SetData(at, data, version) => {
            out.buffer(Some(&path(at, room))).buffer(data.as_deref().map(raw).as_deref()).int(*version);
        }
        Op::Read(_, at) => {
            out.buffer(Some(&path(at, room))).boolean(false);
        }
    }
}

fn watches(out: &mut Out, since: i64, lists: &[Vec<String>], room: &str) {
    out.long(since);
    for list in lists {
        out.int(list.len() as i32);
        for one in list {
            out.buffer(Some(&path(one, room)));
        }
    }
}

/// Java writes a character beyond the Basic Multilingual Plane as two surrogates, three bytes each, which no decoder
/// reads (`BinaryOutputArchive.stringToByteBuffer`), zketcd as UTF-8: that is what both are shown as.
fn paired(bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [0xed, a @ 0xa0..=0xaf, b, 0xed, c @ 0xb0..=0xbf, d, rest @ ..] => {
                let half = |high: u8, low: u8| u32::from(high & 0xf) << 6 | u32::from(low & 0x3f);
                let c = char::from_u32(0x10000 + (half(*a, *b) << 10) + half(*c & 0xf, *d)).unwrap_or_default();
                shown.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest
            }
            [one, rest @ ..] => {
                shown.push(*one);
                rest
            }
            [] => return shown,
        }
    }
}

/// The header of what a server sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Header {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
}

/// What a server says, in pieces: text that is compared as it is, and what has first to be made comparable.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    Text(String),
    Zxid(i64),
    /// Milliseconds since the epoch, when the transaction of that zxid was made.
    Time {
        zxid: i64,
        ms: i64,
    },
    Session(i64),
}

/// A frame that is being read.
pub struct In<'a> {
    bytes: &'a [u8],
    room: &'a str,
    pub pieces: Vec<Piece>,
    /// Error codes of a multi's operations.
    pub codes: Vec<i32>,
}

/// The frame ends too early, or says what no answer says.
#[derive(Debug)]
pub struct Odd;

type Read<T> = Result<T, Odd>;

impl<'a> In<'a> {
    pub fn new(bytes: &'a [u8], room: &'a str) -> Self {
        In { bytes, room, pieces: Vec::new(), codes: Vec::new() }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Odd)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn int(&mut self) -> Read<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().map_err(|_| Odd)?))
    }

    pub fn long(&mut self) -> Read<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().map_err(|_| Odd)?))
    }

    fn boolean(&mut self) -> Read<bool> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Odd),
        }
    }

    pub fn buffer(&mut self) -> Read<Option<&'a [u8]>> {
        match self.int()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Odd)?).map(Some),
        }
    }

    /// A buffer as text, the room's own name left out.
    fn shown(&mut self) -> Read<String> {
        let room = self.room;
        Ok(self.buffer()?.map_or_else(
            || "null".to_owned(),
            |bytes| {
                let text = paired(bytes).escape_ascii().to_string();
                format!("{:?}", if room.is_empty() { text } else { text.replace(room, "~") })
            },
        ))
    }

    fn text(&mut self, text: impl Into<String>) {
        self.pieces.push(Piece::Text(text.into()));
    }

    fn string(&mut self, label: &str) -> Read<()> {
        let shown = self.shown()?;
        self.text(format!(" {label}={shown}"));
        Ok(())
    }

    /// A vector in an order that ZooKeeper does not define (a `HashSet`'s).
    fn names(&mut self, label: &str) -> Read<()> {
        let count = self.int()?;
        let mut names = (0..count).map(|_| self.shown()).collect::<Read<Vec<_>>>()?;
        names.sort();
        self.text(format!(" {label}={count}[{}]", names.join(" ")));
        Ok(())
    }

    fn acl(&mut self) -> Read<()> {
        let count = self.int()?;
        let one = |this: &mut Self| Ok(format!("{}:{}:{}", this.int()?, this.shown()?, this.shown()?));
        let mut list = (0..count).map(|_| one(self)).collect::<Read<Vec<_>>>()?;
        let perms = |one: &str| one.split(':').next().map(str::to_owned);
        for same in list.chunk_by_mut(|one, other| perms(one) == perms(other)) {
            same.sort();
        }
        self.text(format!(" acl={count}[{}]", list.join(" ")));
        Ok(())
    }

    fn stat(&mut self) -> Read<()> {
        let [czxid, mzxid, ctime, mtime] = [self.long()?, self.long()?, self.long()?, self.long()?];
        let [version, cversion, aversion] = [self.int()?, self.int()?, self.int()?];
        let owner = self.long()?;
        let [length, children] = [self.int()?, self.int()?];
        let pzxid = self.long()?;
        for (label, zxid) in [(" czxid=", czxid), (" mzxid=", mzxid), (" pzxid=", pzxid)] {
            self.text(label);
            self.pieces.push(Piece::Zxid(zxid));
        }
        for (label, zxid, ms) in [(" ctime=", czxid, ctime), (" mtime=", mzxid, mtime)] {
            self.text(label);
            self.pieces.push(Piece::Time { zxid, ms });
        }
        self.text(format!(" versions={version},{cversion},{aversion} owner="));
        self.pieces.push(Piece::Session(owner));
        self.text(format!(" length={length} children={children}"));
        Ok(())
    }

    pub fn header(&mut self) -> Read<Header> {
        Ok(Header { xid: self.int()?, zxid: self.long()?, err: self.int()? })
    }

    /// A watch event's body.
    pub fn event(&mut self) -> Read<()> {
        let (kind, state) = (self.int()?, self.int()?);
        let path = self.shown()?;
        self.text(format!("event {kind} state {state} {path} "));
        Ok(())
    }

    /// The body of an answer to a request of type `kind`.
    pub fn body(&mut self, kind: i32) -> Read<()> {
        match kind {
            op::CREATE | op::SYNC => self.string("path"),
            op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                self.string("path")?;
                self.stat()
            }
            op::EXISTS | op::SET_DATA | op::SET_ACL => self.stat(),
            op::GET_DATA => {
                self.string("data")?;
                self.stat()
            }
            op::GET_ACL => {
                self.acl()?;
                self.stat()
            }
            op::GET_CHILDREN | op::GET_EPHEMERALS => self.names("names"),
            op::GET_CHILDREN2 => {
                self.names("names")?;
                self.stat()
            }
            op::GET_ALL_CHILDREN_NUMBER | op::ADD_WATCH => {
                let number = self.int()?;
                self.text(format!(" {number}"));
                Ok(())
            }
            op::MULTI | op::MULTI_READ => self.multi(),
            op::WHO_AM_I => {
                let count = self.int()?;
                let one = |this: &mut Self| Ok(format!("{}:{}", this.shown()?, this.shown()?));
                let mut ids = (0..count).map(|_| one(self)).collect::<Read<Vec<_>>>()?;
                ids.sort();
                self.text(format!(" ids={count}[{}]", ids.join(" ")));
                Ok(())
            }
            op::SASL => self.string("token"),
            _ => Ok(()),
        }
    }

    fn multi(&mut self) -> Read<()> {
        loop {
            let (kind, done, err) = (self.int()?, self.boolean()?, self.int()?);
            self.text(format!(" | {kind} {done} {err}"));
            if done {
                return Ok(());
            }
            match kind {
                op::ERROR => {
                    let code = self.int()?;
                    self.codes.push(code);
                    self.text(format!(" {code}"));
                }
                op::CREATE | op::CREATE2 | op::SET_DATA | op::GET_DATA | op::GET_CHILDREN => self.body(kind)?,
                op::DELETE | op::CHECK => {}
                _ => return Err(Odd),
            }
        }
    }

    /// Shows what is left over.
    pub fn rest(&mut self) {
        if !self.bytes.is_empty() {
            self.text(format!(" and {} bytes more: {}", self.bytes.len(), self.bytes.escape_ascii()));
        }
    }
}
