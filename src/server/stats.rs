//! What a server counts as it runs, and the plain structs in which it shows itself to `four_letter` and `admin`.
//!
//! The counters are plain fields: they live beside what they count, under the lock that already guards it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::jute::op;

/// Least, mean and greatest latency since the last reset, as ZooKeeper's `AvgMinMaxCounter` shows them: whole
/// milliseconds, the mean with four decimals. Kept in microseconds, so that the mean of quick answers is not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    count: u64,
    total_us: u64,
    min_us: u64,
    max_us: u64,
}

impl Latency {
    /// One more answer took this long.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.min_us = if self.count == 0 { us } else { self.min_us.min(us) };
        self.max_us = self.max_us.max(us);
        self.total_us = self.total_us.saturating_add(us);
        self.count += 1;
    }

    /// Milliseconds, rounded down; 0 before the first answer.
    pub fn min_ms(&self) -> u64 {
        self.min_us / 1000
    }

    /// Milliseconds, rounded down.
    pub fn max_ms(&self) -> u64 {
        self.max_us / 1000
    }

    /// Milliseconds with at most four decimals.
    pub fn avg_ms(&self) -> f64 {
        let us = self.total_us as f64 / self.count.max(1) as f64;
        (us * 10.0).round() / 10_000.0
    }

    pub fn reset(&mut self) {
        *self = Latency::default();
    }
}

/// Sizes of the answers sent, in bytes; -1 before the first, as ZooKeeper's `BufferStats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseSizes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

impl Default for ResponseSizes {
    fn default() -> Self {
        ResponseSizes { last: -1, min: -1, max: -1 }
    }
}

impl ResponseSizes {
    /// One more answer of so many bytes.
    pub fn record(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.last = bytes;
        self.min = if self.min < 0 { bytes } else { self.min.min(bytes) };
        self.max = self.max.max(bytes);
    }
}

/// A server's own counters; `srst` resets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerStats {
    pub latency: Latency,
    /// Requests taken, pings and connect requests too, and four-letter words.
    pub received: u64,
    /// Answers and notifications sent.
    pub sent: u64,
    pub responses: ResponseSizes,
}

impl ServerStats {
    /// A request came in.
    pub fn record_received(&mut self) {
        self.received += 1;
    }

    /// An answer of so many bytes went out, so long after its request came in.
    pub fn record_answer(&mut self, latency: Duration, bytes: usize) {
        self.sent += 1;
        self.latency.record(latency);
        self.responses.record(bytes);
    }

    /// The answer to a connect request went out; ZooKeeper leaves its size out of account.
    pub fn record_connected(&mut self, latency: Duration) {
        self.sent += 1;
        self.latency.record(latency);
    }

    /// A watch notification went out, or a four-letter word's answer.
    pub fn record_notification(&mut self) {
        self.sent += 1;
    }

    /// What `srst` does.
    pub fn reset(&mut self) {
        *self = ServerStats::default();
    }
}

/// One connection's counters; `crst` resets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionStats {
    pub received: u64,
    pub sent: u64,
    /// [`op_code`] of the last request answered; `NA` before.
    pub last_op: &'static str,
    /// xid of the last real request (pings and the like have negative ones, which do not count); -1 before.
    pub last_cxid: i64,
    /// zxid in the last answer; -1 before.
    pub last_zxid: i64,
    /// Milliseconds on the server's clock when the last answer was given; 0 before.
    pub last_response_ms: u64,
    /// Milliseconds.
    pub last_latency_ms: u64,
    pub latency: Latency,
}

impl Default for ConnectionStats {
    fn default() -> Self {
        ConnectionStats {
            received: 0,
            sent: 0,
            last_op: "NA",
            last_cxid: -1,
            last_zxid: -1,
            last_response_ms: 0,
            last_latency_ms: 0,
            latency: Latency::default(),
        }
    }
}

impl ConnectionStats {
    pub fn record_received(&mut self) {
        self.received += 1;
    }

    /// An answer to request `xid` of type `op` went out with `zxid`, `latency` after the request came in, at `now_ms`
    /// on the server's own monotonic clock.
    pub fn record_answer(&mut self, xid: i32, op: i32, zxid: i64, latency: Duration, now_ms: u64) {
        self.sent += 1;
        if xid >= 0 {
            self.last_cxid = i64::from(xid);
        }
        self.last_zxid = zxid;
        self.last_op = op_code(op);
        self.last_response_ms = now_ms;
        self.last_latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.latency.record(latency);
    }

    pub fn record_notification(&mut self) {
        self.sent += 1;
    }

    /// What `crst` does.
    pub fn reset(&mut self) {
        *self = ConnectionStats::default();
    }
}

