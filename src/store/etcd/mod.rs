//! The store in etcd 3.4, 3.5 or 3.6: several endpoints, user and password, TLS, a prefix.
//!
//! etcd-client cannot ask for fragmented watch responses, so none comes: every response holds whole revisions, and
//! the decoding limit is raised to what etcd may put into one.

mod convert;
mod keep_alive;
mod snapshot;
mod versions;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, ConnectOptions, Error, LeaseGrantOptions, TlsOptions, WatchOptions, WatchStream,
};
use futures::StreamExt;

use self::keep_alive::KeepAlives;
use super::{ChangeStream, Identity, Limits, Snapshot, Store, StoreError, Txn, TxnResult};
use crate::config::EtcdConfig;

/// How long one call may take. A transaction without an answer is sent again then, the same bytes: an election
/// takes about a second, a slow disk's fsync less.
const CALL: Duration = Duration::from_secs(5);

/// How long a TCP or TLS connection to one endpoint may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// HTTP/2 pings on idle connections, and how long their answer may take: a member that hangs is left within the
/// sum, well before a 10 s session's lease is in doubt. etcd refuses pings more frequent than one in 5 s only
/// where there is no stream; there always is one.
const PING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(2));

/// The largest response that is decoded: etcd puts up to 1,000 revisions, or 10,000 keys of ours, into one.
const MAX_RESPONSE: usize = i32::MAX as usize;

/// See the module's documentation.
pub struct Etcd {
    client: Client,
    prefix: Bytes,
    limits: Limits,
    endpoints: Vec<String>,
    options: ConnectOptions,
    keep_alives: KeepAlives,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Connects, and logs in where there is a user.
    ///
    /// # Errors
    /// `Unavailable`: no endpoint answers. `Rejected`: wrong credentials, or TLS files that cannot be used.
    pub async fn connect(config: &EtcdConfig, limits: Limits) -> Result<Arc<Etcd>, StoreError> {
        let options = options(config);
        let connecting = Client::connect(config.endpoints.clone(), Some(options.clone()));
        let client = within(CALL, connecting).await.map_err(|error| named(error, &config.endpoints))?;
        let keep_alives = KeepAlives::new(client.lease_client());
        let prefix = Bytes::from(format!("{}/", config.prefix.trim_end_matches('/')));
        let endpoints = config.endpoints.clone();
        Ok(Arc::new(Etcd { client, prefix, limits, endpoints, options, keep_alives }))
    }
}

fn options(config: &EtcdConfig) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(PING.0, PING.1)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(credentials) = &config.credentials {
        options = options.with_user(&credentials.user, credentials.password.reveal());
    }
    if let Some(files) = &config.tls {
        let mut tls = TlsOptions::new();
        tls = match &files.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
            None => tls.with_enabled_roots(),
        };
        if let Some((certificate, key)) = &files.identity {
            tls = tls.identity(etcd_client::Identity::from_pem(certificate, key));
        }
        options = options.with_tls(tls);
    }
    options
}

/// An answer within `limit`, or `Unavailable`.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(convert::error),
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {limit:?}"))),
    }
}

fn named(error: StoreError, endpoints: &[String]) -> StoreError {
    let at = endpoints.join(", ");
    match error {
        StoreError::Unavailable(why) => StoreError::Unavailable(format!("etcd at {at}: {why}")),
        StoreError::Rejected(why) => StoreError::Rejected(format!("etcd at {at}: {why}")),
        other => other,
    }
}

#[async_trait]
impl Store for Etcd {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        let mut client = self.client.maintenance_client();
        let status = within(CALL, client.status()).await.map_err(|error| named(error, &self.endpoints))?;
        let cluster_id = status.header().map_or(0, |header| header.cluster_id());
        let warnings = versions::warnings(&self.endpoints, &self.options).await;
        Ok(Identity { cluster_id, warnings, description: format!("etcd {}", status.version()) })
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResult, StoreError> {
        let request = convert::txn(txn, &self.prefix);
        let mut client = self.client.kv_client().max_decoding_message_size(MAX_RESPONSE);
        let response = within(CALL, client.txn(request)).await?;
        convert::txn_result(response, self.prefix.len())
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        snapshot::read(&self.client, &self.prefix).await
    }

    async fn changes(&self, from: i64) -> Result<ChangeStream, StoreError> {
        let mut client = self.client.watch_client().max_decoding_message_size(MAX_RESPONSE);
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let opening = async {
            let mut stream = client.watch(self.prefix.to_vec(), Some(options)).await?;
            let first = stream.message().await?;
            Ok((stream, first))
        };
        let (stream, first) = within(CALL, opening).await?;
        match first {
            Some(response) if response.created() && !response.canceled() => {}
            Some(response) => return Err(convert::cancelled(&response)),
            None => return Err(StoreError::Unavailable("the watch was closed at once".to_owned())),
        }
        Ok(follow(stream, self.prefix.len()))
    }

    async fn lease_grant(&self, id: i64, ttl: i64) -> Result<(), StoreError> {
        let mut client = self.client.lease_client();
        let granting = client.grant(ttl, Some(LeaseGrantOptions::new().with_id(id)));
        match within(CALL, granting).await {
            Ok(_) => Ok(()),
            Err(StoreError::LeaseExists { .. }) => Err(StoreError::LeaseExists { id }),
            Err(error) => Err(error),
        }
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<(), StoreError> {
        let answer = tokio::time::timeout(CALL, self.keep_alives.renew(id)).await;
        answer.unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {CALL:?}"))))
    }

    async fn lease_revoke(&self, id: i64) -> Result<(), StoreError> {
        let mut client = self.client.lease_client();
        match within(CALL, client.revoke(id)).await {
            Ok(_) | Err(StoreError::LeaseNotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The watch's responses as revisions, until it ends.
fn follow(stream: WatchStream, prefix: usize) -> ChangeStream {
    let responses = futures::stream::unfold(Some(stream), move |stream| async move {
        let mut stream = stream?;
        let next = match stream.message().await {
            Ok(Some(response)) if response.canceled() => Err(convert::cancelled(&response)),
            Ok(Some(response)) => convert::revisions(response, prefix),
            Ok(None) => Err(StoreError::Unavailable("the watch was closed".to_owned())),
            Err(error) => Err(convert::error(error)),
        };
        let open = next.is_ok();
        Some((next, open.then_some(stream)))
    });
    responses.boxed()
}
