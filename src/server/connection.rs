//! One client's socket: a handshake, then frames in and the outbox out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::bootstrap::random_id;
use super::four_letter::{self, Word};
use super::leases::session_ttl;
use super::listener::Place;
use super::shared::Shared;
use crate::commit::verdict::Write;
use crate::config::Config;
use crate::jute::{ConnectRequest, FrameError, Request, next_frame};
use crate::session::{CloseReason, ConnectionId, FLUSH, Incoming, Outbox, Outgo};
use crate::store::StoreError;
use crate::tree::record::SessionRecord;

/// Bytes asked of the socket at a time, at first and after quiet times: some small requests.
const FEW_BYTES: usize = 2 * 1024;

/// The most: some hundred small requests. Between the two about as much as comes at a time.
const MANY_BYTES: usize = 64 * 1024;

/// How long a client that has seen more than this server waits for it to catch up. ZooKeeper turns it away at
/// once; a third of the shortest usual timeout leaves it time to try another server.
const CATCH_UP: Duration = Duration::from_secs(3);

/// The pause before a lease is asked for again, where the store did not answer.
const LEASE_RETRY: Duration = Duration::from_millis(200);

/// Serves one client until either side ends it. Its place is free before it sees the end, as ZooKeeper's are: where a
/// client's last connection was let in, its next one is.
pub async fn serve(shared: Arc<Shared>, config: Arc<Config>, socket: TcpStream, peer: SocketAddr, place: Place) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "no TCP_NODELAY");
    }
    let (reading, writing) = socket.into_split();
    let mut client = Client { shared, config, peer, reading, buffer: BytesMut::new(), chunk: FEW_BYTES };
    let first = match timeout(client.config.connections.handshake_timeout, client.first()).await {
        Ok(first) => first,
        Err(_) => Err(CloseReason::HandshakeTimeout),
    };
    match first {
        Ok(First::Word(word)) => client.answer_word(word, writing, place).await,
        Ok(First::Connect(request)) => client.session(request, writing, place).await,
        Err(reason) => {
            drop(place);
            client.refused(reason);
        }
    }
}

enum First {
    Word(Option<Word>),
    Connect(ConnectRequest),
}

struct Client {
    shared: Arc<Shared>,
    config: Arc<Config>,
    peer: SocketAddr,
    reading: OwnedReadHalf,
    buffer: BytesMut,
    /// Bytes to be asked of the socket.
    chunk: usize,
}

