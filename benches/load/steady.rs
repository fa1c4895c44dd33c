//! Requests and answers for a fixed time: each connection has so many requests in flight, of one workload.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;
use zketcd::jute::client::decode_reply;
use zketcd::jute::{CreateMode, MultiOp, MultiResult, Reply, ReplyHeader, Request, op};

use super::housekeeping::{self, ANY, create, creation, delete};
use super::template::{LATER, NUMBER, Template, VERSION, number};
use super::wire::{Client, Connection, Pool, be_i32};
use super::{Result, Shape, Window, say};

/// Znodes that the reads, set and mixed spread over.
const NODES: u64 = 1_000;
/// Of so many requests of the mixed workload, one is a write.
const MIXED: u64 = 10;
/// Bytes of a `Stat`, and where in it are dataLength and numChildren.
const STAT: usize = 68;
const DATA_LENGTH: usize = 52;
const NUM_CHILDREN: usize = 56;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// getData, of 1,000 znodes
    Get,
    /// exists, of 1,000 znodes
    Exists,
    /// getChildren2, of a znode with 1,000
    Children,
    /// setData, of 1,000 znodes
    Set,
    /// setData, all of one znode
    SetOne,
    /// create, all under one parent
    Create,
    /// create, under each connection's own parent
    CreateOwn,
    /// create persistent sequential, all under one parent
    Sequential,
    /// create ephemeral, all under one parent
    Ephemeral,
    /// create a znode, delete it, all under one parent
    CreateDelete,
    /// multi: check a shared znode, set one's own at its version, create one, delete an earlier one
    Multi,
    /// nine getData and a setData, of 1,000 znodes
    Mixed,
}

/// One run of a workload.
struct Plan {
    workload: Workload,
    shape: Shape,
    parent: String,
    data: Bytes,
}

impl Plan {
    /// What has to be there before the load.
    fn set_up(&self) -> Vec<Request> {
        let workers = 0..self.shape.connections;
        let paths: Vec<String> = match self.workload {
            Workload::Get | Workload::Exists | Workload::Children | Workload::Set | Workload::Mixed => {
                (0..NODES).map(|n| self.node(&number(n))).collect()
            }
            Workload::SetOne => vec![self.node(&number(0))],
            Workload::CreateOwn => workers.map(|worker| self.own(worker)).collect(),
            Workload::Multi => {
                let earlier = |worker| (0..self.lag()).map(move |n| self.child(worker, &number(n)));
                let own = workers.clone().map(|worker| self.own(worker));
                own.chain(workers.flat_map(earlier)).chain([self.node(&number(0))]).collect()
            }
            Workload::Create | Workload::Sequential | Workload::Ephemeral | Workload::CreateDelete => Vec::new(),
        };
        let parent = create(self.parent.clone(), &Bytes::new());
        std::iter::once(parent).chain(paths.into_iter().map(|path| create(path, &self.data))).collect()
    }

    /// A worker's requests, which it sends in turn.
    fn requests(&self, worker: usize) -> Vec<Template> {
        let make = |path, mode| Template::new(&Request::Create(creation(path, &self.data, mode)));
        let node = || self.node(NUMBER);
        let set = |path| Request::SetData { path, data: Some(self.data.clone()), version: ANY };
        let get = || Template::new(&Request::GetData { path: node(), watch: false });
        let child = self.child(worker, NUMBER);
        match self.workload {
            Workload::Get => vec![get()],
            Workload::Exists => vec![Template::new(&Request::Exists { path: node(), watch: false })],
            Workload::Children => {
                vec![Template::new(&Request::GetChildren2 { path: self.parent.clone(), watch: false })]
            }
            Workload::Set => vec![Template::new(&set(node()))],
            Workload::SetOne => vec![Template::new(&set(self.node(&number(0))))],
            Workload::Create => vec![make(child, CreateMode::Persistent)],
            Workload::CreateOwn => vec![make(format!("{}/{NUMBER}", self.own(worker)), CreateMode::Persistent)],
            Workload::Sequential => vec![make(self.child(worker, ""), CreateMode::PersistentSequential)],
            Workload::Ephemeral => vec![make(child, CreateMode::Ephemeral)],
            Workload::CreateDelete => {
                vec![make(child.clone(), CreateMode::Persistent), Template::new(&delete(child))]
            }
            Workload::Multi => vec![Template::ahead(&self.multi(worker), self.lag())],
            Workload::Mixed => {
                let mut all: Vec<Template> = (1..MIXED).map(|_| get()).collect();
                all.push(Template::new(&set(node())));
                all
            }
        }
    }

    /// The number in a worker's `n`th request, of `kinds` in turn.
    fn number(&self, worker: usize, n: u64, kinds: u64) -> u64 {
        match self.workload {
            // workers walk through the znodes each from another one
            Workload::Get | Workload::Exists | Workload::Set | Workload::Mixed => (worker as u64 * 37 + n) % NODES,
            _ => n / kinds,
        }
    }

    /// Whether an answer holds what was written, or names what was created.
    fn holds(&self, kind: i32, body: &[u8]) -> Result<bool> {
        if kind == op::GET_CHILDREN2 {
            // the names are as many as they have to be; reading each would cost more than all the rest
            let stat = body.len().saturating_sub(STAT);
            return Ok(be_i32(body, 0) == NODES as i32 && be_i32(body, stat + NUM_CHILDREN) == NODES as i32);
        }
        if kind == op::GET_DATA {
            let data = self.data.len();
            let stat = body.len().saturating_sub(STAT);
            let whole = body.get(4..4 + data) == Some(&self.data) && stat == 4 + data;
            return Ok(whole && be_i32(body, stat + DATA_LENGTH) == data as i32);
        }
        Ok(match decode_reply(kind, &ReplyHeader { xid: 0, zxid: 0, err: 0 }, body)? {
            Reply::Stat(stat) => usize::try_from(stat.data_length) == Ok(self.data.len()),
            Reply::Path(path) => path.starts_with(&self.parent),
            Reply::Multi(results) => {
                results.len() == 4 && !results.iter().any(|result| matches!(result, MultiResult::Error(_)))
            }
            _ => true,
        })
    }

