//! Connections, and the one loop that serves them all: what is read is checked, and then the workload's affair.
//!
//! One thread and no tasks: a request costs the machine little beside its bytes' way through the kernel, and the same
//! for every server.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use zketcd::jute::client::{self, Packet};
use zketcd::jute::{ConnectRequest, ErrorCode, Request, WatcherEvent, op, xid};

use super::Result;
use super::template::Template;

/// The session timeout asked for, in milliseconds: within what every server grants by default.
pub const SESSION_TIMEOUT: i32 = 30_000;
/// Bytes asked of a socket at a time.
const READ: usize = 256 << 10;
/// Events taken from the kernel at a time.
const EVENTS: usize = 1_024;
/// Bytes of a length, and of a reply's header.
const LENGTH: usize = 4;
const HEADER: usize = 16;
/// The longest frame taken: the names of all children that a run can leave, with room.
const MAX_FRAME: usize = 256 << 20;

/// What a workload does with its connections.
pub trait Client {
    /// An answer that is a success, of a request of type `kind` that was made at `born`.
    fn answer(&mut self, worker: usize, kind: i32, body: &[u8], born: Instant, now: Instant) -> Result<()>;

    /// Called after answers have come, and once at the beginning: puts what may be sent now.
    fn fill(&mut self, worker: usize, connection: &mut Connection, now: Instant) -> Result<()>;

    fn event(&mut self, _worker: usize, event: WatcherEvent<'static>) -> Result<()> {
        Err(format!("{event:?} came, and no watch was set").into())
    }

    /// The connection has a session now.
    fn attached(&mut self, _worker: usize, _now: Instant) {}

    /// The server closed the connection, or gave no session.
    fn lost(&mut self, worker: usize, why: &str) -> Result<()> {
        Err(format!("connection {worker}: {why}").into())
    }

    /// Called whenever the loop wakes; gives the next moment at which it has to.
    fn tick(&mut self, _pool: &mut Pool, _now: Instant) -> Result<Option<Instant>> {
        Ok(None)
    }

    fn done(&self) -> bool;
}

/// The connections of a workload, and what they wait on.
pub struct Pool {
    poll: Poll,
    pub connections: Vec<Connection>,
    touched: Vec<usize>,
}

impl Pool {
    pub fn new() -> Result<Pool> {
        Ok(Pool { poll: Poll::new()?, connections: Vec::new(), touched: Vec::new() })
    }

    /// Connections with a session each, to the servers in turn.
    pub fn attach(servers: &[SocketAddr], count: usize, within: Duration) -> Result<Pool> {
        struct Attach(usize);
        impl Client for Attach {
            fn answer(&mut self, _: usize, _: i32, _: &[u8], _: Instant, _: Instant) -> Result<()> {
                Err("an answer came to no request".into())
            }
            fn fill(&mut self, _: usize, _: &mut Connection, _: Instant) -> Result<()> {
                Ok(())
            }
            fn attached(&mut self, _: usize, _: Instant) {
                self.0 -= 1;
            }
            fn done(&self) -> bool {
                self.0 == 0
            }
        }
        let mut pool = Pool::new()?;
        servers.iter().cycle().take(count).try_for_each(|server| pool.open(*server))?;
        pool.run(&mut Attach(count), within)?;
        Ok(pool)
    }

