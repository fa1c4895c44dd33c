//! What monitoring sees of the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::engine::Engine;
use crate::server::stats::{ConnectionView, DumpView, Gauges, MonitorValue, SessionView, WatchSummary};

impl Engine {
    /// Whether the replica keeps up with the store, so that reads may be answered.
    pub fn is_serving(&self) -> bool {
        self.staleness() <= self.config.store_timeout_ms
    }

    /// The numbers of this moment.
    pub fn gauges(&self) -> Gauges {
        let outstanding: usize = self.connections.values().map(|conn| conn.queue.len() + conn.in_flight).sum();
        Gauges {
            stats: self.stats,
            connections: self.connections.len() as u64,
            outstanding: outstanding as u64,
            uptime: Duration::from_millis(self.now.mono),
            // ZooKeeper counts the root twice: as `/` and as the empty path.
            znodes: self.replica.len() as u64 + 1,
            watches: self.watches.counts().total as u64,
            ephemerals: self.replica.ephemeral_count() as u64,
            data_bytes: self.replica.data_bytes(),
            sessions: self.replica.session_count() as u64,
            last_zxid: self.replica.last_zxid(),
            replica_lag_revisions: (self.received_revision().max(self.store_revision) - self.replica.revision()).max(0)
                as u64,
            replica_lag: Duration::from_millis(self.staleness()),
        }
    }

    /// A four-letter word came.
    pub fn count_word(&mut self) {
        self.stats.record_received();
    }

    /// And was answered.
    pub fn count_word_answered(&mut self) {
        self.stats.record_notification();
    }

    pub fn reset_stats(&mut self) {
        self.stats.reset();
    }

    pub fn reset_connection_stats(&mut self) {
        for conn in self.connections.values_mut() {
            conn.stats.reset();
        }
    }

    pub fn connection_views(&self) -> Vec<ConnectionView> {
        let view = |conn: &super::connection::Connection| ConnectionView {
            peer: conn.peer,
            interest: 1,
            queued: (conn.queue.len() + conn.in_flight) as u64,
            stats: conn.stats,
            session: conn.attached.map(|_| SessionView {
                id: conn.session,
                established_ms: conn.established,
                timeout_ms: self.held.get(&conn.session).map_or(0, |held| held.timeout_ms as i32),
            }),
        };
        self.connections.values().map(view).collect()
    }

    pub fn watch_summary(&self) -> WatchSummary {
        let summary = self.watches.summary();
        WatchSummary {
            connections: summary.connections as u64,
            paths: summary.paths as u64,
            watches: summary.watches as u64,
        }
    }

    pub fn watches_by_session(&self) -> Vec<(i64, Vec<String>)> {
        let by_watcher = self.watches.by_watcher().into_iter();
        let named = by_watcher.filter_map(|(watcher, paths)| {
            let session = self.connections.get(&watcher)?.session;
            Some((session, paths.iter().map(|path| path.to_string()).collect()))
        });
        named.collect()
    }

    pub fn watches_by_path(&self) -> Vec<(String, Vec<i64>)> {
        let session = |watcher: &u64| self.connections.get(watcher).map(|conn| conn.session);
        let by_path = self.watches.by_path().into_iter();
        by_path.map(|(path, watchers)| (path.to_string(), watchers.iter().filter_map(session).collect())).collect()
    }

    pub fn dump(&self) -> DumpView {
        let wall = |mono: u64| self.now.wall + mono as i64 - self.now.mono as i64;
        let ends = |id: i64| self.held.get(&id).map(|held| wall(held.heard + held.timeout_ms));
        let mut sessions: Vec<_> = self.replica.sessions().map(|(id, _)| (id, ends(id))).collect();
        sessions.sort_unstable();
        let mut ephemerals = BTreeMap::new();
        for owner in self.replica.owners() {
            let mut paths: Vec<String> = self.replica.ephemerals(owner).map(str::to_owned).collect();
            paths.sort_unstable();
            ephemerals.insert(owner, paths);
        }
        let connections = self.connections.values();
        let connections =
            connections.map(|conn| (conn.peer, conn.session, ends(conn.session).unwrap_or(self.now.wall))).collect();
        DumpView { sessions, ephemerals: ephemerals.into_iter().collect(), connections }
    }

    /// What `mntr` shows.
    pub fn monitor(&self, gauges: &Gauges) -> Vec<(String, MonitorValue)> {
        self.metrics.monitor(gauges)
    }
}
