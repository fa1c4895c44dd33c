//! zketcd serves the ZooKeeper client protocol and keeps everything in etcd v3.
//!
//! - [`jute`]: the wire: ZooKeeper's records and frames.
//! - [`store`]: the transactional store with revisions, changes and leases: etcd, or embedded.
//! - [`tree`]: the replica: znodes, stats, ACL checks, watches; pure, no I/O.
//! - [`commit`]: requests to verdicts, groups, batches and lanes.
//! - [`session`]: attach, heartbeat, expiry, reaping.
//! - [`server`]: listener, connections, four-letter words, admin HTTP.
//! - [`config`], [`logging`], [`healthcheck`]: the command line and what hangs on it.
//! - `table`: rows by the millions.
//! - [`metrics`]: what Prometheus is told.

pub mod commit;
pub mod config;
pub mod healthcheck;
pub mod jute;
pub mod logging;
pub mod metrics;
pub mod server;
pub mod session;
pub mod store;
mod table;
pub mod tree;
