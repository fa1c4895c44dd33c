//! A connection's outgoing queue: one, so that events and answers keep their order.

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Why a connection is closed, for the log and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client ended its session.
    SessionClosed,
    SessionExpired,
    /// The session is attached elsewhere now.
    SessionMoved,
    /// The client went away, or its socket failed.
    ClientGone,
    /// It said nothing for its session's timeout.
    Silent,
    /// Its lease is not known to last.
    LeaseUncertain,
    /// A write waited longer than the store may take to answer.
    StoreAway,
    /// It does not read what it asked for.
    UnreadAnswers,
    BadFrame,
    UnknownRequest,
    AuthFailed,
    /// The client has seen changes that this server has not.
    AheadOfServer,
    TooManyConnections,
    /// A write's outcome cannot be told any more.
    OutcomeUnknown,
    /// This server starts anew, or ends.
    ServerReset,
    Shutdown,
    HandshakeTimeout,
}

impl CloseReason {
    /// Every one, in the order of their numbers.
    pub const ALL: [CloseReason; 17] = [
        CloseReason::SessionClosed,
        CloseReason::SessionExpired,
        CloseReason::SessionMoved,
        CloseReason::ClientGone,
        CloseReason::Silent,
        CloseReason::LeaseUncertain,
        CloseReason::StoreAway,
        CloseReason::UnreadAnswers,
        CloseReason::BadFrame,
        CloseReason::UnknownRequest,
        CloseReason::AuthFailed,
        CloseReason::AheadOfServer,
        CloseReason::TooManyConnections,
        CloseReason::OutcomeUnknown,
        CloseReason::ServerReset,
        CloseReason::Shutdown,
        CloseReason::HandshakeTimeout,
    ];

    /// A short name, for the metrics' label.
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::SessionClosed => "session_closed",
            CloseReason::SessionExpired => "session_expired",
            CloseReason::SessionMoved => "session_moved",
            CloseReason::ClientGone => "client_gone",
            CloseReason::Silent => "silent",
            CloseReason::LeaseUncertain => "lease_uncertain",
            CloseReason::StoreAway => "store_away",
            CloseReason::UnreadAnswers => "unread_answers",
            CloseReason::BadFrame => "bad_frame",
            CloseReason::UnknownRequest => "unknown_request",
            CloseReason::AuthFailed => "auth_failed",
            CloseReason::AheadOfServer => "ahead_of_server",
            CloseReason::TooManyConnections => "too_many_connections",
            CloseReason::OutcomeUnknown => "outcome_unknown",
            CloseReason::ServerReset => "server_reset",
            CloseReason::Shutdown => "shutdown",
            CloseReason::HandshakeTimeout => "handshake_timeout",
        }
    }
}

/// Room for the first answer: most are shorter, and do not grow the buffer step by step.
const FIRST_BYTES: usize = 256;

/// Bytes on their way to one client, in the order of the zxids shown. Shared by the engine, which fills it, and
/// the connection's task, which empties it into the socket.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    room: Notify,
    ended: CancellationToken,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    closed: Option<CloseReason>,
}

/// What the writing task finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Outgo {
    Bytes(BytesMut),
    /// Nothing is left, nothing will come.
    End(CloseReason),
}

impl Outbox {
    /// `limit`: bytes that may wait; a client that lets more come together does not read its answers.
    pub fn new(limit: usize) -> Self {
        Outbox {
            state: Mutex::default(),
            filled: Notify::new(),
            room: Notify::new(),
            ended: CancellationToken::new(),
            limit,
        }
    }

    /// Lets `write` add a whole frame, and gives its length. Nothing is added after a close.
    pub fn push(&self, write: impl FnOnce(&mut BytesMut)) -> usize {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return 0;
        }
        let before = state.bytes.len();
        if state.bytes.capacity() == 0 {
            state.bytes.reserve(FIRST_BYTES);
        }
        write(&mut state.bytes);
        let added = state.bytes.len() - before;
        if state.bytes.len() > self.limit {
            state.bytes.clear();
            state.closed = Some(CloseReason::UnreadAnswers);
            self.ended.cancel();
        }
        drop(state);
        self.filled.notify_one();
        added
    }

    /// What waits goes out, then the connection ends. The first reason stays.
    pub fn close(&self, reason: CloseReason) {
        self.state.lock().closed.get_or_insert(reason);
        self.filled.notify_one();
        self.room.notify_one();
        self.ended.cancel();
    }

    /// Waits for the close, whatever is still to go out.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub fn closed(&self) -> Option<CloseReason> {
        self.state.lock().closed
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().bytes.len()
    }

    /// Waits for something to write. For one task at a time.
    pub async fn next(&self) -> Outgo {
        loop {
            if let Some(outgo) = self.take() {
                return outgo;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Option<Outgo> {
        let mut state = self.state.lock();
        if !state.bytes.is_empty() {
            return Some(Outgo::Bytes(std::mem::take(&mut state.bytes)));
        }
        state.closed.map(Outgo::End)
    }

    /// The engine says that the connection's queue has room: its session is attached, or waiting requests were answered.
    pub fn signal_room(&self) {
        self.room.notify_one();
    }

    /// Waits for [`Outbox::signal_room`], or the close. For one task at a time.
    pub async fn room(&self) {
        self.room.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_goes_out_before_the_end() {
        let outbox = Outbox::new(10);
        outbox.push(|out| out.extend_from_slice(b"abc"));
        outbox.close(CloseReason::SessionClosed);
        outbox.close(CloseReason::Shutdown);
        outbox.push(|out| out.extend_from_slice(b"late"));
        assert_eq!(outbox.next().await, Outgo::Bytes(BytesMut::from(&b"abc"[..])));
        assert_eq!(outbox.next().await, Outgo::End(CloseReason::SessionClosed));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off_and_its_answers_freed() {
        let outbox = Outbox::new(10);
        outbox.push(|out| out.extend_from_slice(&[0; 11]));
        assert_eq!(outbox.waiting(), 0);
        assert_eq!(outbox.next().await, Outgo::End(CloseReason::UnreadAnswers));
    }
}
