//! The server: listener, connections, four-letter words, admin HTTP.

pub mod admin;
mod dates;
pub mod environment;
pub mod four_letter;
pub mod stats;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::Metrics;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {addr} (--listen): {source}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error(transparent)]
    Admin(#[from] admin::BindError),
}

/// Serves until `shutdown`, then drains: answers what was taken, and closes.
///
/// # Errors
/// What keeps the server from starting.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    let addr = config.listen;
    let _listener = TcpListener::bind(addr).await.map_err(|source| StartError::Listen { addr, source })?;
    let stop = CancellationToken::new();
    if let Some(addr) = config.admin_listen {
        let listener = admin::bind(addr).await?;
        let metrics = Arc::new(Metrics::new());
        let admin = admin::Admin { metrics, probe: Arc::new(Starting), draining: shutdown.clone() };
        tokio::spawn(admin::serve(listener, admin, stop.clone()));
    }
    shutdown.cancelled().await;
    stop.cancel();
    Ok(())
}

/// A server that has no store yet.
struct Starting;

#[async_trait]
impl admin::Probe for Starting {
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        Err("starting".to_owned())
    }

    fn gauges(&self) -> stats::Gauges {
        stats::Gauges::default()
    }
}
