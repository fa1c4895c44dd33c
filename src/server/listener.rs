//! Accepts clients, within limits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection;
use super::shared::Shared;
use crate::config::{Config, ConnectionLimits};
use crate::session::CloseReason;

/// Connections that the kernel may hold for us: a herd of clients reconnecting at once.
const BACKLOG: u32 = 4_096;

/// The pause after a failed accept (no file descriptor is free, say).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The port, taken.
///
/// # Errors
/// The address is in use, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves whoever connects, until `shutdown`; then the clients that are there until they end. When this is
/// dropped they end at once.
pub async fn run(shared: Arc<Shared>, config: Arc<Config>, listener: TcpListener, shutdown: CancellationToken) {
    let places = Arc::new(Places::new(config.connections.clone()));
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        match Places::take(&places, peer.ip()) {
            Some(place) => {
                clients.spawn(connection::serve(shared.clone(), config.clone(), socket, peer, place));
            }
            None => {
                tracing::warn!(%peer, "too many connections");
                shared.metrics.connections_rejected.inc();
                shared.metrics.record_closed(CloseReason::TooManyConnections);
            }
        }
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
}

/// Who is connected, by address.
#[derive(Debug)]
struct Places {
    limits: ConnectionLimits,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A connection's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn new(limits: ConnectionLimits) -> Self {
        Places { limits, taken: Mutex::default() }
    }

    fn take(places: &Arc<Places>, address: IpAddr) -> Option<Place> {
        let mut taken = places.taken.lock();
        let (total, by_address) = &mut *taken;
        let here = by_address.get(&address).copied().unwrap_or(0);
        let full = |limit: Option<usize>, count: usize| limit.is_some_and(|limit| count >= limit);
        if full(places.limits.total, *total) || full(places.limits.per_address, here) {
            return None;
        }
        *total += 1;
        by_address.insert(address, here + 1);
        Some(Place { places: places.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        let (total, by_address) = &mut *taken;
        *total = total.saturating_sub(1);
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_by_address_and_in_all_and_given_back() {
        let limits = ConnectionLimits {
            per_address: Some(2),
            total: Some(3),
            handshake_timeout: Duration::from_secs(1),
            outstanding: 1,
            unsent_bytes: 1,
        };
        let places = Arc::new(Places::new(limits));
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = Places::take(&places, a).expect("a first place");
        let _second = Places::take(&places, a).expect("a second place");
        assert!(Places::take(&places, a).is_none(), "two from one address");
        let _third = Places::take(&places, b).expect("a place for another address");
        assert!(Places::take(&places, b).is_none(), "three in all");
        drop(first);
        assert!(Places::take(&places, b).is_some(), "a place was given back");
    }
}
