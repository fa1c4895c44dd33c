//! `/metrics`, `/healthz` and `/readyz` over HTTP, on `--admin-listen`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::stats::Gauges;
use crate::metrics::Metrics;

/// Probes and scrapers are few; more connections than this wait in the system's queue.
const MAX_CONNECTIONS: usize = 64;

/// No probe or scrape takes this long; who does holds a connection that others wait for.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(30);

/// How long the store may take to commit for the server to count as ready. Kubernetes asks again every ten seconds.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// The media type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the endpoints ask the server.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// Whether the server works at all; an error is a reason to restart it.
    fn alive(&self) -> Result<(), String>;

    /// Commits to the store; an error is a reason to send clients elsewhere for now.
    async fn ready(&self) -> Result<(), String>;

    /// The numbers of this moment.
    fn gauges(&self) -> Gauges;
}

/// What the admin endpoint needs of the server.
#[derive(Clone)]
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub probe: Arc<dyn Probe>,
    /// Once cancelled, `/readyz` says no: the server takes no new clients.
    pub draining: CancellationToken,
}

/// The admin address is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} (--admin-listen): {source}")]
pub struct BindError {
    addr: SocketAddr,
    source: io::Error,
}

/// Takes the address, at start, so that a port in use is found before anything else is begun.
///
/// # Errors
/// The address is in use, or not this machine's.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(addr).await.map_err(|source| BindError { addr, source })
}

/// Answers until `stop`, then finishes the requests begun.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> io::Result<()> {
    let listener = Listener { listener, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) };
    axum::serve(listener, router(admin)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .layer(map_response(close))
        .with_state(admin)
}

/// Probes and scrapes come too seldom to be worth an idle connection each.
async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = admin.metrics.render(&admin.probe.gauges());
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

async fn healthz(State(admin): State<Admin>) -> Response {
    verdict(admin.probe.alive())
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.draining.is_cancelled() {
        return verdict(Err("shutting down".to_owned()));
    }
    let ready = tokio::time::timeout(READY_TIMEOUT, admin.probe.ready()).await;
    verdict(ready.unwrap_or_else(|_| Err(format!("the store did not commit within {} s", READY_TIMEOUT.as_secs()))))
}

fn verdict(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// A listener of at most [`MAX_CONNECTIONS`] at once, none older than [`CONNECTION_LIFETIME`].
struct Listener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Listener {
    type Io = Bounded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Bounded, SocketAddr) {
        // The semaphore is never closed; without a permit nothing is accepted.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, addr) = axum::serve::Listener::accept(&mut self.listener).await;
        let deadline = Box::pin(tokio::time::sleep(CONNECTION_LIFETIME));
        (Bounded { stream, deadline, _permit: permit }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once its time is over.
struct Bounded {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that is as well as it is told to be.
    #[derive(Default)]
    struct Fake {
        dead: Mutex<Option<String>>,
        unready: Mutex<Option<String>>,
        stuck: bool,
    }

    #[async_trait]
    impl Probe for Fake {
        fn alive(&self) -> Result<(), String> {
            self.dead.lock().clone().map_or(Ok(()), Err)
        }

        async fn ready(&self) -> Result<(), String> {
            if self.stuck {
                pending::<()>().await;
            }
            self.unready.lock().clone().map_or(Ok(()), Err)
        }

        fn gauges(&self) -> Gauges {
            Gauges { znodes: 42, ..Gauges::default() }
        }
    }

    struct Running {
        addr: SocketAddr,
        fake: Arc<Fake>,
        draining: CancellationToken,
        stop: CancellationToken,
        served: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn start(fake: Fake) -> Running {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let fake = Arc::new(fake);
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let admin = Admin {
            metrics: Arc::new(Metrics::new()),
            probe: Arc::clone(&fake) as Arc<dyn Probe>,
            draining: draining.clone(),
        };
        let served = tokio::spawn(serve(listener, admin, stop.clone()));
        Running { addr, fake, draining, stop, served }
    }

    /// The whole answer: the connection is closed after it, without the client asking for that.
    async fn fetch(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        answer
    }

    #[tokio::test]
    async fn healthz_follows_the_server() {
        let running = start(Fake::default()).await;
        let answer = fetch(running.addr, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        *running.fake.dead.lock() = Some("the replica has stopped".into());
        let answer = fetch(running.addr, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("the replica has stopped\n"), "{answer}");
    }

    #[tokio::test]
    async fn readyz_follows_the_store() {
        let running = start(Fake::default()).await;
        assert!(fetch(running.addr, "/readyz").await.starts_with("HTTP/1.1 200 "));
        *running.fake.unready.lock() = Some("etcd is away".into());
        let answer = fetch(running.addr, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("etcd is away\n"), "{answer}");
        // A store that is away is no reason to restart this server.
        assert!(fetch(running.addr, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn readyz_says_no_while_draining() {
        let running = start(Fake::default()).await;
        running.draining.cancel();
        let answer = fetch(running.addr, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("shutting down\n"), "{answer}");
        assert!(fetch(running.addr, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn readyz_does_not_wait_for_ever() {
        let admin = Admin {
            metrics: Arc::new(Metrics::new()),
            probe: Arc::new(Fake { stuck: true, ..Fake::default() }),
            draining: CancellationToken::new(),
        };
        tokio::time::pause();
        assert_eq!(readyz(State(admin)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let running = start(Fake::default()).await;
        let answer = fetch(running.addr, "/metrics").await;
        let head = answer.to_lowercase();
        assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\nznode_count 42\n"), "{answer}");
        assert!(fetch(running.addr, "/nothing").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn a_taken_port_is_a_clear_error() {
        let running = start(Fake::default()).await;
        let error = bind(running.addr).await.unwrap_err().to_string();
        let expected = format!("cannot listen on {} (--admin-listen): ", running.addr);
        assert!(error.starts_with(&expected) && error.contains("in use"), "{error}");
    }

    #[tokio::test]
    async fn it_stops_when_told() {
        let running = start(Fake::default()).await;
        assert!(fetch(running.addr, "/healthz").await.starts_with("HTTP/1.1 200 "));
        running.stop.cancel();
        running.served.await.unwrap().unwrap();
        assert!(TcpStream::connect(running.addr).await.is_err());
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_live_for_ever() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut listener = Listener { listener, permits: Arc::new(Semaphore::new(1)) };
        let (mut silent, _) = axum::serve::Listener::accept(&mut listener).await;
        assert_eq!(listener.permits.available_permits(), 0);
        tokio::time::pause();
        let error = silent.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(silent);
        assert_eq!(listener.permits.available_permits(), 1);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
