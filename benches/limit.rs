//! What etcd itself can take: transactions of the kind that zketcd's commits consist of, sent by nobody but this.
//!
//! Each transaction compares two keys (a session that is there, a znode that is not) and puts two (the znode, its
//! parent's counter). Flat, so many of them are in flight one by one; nested, so many are one commit beside a lane's
//! compare and put, and so many commits are in flight. All must succeed, and no answer may go back in revisions.
//!
//! It speaks in lines of JSON, as `load` does.

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use etcd_client::{Client, Compare, CompareOp, ConnectOptions, Txn, TxnOp, TxnOpResponse};
use futures::future::try_join_all;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// A put's value beside the znode's data: the record's own fields.
const RECORD: usize = 48;
/// What a lane's record and a counter's hold.
const SMALL: usize = 32;
/// How long one transaction may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Parser)]
#[command(name = "limit", about = "Commits to etcd as zketcd does, and says how many transactions a second it did")]
struct Args {
    /// Transactions in each commit x commits in flight; 0: flat, not nested in one
    shape: Shape,
    /// etcd's client URL
    endpoint: String,
    /// How long is measured (duration)
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// How long it runs before it is measured (duration)
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
    nested: usize,
    in_flight: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let numbers = text.split_once('x').map(|(left, right)| (left.parse(), right.parse()));
        match numbers {
            Some((Ok(nested), Ok(in_flight @ 1..=1_000))) if nested <= 4_095 => Ok(Shape { nested, in_flight }),
            _ => Err(format!("{text:?} isn't like 60x2")),
        }
    }
}

/// What all commits share.
struct Run {
    shape: Shape,
    node: Vec<u8>,
    from: Instant,
    to: Instant,
    /// Transactions answered between the two moments.
    measured: AtomicU64,
    revision: AtomicI64,
}

/// One transaction: the session lives, the znode is not there; then it is, and the parent's counter has moved.
fn transaction(run: &Run, lane: usize, group: usize, n: u64) -> Txn {
    let path = format!("/limit/n/load/{lane}-{group}/{n:010}");
    let compares = vec![
        Compare::create_revision("/limit/s", CompareOp::Greater, 0),
        Compare::create_revision(path.as_str(), CompareOp::Equal, 0),
    ];
    let puts = vec![
        TxnOp::put(path, run.node.as_slice(), None),
        TxnOp::put(format!("/limit/c/load/{lane}-{group}"), vec![b'c'; SMALL], None),
    ];
    Txn::new().when(compares).and_then(puts)
}

/// The commit that makes the lane's number `n + 1`.
fn commit(run: &Run, lane: usize, n: u64) -> Txn {
    if run.shape.nested == 0 {
        return transaction(run, lane, 0, n);
    }
    let key = format!("/limit/l/{lane}");
    let number = i64::try_from(n).unwrap_or(i64::MAX);
    let put = TxnOp::put(key.as_str(), vec![b'l'; SMALL], None);
    let groups = (0..run.shape.nested).map(|group| TxnOp::txn(transaction(run, lane, group, n)));
    Txn::new()
        .when(vec![Compare::version(key.as_str(), CompareOp::Equal, number)])
        .and_then([put].into_iter().chain(groups).collect::<Vec<_>>())
}

/// Commits one after the other, until the time is over.
async fn lane(run: Arc<Run>, mut client: Client, lane: usize) -> Result<()> {
    for n in 0.. {
        if Instant::now() >= run.to {
            break;
        }
        let sent_after = run.revision.load(Ordering::Relaxed);
        let answer = client.txn(commit(&run, lane, n)).await?;
        let nested = answer.op_responses();
        let failed = nested.iter().any(|one| matches!(one, TxnOpResponse::Txn(inner) if !inner.succeeded()));
        if !answer.succeeded() || failed {
            return Err(format!("commit {n} of lane {lane} was refused").into());
        }
        let revision = answer.header().ok_or("an answer without a header")?.revision();
        if revision <= sent_after {
            return Err(format!("revision {revision} came after {sent_after}").into());
        }
        run.revision.fetch_max(revision, Ordering::Relaxed);
        if (run.from..run.to).contains(&Instant::now()) {
            run.measured.fetch_add(run.shape.nested.max(1) as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn run(args: Args) -> Result<()> {
    let mut client = Client::connect([&args.endpoint], Some(ConnectOptions::new().with_timeout(PATIENCE))).await?;
    client.delete("/limit/", Some(etcd_client::DeleteOptions::new().with_prefix())).await?;
    let revision = client.put("/limit/s", "s", None).await?.header().map_or(0, |header| header.revision());
    let from = Instant::now() + args.warm_up;
    let run = Arc::new(Run {
        shape: args.shape,
        node: vec![b'x'; RECORD + args.data],
        from,
        to: from + args.time,
        measured: AtomicU64::new(0),
        revision: AtomicI64::new(revision),
    });
    let marks = async {
        for (name, at) in [("begin", run.from), ("end", run.to)] {
            tokio::time::sleep_until(at.into()).await;
            println!("{{\"at\": \"{name}\"}}");
        }
        Ok(())
    };
    let lanes = try_join_all((0..args.shape.in_flight).map(|number| lane(run.clone(), client.clone(), number)));
    tokio::try_join!(lanes, marks)?;
    let (operations, seconds) = (run.measured.load(Ordering::Relaxed), args.time.as_secs_f64());
    println!("{{\"operations\": {operations}, \"seconds\": {seconds}}}");
    Ok(())
}

fn main() -> Result<()> {
    // one thread, as the load generator has: the rest of the machine is etcd's
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(Args::parse()))
}
