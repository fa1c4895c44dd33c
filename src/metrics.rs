//! What Prometheus is told, in a registry of this server's own.
//!
//! Two families of names. Those with `zketcd_` are this program's. Those without are ZooKeeper's, as its
//! `PrometheusMetricsProvider` serves them and its dashboards and alerts ask for them; each is served where this
//! program has the number, with ZooKeeper's unit (latencies and uptime in milliseconds). `mntr` shows the same.

mod summary;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::{Gauge as GaugeValue, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

pub use summary::Summary;

use crate::server::environment::{self, Memory};
use crate::server::stats::{Gauges, MonitorValue, OP_NAMES};
use crate::session::CloseReason;

/// Opcodes lie between these two (`OpCode.closeSession`, `OpCode.whoAmI`).
const LEAST_OP: i32 = -11;
const GREATEST_OP: i32 = 107;

/// Seconds. From a read out of memory to a write that has waited for all of the default `--etcd-timeout`.
const DURATION_BUCKETS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Requests. Up to the 4,095 slots that a zxid has room for.
const BATCH_REQUEST_BUCKETS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4095.0];

/// Bytes. Up to etcd's default `--max-request-bytes`, and a few times that for those who raised it.
const BATCH_BYTE_BUCKETS: [f64; 10] =
    [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 524_288.0, 1_048_576.0, 1_572_864.0, 8_388_608.0];

/// Whether a request was answered from the replica or went through the committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    Read,
    Write,
}

