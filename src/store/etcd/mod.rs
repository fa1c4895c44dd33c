//! The store in etcd v3 (3.4, 3.5, 3.6).
//!
//! - `config`: where etcd is and how to be let in.
//! - `members`: the endpoints, one in use at a time.
//! - `failure`: what errors mean: refused, or open.
//! - `convert`: the store's types and etcd's messages, the prefix between them.
//! - `snapshot`: every key at one revision, in pages.
//! - `watch`: the change stream.
//! - `leases`: keep-alives, many leases to a stream.
//! - `version`: what is known of old versions.

mod config;
mod convert;
mod failure;
mod leases;
mod members;
mod snapshot;
mod version;
mod watch;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use etcd_client::{Client, GetOptions, LeaseGrantOptions};

pub use self::config::{DEFAULT_MAX_REQUEST_BYTES, DEFAULT_MAX_TXN_OPS, EtcdConfig};
use self::convert::{Prefix, first_lease};
use self::failure::Failure;
use self::leases::KeepAlives;
use self::members::Members;
use self::watch::Watch;
use super::{ChangeStream, Identity, Limits, Snapshot, Store, StoreError, Txn, TxnResult};

/// See the module's documentation. Calls may be made at once and from many tasks.
pub struct Etcd {
    members: Arc<Members>,
    keep_alives: KeepAlives,
    prefix: Prefix,
    limits: Limits,
}

/// What a member says of itself.
struct Status {
    cluster_id: u64,
    version: String,
}

impl Etcd {
    /// Connects, and makes sure that etcd lets this user read the prefix. `Unavailable` where no endpoint answers,
    /// `Rejected` where the settings are wrong or etcd does not take the credentials.
    pub async fn connect(config: EtcdConfig) -> Result<Arc<Self>, StoreError> {
        let options = config.options()?;
        let members = Arc::new(Members::new(&config.endpoints, options, config.timeout));
        let keep_alives = KeepAlives::new(members.clone(), config.timeout);
        let prefix = Prefix::new(&config.prefix);
        let etcd = Etcd { members, keep_alives, prefix, limits: config.limits };
        match etcd.reach(config.endpoints.len()).await {
            // etcd closes the connection of who lacks a certificate; whether its reason arrives is a matter of luck.
            Err(Failure::Away { why, .. }) if config.is_tls() && config.identity.is_none() => {
                Err(StoreError::Unavailable(format!("{why} (if etcd wants a client certificate: none is given)")))
            }
            result => Ok(result.map(|()| Arc::new(etcd))?),
        }
    }

    /// Counts the prefix's keys on the first of the endpoints that answers: that takes a leader and the permission to
    /// read.
    async fn reach(&self, endpoints: usize) -> Result<(), Failure> {
        let mut tries = 1;
        loop {
            match self.members.call(|client| count(client, &self.prefix)).await {
                Err(failure) if failure.is_away() && tries < endpoints => tries += 1,
                result => return result,
            }
        }
    }
}

async fn count(mut client: Client, prefix: &Prefix) -> Result<(), Failure> {
    let options = GetOptions::new().with_range(prefix.end()).with_count_only();
    client.get(prefix.start(), Some(options)).await?;
    Ok(())
}

async fn status(mut client: Client) -> Result<Status, Failure> {
    let status = client.status().await?;
    let cluster_id = status.header().map_or(0, |header| header.cluster_id());
    Ok(Status { cluster_id, version: status.version().to_owned() })
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.endpoints()).finish()
    }
}

#[async_trait]
impl Store for Etcd {
    fn limits(&self) -> Limits {
        self.limits
    }

    /// Members that do not answer are a warning, unless none does. `Rejected` where they are of different clusters.
    fn durable(&self) -> Option<tokio::sync::watch::Receiver<i64>> {
        None
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        let mut identity = Identity::default();
        let mut versions: Vec<String> = Vec::new();
        let mut failed = None;
        for (endpoint, status) in self.members.endpoints().zip(self.members.call_all(status).await) {
            match status {
                Ok(status) => {
                    if !versions.is_empty() && status.cluster_id != identity.cluster_id {
                        let why = format!("{endpoint} belongs to another etcd cluster than the endpoints before it");
                        return Err(StoreError::Rejected(why));
                    }
                    identity.cluster_id = status.cluster_id;
                    identity.warnings.extend(version::warning(endpoint, &status.version));
                    if !versions.contains(&status.version) {
                        versions.push(status.version);
                    }
                }
                Err(failure) => {
                    let error = StoreError::from(failure);
                    identity.warnings.push(error.to_string());
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            Some(error) if versions.is_empty() => Err(error),
            _ => {
                identity.description = format!("etcd {}", versions.join(", "));
                Ok(identity)
            }
        }
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let call = |client: Client| {
            let request = self.prefix.txn(&txn);
            async move {
                // The answer is as large as what was asked to be read; refusing it would leave the outcome open.
                let mut kv = client.kv_client().max_decoding_message_size(usize::MAX);
                Ok(kv.txn(request).await?.0)
            }
        };
        let response = self.members.call(call).await.map_err(|failure| failure.for_lease(first_lease(&txn)))?;
        let unexpected = || StoreError::Unavailable("etcd's answer does not fit the transaction".to_owned());
        let revision = response.header.ok_or_else(unexpected)?.revision;
        let succeeded = response.succeeded;
        let results = self.prefix.results(&txn, succeeded, response.responses).ok_or_else(unexpected)?;
        Ok(TxnResult { revision, succeeded, results })
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        snapshot::read(&self.members, &self.prefix, self.limits.request_bytes).await
    }

    /// `Compacted` comes as the stream's first item: etcd confirms a watch before it looks for its revision.
    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        let watch = self.members.call(|client| Watch::open(client, self.prefix.clone(), from)).await?;
        Ok(watch.into_stream())
    }

    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> {
        if id == 0 {
            // etcd would draw an id of its own.
            return Err(StoreError::Rejected("a lease needs an id of its own".to_owned()));
        }
        let call = |mut client: Client| async move {
            client.lease_grant(ttl, Some(LeaseGrantOptions::new().with_id(id))).await?;
            Ok(())
        };
        self.members.call(call).await.map_err(|failure| failure.for_lease(id))
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        self.keep_alives.keep_alive(id).await.map_err(|failure| failure.for_lease(id))
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        let call = |mut client: Client| async move {
            client.lease_revoke(id).await?;
            Ok(())
        };
        match self.members.call(call).await {
            Err(Failure::LeaseNotFound) => Ok(()),
            result => result.map_err(|failure| failure.for_lease(id)),
        }
    }
}
