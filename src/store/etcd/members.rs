//! The endpoints: one is used at a time, and left where it fails.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;

pub(super) struct Members {
    members: Vec<Member>,
    /// The one in use.
    current: AtomicUsize,
    options: ConnectOptions,
    timeout: Duration,
}

struct Member {
    endpoint: String,
    client: OnceCell<Client>,
}

impl Members {
    /// Of at least one endpoint; nothing is connected yet.
    pub fn new(endpoints: &[String], options: ConnectOptions, timeout: Duration) -> Self {
        let member = |endpoint: &String| Member { endpoint: endpoint.clone(), client: OnceCell::new() };
        let members = endpoints.iter().map(member).collect();
        Members { members, current: AtomicUsize::new(0), options, timeout }
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &member.endpoint[..])
    }

    /// Carries out `call` on the member in use, within the timeout. Where it fails the next call goes to another one;
    /// this one, too, where the request certainly was not sent.
    pub async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.timeout;
        let mut tried = 0;
        loop {
            let index = self.current.load(Ordering::Relaxed);
            let result = self.call_one(index, deadline, &call).await;
            tried += 1;
            match result {
                Err(Failure::Away { why, unsent }) => {
                    self.leave(index);
                    if !unsent || tried >= self.members.len() {
                        return Err(Failure::Away { why, unsent });
                    }
                }
                result => return result,
            }
        }
    }

    /// Carries out `call` on every member; the results in the order of the endpoints.
    pub async fn call_all<T, F>(&self, call: impl Fn(Client) -> F) -> Vec<Result<T, Failure>>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.timeout;
        let calls = (0..self.members.len()).map(|index| self.call_one(index, deadline, &call));
        futures::future::join_all(calls).await
    }

    /// Uses the next member from now on, unless somebody has left the one in use already.
    pub fn leave(&self, index: usize) {
        let next = (index + 1) % self.members.len().max(1);
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The one in use.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    async fn call_one<T, F>(&self, index: usize, deadline: Instant, call: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let Some(member) = self.members.get(index) else { return Err(Failure::away("no such member")) };
        let called = timeout_at(deadline, async {
            let client = member.client(&self.options).await?;
            match call(client.clone()).await {
                Err(Failure::Unauthenticated(_)) => {
                    client.refresh_token().await?;
                    call(client).await.map_err(Failure::with_fresh_token)
                }
                result => result,
            }
        });
        match called.await {
            Ok(Err(Failure::Away { why, unsent })) => {
                Err(Failure::Away { why: format!("etcd at {}: {why}", member.endpoint), unsent })
            }
            Ok(result) => result,
            Err(_) => Err(Failure::away(format!("etcd at {}: no answer within {:?}", member.endpoint, self.timeout))),
        }
    }
}

impl Member {
    /// The client, made at the first use: with a user and password that asks etcd for a token.
    async fn client(&self, options: &ConnectOptions) -> Result<Client, Failure> {
        let client = self.client.get_or_try_init(|| Client::connect([&self.endpoint], Some(options.clone())));
        Ok(client.await?.clone())
    }
}
