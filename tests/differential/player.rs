//! Plays a case against one server, and writes down all that the server says.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::case::{Ask, Case, How, Since, Step};
use crate::wire::{self, Header, In, Out, Piece, error, op};

/// How long an answer may take on a busy machine, before its absence is written down.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may stay open, on a busy machine, that must be closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A session's timeout: longer than a case may take on a busy machine, and kept alive by what it does.
const TIMEOUT_MS: i32 = 40_000;

/// The timeout of a session that is to expire: the others' requests in between may not take longer.
const SHORT_TIMEOUT_MS: i32 = 5_000;

/// How long a session of [`SHORT_TIMEOUT_MS`] may take to expire: ZooKeeper rounds up to its ticks.
const EXPIRY_LIMIT: Duration = Duration::from_secs(30);

/// The super user of both servers.
const SUPER: (&str, &str) = ("digest", "super:test");

/// Paths that are looked at when a case is over, whatever it did.
pub const PLACES: [&str; 8] = ["/", "/a", "/b", "/c", "/a/x", "/a/y", "/b/x", "/a/x/z"];

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its step; the number of steps for the look around at the end.
    pub step: usize,
    /// Session, or the observer.
    pub who: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Event { zxid: i64, pieces: Vec<Piece> },
    Answer { op: i32, header: Header, ranked: bool, codes: Vec<i32>, pieces: Vec<Piece> },
    Said(Vec<Piece>),
}

/// All that a server said.
#[derive(Debug, Default)]
pub struct Log {
    pub entries: Vec<Entry>,
    /// Names of session ids.
    pub sessions: HashMap<i64, String>,
    /// zxids of transactions that end a session.
    pub ends: HashSet<i64>,
    /// The zxid of the room's making.
    pub furnished: i64,
    /// Milliseconds since the epoch: when it began and when it was over.
    pub from: i64,
    pub to: i64,
}

/// A connection to a server.
struct Conn {
    name: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// It may have a watch.
    watching: bool,
    /// The largest zxid that it has shown.
    seen: i64,
    next_xid: i32,
}

