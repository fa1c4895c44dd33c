//! The program as its users start it: version, help, errors, health checks, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No test waits longer than this for the program; on a machine that needs more, something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

fn zketcd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zketcd"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Exit code 1 and one line on standard error, which is returned without `zketcd: `.
fn fails(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    stderr.trim_end().strip_prefix("zketcd: ").expect(&stderr).to_owned()
}

/// An address that nobody had a moment ago.
fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server with a store of its own in memory, killed at the end.
struct Server {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Started, and alive by its own health check.
    fn start() -> Server {
        let (listen, admin) = (free_addr(), free_addr());
        let mut command = zketcd(&["serve", "--store=memory"]);
        command.env("ZKETCD_LISTEN", listen.to_string()).env("ZKETCD_ADMIN_LISTEN", admin.to_string());
        let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut server = Server { child, listen, admin };
        let begun = Instant::now();
        while run(&mut server.healthcheck(&[])).0 != Some(0) {
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended: {}", server.log());
            assert!(begun.elapsed() < PATIENCE, "the server does not become alive");
        }
        server
    }

    fn healthcheck(&self, args: &[&str]) -> Command {
        let mut command = zketcd(&["healthcheck"]);
        command.args(args).env("ZKETCD_ADMIN_LISTEN", self.admin.to_string());
        command.env("ZKETCD_HEALTHCHECK_TIMEOUT", format!("{PATIENCE:?}"));
        command
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// All that it says until it ends.
    fn log(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `zketcd serve 2>&1 | head`, or a log collector that has died.
#[test]
fn a_server_whose_log_nobody_reads_goes_on_and_ends() {
    let mut server = Server::start();
    drop(server.child.stderr.take());
    for _ in 0..2 {
        assert_eq!(run(&mut server.healthcheck(&[])).0, Some(0));
        let mut client = TcpStream::connect(server.listen).unwrap();
        // A bad handshake, of which the log tells.
        client.write_all(&[0xff; 8]).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0);
    }
    server.signal("TERM");
    let begun = Instant::now();
    let code = loop {
        match server.child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None => assert!(begun.elapsed() < PATIENCE, "it does not end"),
        }
    };
    assert_eq!(code, Some(0));
}

#[test]
fn version() {
    let (code, stdout, _) = run(&mut zketcd(&["--version"]));
    assert_eq!((code, stdout), (Some(0), format!("zketcd {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_tells_units_defaults_and_variables() {
    let (code, stdout, _) = run(zketcd(&["serve", "--help"]).env("COLUMNS", "500"));
    assert_eq!(code, Some(0));
    let section = |flag: &str| {
        let (_, rest) = stdout.split_once(&format!("--{flag} ")).unwrap_or_else(|| panic!("no --{flag} in {stdout}"));
        rest.split("\n      --").next().unwrap().to_owned()
    };
    for (flag, parts) in [
        ("min-session-timeout", ["duration: 500ms, 4s, 1m", "[default: 4s]", "ZKETCD_MIN_SESSION_TIMEOUT"]),
        ("max-session-timeout", ["(duration)", "[default: 60s]", "ZKETCD_MAX_SESSION_TIMEOUT"]),
        ("jute-max-buffer", ["(bytes)", "[default: 1048575]", "ZKETCD_JUTE_MAX_BUFFER"]),
        ("max-client-connections", ["(count)", "[default: 1000]", "ZKETCD_MAX_CLIENT_CONNECTIONS"]),
        ("store", ["embedded", "[default: embedded]", "ZKETCD_STORE"]),
        ("etcd-endpoints", ["commas", "[default: http://127.0.0.1:2379]", "ZKETCD_ETCD_ENDPOINTS"]),
    ] {
        for part in parts {
            assert!(section(flag).contains(part), "--{flag} lacks {part}: {}", section(flag));
        }
    }
}

#[test]
fn secrets_in_the_environment_are_not_shown() {
    let mut command = zketcd(&["serve", "--help"]);
    command.env("ZKETCD_ETCD_PASSWORD", "hunter2").env("ZKETCD_SUPER_DIGEST", "super:hunter2");
    let (code, stdout, _) = run(&mut command);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("ZKETCD_ETCD_PASSWORD") && !stdout.contains("hunter2"));
}

#[test]
fn unknown_flags_and_values_are_named() {
    for (args, named) in [
        (vec!["serve", "--bananas"], "--bananas"),
        (vec!["serve", "--store", "consul"], "--store"),
        (vec!["serve", "--min-session-timeout", "4"], "--min-session-timeout"),
        (vec!["serve", "--listen", "2181"], "--listen"),
        (vec!["fly"], "fly"),
    ] {
        let (code, _, stderr) = run(&mut zketcd(&args));
        assert_eq!(code, Some(2), "{args:?}");
        assert!(stderr.lines().next().unwrap().contains(named), "{stderr}");
    }
}

#[test]
fn flags_that_contradict_each_other_are_one_line() {
    let error = fails(&mut zketcd(&["serve", "--min-session-timeout=2m"]));
    assert_eq!(error, "--min-session-timeout 2m is longer than --max-session-timeout 1m");
    let error = fails(zketcd(&["serve", "--store=etcd"]).env("ZKETCD_PREFIX", "flink"));
    assert_eq!(error, "--prefix \"flink\" does not begin with '/'");
    let error = fails(zketcd(&["serve", "--max-session-timeout=10s"]).env("ZKETCD_MIN_SESSION_TIMEOUT", "11s"));
    assert_eq!(error, "--min-session-timeout 11s is longer than --max-session-timeout 10s");
}

#[test]
fn a_flag_beats_its_variable() {
    let mut command = zketcd(&["serve", "--store=memory", "--min-session-timeout=3m"]);
    let error = fails(command.env("ZKETCD_MIN_SESSION_TIMEOUT", "2m").env("ZKETCD_LINEARIZABLE_READS", "yes"));
    assert!(error.starts_with("--min-session-timeout 3m "), "{error}");
    let (code, _, stderr) = run(zketcd(&["serve"]).env("ZKETCD_LINEARIZABLE_READS", "perhaps"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--linearizable-reads"), "{stderr}");
}

#[test]
fn a_taken_port_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let listen = format!("--listen={addr}");
    let error = fails(&mut zketcd(&["serve", "--store=memory", "--admin-listen=none", &listen]));
    assert!(error.starts_with(&format!("cannot listen on {addr} (--listen): ")), "{error}");
    let (listen, admin) = (format!("--listen={}", free_addr()), format!("--admin-listen={addr}"));
    let error = fails(&mut zketcd(&["serve", "--store=memory", &listen, &admin]));
    assert!(error.starts_with(&format!("cannot listen on {addr} (--admin-listen): ")), "{error}");
}

#[test]
fn an_etcd_that_is_away_is_one_line() {
    let endpoint = format!("http://{}", free_addr());
    let line = fails(&mut zketcd(&[
        "serve",
        "--store=etcd",
        "--listen=127.0.0.1:0",
        "--admin-listen=none",
        &format!("--etcd-endpoints={endpoint}"),
        "--log-level=off",
    ]));
    assert!(line.contains(&endpoint), "{line}");
}

#[test]
fn data_of_another_kind_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("somebody.else"), b"s").unwrap();
    let data = format!("--data-dir={}", dir.path().display());
    let line = fails(&mut zketcd(&["serve", "--listen=127.0.0.1:0", "--admin-listen=none", &data, "--log-level=off"]));
    assert!(line.contains(&dir.path().display().to_string()), "{line}");
}

#[test]
fn healthcheck_tells_by_its_exit_code() {
    let nobody = free_addr().to_string();
    let error = fails(&mut zketcd(&["healthcheck", "--admin", &nobody]));
    assert!(error.starts_with(&format!("http://{nobody}/healthz: ")), "{error}");
    let error = fails(&mut zketcd(&["healthcheck", "--admin=none"]));
    assert_eq!(error, "the server has no admin endpoint (--admin-listen none)");

    let unready = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", unready.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (stream, _) = unready.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        (&stream).write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\netcd is away\n").unwrap();
    });
    let patience = format!("{PATIENCE:?}");
    let error = fails(&mut zketcd(&["healthcheck", "--ready", "--timeout", &patience, "--admin", &url]));
    assert_eq!(error, format!("{url}/readyz: 503 etcd is away"));
    answering.join().unwrap();
}

#[test]
fn a_signal_ends_the_server_in_peace() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        assert!(TcpListener::bind(server.listen).is_err(), "nobody listens on {}", server.listen);
        server.signal(signal);
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
        let log = server.log();
        assert!(log.contains("draining") && log.contains("stopped"), "{log}");
    }
}
