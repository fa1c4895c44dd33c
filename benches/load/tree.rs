//! A large tree: written at full speed while somebody reads, and read once after a restart.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use zketcd::jute::client::{self, Packet, decode_reply};
use zketcd::jute::{ConnectRequest, Reply, Request, next_frame, op};

use super::housekeeping::{self, create};
use super::template::{NUMBER, Template, number};
use super::wire::{Client, Connection, Pool, SESSION_TIMEOUT};
use super::{Result, mark, say};

/// The znode below which the tree is, and the one that is read.
const ROOT: &str = "/tree";
/// Children of one znode.
const FAMILY: u64 = 1_000;
/// Connections that write, and requests in flight on each: more than any server here turns into one batch.
const WRITERS: usize = 8;
const PIPELINE: usize = 128;
/// A read is sent once in so long.
const PACE: Duration = Duration::from_millis(1);
/// How long one answer may take, before the server is asked on a new connection.
const ANSWER: Duration = Duration::from_secs(5);
/// The pause before a server that is not there yet is asked again.
const AGAIN: Duration = Duration::from_millis(5);
/// The longest frame that an answer here can have.
const MAX_FRAME: usize = 1 << 20;
/// What all of it may take: a server that writes 1,000 znodes a second is given up.
const PATIENCE: Duration = Duration::from_secs(1_000);

/// Writes the tree, each connection the children of every eighth family.
struct Writing {
    /// By family.
    families: Vec<Template>,
    nodes: u64,
    sent: Vec<u64>,
    answers: u64,
    began: Instant,
}

impl Client for Writing {
    fn answer(&mut self, _: usize, _: i32, _: &[u8], _: Instant, _: Instant) -> Result<()> {
        self.answers += 1;
        Ok(())
    }

    fn fill(&mut self, worker: usize, connection: &mut Connection, now: Instant) -> Result<()> {
        while connection.in_flight() < PIPELINE {
            let n = self.sent[worker] * WRITERS as u64 + worker as u64;
            if n >= self.nodes {
                break;
            }
            // all writers are in the same few families, so that they meet
            let Some(family) = self.families.get((n / FAMILY) as usize) else { break };
            connection.send_again(family, n, now);
            self.sent[worker] += 1;
        }
        Ok(())
    }

    fn done(&self) -> bool {
        self.answers == self.nodes
    }
}

/// Writes `nodes` znodes of `data` bytes while a reader asks for one of them, then says how fast each was.
pub fn run(servers: &[SocketAddr], nodes: u64, data: usize) -> Result<()> {
    let data = Bytes::from(vec![b'x'; data]);
    let mut pool = Pool::attach(servers, WRITERS, housekeeping::PATIENCE)?;
    let family = |family: u64| format!("{ROOT}/{}", number(family));
    let parents = (0..nodes.div_ceil(FAMILY)).map(|one| create(family(one), &data));
    housekeeping::make(&mut pool, ROOT, [create(ROOT.to_owned(), &data)].into_iter().chain(parents).collect())?;
    let child = |one| Template::new(&create(format!("{}/{NUMBER}", family(one)), &data));
    let mut writing = Writing {
        families: (0..nodes.div_ceil(FAMILY)).map(child).collect(),
        nodes,
        sent: vec![0; WRITERS],
        answers: 0,
        began: Instant::now(),
    };
    let server = *servers.first().ok_or("no server")?;
    let over = AtomicBool::new(false);
    let mut latencies = thread::scope(|scope| -> Result<Vec<u32>> {
        let reader = scope.spawn(|| read_on(server, &over).map_err(|error| error.to_string()));
        mark("begin");
        writing.began = Instant::now();
        let written = pool.run(&mut writing, PATIENCE);
        over.store(true, Ordering::Relaxed);
        let latencies = reader.join().map_err(|_| "the reader panicked")??;
        written.map(|()| latencies)
    })?;
    let seconds = writing.began.elapsed().as_secs_f64();
    mark("end");
    let mut one = One::open(server)?;
    one.call(&Request::Sync { path: ROOT.to_owned() })?;
    let expected = nodes + nodes.div_ceil(FAMILY);
    let count = one.call(&Request::GetAllChildrenNumber { path: ROOT.to_owned() })?;
    if !matches!(count, Reply::Count(count) if u64::try_from(count) == Ok(expected)) {
        return Err(format!("{count:?} znodes are there, the answers speak of {expected}").into());
    }
    latencies.sort_unstable();
    say(&[
        ("operations", nodes as f64),
        ("seconds", seconds),
        ("reads", latencies.len() as f64),
        ("p50_us", super::percentile(&latencies, 0.5)),
        ("p99_us", super::percentile(&latencies, 0.99)),
    ]);
    Ok(())
}