impl Client {
    /// A four-letter word, or the connect request.
    async fn first(&mut self) -> Result<First, CloseReason> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<4>() {
                if head.iter().all(u8::is_ascii_lowercase) {
                    return Ok(First::Word(four_letter::parse(*head)));
                }
                if let Some(frame) = self.frame()? {
                    return ConnectRequest::decode(&frame).map(First::Connect).map_err(|error| {
                        tracing::warn!(peer = %self.peer, %error, "bad connect request");
                        CloseReason::BadFrame
                    });
                }
            }
            self.fill().await?;
        }
    }

    /// Reads what has come, or waits for it: with no buffer where none is begun, as ten thousand sessions are silent most of
    /// the time.
    async fn fill(&mut self) -> Result<(), CloseReason> {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.reading.readable().await.map_err(|_| CloseReason::ClientGone)?;
        self.buffer.reserve(self.chunk);
        // Not `try_read_buf`, which gives way to nobody where the client never pauses.
        let count = match self.reading.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => return Err(CloseReason::ClientGone),
            Ok(count) => count,
        };
        self.chunk = match count {
            count if count >= self.chunk => (self.chunk * 2).min(MANY_BYTES),
            count if count < self.chunk / 4 => (self.chunk / 2).max(FEW_BYTES),
            _ => self.chunk,
        };
        self.shared.metrics.bytes_received.inc_by(count as u64);
        Ok(())
    }

    fn frame(&mut self) -> Result<Option<Bytes>, CloseReason> {
        next_frame(&mut self.buffer, self.config.jute_max_buffer).map_err(|error: FrameError| {
            tracing::warn!(peer = %self.peer, %error, "bad frame");
            if error.length > 0 {
                self.shared.metrics.large_requests_rejected.inc();
            }
            CloseReason::BadFrame
        })
    }

    fn refused(&self, reason: CloseReason) {
        if reason == CloseReason::HandshakeTimeout {
            self.shared.metrics.sessionless_connections_expired.inc();
        }
        tracing::info!(peer = %self.peer, reason = reason.name(), "connection closed before its session");
        self.shared.metrics.record_closed(reason);
    }

    async fn answer_word(self, word: Option<Word>, mut writing: OwnedWriteHalf, place: Place) {
        let answer = super::view::answer(&self.shared, &self.config, word, self.peer);
        let sent = timeout(FLUSH, async {
            writing.write_all(answer.as_bytes()).await?;
            drop(place);
            writing.shutdown().await
        });
        if !matches!(sent.await, Ok(Ok(()))) {
            tracing::debug!(peer = %self.peer, "a four-letter word's answer was not taken");
        }
    }

    /// The connection's life after its connect request.
    async fn session(mut self, request: ConnectRequest, writing: OwnedWriteHalf, place: Place) {
        let outbox = Arc::new(Outbox::new(self.config.connections.unsent_bytes, self.shared.gate.clone()));
        let read_only_byte = request.read_only.is_some();
        self.shared.metrics.connection_requests.inc();
        if request.session_id != 0 {
            self.shared.metrics.connections_revalidated.inc();
        }
        let id = self.shared.with(|engine| engine.connect(outbox.clone(), self.peer, read_only_byte));
        let shared = self.shared.clone();
        // On the heap: a future that another takes in by value takes its own size there twice, and there may be ten thousand.
        let writer = Box::pin(write(shared.clone(), outbox.clone(), writing, place));
        let reader = Box::pin(async {
            let ended = match Box::pin(self.attach(id, request)).await {
                Ok(()) => {
                    // Clients send auth, watches and requests right behind the connect request: the answer to that
                    // comes first.
                    outbox.room().await;
                    self.read(id, &outbox).await
                }
                Err(reason) => reason,
            };
            shared.with(|engine| engine.end(id, ended));
        });
        let reader = async {
            tokio::select! {
                () = reader => {}
                () = outbox.ended() => {}
            }
        };
        let ((), reason) = tokio::join!(reader, writer);
        shared.with(|engine| engine.disconnect(id));
        shared.metrics.record_closed(reason);
    }

    /// Asks for a new session or for the one that the client names. The answer comes through the outbox.
    async fn attach(&self, id: ConnectionId, request: ConnectRequest) -> Result<(), CloseReason> {
        self.catch_up(request.last_zxid_seen).await?;
        let within = self.config.etcd_timeout;
        let asked = timeout(within, async {
            if request.session_id == 0 { self.open(&request).await } else { self.reattach(&request).await }
        });
        let (write, renewed_at) = asked.await.unwrap_or(Err(CloseReason::StoreAway))?;
        self.shared.with(|engine| engine.handshake(id, write, renewed_at));
        Ok(())
    }

    /// Waits, for a bounded time, until this server has seen what the client has.
    async fn catch_up(&self, zxid: i64) -> Result<(), CloseReason> {
        let (due, known) = self.shared.take(|engine| {
            let replica = engine.replica();
            (replica.revision_of(zxid), replica.revision())
        });
        if zxid <= 0 || due <= known {
            return Ok(());
        }
        let (done, _) = oneshot::channel();
        self.shared.with(|engine| engine.sync(done));
        let mut applied = self.shared.applied();
        match timeout(CATCH_UP, applied.wait_for(|applied| *applied >= due)).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                tracing::warn!(peer = %self.peer, zxid = format_args!("{zxid:#x}"), "the client has seen more than this server");
                Err(CloseReason::AheadOfServer)
            }
        }
    }

    async fn open(&self, request: &ConnectRequest) -> Result<(Write, u64), CloseReason> {
        let asked = Duration::from_millis(u64::try_from(request.timeout).unwrap_or(0));
        let granted = asked.clamp(self.config.min_session_timeout, self.config.max_session_timeout);
        let mut password = [0; 16];
        getrandom::fill(&mut password).map_err(|_| CloseReason::StoreAway)?;
        let timeout = i32::try_from(granted.as_millis()).unwrap_or(i32::MAX);
        let record = SessionRecord { timeout, password, attached: 0 };
        loop {
            let id = random_id().map_err(|_| CloseReason::StoreAway)?;
            let asked = self.shared.now().mono;
            match self.shared.store.lease_grant(id, session_ttl(granted)).await {
                Ok(()) => return Ok((Write::Open { id, record }, asked)),
                Err(StoreError::LeaseExists { .. }) => {}
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(LEASE_RETRY).await,
                Err(error) => {
                    tracing::error!(%error, "no lease for a new session");
                    return Err(CloseReason::StoreAway);
                }
            }
        }
    }

    /// The lease is renewed first: from then on the session is known to last. Where it is gone, so is the session,
    /// and the transaction says so.
    async fn reattach(&self, request: &ConnectRequest) -> Result<(Write, u64), CloseReason> {
        let id = request.session_id;
        let write = Write::Attach { id, password: request.password.to_vec() };
        loop {
            let asked = self.shared.now().mono;
            match self.shared.store.lease_keep_alive(id).await {
                Ok(()) => return Ok((write, asked)),
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(LEASE_RETRY).await,
                Err(_) => return Ok((write, 0)),
            }
        }
    }

    /// Reads frames until the socket ends, or sends what cannot be read.
    async fn read(&mut self, id: ConnectionId, outbox: &Outbox) -> CloseReason {
        loop {
            let mut incoming = Vec::new();
            let mut bad = None;
            loop {
                match self.frame() {
                    Ok(Some(frame)) => match decode(frame, self.peer) {
                        Ok(request) => incoming.push(request),
                        Err(reason) => bad = Some(reason),
                    },
                    Ok(None) => break,
                    Err(reason) => bad = Some(reason),
                }
                if bad.is_some() {
                    break;
                }
            }
            if !incoming.is_empty() && !self.shared.with(|engine| engine.receive(id, incoming)) {
                outbox.room().await;
            }
            if let Some(reason) = bad {
                return reason;
            }
            if let Err(reason) = self.fill().await {
                return reason;
            }
        }
    }
}

