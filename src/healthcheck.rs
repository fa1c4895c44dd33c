//! `zketcd healthcheck`: asks a running server's admin endpoint, for containers that have no curl.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::config::HealthcheckArgs;

/// A verdict is a status line, a few headers and a line of text; nobody's answer is read further.
const MAX_ANSWER: usize = 4096;

/// Why the server does not count as well.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    #[error("the server has no admin endpoint (--admin-listen none)")]
    NoEndpoint,
    #[error("{url}: {source}")]
    Unreachable { url: String, source: io::Error },
    #[error("{url}: {answer}")]
    Unwell { url: String, answer: String },
}

/// Asks `/healthz`, or `/readyz` where the arguments say so.
///
/// # Errors
/// Nobody answered in time, or the answer was not 200.
pub fn run(args: &HealthcheckArgs) -> Result<(), Unhealthy> {
    let addr = reachable(args.admin.0.ok_or(Unhealthy::NoEndpoint)?);
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let url = format!("http://{addr}{path}");
    let answer = match fetch(addr, path, args.timeout) {
        Ok(answer) => answer,
        Err(source) => return Err(Unhealthy::Unreachable { url, source }),
    };
    let (status, reason) = parse(&answer);
    if status == Some(200) {
        return Ok(());
    }
    let answer = match status {
        Some(status) => format!("{status} {reason}"),
        None => "not an HTTP answer".to_owned(),
    };
    Err(Unhealthy::Unwell { url, answer })
}

/// A server that listens on all addresses is asked on the loopback one.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn fetch(addr: SocketAddr, path: &str, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&addr, timeout)?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while answer.len() < MAX_ANSWER {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(e) => return Err(e),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status and the body's first line.
fn parse(answer: &str) -> (Option<u16>, &str) {
    let status = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.lines().next().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::AdminAddr;

    /// A server that gives one answer, and hands back what it was asked.
    fn server(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (addr, asked)
    }

    fn check(addr: SocketAddr, ready: bool) -> Result<(), String> {
        let args = HealthcheckArgs { admin: AdminAddr(Some(addr)), ready, timeout: Duration::from_secs(10) };
        run(&args).map_err(|e| e.to_string())
    }

    #[test]
    fn two_hundred_is_well() {
        let (addr, asked) = server("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok\n");
        assert_eq!(check(addr, false), Ok(()));
        assert!(asked.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\n"));
        let (addr, asked) = server("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(check(addr, true), Ok(()));
        assert!(asked.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
    }

    #[test]
    fn anything_else_is_not() {
        for (answer, shown) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\netcd is away\n", "503 etcd is away"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "404 "),
            ("SSH-2.0-OpenSSH_9\r\n", "not an HTTP answer"),
            ("", "not an HTTP answer"),
        ] {
            let (addr, asked) = server(answer);
            assert_eq!(check(addr, true), Err(format!("http://{addr}/readyz: {shown}")));
            asked.join().unwrap();
        }
    }

    #[test]
    fn nobody_there_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let error = check(addr, false).unwrap_err();
        assert!(error.starts_with(&format!("http://{addr}/healthz: ")) && error.contains("refused"), "{error}");
        let none = HealthcheckArgs { admin: AdminAddr(None), ready: false, timeout: Duration::from_secs(1) };
        assert!(matches!(run(&none), Err(Unhealthy::NoEndpoint)));
    }

    #[test]
    fn a_server_that_says_nothing_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = AdminAddr(Some(listener.local_addr().unwrap()));
        let error = run(&HealthcheckArgs { admin, ready: false, timeout: Duration::from_millis(50) }).unwrap_err();
        assert!(error.to_string().ends_with("timed out"), "{error}");
    }

    #[test]
    fn all_addresses_are_asked_on_the_loopback_one() {
        for (listen, ask) in
            [("0.0.0.0:9141", "127.0.0.1:9141"), ("[::]:9141", "[::1]:9141"), ("10.1.2.3:1", "10.1.2.3:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), ask.parse().unwrap());
        }
    }
}