impl Conn {
    async fn open(address: SocketAddr) -> io::Result<Conn> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Conn { name: address, stream, buffer: Vec::new(), watching: false, seen: 0, next_xid: 1 })
    }

    /// The next frame; `None` when the server has closed the connection.
    async fn frame(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, Silence> {
        timeout(limit, self.read_frame()).await.map_err(|_| Silence)
    }

    async fn read_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if self.buffer.len() >= 4 + length {
                    let frame = self.buffer[4..4 + length].to_vec();
                    self.buffer.drain(..4 + length);
                    return Some(frame);
                }
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// Nothing came in time.
#[derive(Debug)]
struct Silence;

/// What a connect request is answered with.
struct Connected {
    timeout: i32,
    session: i64,
    password: Vec<u8>,
    read_only: Option<bool>,
}

fn connected(frame: &[u8]) -> Option<Connected> {
    let mut input = In::new(frame, "");
    let _version = input.int().ok()?;
    let (timeout, session) = (input.int().ok()?, input.long().ok()?);
    let password = input.buffer().ok()??.to_vec();
    let read_only = frame.get(4 + 4 + 8 + 4 + password.len()).map(|byte| *byte != 0);
    Some(Connected { timeout, session, password, read_only })
}

/// A client that belongs to no case, with the super user's rights: it makes rooms and looks around.
pub struct Observer {
    conn: Conn,
}

impl Observer {
    pub async fn new(address: SocketAddr) -> Observer {
        let mut conn = Conn::open(address).await.expect("a connection");
        conn.stream.write_all(&wire::connect(0, TIMEOUT_MS, 0, &[0; 16])).await.expect("a connect request");
        let answer = conn.frame(ANSWER_LIMIT).await.expect("an answer").expect("a session");
        assert_ne!(connected(&answer).expect("a connect answer").session, 0);
        let mut observer = Observer { conn };
        let answers = observer.ask("", &[Ask::Auth(SUPER.0.to_owned(), Some(SUPER.1.to_owned()))]).await;
        assert_eq!(answers[0].1.err, 0, "the super user is let in");
        observer
    }

    /// Sends requests and returns their answers' opcodes, headers and bodies.
    async fn ask(&mut self, room: &str, asks: &[Ask]) -> Vec<(i32, Header, Vec<u8>)> {
        let mut bytes = Vec::new();
        for ask in asks {
            bytes.extend(wire::request(wire::xid_of(ask, self.conn.next_xid), ask, room, |_| 0));
            self.conn.next_xid += 1;
        }
        self.conn.stream.write_all(&bytes).await.expect("requests go out");
        let mut answers = Vec::new();
        for ask in asks {
            loop {
                let frame = self.conn.frame(ANSWER_LIMIT).await.expect("an answer");
                let frame = frame.unwrap_or_else(|| panic!("{} is gone", self.conn.name));
                let header = In::new(&frame, room).header().expect("a header");
                if header.xid != wire::XID_EVENT {
                    answers.push((ask.op(), header, frame));
                    break;
                }
            }
        }
        answers
    }

    /// Makes a room with a few znodes in it: the zxid.
    async fn furnish(&mut self, room: &str) -> i64 {
        let make = |path: &str| {
            let acl = Some(vec![(31, "world".to_owned(), "anyone".to_owned())]);
            let data = Some("old".to_owned());
            crate::case::Op::Create(crate::case::Create {
                op: op::CREATE,
                path: path.into(),
                data,
                acl,
                flags: 0,
                ttl: 0,
            })
        };
        let answers = self.ask(room, &[Ask::Multi(["/", "/a", "/b", "/a/x"].map(make).to_vec())]).await;
        assert_eq!(answers[0].1.err, 0, "a room is made");
        answers[0].1.zxid
    }

    /// Waits for the end of the session that made `path`: the zxid.
    async fn wait_until_gone(&mut self, room: &str, path: &str) -> Option<i64> {
        let answers = self.ask(room, &[Ask::Exists(path.to_owned(), true)]).await;
        if answers[0].1.err != 0 {
            return None;
        }
        let frame = self.conn.frame(EXPIRY_LIMIT).await.ok()??;
        Some(In::new(&frame, room).header().ok()?.zxid)
    }

    /// Removes all that is below the root, and what was done to it.
    pub async fn clean(&mut self) {
        let open = Some(vec![(31, "world".to_owned(), "anyone".to_owned())]);
        self.ask("", &[Ask::SetAcl("@/".to_owned(), open, -1)]).await;
    }
}

/// The state of a case's session.
struct Slot {
    conn: Option<Conn>,
    id: i64,
    password: Vec<u8>,
    seen: i64,
    /// How many sessions had this place.
    count: usize,
}

struct Player<'a> {
    case: &'a Case,
    address: SocketAddr,
    room: &'a str,
    observer: &'a mut Observer,
    slots: Vec<Slot>,
    step: usize,
    /// zxids of the case's writes.
    writes: Vec<i64>,
    /// The session that was closed in this step: what is answered behind that does not count.
    closing: Option<usize>,
    log: Log,
}