/// The code that `cons` shows as `lop`, as ZooKeeper's `FinalRequestProcessor` names them.
pub fn op_code(op: i32) -> &'static str {
    match op {
        op::PING => "PING",
        op::MULTI => "MULT",
        op::MULTI_READ => "MLTR",
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => "CREA",
        op::DELETE | op::DELETE_CONTAINER => "DELE",
        op::SET_DATA => "SETD",
        op::RECONFIG => "RECO",
        op::SET_ACL => "SETA",
        op::CLOSE_SESSION => "CLOS",
        op::SYNC => "SYNC",
        op::CHECK => "CHEC",
        op::EXISTS => "EXIS",
        op::GET_DATA => "GETD",
        op::SET_WATCHES => "SETW",
        op::SET_WATCHES2 => "STW2",
        op::ADD_WATCH => "ADDW",
        op::GET_ACL => "GETA",
        op::GET_CHILDREN | op::GET_CHILDREN2 => "GETC",
        op::GET_ALL_CHILDREN_NUMBER => "GETACN",
        op::CHECK_WATCHES => "CHKW",
        op::REMOVE_WATCHES => "REMW",
        op::WHO_AM_I => "HOMI",
        op::GET_EPHEMERALS => "GETE",
        op::CREATE_SESSION => "SESS",
        _ => "NA",
    }
}

/// Every opcode with its name, as `Request.op2String` gives it.
pub const OP_NAMES: [(i32, &str); 31] = [
    (op::CREATE, "create"),
    (op::DELETE, "delete"),
    (op::EXISTS, "exists"),
    (op::GET_DATA, "getData"),
    (op::SET_DATA, "setData"),
    (op::GET_ACL, "getACL"),
    (op::SET_ACL, "setACL"),
    (op::GET_CHILDREN, "getChildren"),
    (op::SYNC, "sync"),
    (op::PING, "ping"),
    (op::GET_CHILDREN2, "getChildren2"),
    (op::CHECK, "check"),
    (op::MULTI, "multi"),
    (op::CREATE2, "create2"),
    (op::RECONFIG, "reconfig"),
    (op::CHECK_WATCHES, "checkWatches"),
    (op::REMOVE_WATCHES, "removeWatches"),
    (op::CREATE_CONTAINER, "createContainer"),
    (op::DELETE_CONTAINER, "deleteContainer"),
    (op::CREATE_TTL, "createTTL"),
    (op::MULTI_READ, "multiRead"),
    (op::AUTH, "auth"),
    (op::SET_WATCHES, "setWatches"),
    (op::SASL, "sasl"),
    (op::GET_EPHEMERALS, "getEphemerals"),
    (op::GET_ALL_CHILDREN_NUMBER, "getAllChildrenNumber"),
    (op::SET_WATCHES2, "setWatches2"),
    (op::ADD_WATCH, "addWatch"),
    (op::WHO_AM_I, "whoAmI"),
    (op::CLOSE_SESSION, "closeSession"),
    (op::CREATE_SESSION, "createSession"),
];

/// The server's numbers of this moment: what `srvr`, `mntr` and `/metrics` show.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gauges {
    pub stats: ServerStats,
    /// Connections open now.
    pub connections: u64,
    /// Requests taken and not yet answered.
    pub outstanding: u64,
    pub uptime: Duration,
    /// Znodes, those under `/zookeeper` too.
    pub znodes: u64,
    /// Watches of all kinds.
    pub watches: u64,
    pub ephemerals: u64,
    /// Bytes of paths and data, as ZooKeeper's `approximateDataSize`.
    pub data_bytes: u64,
    /// Live sessions of the whole prefix, whichever server holds their connection.
    pub sessions: u64,
    /// The zxid of the last change applied.
    pub last_zxid: i64,
    /// Revisions that the store is known to have and the replica has not applied.
    pub replica_lag_revisions: u64,
    /// How long ago the replica was last known to have all the store had; zero while it keeps up.
    pub replica_lag: Duration,
}

/// What a four-letter word may show. The first fields are cheap; a list is filled only where
/// [`Word::reads`](super::four_letter::Word::reads) names it.
#[derive(Debug, Clone, Default)]
pub struct ServerView {
    /// Whether the replica is loaded and the store answers; otherwise most words say that nothing is served.
    pub serving: bool,
    pub gauges: Gauges,
    pub conf: ConfView,
    pub connections: Vec<ConnectionView>,
    pub watches: WatchSummary,
    /// Session id and the paths it watches.
    pub watches_by_session: Vec<(i64, Vec<String>)>,
    /// Path and the ids of the sessions that watch it.
    pub watches_by_path: Vec<(String, Vec<i64>)>,
    pub dump: DumpView,
    /// [`Metrics::monitor`](crate::metrics::Metrics::monitor).
    pub monitor: Vec<(String, MonitorValue)>,
}