    /// The znodes that have children in the end, and how many, once each worker has got that many answers.
    fn children(&self, answers: &[u64]) -> Vec<(String, u64)> {
        let sum = |each: fn(u64) -> u64| answers.iter().map(|n| each(*n)).sum::<u64>();
        let before = self.set_up().len() as u64 - 1;
        let own = |(worker, n): (usize, &u64)| (self.own(worker), *n);
        let (inner, under_parent) = match self.workload {
            Workload::Create | Workload::Sequential | Workload::Ephemeral => (Vec::new(), sum(|n| n)),
            Workload::CreateDelete => (Vec::new(), sum(|n| n % 2)),
            Workload::CreateOwn => (answers.iter().enumerate().map(own).collect(), before),
            _ => (Vec::new(), before),
        };
        inner.into_iter().chain([(self.parent.clone(), under_parent)]).collect()
    }

    /// A multi deletes what this many multis before it created: that one has been answered, whatever the pipeline.
    fn lag(&self) -> u64 {
        self.shape.pipeline as u64
    }

    fn multi(&self, worker: usize) -> Request {
        Request::Multi(vec![
            MultiOp::Check { path: self.node(&number(0)), version: 0 },
            MultiOp::SetData { path: self.own(worker), data: Some(self.data.clone()), version: VERSION },
            MultiOp::Create(creation(self.child(worker, LATER), &self.data, CreateMode::Persistent)),
            MultiOp::Delete { path: self.child(worker, NUMBER), version: ANY },
        ])
    }

    fn node(&self, n: &str) -> String {
        format!("{}/node-{n}", self.parent)
    }

    fn own(&self, worker: usize) -> String {
        format!("{}/own-{worker}", self.parent)
    }

    fn child(&self, worker: usize, n: &str) -> String {
        format!("{}/{worker}-{n}-", self.parent)
    }
}

struct Worker {
    requests: Vec<Template>,
    sent: u64,
    answers: u64,
}

/// The load itself.
struct Load<'a> {
    plan: &'a Plan,
    window: Window,
    workers: Vec<Worker>,
    open: usize,
    /// Of each measured answer, from when its request was made, in microseconds.
    latencies: Vec<u32>,
}

impl Client for Load<'_> {
    fn answer(&mut self, worker: usize, kind: i32, body: &[u8], born: Instant, now: Instant) -> Result<()> {
        if !self.plan.holds(kind, body)? {
            return Err(format!("an answer of type {kind} holds something else than was asked for").into());
        }
        self.open -= 1;
        self.workers[worker].answers += 1;
        if self.window.contains(now) {
            self.latencies.push(u32::try_from((now - born).as_micros()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn fill(&mut self, worker: usize, connection: &mut Connection, now: Instant) -> Result<()> {
        if self.window.is_over(now) {
            return Ok(());
        }
        let this = &mut self.workers[worker];
        let kinds = this.requests.len() as u64;
        while connection.in_flight() < self.plan.shape.pipeline {
            let number = self.plan.number(worker, this.sent, kinds);
            connection.send_again(&this.requests[(this.sent % kinds) as usize], number, now);
            this.sent += 1;
            self.open += 1;
        }
        Ok(())
    }

    fn tick(&mut self, _pool: &mut Pool, now: Instant) -> Result<Option<Instant>> {
        Ok(self.window.tick(now))
    }

    fn done(&self) -> bool {
        self.window.is_said() && self.open == 0
    }
}

/// Loads the servers with one workload in one shape, then says what came of it. Nothing stays behind.
pub fn run(
    servers: &[SocketAddr],
    workload: Workload,
    shape: Shape,
    data: usize,
    times: (Duration, Duration),
) -> Result<()> {
    let name = super::name(&workload);
    let plan = Plan { workload, shape, parent: housekeeping::fresh(&name)?, data: vec![b'x'; data].into() };
    let mut pool = Pool::attach(servers, shape.connections, housekeeping::PATIENCE)?;
    housekeeping::make(&mut pool, &plan.parent, plan.set_up())?;

    let worker = |worker| Worker { requests: plan.requests(worker), sent: 0, answers: 0 };
    let workers = (0..shape.connections).map(worker).collect();
    let window = Window::new(times.0, times.1);
    let mut load = Load { plan: &plan, window, workers, open: 0, latencies: Vec::new() };
    pool.run(&mut load, times.0 + times.1 + housekeeping::PATIENCE)?;

    let Load { workers, mut latencies, .. } = load;
    let answers: Vec<u64> = workers.iter().map(|worker| worker.answers).collect();
    plan.children(&answers)
        .into_iter()
        .try_for_each(|(parent, children)| housekeeping::empty(&mut pool, &parent, children))?;
    housekeeping::close(&mut pool, &plan.parent)?;
    latencies.sort_unstable();
    say(&[
        ("operations", latencies.len() as f64),
        ("seconds", times.1.as_secs_f64()),
        ("p50_us", super::percentile(&latencies, 0.5)),
        ("p99_us", super::percentile(&latencies, 0.99)),
    ]);
    Ok(())
}