/// Plays `case` in a new room of that name.
pub async fn play(case: &Case, address: SocketAddr, room: &str, observer: &mut Observer) -> Log {
    let from = now();
    let furnished = observer.furnish(room).await;
    let slots = (0..case.sessions).map(|_| Slot { conn: None, id: 0, password: vec![0; 16], seen: 0, count: 0 });
    let mut player = Player {
        case,
        address,
        room,
        observer,
        slots: slots.collect(),
        step: 0,
        writes: Vec::new(),
        closing: None,
        log: Log { from, furnished, ..Log::default() },
    };
    player.run().await;
    player.log.to = now();
    player.log
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl Player<'_> {
    async fn run(&mut self) {
        for session in 0..self.slots.len() {
            self.connect(session, How::Fresh).await;
        }
        for (at, step) in self.case.steps.iter().enumerate() {
            self.step = at;
            self.closing = None;
            match step {
                Step::Send(session, asks) => self.send(*session, asks).await,
                Step::Drop(session) => {
                    if let Some(slot) = self.slots.get_mut(*session) {
                        slot.conn = None;
                    }
                }
                Step::Connect(session, how) => self.connect(*session, *how).await,
                Step::Expire(session) => self.expire(*session).await,
            }
        }
        self.step = self.case.steps.len();
        self.look_around().await;
        for slot in &mut self.slots {
            if let Some(conn) = &mut slot.conn {
                let close = wire::request(conn.next_xid, &Ask::CloseSession, self.room, |_| 0);
                // Whether it arrives is seen by nobody.
                let _ = conn.stream.write_all(&close).await;
            }
        }
    }

    fn write_down(&mut self, session: usize, what: What) {
        self.log.entries.push(Entry { step: self.step, who: format!("session {session}"), what });
    }

    fn say(&mut self, session: usize, what: impl Into<String>) {
        self.write_down(session, What::Said(vec![Piece::Text(what.into())]));
    }

    async fn connect(&mut self, session: usize, how: How) {
        let timeout = if self.case.expires(session) { SHORT_TIMEOUT_MS } else { TIMEOUT_MS };
        let Some(slot) = self.slots.get(session) else { return };
        let (id, mut password, mut seen) = match how {
            How::Fresh => (0, vec![0; 16], 0),
            _ => (slot.id, slot.password.clone(), slot.seen),
        };
        match how {
            How::WrongPassword => password[0] ^= 1,
            How::Forgetful => seen = 0,
            How::Resume | How::Fresh => {}
        }
        let Ok(mut conn) = Conn::open(self.address).await else {
            return self.say(session, "no connection");
        };
        let sent = conn.stream.write_all(&wire::connect(seen, timeout, id, &password)).await;
        let answer = if sent.is_ok() { conn.frame(ANSWER_LIMIT).await } else { Ok(None) };
        let old = self.slots.get_mut(session).and_then(|slot| slot.conn.take());
        let answer = match answer {
            Ok(Some(frame)) => connected(&frame),
            Ok(None) => return self.say(session, "closed before the connect answer"),
            Err(Silence) => return self.say(session, "no connect answer"),
        };
        let Some(answer) = answer else { return self.say(session, "an odd connect answer") };
        let Some(slot) = self.slots.get_mut(session) else { return };
        let whose = match answer.session {
            0 => "none".to_owned(),
            one if one == id => "the same".to_owned(),
            one => {
                slot.count += 1;
                let name = format!("s{session}.{}", slot.count);
                self.log.sessions.insert(one, name.clone());
                name
            }
        };
        let secret = match &answer.password {
            zeros if zeros.iter().all(|byte| *byte == 0) => "zeros",
            same if *same == slot.password => "the same",
            _ => "new",
        };
        let said = format!(
            "connected: timeout {} session {whose} password {secret} of {} read only {:?}",
            answer.timeout,
            answer.password.len(),
            answer.read_only
        );
        if answer.session != 0 {
            (slot.id, slot.password) = (answer.session, answer.password);
            if how == How::Fresh {
                slot.seen = 0;
            }
            slot.conn = Some(conn);
            self.say(session, said);
            if let Some(old) = old.filter(|_| how != How::Fresh) {
                self.await_close(session, old).await;
            }
        } else {
            self.say(session, said);
            self.await_close(session, conn).await;
        }
    }

    /// Writes down what still comes, and that the connection is closed.
    async fn await_close(&mut self, session: usize, mut conn: Conn) {
        loop {
            match conn.frame(CLOSE_LIMIT).await {
                Ok(Some(frame)) => self.frame(session, &mut conn, &frame, &mut Vec::new()),
                Ok(None) => return self.say(session, "closed"),
                Err(Silence) => return self.say(session, "left open"),
            }
        }
    }

    async fn send(&mut self, session: usize, asks: &[Ask]) {
        let Some(mut conn) = self.slots.get_mut(session).and_then(|slot| slot.conn.take()) else { return };
        let seen = self.slots.get(session).map_or(0, |slot| slot.seen);
        let writes = &self.writes;
        let since = |since| match since {
            Since::Zero => 0,
            Since::Seen => seen,
            Since::Write(back) => writes.iter().rev().nth(back).copied().unwrap_or(0),
            Since::Future => i64::MAX,
        };
        let mut bytes = Vec::new();
        let mut awaited = Vec::new();
        for ask in asks {
            let xid = wire::xid_of(ask, conn.next_xid);
            conn.next_xid += 1;
            conn.watching |= ask.watches();
            bytes.extend(wire::request(xid, ask, self.room, since));
            awaited.push((xid, ask.op()));
        }
        // Where that fails the server has closed the connection, which is read below.
        let _ = conn.stream.write_all(&bytes).await;
        let mut closes = asks.contains(&Ask::CloseSession);
        let mut open = true;
        while !awaited.is_empty() || closes {
            let limit = if awaited.is_empty() { CLOSE_LIMIT } else { ANSWER_LIMIT };
            match conn.frame(limit).await {
                Ok(Some(frame)) => {
                    self.frame(session, &mut conn, &frame, &mut awaited);
                    let last = self.log.entries.last().map(|entry| &entry.what);
                    closes |= matches!(last, Some(What::Answer { header, .. })
                        if matches!(header.err, error::AUTH_FAILED | error::UNIMPLEMENTED));
                }
                Ok(None) => {
                    self.say(session, "closed");
                    open = false;
                    break;
                }
                Err(Silence) => {
                    self.say(session, if awaited.is_empty() { "left open" } else { "no answer" });
                    break;
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(session) {
            slot.seen = slot.seen.max(conn.seen);
            slot.conn = open.then_some(conn);
        }
        if asks.iter().any(|ask| op::is_write(ask.op())) {
            self.settle(session).await;
        }
    }

    /// Fetches the events that a step of `but` left on the others' connections: a ping's answer comes behind them.
    async fn settle(&mut self, but: usize) {
        let mut ping = Out::default();
        ping.int(wire::XID_PING).int(op::PING);
        let ping = ping.frame();
        let mut asked = Vec::new();
        for (session, slot) in self.slots.iter_mut().enumerate() {
            if let Some(mut conn) = slot.conn.take_if(|conn| session != but && conn.watching) {
                let _ = conn.stream.write_all(&ping).await;
                asked.push((session, conn));
            }
        }
        for (session, mut conn) in asked {
            let mut awaited = vec![(wire::XID_PING, op::PING)];
            let mut open = true;
            while open && !awaited.is_empty() {
                match conn.frame(ANSWER_LIMIT).await {
                    Ok(Some(frame)) => self.frame(session, &mut conn, &frame, &mut awaited),
                    Ok(None) => {
                        self.say(session, "closed");
                        open = false;
                    }
                    Err(Silence) => {
                        self.say(session, "no answer to a ping");
                        break;
                    }
                }
            }
            if let Some(slot) = self.slots.get_mut(session) {
                slot.seen = slot.seen.max(conn.seen);
                slot.conn = open.then_some(conn);
            }
        }
    }

    async fn expire(&mut self, session: usize) {
        let Some(mut conn) = self.slots.get_mut(session).and_then(|slot| slot.conn.take()) else { return };
        // Outside of the room, where no case looks.
        let marker = format!("@{}-{session}", self.room);
        let acl = Some(vec![(31, "world".to_owned(), "anyone".to_owned())]);
        let create = crate::case::Create { op: op::CREATE, path: marker.clone(), data: None, acl, flags: 1, ttl: 0 };
        let bytes = wire::request(conn.next_xid, &Ask::Create(create), self.room, |_| 0);
        let sent = conn.stream.write_all(&bytes).await.is_ok();
        let answer = if sent { conn.frame(ANSWER_LIMIT).await.ok().flatten() } else { None };
        let made = answer.and_then(|frame| In::new(&frame, "").header().ok()).is_some_and(|header| header.err == 0);
        drop(conn);
        if !made {
            return self.say(session, "no marker");
        }
        match self.observer.wait_until_gone(self.room, &marker).await {
            Some(zxid) => {
                self.log.ends.insert(zxid);
                self.writes.push(zxid);
                self.say(session, "expired");
            }
            None => self.say(session, "does not expire"),
        }
        self.settle(session).await;
    }

    /// The state that the case left, as the super user sees it.
    async fn look_around(&mut self) {
        let asks: Vec<Ask> = PLACES
            .iter()
            .flat_map(|path| {
                let path = (*path).to_owned();
                [Ask::GetChildren2(path.clone(), false), Ask::GetData(path.clone(), false), Ask::GetAcl(path)]
            })
            .collect();
        let answers = self.observer.ask(self.room, &asks).await;
        for (at, (op, header, frame)) in answers.into_iter().enumerate() {
            let who = format!("look at {}", PLACES[at / 3]);
            // The observer's xids count on from case to case.
            let what = answer(op, Header { xid: 0, ..header }, &frame, self.room, None);
            self.log.entries.push(Entry { step: self.step, who, what });
        }
    }

    /// Writes down a frame, an event or one of the answers awaited.
    fn frame(&mut self, session: usize, conn: &mut Conn, frame: &[u8], awaited: &mut Vec<(i32, i32)>) {
        let Ok(header) = In::new(frame, self.room).header() else {
            return self.say(session, format!("a frame without a header: {}", frame.escape_ascii()));
        };
        if header.xid == wire::XID_EVENT {
            let mut input = In::new(frame, self.room);
            let read = input.header().and_then(|_| input.event());
            input.rest();
            if read.is_err() {
                input.pieces.push(Piece::Text(" and it ends".to_owned()));
            }
            conn.seen = conn.seen.max(header.zxid);
            return self.write_down(session, What::Event { zxid: header.zxid, pieces: input.pieces });
        }
        let Some(at) = awaited.iter().position(|(xid, _)| *xid == header.xid) else {
            return self.say(session, format!("an answer to nothing: {header:?}"));
        };
        let (_, kind) = awaited.remove(at);
        let what = answer(kind, header, frame, self.room, Some(conn.seen));
        if let What::Answer { ranked, .. } = &what {
            if *ranked && self.closing != Some(session) {
                self.writes.push(header.zxid);
            }
            if *ranked && kind == op::CLOSE_SESSION {
                self.log.ends.insert(header.zxid);
                self.closing = Some(session);
            }
        }
        conn.seen = conn.seen.max(header.zxid);
        // An answer of another's turn shows by its place among the entries, as xids are compared; pings and auth
        // answers are not (see `compare.rs`).
        self.write_down(session, what);
    }
}

/// An answer in pieces. `seen`: the largest zxid that its connection has shown before.
fn answer(kind: i32, header: Header, frame: &[u8], room: &str, seen: Option<i64>) -> What {
    let mut input = In::new(frame, room);
    let mut pieces = Vec::new();
    let read = input.header().and_then(|_| if header.err == 0 { input.body(kind) } else { Ok(()) });
    if read.is_err() {
        pieces.push(Piece::Text(format!(" odd: {}", frame.escape_ascii())));
    } else {
        input.rest();
    }
    let ranked = op::is_write(kind) && !matches!(header.err, error::MARSHALLING | error::UNIMPLEMENTED);
    // The answers to auth, sasl and what is no request carry none.
    let carries = !matches!(kind, op::AUTH | op::SASL) && header.err != error::UNIMPLEMENTED;
    if let Some(seen) = seen.filter(|seen| carries && header.zxid < *seen) {
        pieces.push(Piece::Text(format!(" its zxid {:#x} is before {seen:#x}", header.zxid)));
    }
    let shown = input.pieces.iter().filter_map(|piece| if let Piece::Zxid(zxid) = piece { Some(*zxid) } else { None });
    if let Some(newer) = shown.max().filter(|newest| *newest > header.zxid) {
        pieces.push(Piece::Text(format!(" its zxid {:#x} is before that of what it shows, {newer:#x}", header.zxid)));
    }
    if !carries {
        pieces.push(Piece::Text(format!(" zxid {}", header.zxid)));
    }
    pieces.extend(input.pieces);
    What::Answer { op: kind, header, ranked, codes: input.codes, pieces }
}
