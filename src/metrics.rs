use crate::server::stats::{Gauges, MonitorValue};
use prometheus::*;
use std::time::Duration;
#[derive(Debug, Clone, Copy)]
pub enum RequestKind {
    Read,
    Write,
}
#[derive(Debug)]
pub struct Metrics {
    pub sessions_expired: IntCounter,
    pub snapshots: IntCounter,
    pub conflicts: IntCounter,
    pub retries: IntCounter,
    pub auth_failed: IntCounter,
    pub batch_requests: Histogram,
    pub commit_duration: Histogram,
    pub batches_resent: IntCounter,
    pub bytes_received: IntCounter,
    pub response_bytes: IntCounter,
    pub connections_rejected: IntCounter,
}
impl Metrics {
    pub fn new() -> Self {
        let c = || IntCounter::new("a", "a").unwrap();
        let h = || Histogram::with_opts(HistogramOpts::new("a", "a")).unwrap();
        Metrics {
            sessions_expired: c(),
            snapshots: c(),
            conflicts: c(),
            retries: c(),
            auth_failed: c(),
            batch_requests: h(),
            commit_duration: h(),
            batches_resent: c(),
            bytes_received: c(),
            response_bytes: c(),
            connections_rejected: c(),
        }
    }
    pub fn record_request(&self, _op: i32, _k: RequestKind, _s: Duration) {}
    pub fn record_closed(&self, _r: crate::session::CloseReason) {}
    pub fn render(&self, _g: &Gauges) -> String {
        String::new()
    }
    pub fn monitor(&self, _g: &Gauges) -> Vec<(String, MonitorValue)> {
        vec![]
    }
}
