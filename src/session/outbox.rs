//! A connection's outgoing queue: one, so that events and answers keep their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;

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

/// How long the last answers may take to go out after a close: to be written by the store that gave them, and to the socket.
pub const FLUSH: Duration = Duration::from_secs(5);

/// Bytes on their way to one client, in the order of the zxids shown. Shared by the engine, which fills it, and
/// the connection's task, which empties it into the socket.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    room: Notify,
    ended: CancellationToken,
    limit: usize,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    /// Of the last of them, what has to wait: for which revision, and how many bytes.
    held: VecDeque<(i64, usize)>,
    closed: Option<CloseReason>,
}

impl State {
    /// The last `bytes` wait for `revision`. Whether they are the first that do.
    fn hold(&mut self, revision: i64, bytes: usize) -> bool {
        if let Some((of, held)) = self.held.back_mut()
            && *of == revision
        {
            *held += bytes;
            return false;
        }
        self.held.push_back((revision, bytes));
        true
    }
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
    pub fn new(limit: usize, gate: Arc<Gate>) -> Self {
        Outbox {
            state: Mutex::default(),
            filled: Notify::new(),
            room: Notify::new(),
            ended: CancellationToken::new(),
            limit,
            gate,
        }
    }

    /// Lets `write` add a whole frame, and gives its length. Nothing is added after a close.
    pub fn push(self: &Arc<Self>, write: impl FnOnce(&mut BytesMut)) -> usize {
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
        let held = self.gate.held();
        let is_first = held.is_some_and(|revision| state.hold(revision, added));
        if state.bytes.len() > self.limit {
            state.bytes.clear();
            state.held.clear();
            state.closed = Some(CloseReason::UnreadAnswers);
            drop(state);
            self.ended.cancel();
            self.signal();
            return added;
        }
        drop(state);
        match held {
            None => self.signal(),
            Some(revision) if is_first => self.gate.wait(revision, self.clone()),
            // Its first bytes have it signalled.
            Some(_) => {}
        }
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
            match self.closed() {
                None => self.filled.notified().await,
                // On the heap: each of ten thousand connections has room for what is waited for here.
                Some(reason) => match Box::pin(timeout(FLUSH, self.filled.notified())).await {
                    Ok(()) => {}
                    Err(_) => return Outgo::End(reason),
                },
            }
        }
    }

    fn take(&self) -> Option<Outgo> {
        let mut state = self.state.lock();
        let State { bytes, held, closed } = &mut *state;
        if !held.is_empty() {
            let durable = self.gate.durable();
            let lasting = held.iter().take_while(|(revision, _)| *revision <= durable).count();
            held.drain(..lasting);
        }
        let free = bytes.len() - held.iter().map(|(_, bytes)| bytes).sum::<usize>();
        match (free, held.is_empty()) {
            (0, true) => closed.map(Outgo::End),
            // The client is gone: it waits for nothing.
            (0, false) => closed.filter(|reason| *reason == CloseReason::ClientGone).map(Outgo::End),
            (_, true) => Some(Outgo::Bytes(std::mem::take(bytes))),
            (_, false) => Some(Outgo::Bytes(bytes.split_to(free))),
        }
    }

    /// There may be something to write.
    pub(super) fn signal(&self) {
        self.filled.notify_one();
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
        let outbox = Arc::new(Outbox::new(10, Arc::default()));
        outbox.push(|out| out.extend_from_slice(b"abc"));
        outbox.close(CloseReason::SessionClosed);
        outbox.close(CloseReason::Shutdown);
        outbox.push(|out| out.extend_from_slice(b"late"));
        assert_eq!(outbox.next().await, Outgo::Bytes(BytesMut::from(&b"abc"[..])));
        assert_eq!(outbox.next().await, Outgo::End(CloseReason::SessionClosed));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off_and_its_answers_freed() {
        let outbox = Arc::new(Outbox::new(10, Arc::default()));
        outbox.push(|out| out.extend_from_slice(&[0; 11]));
        assert_eq!(outbox.waiting(), 0);
        assert_eq!(outbox.next().await, Outgo::End(CloseReason::UnreadAnswers));
    }

    /// A gate that has let pass what there was at revision 1, where the replica shows 2.
    fn ahead() -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        gate.show(2);
        gate.open(1, |_| {});
        gate
    }

    /// Whoever waits is woken, once: two frames of one revision, then one of the next.
    #[tokio::test]
    async fn what_is_held_goes_when_its_revision_lasts() {
        let gate = ahead();
        let outbox = Arc::new(Outbox::new(10, gate.clone()));
        let next = || {
            tokio::spawn({
                let outbox = outbox.clone();
                async move { outbox.next().await }
            })
        };
        let first = next();
        tokio::task::yield_now().await;
        outbox.push(|out| out.extend_from_slice(b"a"));
        outbox.push(|out| out.extend_from_slice(b"b"));
        gate.show(3);
        outbox.push(|out| out.extend_from_slice(b"c"));
        tokio::task::yield_now().await;
        assert!(!first.is_finished());
        let mut waited = 0;
        gate.open(2, |_| waited += 1);
        assert_eq!((first.await.unwrap(), waited), (Outgo::Bytes(BytesMut::from(&b"ab"[..])), 1));
        let second = next();
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        gate.open(3, |_| waited += 1);
        assert_eq!((second.await.unwrap(), waited), (Outgo::Bytes(BytesMut::from(&b"c"[..])), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answers_are_waited_for_and_not_for_ever() {
        for (reason, opens) in [(CloseReason::SessionClosed, true), (CloseReason::StoreAway, false)] {
            let gate = ahead();
            let outbox = Arc::new(Outbox::new(10, gate.clone()));
            outbox.push(|out| out.extend_from_slice(b"last"));
            outbox.close(reason);
            let held = tokio::spawn({
                let outbox = outbox.clone();
                async move { outbox.next().await }
            });
            tokio::task::yield_now().await;
            assert!(!held.is_finished());
            if opens {
                gate.open(2, |_| {});
                assert_eq!(held.await.unwrap(), Outgo::Bytes(BytesMut::from(&b"last"[..])));
                assert_eq!(outbox.next().await, Outgo::End(reason));
            } else {
                assert_eq!(held.await.unwrap(), Outgo::End(reason));
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_is_gone_waits_for_nothing() {
        let outbox = Arc::new(Outbox::new(10, ahead()));
        outbox.push(|out| out.extend_from_slice(b"late"));
        outbox.close(CloseReason::ClientGone);
        assert_eq!(outbox.next().await, Outgo::End(CloseReason::ClientGone));
    }

    #[tokio::test]
    async fn what_is_held_counts_as_waiting() {
        let outbox = Arc::new(Outbox::new(10, ahead()));
        outbox.push(|out| out.extend_from_slice(&[0; 11]));
        assert_eq!(outbox.next().await, Outgo::End(CloseReason::UnreadAnswers));
    }
}
