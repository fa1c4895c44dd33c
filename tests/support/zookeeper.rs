//! A ZooKeeper 3.9.5 process for tests that compare: started on a free loopback port with a directory of its own in
//! memory where there is room, killed on drop and where the test process ends without one.
//!
//! `tests/tools/zookeeper/run.sh` says how it is configured. Where the environment names one (`ZOOKEEPER=host:port`),
//! that is used as it is.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a JVM may take to start on a machine that is busy with other tests, its jars' download included.
const START_LIMIT: Duration = Duration::from_secs(180);

/// How long one answer may take: whoever else has the port may never answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How often a starting server is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

pub struct ZooKeeper {
    address: SocketAddr,
    dir: TempDir,
    /// Kills ZooKeeper and removes its data when its stdin, our life sign, closes.
    guard: Child,
}

impl ZooKeeper {
    /// Starts one, and waits until it serves.
    pub fn start() -> ZooKeeper {
        ZooKeeper::start_with(&[], "")
    }

    /// With further arguments of `run.sh` (the tick, the time between two sweeps), and options for the JVM.
    pub fn start_with(arguments: &[&str], options: &str) -> ZooKeeper {
        loop {
            let started = ZooKeeper::begin(arguments, options);
            if started.serves() {
                return started;
            }
        }
    }

    fn begin(arguments: &[&str], options: &str) -> ZooKeeper {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/zookeeper/run.sh");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let guard = Command::new("bash")
            .args(["-c", "\"$@\" & read -r _; kill -9 $!; wait; rm -rf \"${3%/*}\"", "guard"])
            .arg(run)
            .arg(port.to_string())
            .arg(dir.path().join("data"))
            .args(arguments)
            .env("ZOOKEEPER_OPTIONS", options)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("bash starts");
        ZooKeeper { address, dir, guard }
    }

    /// The one that all tests of this process share.
    pub fn shared() -> SocketAddr {
        static SHARED: OnceLock<(SocketAddr, Option<ZooKeeper>)> = OnceLock::new();
        let (address, _) = SHARED.get_or_init(|| match std::env::var("ZOOKEEPER") {
            Ok(named) => (named.parse().expect("ZOOKEEPER is an address and a port"), None),
            Err(_) => {
                let started = ZooKeeper::start();
                (started.address, Some(started))
            }
        });
        *address
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it serves. False: somebody else, another test's zketcd say, has taken the port before it.
    fn serves(&self) -> bool {
        let limit = Instant::now() + START_LIMIT;
        let mine = format!("dataDir={}", self.dir.path().display());
        loop {
            match self.conf() {
                Ok(answer) if answer.contains(&mine) => return true,
                Ok(answer) if !answer.is_empty() && !answer.contains("not currently serving") => return false,
                _ if Instant::now() > limit => {
                    let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                    panic!("ZooKeeper does not serve:\n{log}");
                }
                _ => thread::sleep(ASK_EVERY),
            }
        }
    }

    fn conf(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ASK_LIMIT))?;
        stream.write_all(b"conf")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
