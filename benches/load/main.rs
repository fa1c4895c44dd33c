//! A load generator for anything that speaks the ZooKeeper protocol: raw frames, no client library in the way.
//!
//! - `wire`: connections and the one loop that serves them.
//! - `template`: requests that are sent many times.
//! - `housekeeping`: what is done before a load and after it.
//! - `steady`: requests and answers for a fixed time, a workload in a shape (connections x requests in flight on each).
//! - `fan_out`, `sessions`, `tree`: the loads that are of another kind.
//!
//! While it loads, it checks: answers come in the order of the requests, zxids never go back on a connection and no
//! two writes have the same, every answer is the success it has to be and has its body, each watch fires once and
//! before the change is read, and in the end there are just as many znodes as the answers say.
//!
//! What it measures, it says in lines of JSON: `{"at": "begin"}` and `{"at": "end"}` as the measured time begins and
//! ends, for whoever watches the servers meanwhile, then the figures. `benches/bench.py` reads these lines.

mod fan_out;
mod housekeeping;
mod sessions;
mod steady;
mod template;
mod tree;
mod wire;

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(name = "load", about = "Loads a ZooKeeper server, or zketcd, and says how many operations a second it did")]
struct Cli {
    #[command(subcommand)]
    load: Load,
    /// What cargo bench adds
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Load {
    /// One workload in one shape, for a fixed time
    Steady {
        workload: steady::Workload,
        /// Connections x requests in flight on each, such as 64x1
        shape: Shape,
        #[command(flatten)]
        times: Times,
        /// Servers to connect to in turn (address:port)
        #[arg(required = true)]
        servers: Vec<SocketAddr>,
    },
    /// One writer, and watchers that read what they hear of, for a fixed time
    FanOut {
        #[arg(long, default_value_t = 64)]
        watchers: usize,
        #[command(flatten)]
        times: Times,
        #[arg(required = true)]
        servers: Vec<SocketAddr>,
    },
    /// Opens sessions and holds them
    Sessions {
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        /// How long (duration)
        #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
        hold: Duration,
        #[arg(required = true)]
        servers: Vec<SocketAddr>,
    },
    /// Writes a tree as fast as can be, while somebody reads. It stays
    Tree {
        #[arg(long, default_value_t = 1_000_000)]
        nodes: u64,
        /// Data of each znode (bytes)
        #[arg(long, default_value_t = 100)]
        data: usize,
        #[arg(required = true)]
        servers: Vec<SocketAddr>,
    },
    /// Waits for a server to answer a read of that tree
    First {
        #[arg(long, default_value_t = 1_000_000)]
        nodes: u64,
        server: SocketAddr,
    },
}

#[derive(Args)]
struct Times {
    /// How long is measured (duration)
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// How long it runs before it is measured (duration)
    #[arg(long, default_value = "300ms", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Data of each znode (bytes)
    #[arg(long, default_value_t = 100)]
    data: usize,
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

/// What is measured: answers between two moments. Requests are sent until the second one.
struct Window {
    from: Instant,
    to: Instant,
    /// How many of the two moments were said to have come.
    said: usize,
}

impl Window {
    fn new(warm_up: Duration, time: Duration) -> Window {
        let from = Instant::now() + warm_up;
        Window { from, to: from + time, said: 0 }
    }

    fn contains(&self, now: Instant) -> bool {
        (self.from..self.to).contains(&now)
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.to
    }

    /// Says what has come; gives what comes next.
    fn tick(&mut self, now: Instant) -> Option<Instant> {
        let moments = [("begin", self.from), ("end", self.to)];
        while let Some((name, _)) = moments.get(self.said).filter(|(_, at)| *at <= now) {
            mark(name);
            self.said += 1;
        }
        moments.get(self.said).map(|(_, at)| *at)
    }

    fn is_said(&self) -> bool {
        self.said == 2
    }
}

/// Says that the measured time begins or ends.
fn mark(at: &str) {
    line(&format!("{{\"at\": \"{at}\"}}"));
}

/// Says what was measured.
fn say(figures: &[(&str, f64)]) {
    let fields: Vec<String> = figures.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    line(&format!("{{{}}}", fields.join(", ")));
}

/// Whoever reads the lines may have gone: then nobody is told.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// The value that a share of the sorted ones lies below.
fn percentile(sorted: &[u32], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at).or(sorted.last()).copied().unwrap_or(0).into()
}

fn name(workload: &impl ValueEnum) -> String {
    workload.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn main() -> Result<()> {
    match Cli::parse().load {
        Load::Steady { workload, shape, times: Times { time, warm_up, data }, servers } => {
            steady::run(&servers, workload, shape, data, (warm_up, time))
        }
        Load::FanOut { watchers, times: Times { time, warm_up, data }, servers } => {
            fan_out::run(&servers, watchers, data, (warm_up, time))
        }
        Load::Sessions { count, hold, servers } => sessions::run(&servers, count, hold),
        Load::Tree { nodes, data, servers } => tree::run(&servers, nodes, data),
        Load::First { nodes, server } => tree::first(server, nodes),
    }
}