    /// Begins a connection, which asks for a new session.
    pub fn open(&mut self, server: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.connections.len()), interest)?;
        let mut connection = Connection {
            stream,
            state: State::Attaching,
            received: BytesMut::new(),
            unsent: BytesMut::new(),
            in_flight: VecDeque::new(),
            last_xid: 0,
            last_zxid: 0,
            last_write: 0,
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout: SESSION_TIMEOUT,
            session_id: 0,
            password: Bytes::from_static(&[0; 16]),
            read_only: Some(false),
        };
        client::encode_connect(&mut connection.unsent, &request);
        self.connections.push(connection);
        Ok(())
    }

    /// Runs until the workload is done, or the time is up, which is an error.
    pub fn run(&mut self, client: &mut impl Client, within: Duration) -> Result<()> {
        let (mut events, mut scratch) = (Events::with_capacity(EVENTS), vec![0; READ]);
        let mut now = Instant::now();
        let deadline = now + within;
        for (worker, connection) in self.connections.iter_mut().enumerate() {
            if connection.is_attached() {
                client.fill(worker, connection, now)?;
                connection.flush(worker, client)?;
            }
        }
        let mut next = client.tick(self, now)?;
        self.flush_touched(client)?;
        while !client.done() {
            if now >= deadline {
                return Err(format!("no end after {within:?}").into());
            }
            let wait = next.unwrap_or(deadline).min(deadline).saturating_duration_since(now);
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                polled => polled?,
            }
            now = Instant::now();
            for event in &events {
                let Token(worker) = event.token();
                let Some(connection) = self.connections.get_mut(worker) else { continue };
                if event.is_readable() && connection.read(worker, client, &mut scratch, now)? {
                    client.fill(worker, connection, now)?;
                }
                connection.flush(worker, client)?;
            }
            next = client.tick(self, now)?;
            self.flush_touched(client)?;
        }
        Ok(())
    }

    /// For `tick`, to send without having been asked: the connection is flushed when it returns.
    pub fn touch(&mut self, worker: usize) -> Option<&mut Connection> {
        self.touched.push(worker);
        self.connections.get_mut(worker)
    }

    fn flush_touched(&mut self, client: &mut impl Client) -> Result<()> {
        while let Some(worker) = self.touched.pop() {
            if let Some(connection) = self.connections.get_mut(worker) {
                connection.flush(worker, client)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Attaching,
    Attached,
    Lost,
}

/// A request not yet answered.
struct Sent {
    xid: i32,
    kind: i32,
    born: Instant,
}

pub struct Connection {
    stream: TcpStream,
    state: State,
    /// The beginning of a frame whose end has not come.
    received: BytesMut,
    unsent: BytesMut,
    in_flight: VecDeque<Sent>,
    last_xid: i32,
    last_zxid: i64,
    last_write: i64,
}

impl Connection {
    pub fn is_attached(&self) -> bool {
        self.state == State::Attached
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn send(&mut self, request: &Request, now: Instant) {
        let xid = self.expect(request.op(), now);
        client::encode_request(&mut self.unsent, xid, request);
    }

    /// As [`Connection::send`], for a request that is sent many times.
    pub fn send_again(&mut self, template: &Template, number: u64, now: Instant) {
        let xid = self.expect(template.kind(), now);
        template.write(&mut self.unsent, xid, number);
    }

    fn expect(&mut self, kind: i32, born: Instant) -> i32 {
        let xid = if kind == op::PING {
            xid::PING
        } else {
            self.last_xid += 1;
            self.last_xid
        };
        self.in_flight.push_back(Sent { xid, kind, born });
        xid
    }

    /// Reads all that is there. Whether any frame was whole.
    fn read(&mut self, worker: usize, client: &mut impl Client, scratch: &mut [u8], now: Instant) -> Result<bool> {
        let mut any = false;
        while self.state != State::Lost {
            let count = match self.stream.read(scratch) {
                Ok(0) => return self.lose(worker, client, "the server closed it").map(|()| any),
                Ok(count) => count,
                Err(error) if is_early(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.lose(worker, client, &error.to_string()).map(|()| any),
            };
            let mut rest = &scratch[..count];
            // what came before is completed first; most reads hold whole frames, and are not copied
            if !self.received.is_empty() {
                self.received.extend_from_slice(rest);
                let mut received = std::mem::take(&mut self.received);
                let mut whole = &received[..];
                while let Some(frame) = take_frame(&mut whole)? {
                    any = true;
                    self.take(worker, frame, client, now)?;
                }
                let used = received.len() - whole.len();
                received.advance(used);
                self.received = received;
            } else {
                while let Some(frame) = take_frame(&mut rest)? {
                    any = true;
                    self.take(worker, frame, client, now)?;
                }
                self.received.extend_from_slice(rest);
            }
            // a stream that gave less than it was asked for is empty, and edge-triggered epoll will tell of more
            if count < scratch.len() {
                break;
            }
        }
        Ok(any)
    }

    /// Takes a frame, if it is the one that must come now and says that all went well.
    fn take(&mut self, worker: usize, frame: &[u8], client: &mut impl Client, now: Instant) -> Result<()> {
        if self.state == State::Attaching {
            if client::decode_connect_response(frame)?.timeout == 0 {
                return self.lose(worker, client, "the server gave no session");
            }
            self.state = State::Attached;
            client.attached(worker, now);
            return Ok(());
        }
        let (head, body) = frame.split_at_checked(HEADER).ok_or("an answer without a header")?;
        let (got, zxid, error) = (be_i32(head, 0), be_i64(head, 4), be_i32(head, 12));
        if got == xid::NOTIFICATION {
            return match client::decode_packet(&Bytes::copy_from_slice(frame))? {
                Packet::Event { event, .. } => client.event(worker, event),
                Packet::Reply { .. } => Err("an event that is none".into()),
            };
        }
        let Sent { xid, kind, born } = self.in_flight.pop_front().ok_or("an answer came to no request")?;
        if got != xid {
            return Err(format!("request {xid} got the answer of {got}").into());
        }
        if zxid < self.last_zxid {
            return Err(format!("zxid {zxid:#x} came after {:#x}", self.last_zxid).into());
        }
        self.last_zxid = zxid;
        if is_write(kind) {
            if zxid <= self.last_write {
                return Err(format!("two writes have the zxid {zxid:#x}").into());
            }
            self.last_write = zxid;
        }
        if error != ErrorCode::Ok.code() {
            return Err(format!("request {xid} of type {kind} got {:?} ({error})", ErrorCode::from_code(error)).into());
        }
        client.answer(worker, kind, body, born, now)
    }

    fn flush(&mut self, worker: usize, client: &mut impl Client) -> Result<()> {
        while !self.unsent.is_empty() && self.state != State::Lost {
            match self.stream.write(&self.unsent) {
                Ok(count) if count == self.unsent.len() => self.unsent.clear(),
                Ok(count) => self.unsent.advance(count),
                Err(error) if is_early(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.lose(worker, client, &error.to_string()),
            }
        }
        Ok(())
    }

    fn lose(&mut self, worker: usize, client: &mut impl Client, why: &str) -> Result<()> {
        self.state = State::Lost;
        client.lost(worker, why)
    }
}

/// Whether the socket is not yet, or no longer, ready; epoll will tell when it is.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// A write has a zxid that no other write has.
fn is_write(kind: i32) -> bool {
    matches!(kind, op::CREATE | op::DELETE | op::SET_DATA | op::MULTI | op::CLOSE_SESSION)
}

/// The next frame, without its length; `None` until all of it is there.
fn take_frame<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    let Some((length, rest)) = bytes.split_at_checked(LENGTH) else { return Ok(None) };
    let length = usize::try_from(be_i32(length, 0)).ok().filter(|length| *length <= MAX_FRAME);
    let Some((frame, rest)) = rest.split_at_checked(length.ok_or("a frame of impossible length")?) else {
        return Ok(None);
    };
    *bytes = rest;
    Ok(Some(frame))
}

/// The integer at that place; -1 where there is none.
pub fn be_i32(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(-1, |chunk| i32::from_be_bytes(*chunk))
}

fn be_i64(bytes: &[u8], at: usize) -> i64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(-1, |chunk| i64::from_be_bytes(*chunk))
}
