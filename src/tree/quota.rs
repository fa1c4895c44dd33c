//! Quotas: limits that clients write below `/zookeeper/quota`, and the usage that servers keep beside them.
//!
//! ZooKeeper enforces no limit by default, but counts (`DataTree.updateQuotaStat`), and its command line shows it.

use std::fmt;

use super::path;

/// The name of the znode that makes a quota (`Quotas.limitNode`).
const LIMITS: &str = "/zookeeper_limits";
/// The name of the znode beside it that shows the usage (`Quotas.statNode`).
const STATS: &str = "/zookeeper_stats";

/// What there is at a path and below it; written as `StatsTrack` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub znodes: i64,
    /// Of data.
    pub bytes: i64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.znodes, self.bytes)
    }
}

/// The path whose limits `path` holds. The root can have none.
pub fn limited(path: &str) -> Option<&str> {
    named(path, LIMITS)
}

/// The path whose usage `path` shows.
pub fn measured(path: &str) -> Option<&str> {
    named(path, STATS)
}

/// Where the usage of `limited` is shown.
pub fn stats(limited: &str) -> String {
    format!("{}{limited}{STATS}", path::QUOTA)
}

fn named<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    path.strip_prefix(path::QUOTA)?.strip_suffix(name).filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_made_by_its_limits() {
        assert_eq!(limited("/zookeeper/quota/a/b/zookeeper_limits"), Some("/a/b"));
        assert_eq!(measured("/zookeeper/quota/a/zookeeper_stats"), Some("/a"));
        assert_eq!(measured(&stats("/a/b")), Some("/a/b"));
        for path in [
            "/zookeeper/quota/a",
            "/zookeeper/quota/zookeeper_limits",
            "/zookeeper/quotas/zookeeper_limits",
            "/zookeeper/quota/a/zookeeper_limits/b",
            "/a/zookeeper_limits",
            "/zookeeper/quota",
        ] {
            assert_eq!((limited(path), measured(path)), (None, None), "{path}");
        }
    }
}
