//! A load generator for anything that speaks the ZooKeeper protocol: raw frames, no client library in the way.
//!
//! Each workload runs for a fixed time in each shape (connections x requests in flight on each), on one thread, so
//! that what it takes from the machine is the same for every server. While it loads, it checks: answers come in the
//! order of the requests, zxids never go back on a connection, every answer is the success it has to be and has its
//! body, and in the end the parent has just as many children as the answers say.
//!
//! Where the load is done a line of it says so: the workload, connections, pipeline, operations per second and the
//! latency's median and 99th percentile in microseconds. `benches/compare.sh` reads these lines.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zketcd::jute::client::{self, Packet};
use zketcd::jute::{
    Acl, ConnectRequest, CreateMode, CreateRequest, ErrorCode, Id, MultiOp, MultiResult, Perms, Reply, ReplyHeader,
    Request, next_frame, op,
};

/// The session timeout asked for, in milliseconds: no connection rests that long here, so none needs to ping.
const SESSION_TIMEOUT: i32 = 30_000;
/// What setting up, draining and cleaning up may take beside the load itself, before a run is given up.
const GRACE: Duration = Duration::from_secs(120);
/// The longest frame taken: the names of all children that a run can leave, with room.
const MAX_FRAME: usize = 256 << 20;
/// The least room in a connection's buffer before it reads on.
const READ_ROOM: usize = 32 << 10;
/// Requests in flight on a connection while it sets up or cleans up: below the servers' limits of 1,000.
const HOUSEKEEPING_PIPELINE: usize = 128;
/// Znodes that get, exists and set-many spread over.
const NODES: u64 = 1_000;
/// Any version will do.
const ANY: i32 = -1;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(name = "load", about = "Loads a ZooKeeper server, or zketcd, and says how many operations a second it did")]
struct Args {
    /// Servers to connect to in turn (address:port)
    #[arg(default_value = "127.0.0.1:2181")]
    servers: Vec<SocketAddr>,
    /// Workloads to run, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::value_variants().to_vec())]
    workloads: Vec<Workload>,
    /// Shapes to run each workload in, separated by commas: connections x requests in flight on each
    #[arg(long, value_delimiter = ',', value_name = "CxP", default_value = "1x1,1x64,64x1")]
    shapes: Vec<Shape>,
    /// How long each workload is measured (duration)
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// How long each workload runs before it is measured (duration)
    #[arg(long, default_value = "300ms", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Data of each znode (bytes)
    #[arg(long, default_value_t = 100)]
    data: usize,
    /// What cargo bench adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy)]
struct Shape {
    connections: usize,
    pipeline: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let number = |text: &str| text.parse().ok().filter(|number| (1..=10_000).contains(number));
        text.split_once('x')
            .and_then(|(left, right)| Some(Shape { connections: number(left)?, pipeline: number(right)? }))
            .ok_or_else(|| format!("{text:?} isn't like 64x1"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// getData, of 1,000 znodes
    Get,
    /// exists, of 1,000 znodes
    Exists,
    /// create, all under one parent
    Create,
    /// create a znode, delete it, all under one parent
    CreateDelete,
    /// setData, of 1,000 znodes
    SetMany,
    /// setData, all of one znode
    SetOne,
    /// create persistent sequential, all under one parent
    Sequential,
    /// create ephemeral, all under one parent
    Ephemeral,
    /// multi: check a shared znode, set one's own at its version, create one, delete an earlier one
    Multi,
}

/// One run of a workload: what its requests are made of.
struct Plan {
    workload: Workload,
    shape: Shape,
    parent: String,
    data: Bytes,
}

impl Plan {
    /// What has to be there before the load, but the parent itself.
    fn set_up(&self) -> Vec<Request> {
        let workers = 0..self.shape.connections;
        match self.workload {
            Workload::Get | Workload::Exists | Workload::SetMany => {
                (0..NODES).map(|n| self.create(self.node(n), CreateMode::Persistent)).collect()
            }
            Workload::SetOne => vec![self.create(self.node(0), CreateMode::Persistent)],
            Workload::Multi => {
                let earlier = |worker| (0..self.lag()).map(move |n| self.child(worker, n));
                let own = workers.clone().map(|worker| self.own(worker));
                let paths = own.chain(workers.flat_map(earlier)).chain([self.node(0)]);
                paths.map(|path| self.create(path, CreateMode::Persistent)).collect()
            }
            Workload::Create | Workload::CreateDelete | Workload::Sequential | Workload::Ephemeral => Vec::new(),
        }
    }

    /// The `n`th request of a worker.
    fn request(&self, worker: usize, n: u64) -> Request {
        // workers walk through the znodes each from another one
        let any = || self.node((worker as u64 * 37 + n) % NODES);
        match self.workload {
            Workload::Get => Request::GetData { path: any(), watch: false },
            Workload::Exists => Request::Exists { path: any(), watch: false },
            Workload::Create => self.create(self.child(worker, n), CreateMode::Persistent),
            Workload::CreateDelete if n.is_multiple_of(2) => self.create(self.child(worker, n), CreateMode::Persistent),
            Workload::CreateDelete => Request::Delete { path: self.child(worker, n - 1), version: ANY },
            Workload::SetMany => self.set(any()),
            Workload::SetOne => self.set(self.node(0)),
            Workload::Sequential => self.create(self.child(worker, 0), CreateMode::PersistentSequential),
            Workload::Ephemeral => self.create(self.child(worker, n), CreateMode::Ephemeral),
            Workload::Multi => self.multi(worker, n),
        }
    }

    /// Whether an answer holds what was written, or names what was created.
    fn holds(&self, reply: &Reply) -> bool {
        match reply {
            Reply::Data(data, _) => data.as_deref() == Some(&*self.data),
            Reply::Stat(stat) => usize::try_from(stat.data_length) == Ok(self.data.len()),
            Reply::Path(path) => path.starts_with(&self.parent),
            Reply::Multi(results) => results.len() == 4,
            _ => true,
        }
    }

    /// How many children the parent has once each worker has got that many answers.
    fn children(&self, answers: &[u64]) -> usize {
        let sum = |each: fn(u64) -> u64| answers.iter().map(|n| each(*n)).sum::<u64>() as usize;
        match self.workload {
            Workload::Create | Workload::Sequential | Workload::Ephemeral => sum(|n| n),
            Workload::CreateDelete => sum(|n| n % 2),
            _ => self.set_up().len(),
        }
    }

    /// A multi deletes what this many multis before it created: that one has been answered, whatever the pipeline.
    fn lag(&self) -> u64 {
        self.shape.pipeline as u64
    }

    fn multi(&self, worker: usize, n: u64) -> Request {
        let version = i32::try_from(n).unwrap_or(ANY);
        Request::Multi(vec![
            MultiOp::Check { path: self.node(0), version: 0 },
            MultiOp::SetData { path: self.own(worker), data: Some(self.data.clone()), version },
            MultiOp::Create(self.creation(self.child(worker, n + self.lag()), CreateMode::Persistent)),
            MultiOp::Delete { path: self.child(worker, n), version: ANY },
        ])
    }

    fn create(&self, path: String, mode: CreateMode) -> Request {
        Request::Create(self.creation(path, mode))
    }

    fn creation(&self, path: String, mode: CreateMode) -> CreateRequest {
        let open = Acl { perms: Perms::ALL, id: Id { scheme: "world".into(), id: "anyone".into() } };
        let data = Some(self.data.clone());
        CreateRequest { op: op::CREATE, path, data, acl: Some(vec![open]), flags: mode.flags(), ttl: 0 }
    }

    fn set(&self, path: String) -> Request {
        Request::SetData { path, data: Some(self.data.clone()), version: ANY }
    }

    fn node(&self, n: u64) -> String {
        format!("{}/node-{n}", self.parent)
    }

    fn own(&self, worker: usize) -> String {
        format!("{}/own-{worker}", self.parent)
    }

    fn child(&self, worker: usize, n: u64) -> String {
        format!("{}/{worker}-{n}-", self.parent)
    }
}

/// What is measured: answers between two moments. Requests are sent until the second one.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

/// What a worker saw.
#[derive(Default)]
struct Tally {
    /// All answers, the unmeasured ones too.
    answers: u64,
    /// Answers that are not what was asked for.
    wrong: u64,
    /// Of each measured answer, from when the request was made, in microseconds.
    latencies: Vec<u32>,
}

struct Connection {
    stream: TcpStream,
    received: BytesMut,
    unsent: BytesMut,
    /// Xid, opcode and birth of the requests not yet answered.
    in_flight: VecDeque<(i32, i32, Instant)>,
    last_xid: i32,
    last_zxid: i64,
}

impl Connection {
    async fn open(server: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection {
            stream,
            received: BytesMut::new(),
            unsent: BytesMut::new(),
            in_flight: VecDeque::new(),
            last_xid: 0,
            last_zxid: 0,
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
        connection.flush().await?;
        let frame = loop {
            if let Some(frame) = next_frame(&mut connection.received, MAX_FRAME)? {
                break frame;
            }
            connection.read().await?;
        };
        if client::decode_connect_response(&frame)?.timeout == 0 {
            return Err("the server gave no session".into());
        }
        Ok(connection)
    }

    /// Sends what `next` gives, with at most `pipeline` unanswered, until it gives no more and all is answered.
    async fn drive(
        &mut self,
        pipeline: usize,
        mut next: impl FnMut() -> Option<Request>,
        mut answered: impl FnMut(Instant, Reply<'static>),
    ) -> Result<()> {
        loop {
            while self.in_flight.len() < pipeline
                && let Some(request) = next()
            {
                self.enqueue(&request);
            }
            if self.in_flight.is_empty() {
                return Ok(());
            }
            self.flush().await?;
            self.read().await?;
            while let Some(frame) = next_frame(&mut self.received, MAX_FRAME)? {
                let (born, reply) = self.check(&frame)?;
                answered(born, reply);
            }
        }
    }

    /// Sends all requests, as many at a time as housekeeping may.
    async fn all(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<()> {
        let mut requests = requests.into_iter();
        self.drive(HOUSEKEEPING_PIPELINE, || requests.next(), |_, _| {}).await
    }

    async fn call(&mut self, request: Request) -> Result<Reply<'static>> {
        let (mut request, mut answer) = (Some(request), None);
        self.drive(1, || request.take(), |_, reply| answer = Some(reply)).await?;
        Ok(answer.ok_or("no answer")?)
    }

    fn enqueue(&mut self, request: &Request) {
        self.last_xid += 1;
        client::encode_request(&mut self.unsent, self.last_xid, request);
        self.in_flight.push_back((self.last_xid, request.op(), Instant::now()));
    }

    /// Takes an answer, if it is the one that must come now and says that all went well.
    fn check(&mut self, frame: &Bytes) -> Result<(Instant, Reply<'static>)> {
        let Packet::Reply { header, body } = client::decode_packet(frame)? else {
            return Err("an event came, and no watch was set".into());
        };
        let (xid, kind, born) = self.in_flight.pop_front().ok_or("an answer came to no request")?;
        let ReplyHeader { zxid, err, .. } = header;
        if header.xid != xid {
            return Err(format!("request {xid} got the answer of {}", header.xid).into());
        }
        if zxid < self.last_zxid {
            return Err(format!("zxid 0x{zxid:x} came after 0x{:x}", self.last_zxid).into());
        }
        self.last_zxid = zxid;
        if err != ErrorCode::Ok.code() {
            return Err(format!("request {xid} of type {kind} got {:?} ({err})", ErrorCode::from_code(err)).into());
        }
        let reply = client::decode_reply(kind, &header, &body)?;
        if let Reply::Multi(results) = &reply
            && let Some(failed) = results.iter().find(|result| matches!(result, MultiResult::Error(_)))
        {
            return Err(format!("multi {xid} has {failed:?}").into());
        }
        Ok((born, reply))
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.stream.write_all(&self.unsent).await?;
            self.unsent.clear();
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        self.received.reserve(READ_ROOM);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }
}

/// Loads the servers as planned. The parent must not exist; in the end it is gone.
async fn run(plan: &Plan, args: &Args) -> Result<Vec<u32>> {
    let servers = args.servers.iter().cycle().take(plan.shape.connections);
    let mut connections = try_join_all(servers.map(|server| Connection::open(*server))).await?;
    let [first, ..] = connections.as_mut_slice() else { return Err("no connection".into()) };
    first.call(plan.create(plan.parent.clone(), CreateMode::Persistent)).await?;
    first.all(plan.set_up()).await?;
    // another server may not have heard of it yet
    let sync = |connection| Connection::call(connection, Request::Sync { path: plan.parent.clone() });
    try_join_all(connections.iter_mut().map(sync)).await?;

    let from = Instant::now() + args.warm_up;
    let window = Window { from, to: from + args.time };
    let workers = connections.iter_mut().enumerate().map(|(worker, connection)| load(plan, worker, connection, window));
    let tallies = try_join_all(workers).await?;

    let answers: Vec<u64> = tallies.iter().map(|tally| tally.answers).collect();
    clean_up(plan, connections, plan.children(&answers)).await?;
    Ok(tallies.into_iter().flat_map(|tally| tally.latencies).collect())
}

async fn load(plan: &Plan, worker: usize, connection: &mut Connection, window: Window) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut sent = 0;
    let next = || {
        sent += 1;
        (Instant::now() < window.to).then(|| plan.request(worker, sent - 1))
    };
    let answered = |born: Instant, reply| {
        tally.answers += 1;
        tally.wrong += u64::from(!plan.holds(&reply));
        let now = Instant::now();
        if (window.from..window.to).contains(&now) {
            tally.latencies.push(u32::try_from((now - born).as_micros()).unwrap_or(u32::MAX));
        }
    };
    connection.drive(plan.shape.pipeline, next, answered).await?;
    match tally.wrong {
        0 => Ok(tally),
        wrong => Err(format!("{wrong} of {} answers hold something else than was asked for", tally.answers).into()),
    }
}

/// Counts the parent's children, deletes them and the parent, closes the sessions.
async fn clean_up(plan: &Plan, mut connections: Vec<Connection>, expected: usize) -> Result<()> {
    let [first, ..] = connections.as_mut_slice() else { return Err("no connection".into()) };
    first.call(Request::Sync { path: plan.parent.clone() }).await?;
    let children = first.call(Request::GetChildren { path: plan.parent.clone(), watch: false }).await?;
    let Reply::Children(children) = children else { return Err("getChildren got no children".into()) };
    if children.len() != expected {
        return Err(format!("{} children are there, the answers speak of {expected}", children.len()).into());
    }
    let delete = |path| Request::Delete { path, version: ANY };
    let share = children.len().div_ceil(connections.len()).max(1);
    let shares = connections
        .iter_mut()
        .zip(children.chunks(share))
        .map(|(connection, names)| connection.all(names.iter().map(|name| delete(format!("{}/{name}", plan.parent)))));
    try_join_all(shares).await?;
    let [first, ..] = connections.as_mut_slice() else { return Err("no connection".into()) };
    // this one's server may not have heard of the others' deletions, which makes no difference to a write
    first.call(delete(plan.parent.clone())).await?;
    try_join_all(connections.iter_mut().map(|connection| connection.call(Request::CloseSession))).await?;
    Ok(())
}

/// The value that a share of the sorted ones lies below.
fn percentile(sorted: &[u32], share: f64) -> u32 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at).or(sorted.last()).copied().unwrap_or(0)
}

fn name(workload: Workload) -> String {
    workload.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let birth = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    println!(
        "{:<14} {:>11} {:>8} {:>10} {:>9} {:>9}",
        "workload", "connections", "pipeline", "ops/s", "p50/us", "p99/us"
    );
    for workload in &args.workloads {
        for shape in &args.shapes {
            let Shape { connections, pipeline } = *shape;
            let parent = format!("/load-{birth:x}-{}-{connections}x{pipeline}", name(*workload));
            let data = Bytes::from(vec![b'x'; args.data]);
            let plan = Plan { workload: *workload, shape: *shape, parent, data };
            let limit = args.warm_up + args.time + GRACE;
            let run = async { tokio::time::timeout(limit, run(&plan, &args)).await };
            let mut latencies =
                runtime.block_on(run).map_err(|_| format!("no end after {limit:?}").into()).flatten().map_err(
                    |error: Box<dyn Error>| format!("{} {connections}x{pipeline}: {error}", name(*workload)),
                )?;
            latencies.sort_unstable();
            let rate = latencies.len() as f64 / args.time.as_secs_f64();
            let (median, late) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
            println!("{:<14} {connections:>11} {pipeline:>8} {rate:>10.0} {median:>9} {late:>9}", name(*workload));
        }
    }
    Ok(())
}