/// Every counter, histogram and summary of a server. Recording is a handful of atomic additions.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: RequestCounters,
    closed: Vec<IntCounter>,
    read_duration: Histogram,
    write_duration: Histogram,
    /// ZooKeeper's `readlatency`, milliseconds.
    read_latency: Summary,
    /// ZooKeeper's `updatelatency`, milliseconds.
    update_latency: Summary,

    /// Requests in a batch that was sent to the store.
    pub batch_requests: Histogram,
    /// Bytes of such a batch.
    pub batch_bytes: Histogram,
    /// Seconds from sending a batch until its outcome was known.
    pub commit_duration: Histogram,
    /// Seconds for which answers waited until the embedded store had written what they tell.
    pub held_duration: Histogram,
    /// Groups whose compares failed: somebody else's write came between.
    pub conflicts: IntCounter,
    /// Requests evaluated again after that.
    pub retries: IntCounter,
    /// Batches sent again, the same bytes, because no answer came.
    pub batches_resent: IntCounter,
    /// Snapshots of the store taken, the first one too.
    pub snapshots: IntCounter,

    /// ZooKeeper's `bytes_received_count`: bytes from clients.
    pub bytes_received: IntCounter,
    /// ZooKeeper's `response_bytes`: bytes of answers.
    pub response_bytes: IntCounter,
    /// ZooKeeper's `watch_bytes`: bytes of notifications.
    pub watch_bytes: IntCounter,
    /// ZooKeeper's `connection_request_count`: connect requests, for new sessions and old ones.
    pub connection_requests: IntCounter,
    /// ZooKeeper's `connection_revalidate_count`: connect requests for a session that was there before.
    pub connections_revalidated: IntCounter,
    /// ZooKeeper's `connection_rejected`: connections past a limit.
    pub connections_rejected: IntCounter,
    /// ZooKeeper's `sessionless_connections_expired`: connections that asked for no session in time.
    pub sessionless_connections_expired: IntCounter,
    /// ZooKeeper's `stale_sessions_expired`: sessions that this server ended for silence.
    pub sessions_expired: IntCounter,
    /// ZooKeeper's `large_requests_rejected`: frames past `--jute-max-buffer`.
    pub large_requests_rejected: IntCounter,
    /// ZooKeeper's `auth_failed_count`: `addauth` requests that failed.
    pub auth_failed: IntCounter,

    /// ZooKeeper's `node_created_watch_count` and its like: watches that one change fired.
    pub node_created_watches: Summary,
    pub node_deleted_watches: Summary,
    pub node_changed_watches: Summary,
    pub node_children_watches: Summary,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            register(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
        };
        let latency = |name: &str, help: &str| register(&registry, Summary::milliseconds(name, help));
        let fired = |name: &str, what: &str| {
            let help = format!("Watches that one {what} fired");
            register(&registry, Summary::count(name, &help))
        };
        let duration = HistogramOpts::new(
            "zketcd_request_duration_seconds",
            "Seconds from a request's arrival to its answer, for reads and for writes",
        );
        let duration = register(&registry, HistogramVec::new(duration.buckets(DURATION_BUCKETS.to_vec()), &["kind"]));
        let closed = Opts::new("zketcd_connections_closed_total", "Connections ended, by reason");
        let closed = register(&registry, IntCounterVec::new(closed, &["reason"]));
        Metrics {
            requests: RequestCounters::new(&registry),
            closed: CloseReason::ALL.iter().map(|reason| closed.with_label_values(&[reason.name()])).collect(),
            read_duration: duration.with_label_values(&["read"]),
            write_duration: duration.with_label_values(&["write"]),
            read_latency: latency("readlatency", "Milliseconds from a read's arrival to its answer"),
            update_latency: latency("updatelatency", "Milliseconds from a write's arrival to its answer"),
            batch_requests: histogram(
                "zketcd_batch_requests",
                "Requests in a batch sent to the store",
                &BATCH_REQUEST_BUCKETS,
            ),
            batch_bytes: histogram("zketcd_batch_bytes", "Bytes in a batch sent to the store", &BATCH_BYTE_BUCKETS),
            commit_duration: histogram(
                "zketcd_commit_duration_seconds",
                "Seconds from sending a batch to the store until its outcome was known",
                &DURATION_BUCKETS,
            ),
            held_duration: histogram(
                "zketcd_held_duration_seconds",
                "Seconds for which answers waited until the embedded store had written what they tell; those of one connection and one revision count once",
                &DURATION_BUCKETS,
            ),
            conflicts: counter(
                "zketcd_conflicts_total",
                "Batches of which some compares failed in the store: another write came between, or, where a server took itself to be alone, another server wrote anything, began or ended",
            ),
            retries: counter("zketcd_retries_total", "Requests evaluated again after such a conflict"),
            batches_resent: counter(
                "zketcd_batches_resent_total",
                "Batches sent to the store again, unchanged, because no answer came",
            ),
            snapshots: counter("zketcd_snapshots_total", "Snapshots of the store taken, the first one too"),
            bytes_received: counter("bytes_received_count", "Bytes received from clients"),
            response_bytes: counter("response_bytes", "Bytes of answers sent to clients"),
            watch_bytes: counter("watch_bytes", "Bytes of watch notifications sent to clients"),
            connection_requests: counter("connection_request_count", "Connect requests"),
            connections_revalidated: counter(
                "connection_revalidate_count",
                "Connect requests for a session that was there before",
            ),
            connections_rejected: counter("connection_rejected", "Connections refused because of a limit"),
            sessionless_connections_expired: counter(
                "sessionless_connections_expired",
                "Connections closed because they asked for no session in time",
            ),
            sessions_expired: counter("stale_sessions_expired", "Sessions that this server ended for silence"),
            large_requests_rejected: counter("large_requests_rejected", "Frames larger than --jute-max-buffer"),
            auth_failed: counter("auth_failed_count", "Requests to add an identity that failed"),
            node_created_watches: fired("node_created_watch_count", "creation"),
            node_deleted_watches: fired("node_deleted_watch_count", "deletion"),
            node_changed_watches: fired("node_changed_watch_count", "change of data"),
            node_children_watches: fired("node_children_watch_count", "change of children"),
            registry,
        }
    }

    /// A request of type `op` was answered, `latency` after it came in.
    pub fn record_request(&self, op: i32, kind: RequestKind, latency: Duration) {
        self.requests.of(op).inc();
        let (histogram, summary) = match kind {
            RequestKind::Read => (&self.read_duration, &self.read_latency),
            RequestKind::Write => (&self.write_duration, &self.update_latency),
        };
        histogram.observe(latency.as_secs_f64());
        summary.record_duration(latency);
    }

    /// A connection ended.
    pub fn record_closed(&self, reason: CloseReason) {
        if let Some(counter) = self.closed.get(reason as usize) {
            counter.inc();
        }
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut families = self.registry.gather();
        families.extend(zookeeper_gauges(gauges).into_iter().map(|(name, help, value)| {
            let value = match value {
                MonitorValue::Int(value) => value as f64,
                MonitorValue::Float(value) => value,
            };
            gauge(name, help, value, &[])
        }));
        families.extend(own_gauges(gauges));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&families, &mut text);
        debug_assert!(encoded.is_ok(), "every family has a name and a sample: {encoded:?}");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// What `mntr` shows: the metrics with ZooKeeper's names, without its prefix `zk_`.
    pub fn monitor(&self, gauges: &Gauges) -> Vec<(String, MonitorValue)> {
        let mut values: Vec<(String, MonitorValue)> =
            zookeeper_gauges(gauges).into_iter().map(|(name, _, value)| (name.to_owned(), value)).collect();
        for counter in self.zookeeper_counters() {
            let name = counter.desc().into_iter().map(|desc| desc.fq_name.clone());
            values.extend(name.map(|name| (name, MonitorValue::from_u64(counter.get()))));
        }
        for summary in self.summaries() {
            values.extend(summary.monitor());
        }
        values
    }

    fn zookeeper_counters(&self) -> [&IntCounter; 10] {
        [
            &self.auth_failed,
            &self.bytes_received,
            &self.connections_rejected,
            &self.connection_requests,
            &self.connections_revalidated,
            &self.large_requests_rejected,
            &self.response_bytes,
            &self.sessionless_connections_expired,
            &self.sessions_expired,
            &self.watch_bytes,
        ]
    }

    fn summaries(&self) -> [&Summary; 6] {
        [
            &self.read_latency,
            &self.update_latency,
            &self.node_created_watches,
            &self.node_deleted_watches,
            &self.node_changed_watches,
            &self.node_children_watches,
        ]
    }
}

