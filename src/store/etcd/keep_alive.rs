//! Keep-alives of thousands of leases over a few gRPC streams.

use std::collections::{HashMap, VecDeque};

use etcd_client::{LeaseClient, LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::{mpsc, oneshot};

use super::convert;
use crate::store::StoreError;

/// Streams that all leases share: etcd answers a stream's requests one after another.
const STREAMS: usize = 4;

/// Renewals that may wait for one stream: a quarter of 10,000 sessions at once, and some.
const QUEUE: usize = 4_096;

type Answer = oneshot::Sender<Result<(), StoreError>>;

/// The streams, each with a task of its own; opened with the first renewal, and again after they broke.
#[derive(Debug)]
pub struct KeepAlives {
    streams: Vec<mpsc::Sender<(i64, Answer)>>,
}

impl KeepAlives {
    pub fn new(client: LeaseClient) -> Self {
        let stream = |_| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            tokio::spawn(run(client.clone(), receiver));
            sender
        };
        KeepAlives { streams: (0..STREAMS).map(stream).collect() }
    }

    /// Starts the lease's ttl anew.
    pub async fn renew(&self, id: i64) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let at = id.unsigned_abs() as usize % self.streams.len().max(1);
        let broken = || StoreError::Unavailable("the keep-alive stream broke".to_owned());
        let stream = self.streams.get(at).ok_or_else(broken)?;
        stream.send((id, answer)).await.map_err(|_| broken())?;
        answered.await.unwrap_or_else(|_| Err(broken()))
    }
}

/// Opens the stream with whatever renewal comes first, and runs it until it breaks.
async fn run(mut client: LeaseClient, mut renewals: mpsc::Receiver<(i64, Answer)>) {
    while let Some((id, answer)) = renewals.recv().await {
        if answer.is_closed() {
            continue;
        }
        match tokio::time::timeout(super::CALL, client.keep_alive(id)).await {
            Ok(Ok((keeper, stream))) => {
                let _ = answer.send(Ok(()));
                multiplex(keeper, stream, &mut renewals).await;
            }
            Ok(Err(etcd_client::Error::LeaseKeepAliveError(_))) => {
                let _ = answer.send(Err(StoreError::LeaseNotFound { id }));
            }
            Ok(Err(error)) => {
                let _ = answer.send(Err(convert::error(error)));
            }
            Err(_) => {}
        }
    }
}

/// Renewals out, answers in, matched by lease. Returns when the stream broke: what waited hears so, as its sender
/// is dropped.
async fn multiplex(
    mut keeper: LeaseKeeper,
    mut stream: LeaseKeepAliveStream,
    renewals: &mut mpsc::Receiver<(i64, Answer)>,
) {
    let mut waiting: HashMap<i64, VecDeque<Answer>> = HashMap::new();
    loop {
        tokio::select! {
            renewal = renewals.recv() => {
                let Some((id, answer)) = renewal else { return };
                keeper.id = id;
                if keeper.keep_alive().await.is_err() {
                    return;
                }
                waiting.entry(id).or_default().push_back(answer);
            }
            message = stream.message() => {
                let Ok(Some(response)) = message else { return };
                let id = response.id();
                let result = if response.ttl() > 0 { Ok(()) } else { Err(StoreError::LeaseNotFound { id }) };
                if let Some(answers) = waiting.get_mut(&id) {
                    if let Some(answer) = answers.pop_front() {
                        // Whoever asked may have given up.
                        let _ = answer.send(result);
                    }
                    if answers.is_empty() {
                        waiting.remove(&id);
                    }
                }
            }
        }
    }
}
