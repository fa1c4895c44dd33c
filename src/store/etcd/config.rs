//! Where etcd is and how to be let in.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::store::{Limits, StoreError};

/// How long a connection may be silent before it is probed. etcd closes connections that are probed more often than
/// every 5 s (its `--grpc-keepalive-min-time`).
const PROBE_INTERVAL: Duration = Duration::from_secs(6);

/// How long the answer to a probe may take before the connection is given up.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);

/// etcd's default of `--max-txn-ops`.
pub const DEFAULT_MAX_TXN_OPS: usize = 128;

/// etcd's default of `--max-request-bytes`.
pub const DEFAULT_MAX_REQUEST_BYTES: usize = 1536 * 1024;

/// How to reach etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Client URLs, `http://host:port` or `https://host:port`; where one fails, the next is used.
    pub endpoints: Vec<String>,
    /// Name and password, where etcd has authentication enabled.
    pub user: Option<(String, String)>,
    /// In PEM: the certificates that etcd's must come from. None: the system's, for `https` endpoints.
    pub ca: Option<Vec<u8>>,
    /// In PEM: this client's certificate and its key, where etcd asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// What precedes every key; a slash follows it.
    pub prefix: String,
    /// How long one call may take, opening a connection included.
    pub timeout: Duration,
    /// etcd's own limits, as its members were started with.
    pub limits: Limits,
}

impl EtcdConfig {
    /// Plain connections to `endpoints`, etcd's default limits, prefix `/zketcd`, 5 s for a call.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        EtcdConfig {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            ca: None,
            identity: None,
            prefix: "/zketcd".to_owned(),
            timeout: Duration::from_secs(5),
            limits: Limits { txn_ops: DEFAULT_MAX_TXN_OPS, request_bytes: DEFAULT_MAX_REQUEST_BYTES },
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"))
    }

    /// etcd-client's options. `Rejected` where the settings contradict.
    pub(super) fn options(&self) -> Result<ConnectOptions, StoreError> {
        if self.endpoints.is_empty() {
            return Err(StoreError::Rejected("no endpoint of etcd given".to_owned()));
        }
        // Probes while nothing is open would be answered by etcd with a closed connection.
        let mut options = ConnectOptions::new()
            .with_keep_alive(PROBE_INTERVAL, PROBE_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_tcp_keepalive(PROBE_INTERVAL)
            .with_connect_timeout(self.timeout)
            .with_require_leader(true);
        if let Some((name, password)) = &self.user {
            options = options.with_user(name, password).with_auto_token_refresh(true);
        }
        match self.tls()? {
            Some(tls) => Ok(options.with_tls(tls)),
            None => Ok(options),
        }
    }

    fn tls(&self) -> Result<Option<TlsOptions>, StoreError> {
        let secure = self.endpoints.iter().filter(|endpoint| endpoint.starts_with("https://")).count();
        if secure == 0 && self.ca.is_none() && self.identity.is_none() {
            return Ok(None);
        }
        if secure < self.endpoints.len() {
            let why = "with TLS every endpoint of etcd has to begin with https://";
            return Err(StoreError::Rejected(why.to_owned()));
        }
        let mut tls = match &self.ca {
            Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
            None => TlsOptions::new().with_enabled_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        Ok(Some(tls))
    }
}

/// Without the password and the key.
impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("limits", &self.limits)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let mut config = EtcdConfig::new(["http://one:2379"]);
        config.user = Some(("flink".into(), "hunter2".into()));
        let shown = format!("{config:?}");
        assert!(shown.contains("flink") && !shown.contains("hunter2"));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(EtcdConfig::new(Vec::<String>::new()).options().is_err());
        assert!(EtcdConfig::new(["http://one:2379", "https://two:2379"]).options().is_err());
        assert!(EtcdConfig::new(["https://one:2379"]).options().is_ok());
    }
}
