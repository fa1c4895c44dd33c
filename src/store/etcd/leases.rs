//! Keep-alives: those of all leases share a few gRPC streams, and each answer finds its caller by the lease's id.

use std::collections::VecDeque;
use std::sync::Arc;

use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper};
use hashbrown::HashMap;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Duration, Instant, timeout_at};

use super::failure::Failure;
use super::members::Members;

/// How many streams there are. etcd handles a stream's requests one after the other, each with a round trip to its
/// leader, so that a few streams are some thousand keep-alives a second.
const STREAMS: usize = 4;

/// How many requests wait for a stream before callers do.
const QUEUE: usize = 1_024;

pub(super) struct KeepAlives {
    members: Arc<Members>,
    timeout: Duration,
    /// A lease always uses the same stream.
    streams: [Mutex<Option<mpsc::Sender<Request>>>; STREAMS],
}

struct Request {
    id: i64,
    /// Whether etcd has the lease.
    answer: oneshot::Sender<bool>,
}

impl KeepAlives {
    pub fn new(members: Arc<Members>, timeout: Duration) -> Self {
        KeepAlives { members, timeout, streams: Default::default() }
    }

    /// Starts the lease's ttl anew.
    pub async fn keep_alive(&self, id: i64) -> Result<(), Failure> {
        let late = || Failure::away(format!("no answer to a keep-alive within {:?}", self.timeout));
        let deadline = Instant::now() + self.timeout;
        let member = self.members.current();
        let requests = match timeout_at(deadline, self.stream(id)).await.map_err(|_| late())?? {
            Stream::Open(requests) => requests,
            Stream::New => return Ok(()),
        };
        match timeout_at(deadline, ask(&requests, id)).await {
            Ok(result) => result,
            Err(_) => {
                // A stream that does not answer is not trusted with another request.
                self.forget(id, &requests);
                self.members.leave(member);
                Err(late())
            }
        }
    }

    /// The lease's stream, opened where there is none: by this lease's keep-alive then.
    async fn stream(&self, id: i64) -> Result<Stream, Failure> {
        let mut slot = self.slot(id).lock().await;
        if let Some(requests) = slot.as_ref().filter(|requests| !requests.is_closed()) {
            return Ok(Stream::Open(requests.clone()));
        }
        *slot = None;
        let (keeper, answers) = self.members.call(|client| open(client, id)).await?;
        let (requests, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(keeper, answers, queue));
        *slot = Some(requests);
        Ok(Stream::New)
    }

    fn forget(&self, id: i64, requests: &mpsc::Sender<Request>) {
        // Whoever holds the lock is opening another one.
        if let Ok(mut slot) = self.slot(id).try_lock()
            && slot.as_ref().is_some_and(|open| open.same_channel(requests))
        {
            *slot = None;
        }
    }

    fn slot(&self, id: i64) -> &Mutex<Option<mpsc::Sender<Request>>> {
        let [first, ..] = &self.streams;
        self.streams.get(id.unsigned_abs() as usize % STREAMS).unwrap_or(first)
    }
}

enum Stream {
    Open(mpsc::Sender<Request>),
    /// Just opened by the keep-alive that asked for it, which etcd has confirmed.
    New,
}

async fn ask(requests: &mpsc::Sender<Request>, id: i64) -> Result<(), Failure> {
    let ended = || Failure::away("etcd ended the stream of keep-alives");
    let (answer, answered) = oneshot::channel();
    requests.send(Request { id, answer }).await.map_err(|_| ended())?;
    if answered.await.map_err(|_| ended())? { Ok(()) } else { Err(Failure::LeaseNotFound) }
}

/// Opens a stream with a keep-alive of `id`, whose answer it awaits.
async fn open(mut client: Client, id: i64) -> Result<(LeaseKeeper, LeaseKeepAliveStream), Failure> {
    Ok(client.lease_keep_alive(id).await?)
}

/// Serves one stream until it ends or nobody uses it any more. Whoever still waits then learns it from the answer's
/// sender being gone.
async fn run(mut keeper: LeaseKeeper, mut answers: LeaseKeepAliveStream, mut queue: mpsc::Receiver<Request>) {
    let mut waiting: HashMap<i64, VecDeque<oneshot::Sender<bool>>> = HashMap::new();
    loop {
        tokio::select! {
            request = queue.recv() => {
                let Some(Request { id, answer }) = request else { return };
                waiting.entry(id).or_default().push_back(answer);
                keeper.id = id;
                if keeper.keep_alive().await.is_err() {
                    return;
                }
            }
            answer = answers.message() => {
                let (id, ttl) = match answer {
                    Ok(Some(answer)) => (answer.id(), answer.ttl()),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%error, "a stream of keep-alives ended");
                        return;
                    }
                };
                // etcd answers a stream's requests in their order, so the oldest one of this lease is meant.
                if let hashbrown::hash_map::Entry::Occupied(mut of) = waiting.entry(id) {
                    if let Some(answer) = of.get_mut().pop_front() {
                        // Whoever asked may have given up.
                        let _ = answer.send(ttl > 0);
                    }
                    if of.get().is_empty() {
                        of.remove();
                    }
                }
            }
        }
    }
}
