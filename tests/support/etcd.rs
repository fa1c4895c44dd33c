//! etcd processes for tests: started on free loopback ports with a directory of their own, killed on drop.
//!
//! The programs come from `make tools`, or from where `ZKETCD_TEST_ETCD_34` and `ZKETCD_TEST_ETCD_36` say.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tempfile::TempDir;

/// How often a start is tried again where somebody else took the ports first.
const PORT_TRIES: usize = 5;

/// How much of etcd's log a failed start shows.
const LOG_LINES: usize = 40;

/// What etcd 3.4 and 3.6 alike write once a client can be served: the cluster has a leader then.
const READY: &str = "serving client traffic";

/// How long a start may take on a machine that is busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V34,
    V36,
}

impl Version {
    fn program(self) -> PathBuf {
        let (variable, name) = match self {
            Version::V34 => ("ZKETCD_TEST_ETCD_34", "etcd-3.4"),
            Version::V36 => ("ZKETCD_TEST_ETCD_36", "etcd-3.6"),
        };
        let program = env::var_os(variable)
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name), PathBuf::from);
        assert!(program.is_file(), "{} is missing: run make tools, or set {variable}", program.display());
        program
    }
}

/// TLS for the client port.
#[derive(Debug, Clone)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Where set, clients must have a certificate of this CA.
    pub client_ca: Option<PathBuf>,
}

/// A single-member etcd.
pub struct Etcd {
    version: Version,
    arguments: Vec<String>,
    tls: Option<Tls>,
    dir: TempDir,
    client_port: u16,
    peer_port: u16,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// Kills etcd where this process ends without a drop, and removes its data; its stdin is our life sign.
    guard: Child,
}

impl Etcd {
    pub fn start(version: Version) -> Self {
        Self::start_with(version, &[], None)
    }

    /// With further `arguments` of etcd's command line.
    pub fn start_with(version: Version, arguments: &[&str], tls: Option<Tls>) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut etcd = Etcd { version, arguments, tls, dir, client_port: 0, peer_port: 0, running: None };
        for _ in 0..PORT_TRIES {
            (etcd.client_port, etcd.peer_port) = free_ports();
            match etcd.launch() {
                Ok(()) => return etcd,
                Err(log) if log.contains("address already in use") => {}
                Err(log) => panic!("etcd does not start:\n{log}"),
            }
        }
        panic!("no free port for etcd in {PORT_TRIES} tries");
    }

    /// The client URL, to put into an endpoint list.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    pub fn client_port(&self) -> u16 {
        self.client_port
    }

    /// Ends etcd with SIGTERM, waits until it has gone, and keeps its data.
    pub fn stop(&mut self) {
        if self.running.is_some() {
            self.signal("TERM");
            self.reap();
        }
    }

    /// Ends etcd with SIGKILL and keeps its data.
    pub fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = running.child.kill();
            self.reap();
        }
    }

    /// Starts etcd again on the same ports with the same data.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "etcd still runs");
        self.launch().unwrap_or_else(|log| panic!("etcd does not start again:\n{log}"));
    }

    /// SIGSTOP: the connections stay open, and nothing answers. A thread that runs may do so for a while after the signal was
    /// sent, so this waits until all have stopped.
    pub fn pause(&self) {
        self.signal("STOP");
        let running = self.running.as_ref().expect("etcd runs");
        let waited = waitpid(Some(Pid::from_child(&running.child)), WaitOptions::UNTRACED).expect("etcd's state");
        assert!(waited.is_some_and(|(_, status)| status.stopped()), "etcd has ended");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let running = self.running.as_ref().expect("etcd runs");
        let status = Command::new("kill").arg(format!("-{name}")).arg(running.child.id().to_string()).status();
        assert!(status.expect("kill runs").success(), "kill -{name} of etcd");
    }

    fn reap(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.guard.kill();
            let _ = running.guard.wait();
            let _ = running.child.wait();
        }
    }

    /// Starts the process and waits until it serves; the last of its log where it ends instead.
    fn launch(&mut self) -> Result<(), String> {
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(self.version.program());
        command.arg("--name=m").arg("--logger=zap").arg("--data-dir").arg(self.dir.path().join("data"));
        command.arg(format!("--listen-client-urls={}", self.endpoint()));
        command.arg(format!("--advertise-client-urls={}", self.endpoint()));
        command.arg(format!("--listen-peer-urls={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
        command.arg(format!("--initial-cluster=m={peer}"));
        if let Some(tls) = &self.tls {
            command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
            if let Some(ca) = &tls.client_ca {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
            }
        }
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("etcd starts");
        let guard = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$0\"; rm -rf \"$1\"", &child.id().to_string()])
            .arg(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let log = BufReader::new(child.stderr.take().expect("etcd's log"));
        let pid = child.id();
        self.running = Some(Running { child, guard });
        let (ready, late) = mpsc::channel::<()>();
        thread::spawn(move || {
            if late.recv_timeout(START_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Ends the log that is being read below.
                let _ = Command::new("kill").arg("-KILL").arg(pid.to_string()).status();
            }
        });
        let result = wait_until_ready(log);
        drop(ready);
        result.inspect_err(|_| self.reap())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the log up to the line that says so, then goes on reading in the background, as a full pipe would stop etcd.
fn wait_until_ready(mut log: impl BufRead + Send + 'static) -> Result<(), String> {
    let mut last = VecDeque::new();
    loop {
        let mut line = String::new();
        if log.read_line(&mut line).map_or(true, |read| read == 0) {
            return Err(last.into_iter().collect());
        }
        if line.contains(READY) {
            break;
        }
        last.push_back(line);
        if last.len() > LOG_LINES {
            last.pop_front();
        }
    }
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Ok(())
}

/// Two ports that were free a moment ago.
fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (one, other) = (bind(), bind());
    let port = |listener: &TcpListener| listener.local_addr().expect("its address").port();
    (port(&one), port(&other))
}

/// One etcd of each version for all tests of a binary, which tell themselves apart by their prefixes. The last one to
/// let go ends it.
pub fn shared(version: Version) -> Arc<Etcd> {
    static RUNNING: Mutex<Vec<(Version, std::sync::Weak<Etcd>)>> = Mutex::new(Vec::new());
    let mut running = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let found = running.iter().find(|(of, _)| *of == version).and_then(|(_, etcd)| etcd.upgrade());
    found.unwrap_or_else(|| {
        let etcd = Arc::new(Etcd::start(version));
        running.retain(|(of, _)| *of != version);
        running.push((version, Arc::downgrade(&etcd)));
        etcd
    })
}