/// `zketcd_requests_total` by opcode, without a map to look into for each request.
#[derive(Debug)]
struct RequestCounters {
    by_op: Vec<IntCounter>,
    unknown: IntCounter,
}

impl RequestCounters {
    fn new(registry: &Registry) -> Self {
        let opts = Opts::new("zketcd_requests_total", "Requests answered, by type");
        let vec = register(registry, IntCounterVec::new(opts, &["type"]));
        let unknown = vec.with_label_values(&["unknown"]);
        let counter_of = |op| {
            let named = OP_NAMES.iter().find(|(code, _)| *code == op);
            named.map_or_else(|| unknown.clone(), |(_, name)| vec.with_label_values(&[name]))
        };
        RequestCounters { by_op: (LEAST_OP..=GREATEST_OP).map(counter_of).collect(), unknown }
    }

    fn of(&self, op: i32) -> &IntCounter {
        let index = op.checked_sub(LEAST_OP).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.by_op.get(index)).unwrap_or(&self.unknown)
    }
}

/// ZooKeeper's gauges, with its names and units.
fn zookeeper_gauges(gauges: &Gauges) -> Vec<(&'static str, &'static str, MonitorValue)> {
    let int = MonitorValue::from_u64;
    let stats = &gauges.stats;
    let uptime = u64::try_from(gauges.uptime.as_millis()).unwrap_or(u64::MAX);
    vec![
        ("avg_latency", "Mean latency in milliseconds since srst", MonitorValue::Float(stats.latency.avg_ms())),
        ("max_latency", "Greatest latency in milliseconds since srst", int(stats.latency.max_ms())),
        ("min_latency", "Least latency in milliseconds since srst", int(stats.latency.min_ms())),
        ("packets_received", "Requests received since srst", int(stats.received)),
        ("packets_sent", "Answers and notifications sent since srst", int(stats.sent)),
        ("num_alive_connections", "Connections open", int(gauges.connections)),
        ("outstanding_requests", "Requests without an answer", int(gauges.outstanding)),
        ("uptime", "Milliseconds since the server started", int(uptime)),
        ("znode_count", "Znodes, those of ZooKeeper itself too", int(gauges.znodes)),
        ("watch_count", "Watches of this server's connections", int(gauges.watches)),
        ("ephemerals_count", "Ephemeral znodes", int(gauges.ephemerals)),
        ("approximate_data_size", "Bytes of paths and data of all znodes", int(gauges.data_bytes)),
        ("global_sessions", "Live sessions of all servers", int(gauges.sessions)),
        ("local_sessions", "Sessions that one server keeps to itself: there are none", MonitorValue::Int(0)),
        ("open_file_descriptor_count", "Files and sockets open", int(environment::open_files())),
        ("max_file_descriptor_count", "Files and sockets that may be open", int(environment::max_open_files())),
        (
            "last_client_response_size",
            "Bytes of the last answer, -1 before the first",
            MonitorValue::Int(stats.responses.last),
        ),
        ("max_client_response_size", "Bytes of the largest answer since srst", MonitorValue::Int(stats.responses.max)),
        ("min_client_response_size", "Bytes of the smallest answer since srst", MonitorValue::Int(stats.responses.min)),
    ]
}