fn decode(frame: Bytes, peer: SocketAddr) -> Result<Incoming, CloseReason> {
    match Request::decode(frame) {
        Ok((header, request)) => Ok(Incoming::Request(header, request)),
        Err(error) => {
            tracing::warn!(%peer, %error, "bad request");
            match error.answer() {
                Some((header, code)) => Ok(Incoming::Malformed(header, code)),
                None => Err(CloseReason::BadFrame),
            }
        }
    }
}

/// Empties the outbox into the socket, and after its end closes the socket.
async fn write(shared: Arc<Shared>, outbox: Arc<Outbox>, mut writing: OwnedWriteHalf, place: Place) -> CloseReason {
    loop {
        match outbox.next().await {
            Outgo::Bytes(bytes) => {
                let ended = async {
                    outbox.ended().await;
                    tokio::time::sleep(FLUSH).await;
                };
                let sent = tokio::select! {
                    sent = writing.write_all(&bytes) => sent.is_ok(),
                    () = ended => false,
                };
                if !sent {
                    outbox.close(CloseReason::ClientGone);
                    return outbox.closed().unwrap_or(CloseReason::ClientGone);
                }
                shared.metrics.response_bytes.inc_by(bytes.len() as u64);
            }
            Outgo::End(reason) => {
                drop(place);
                // The client may be gone already.
                let _ = timeout(FLUSH, writing.shutdown()).await;
                return reason;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, E, F: Future>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// What each of ten thousand idle connections holds, its reader and writer apart.
    #[test]
    fn a_connections_future_is_small() {
        assert!(size(serve) <= 1024, "{}", size(serve));
    }
}