/// Waits until the server answers a read of the last znode that [`run`] wrote.
pub fn first(server: SocketAddr, nodes: u64) -> Result<()> {
    let last = nodes.saturating_sub(1);
    let path = format!("{ROOT}/{}/{}", number(last / FAMILY), number(last));
    let began = Instant::now();
    loop {
        let asked =
            One::open(server).and_then(|mut one| one.call(&Request::GetData { path: path.clone(), watch: false }));
        match asked {
            Ok(Reply::Data(Some(_), _)) => break,
            Ok(other) => return Err(format!("{path}: {other:?}").into()),
            Err(error) if began.elapsed() > housekeeping::PATIENCE => return Err(error),
            Err(_) => thread::sleep(AGAIN),
        }
    }
    say(&[("seconds", began.elapsed().as_secs_f64())]);
    Ok(())
}

/// Reads [`ROOT`] once each [`PACE`], whatever became of the reads before: a server that stands still for a second
/// makes a thousand of them late.
fn read_on(server: SocketAddr, over: &AtomicBool) -> Result<Vec<u32>> {
    let mut one = One::open(server)?;
    let mut stream = one.stream.try_clone()?;
    let sent = AtomicUsize::new(0);
    let began = Instant::now();
    let due = |n: usize| began + PACE * u32::try_from(n).unwrap_or(u32::MAX);
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> std::io::Result<()> {
            // the last one is sent after the end was seen, so that the receiver sees it too
            for (n, last) in (0..).map(|n| (n, over.load(Ordering::Relaxed))) {
                thread::sleep(due(n).saturating_duration_since(Instant::now()));
                let mut out = BytesMut::new();
                client::encode_request(
                    &mut out,
                    n as i32 + 1,
                    &Request::GetData { path: ROOT.to_owned(), watch: false },
                );
                sent.store(if last { n + 1 } else { usize::MAX }, Ordering::Relaxed);
                stream.write_all(&out)?;
                if last {
                    break;
                }
            }
            Ok(())
        });
        let mut latencies = Vec::new();
        while latencies.is_empty() || latencies.len() < sent.load(Ordering::Relaxed) {
            one.xid += 1;
            one.answer(op::GET_DATA)?;
            latencies.push(u32::try_from(due(latencies.len()).elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        sender.join().map_err(|_| "the sender panicked")??;
        Ok(latencies)
    })
}

/// A connection with one request at a time, which waits for its answer.
struct One {
    stream: TcpStream,
    received: BytesMut,
    xid: i32,
}

impl One {
    fn open(server: SocketAddr) -> Result<One> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut one = One { stream, received: BytesMut::new(), xid: 0 };
        let mut out = BytesMut::new();
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout: SESSION_TIMEOUT,
            session_id: 0,
            password: Bytes::from_static(&[0; 16]),
            read_only: Some(false),
        };
        client::encode_connect(&mut out, &request);
        one.stream.write_all(&out)?;
        match client::decode_connect_response(&one.frame()?)?.timeout {
            0 => Err("the server gave no session".into()),
            _ => Ok(one),
        }
    }

    fn call(&mut self, request: &Request) -> Result<Reply<'static>> {
        self.xid += 1;
        let mut out = BytesMut::new();
        client::encode_request(&mut out, self.xid, request);
        self.stream.write_all(&out)?;
        self.answer(request.op())
    }

    /// The answer to the last request.
    fn answer(&mut self, kind: i32) -> Result<Reply<'static>> {
        match client::decode_packet(&self.frame()?)? {
            Packet::Reply { header, body } if header.xid == self.xid && header.err == 0 => {
                Ok(decode_reply(kind, &header, &body)?)
            }
            other => Err(format!("{other:?} came to request {}", self.xid).into()),
        }
    }

    fn frame(&mut self) -> Result<Bytes> {
        loop {
            if let Some(frame) = next_frame(&mut self.received, MAX_FRAME)? {
                return Ok(frame);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