fn own_gauges(gauges: &Gauges) -> [MetricFamily; 4] {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("zookeeper", environment::ZOOKEEPER_VERSION)];
    [
        gauge("zketcd_build_info", "Always 1; the labels say what runs", 1.0, &labels),
        gauge(
            "zketcd_replica_lag_revisions",
            "Revisions that the store is known to have and the replica has not applied",
            gauges.replica_lag_revisions as f64,
            &[],
        ),
        gauge(
            "zketcd_replica_lag_seconds",
            "Seconds since the replica was last known to have all that the store had; without writes it is asked every 5 seconds",
            gauges.replica_lag.as_secs_f64(),
            &[],
        ),
        gauge("process_resident_memory_bytes", "Bytes of memory held", Memory::read().resident as f64, &[]),
    ]
}

fn gauge(name: &str, help: &str, value: f64, labels: &[(&str, &str)]) -> MetricFamily {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut sample = GaugeValue::default();
    sample.set_value(value);
    let mut metric = Metric::from_label(pairs.collect());
    metric.set_gauge(sample);
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(vec![metric]);
    family
}

/// Names, labels and buckets are constants of this file; a mistake among them shows in the first test that runs.
fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("a constant metric is well formed");
    registry.register(Box::new(collector.clone())).expect("a constant metric is registered once");
    collector
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::jute::op;

    /// The value of a sample in the text, by its name and labels.
    fn sample(text: &str, name: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().unwrap()
    }

    fn gauges() -> Gauges {
        let mut gauges = Gauges {
            connections: 3,
            outstanding: 2,
            uptime: Duration::from_secs(65),
            znodes: 9,
            watches: 4,
            ephemerals: 5,
            data_bytes: 66,
            sessions: 7,
            last_zxid: 1,
            replica_lag_revisions: 12,
            replica_lag: Duration::from_millis(1500),
            ..Gauges::default()
        };
        gauges.stats.record_received();
        gauges.stats.record_answer(Duration::from_millis(10), 89);
        gauges
    }

    /// docs/METRICS.md, as it must be. Families with labels show once something was counted.
    #[test]
    fn the_documents_list_every_metric() {
        let metrics = Metrics::new();
        metrics.record_request(op::CREATE2, RequestKind::Write, Duration::from_millis(3));
        let text = metrics.render(&gauges());
        let words = |line: &str| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
        let of = |mark| text.lines().filter_map(move |line| words(line.strip_prefix(mark)?));
        let rows: Vec<String> = of("# HELP ")
            .zip(of("# TYPE "))
            .map(|((name, help), (_, kind))| format!("| `{name}` | {kind} | {help} |"))
            .collect();
        let page = include_str!("../docs/METRICS.md");
        let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert!(listed == rows, "docs/METRICS.md should have these rows:\n{}", rows.join("\n"));
    }

    #[test]
    fn requests_count_by_type_and_time() {
        let metrics = Metrics::new();
        metrics.record_request(op::GET_DATA, RequestKind::Read, Duration::from_micros(200));
        metrics.record_request(op::GET_DATA, RequestKind::Read, Duration::from_micros(200));
        metrics.record_request(op::CREATE2, RequestKind::Write, Duration::from_millis(3));
        metrics.record_request(op::CLOSE_SESSION, RequestKind::Write, Duration::from_millis(3));
        for unknown in [i32::MIN, -12, 23, 108, i32::MAX] {
            metrics.record_request(unknown, RequestKind::Read, Duration::ZERO);
        }
        let text = metrics.render(&Gauges::default());
        assert_eq!(sample(&text, "zketcd_requests_total{type=\"getData\"}"), 2.0);
        assert_eq!(sample(&text, "zketcd_requests_total{type=\"create2\"}"), 1.0);
        assert_eq!(sample(&text, "zketcd_requests_total{type=\"closeSession\"}"), 1.0);
        assert_eq!(sample(&text, "zketcd_requests_total{type=\"unknown\"}"), 5.0);
        assert_eq!(sample(&text, "zketcd_requests_total{type=\"whoAmI\"}"), 0.0);
        let bucket = "zketcd_request_duration_seconds_bucket{kind=\"write\",le=\"0.005\"}";
        assert_eq!(sample(&text, bucket), 2.0);
        assert_eq!(sample(&text, "zketcd_request_duration_seconds_count{kind=\"read\"}"), 7.0);
        assert_eq!(sample(&text, "readlatency_count"), 7.0);
        assert_eq!(sample(&text, "readlatency_sum"), 0.4);
        assert_eq!(sample(&text, "updatelatency_count"), 2.0);
        let median = sample(&text, "updatelatency{quantile=\"0.5\"}");
        assert!((2.8..=3.2).contains(&median), "{median}");
    }

    #[test]
    fn every_close_reason_has_its_own_sample() {
        let metrics = Metrics::new();
        for (times, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, times);
            (0..times).for_each(|_| metrics.record_closed(reason));
        }
        let text = metrics.render(&Gauges::default());
        for (times, reason) in CloseReason::ALL.into_iter().enumerate() {
            let name = format!("zketcd_connections_closed_total{{reason=\"{}\"}}", reason.name());
            assert_eq!(sample(&text, &name), times as f64);
        }
    }

    #[test]
    fn the_names_that_zookeepers_dashboards_ask_for() {
        let text = Metrics::new().render(&gauges());
        for (name, value) in [
            ("avg_latency", 10.0),
            ("max_latency", 10.0),
            ("packets_received", 1.0),
            ("packets_sent", 1.0),
            ("num_alive_connections", 3.0),
            ("outstanding_requests", 2.0),
            ("uptime", 65_000.0),
            ("znode_count", 9.0),
            ("watch_count", 4.0),
            ("ephemerals_count", 5.0),
            ("approximate_data_size", 66.0),
            ("global_sessions", 7.0),
            ("local_sessions", 0.0),
            ("last_client_response_size", 89.0),
            ("connection_rejected", 0.0),
            ("connection_request_count", 0.0),
            ("bytes_received_count", 0.0),
            ("response_bytes", 0.0),
            ("watch_bytes", 0.0),
            ("stale_sessions_expired", 0.0),
            ("large_requests_rejected", 0.0),
            ("node_changed_watch_count_sum", 0.0),
        ] {
            assert_eq!(sample(&text, name), value, "{name}");
        }
        for name in ["readlatency", "updatelatency"] {
            for quantile in ["0.5", "0.9", "0.99"] {
                assert!(text.contains(&format!("{name}{{quantile=\"{quantile}\"}} ")), "{name} {quantile}");
            }
        }
        assert!(sample(&text, "open_file_descriptor_count") > 0.0);
    }

    #[test]
    fn this_programs_own_names() {
        let metrics = Metrics::new();
        metrics.batch_requests.observe(60.0);
        metrics.batch_bytes.observe(5000.0);
        metrics.commit_duration.observe(0.002);
        metrics.held_duration.observe(0.002);
        for counter in [&metrics.conflicts, &metrics.retries, &metrics.batches_resent, &metrics.snapshots] {
            counter.inc();
        }
        let text = metrics.render(&gauges());
        for (name, value) in [
            ("zketcd_batch_requests_bucket{le=\"64\"}", 1.0),
            ("zketcd_batch_bytes_bucket{le=\"4096\"}", 0.0),
            ("zketcd_batch_bytes_bucket{le=\"16384\"}", 1.0),
            ("zketcd_commit_duration_seconds_count", 1.0),
            ("zketcd_held_duration_seconds_count", 1.0),
            ("zketcd_conflicts_total", 1.0),
            ("zketcd_retries_total", 1.0),
            ("zketcd_batches_resent_total", 1.0),
            ("zketcd_snapshots_total", 1.0),
            ("zketcd_replica_lag_revisions", 12.0),
            ("zketcd_replica_lag_seconds", 1.5),
        ] {
            assert_eq!(sample(&text, name), value, "{name}");
        }
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(sample(&text, &format!("zketcd_build_info{{version=\"{version}\",zookeeper=\"3.9.5\"}}")), 1.0);
    }

    #[test]
    fn every_family_is_explained_once() {
        let text = Metrics::new().render(&gauges());
        let mut families = HashSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, help) = line.split_once(' ').unwrap();
            assert!(families.insert(name), "{name} twice");
            assert!(help.len() > 10, "{name}: {help}");
        }
        assert!(families.len() > 40, "{}", families.len());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(families.contains(name) || family.is_some_and(|name| families.contains(name)), "{line}");
        }
    }

    #[test]
    fn mntr_has_zookeepers_names_and_no_others() {
        let metrics = Metrics::new();
        metrics.connections_rejected.inc_by(3);
        metrics.record_request(op::GET_DATA, RequestKind::Read, Duration::from_millis(4));
        let values = metrics.monitor(&gauges());
        let value =
            |name: &str| values.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1.clone();
        assert_eq!(value("znode_count"), MonitorValue::Int(9));
        assert_eq!(value("avg_latency"), MonitorValue::Float(10.0));
        assert_eq!(value("connection_rejected"), MonitorValue::Int(3));
        assert_eq!(value("cnt_readlatency"), MonitorValue::Int(1));
        assert_eq!(value("max_readlatency"), MonitorValue::Int(4));
        assert_eq!(value("avg_readlatency"), MonitorValue::Float(4.0));
        let names: HashSet<&String> = values.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), values.len(), "a name twice");
        assert!(names.iter().all(|name| !name.starts_with("zketcd")));
    }
}