/// The settings that `conf` shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfView {
    pub client_port: u16,
    /// A directory, or where else the data is.
    pub data_dir: String,
    /// Bytes; `dirs` shows it too.
    pub data_dir_size: u64,
    pub tick_time: Duration,
    /// From one address; 0: no limit.
    pub max_client_connections: usize,
    pub min_session_timeout: Duration,
    pub max_session_timeout: Duration,
}

/// One connection, as `stat` and `cons` show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionView {
    pub peer: SocketAddr,
    /// Java's interest set, in hexadecimal: 1 reading, 4 writing; 0 for the connection that asked.
    pub interest: u8,
    /// Requests without an answer.
    pub queued: u64,
    pub stats: ConnectionStats,
    /// `None` before the handshake, and for the connection that asked.
    pub session: Option<SessionView>,
}

/// The session of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    pub id: i64,
    /// Milliseconds since 1970 when the connection was made.
    pub established_ms: i64,
    /// Milliseconds, as negotiated.
    pub timeout_ms: i32,
}

/// What `wchs` counts. As in ZooKeeper: data, exists and persistent watches, not the one-shot ones on children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchSummary {
    /// Connections that watch anything.
    pub connections: u64,
    /// Different paths watched.
    pub paths: u64,
    /// Pairs of connection and path.
    pub watches: u64,
}

/// What `dump` lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DumpView {
    /// Every live session: its id and, where this server counts its timeout, when it would end (milliseconds since
    /// 1970).
    pub sessions: Vec<(i64, Option<i64>)>,
    /// Owners and the paths of their ephemerals.
    pub ephemerals: Vec<(i64, Vec<String>)>,
    /// Peer, session id (0: none yet) and when the connection would be closed for silence (milliseconds since 1970).
    pub connections: Vec<(SocketAddr, i64, i64)>,
}

/// A value that `mntr` shows.
#[derive(Debug, Clone, PartialEq)]
pub enum MonitorValue {
    Int(i64),
    /// Shown with at least one decimal.
    Float(f64),
}

impl MonitorValue {
    /// Saturating: `mntr` shows signed 64-bit numbers.
    pub fn from_u64(value: u64) -> Self {
        MonitorValue::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn latency_is_min_mean_and_max() {
        let mut latency = Latency::default();
        assert_eq!((latency.min_ms(), latency.avg_ms(), latency.max_ms()), (0, 0.0, 0));
        for value in [ms(4), ms(10), ms(2)] {
            latency.record(value);
        }
        assert_eq!((latency.min_ms(), latency.avg_ms(), latency.max_ms()), (2, 5.3333, 10));
        latency.reset();
        latency.record(Duration::from_micros(350));
        assert_eq!((latency.min_ms(), latency.avg_ms(), latency.max_ms()), (0, 0.35, 0));
    }

    #[test]
    fn response_sizes_begin_at_minus_one() {
        let mut sizes = ResponseSizes::default();
        assert_eq!((sizes.last, sizes.min, sizes.max), (-1, -1, -1));
        for bytes in [89, 16, 20] {
            sizes.record(bytes);
        }
        assert_eq!((sizes.last, sizes.min, sizes.max), (20, 16, 89));
    }

    #[test]
    fn server_stats_count_and_reset() {
        let mut stats = ServerStats::default();
        stats.record_received();
        stats.record_received();
        stats.record_answer(ms(3), 20);
        stats.record_notification();
        assert_eq!((stats.received, stats.sent, stats.latency.max_ms(), stats.responses.last), (2, 2, 3, 20));
        stats.reset();
        assert_eq!(stats, ServerStats::default());
    }

    #[test]
    fn a_ping_does_not_hide_the_last_real_request() {
        let mut stats = ConnectionStats::default();
        stats.record_received();
        stats.record_answer(7, op::GET_DATA, 0x1000, ms(2), 500);
        stats.record_received();
        stats.record_answer(-2, op::PING, 0x2000, ms(0), 600);
        assert_eq!((stats.received, stats.sent), (2, 2));
        assert_eq!((stats.last_cxid, stats.last_op, stats.last_zxid), (7, "PING", 0x2000));
        assert_eq!((stats.last_response_ms, stats.last_latency_ms, stats.latency.max_ms()), (600, 0, 2));
        stats.reset();
        assert_eq!(stats, ConnectionStats::default());
        assert_eq!((stats.last_op, stats.last_cxid, stats.last_zxid), ("NA", -1, -1));
    }

    #[test]
    fn every_opcode_has_a_code_for_cons() {
        // auth and sasl are answered before ZooKeeper's last processor, and leave no trace in `cons`.
        for (op, name) in OP_NAMES {
            assert_eq!(op_code(op) == "NA", matches!(op, op::AUTH | op::SASL), "{name}");
        }
        assert_eq!(op_code(77), "NA");
    }
}
