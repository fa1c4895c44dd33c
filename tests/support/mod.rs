//! What the integration tests share: a site to test against, and a raw client.
//!
//! A test is a function that takes a [`Site`]; [`each_site!`] runs it over every store, and, where ZooKeeper should
//! do the same, against a real ZooKeeper too (`make reference`, or `cargo test --features zookeeper --test tree zookeeper`).
//!
//! ZooKeeper keeps what earlier tests left, so each test works below a znode of its own ([`Site::room`]).

// Every test file uses another part of it.
#![allow(dead_code, unused_macros, unused_imports)]

pub mod client;
pub mod etcd;
pub mod gate;
pub mod server;
pub mod zookeeper;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use client::{Client, ConnectOptions, Error, Incoming};
use etcd::{Etcd, Version};
use server::Running;
use zketcd::jute::client::encode_request;
use zketcd::jute::{CreateMode, ErrorCode, Reply, ReplyHeader, Request, WatcherEvent};
use zketcd::store::embedded::Embedded;
use zketcd::store::etcd::EtcdConfig;
use zketcd::store::{self, Store};

/// `Watcher.Event.EventType`.
pub const CREATED: i32 = 1;
pub const DELETED: i32 = 2;
pub const DATA_CHANGED: i32 = 3;
pub const CHILDREN_CHANGED: i32 = 4;
/// `KeeperState.SyncConnected`, the state of every watch event.
pub const CONNECTED: i32 = 3;

/// `super:test`, for `--super-digest`.
pub const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// Runs each test named at every site: `ours` over the stores of zketcd, `all` also against a ZooKeeper.
macro_rules! each_site {
    (all: [$($all:ident),* $(,)?], ours: [$($ours:ident),* $(,)?] $(,)?) => {
        crate::support::at_site!(memory, Site::memory(), [$($all,)* $($ours,)*]);
        crate::support::at_site!(etcd_34, Site::etcd(Version::V34), [$($all,)* $($ours,)*]);
        crate::support::at_site!(etcd_36, Site::etcd(Version::V36), [$($all,)* $($ours,)*]);

        #[cfg(feature = "zookeeper")]
        mod zookeeper {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $all() {
                    super::$all(crate::support::Site::zookeeper()).await;
                }
            )*
        }
    };
}
pub(crate) use each_site;

macro_rules! at_site {
    ($name:ident, $site:expr, [$($test:ident,)*]) => {
        mod $name {
            #[allow(unused_imports, reason = "not every site is an etcd")]
            use crate::support::{Site, etcd::Version};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($site.await).await;
                }
            )*
        }
    };
}
pub(crate) use at_site;

/// Where a test's servers keep their data.
pub enum Site {
    Zketcd(Arc<dyn Store>),
    ZooKeeper(SocketAddr),
}

/// A server of a site.
pub enum Server {
    Ours(Running),
    ZooKeeper(SocketAddr),
}

impl Site {
    /// Over an empty store in memory.
    pub async fn memory() -> Site {
        Site::Zketcd(Embedded::memory())
    }

    /// Over an etcd that this process' tests share, below a prefix of its own.
    pub async fn etcd(version: Version) -> Site {
        static ETCD: [OnceLock<Etcd>; 2] = [OnceLock::new(), OnceLock::new()];
        static SITES: AtomicUsize = AtomicUsize::new(0);
        let endpoint = tokio::task::spawn_blocking(move || {
            let shared = match version {
                Version::V34 => &ETCD[0],
                Version::V36 => &ETCD[1],
            };
            shared.get_or_init(|| Etcd::start(version)).endpoint()
        });
        let endpoint = endpoint.await.expect("an etcd");
        let prefix = format!("/test/{}", SITES.fetch_add(1, Ordering::Relaxed));
        let config = EtcdConfig { prefix, ..EtcdConfig::new([endpoint]) };
        Site::Zketcd(store::etcd::Etcd::connect(config).await.expect("a store in etcd"))
    }

    /// The ZooKeeper of this process' tests. It is one server, whatever the flags and however many are asked for.
    pub fn zookeeper() -> Site {
        Site::ZooKeeper(zookeeper::ZooKeeper::shared())
    }

    /// A server with the flags that most tests need.
    pub async fn server(&self) -> Server {
        self.server_with(&[]).await
    }

    /// A server with more flags. ZooKeeper's are always those of `tests/tools/zookeeper/run.sh`.
    pub async fn server_with(&self, flags: &[&str]) -> Server {
        match self {
            Site::Zketcd(store) => Server::Ours(Running::start(store.clone(), flags).await),
            Site::ZooKeeper(address) => Server::ZooKeeper(*address),
        }
    }

    /// The store below; there is none below a ZooKeeper.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Site::Zketcd(store) => store.clone(),
            Site::ZooKeeper(_) => panic!("a test of zketcd's own"),
        }
    }
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        match self {
            Server::Ours(running) => running.address,
            Server::ZooKeeper(address) => *address,
        }
    }

    /// A client with a new session.
    pub async fn client(&self) -> Client {
        self.connect(ConnectOptions::default()).await.expect("a session")
    }

    pub async fn connect(&self, options: ConnectOptions) -> client::Result<Client> {
        Client::connect(self.address(), options).await
    }

    /// A client, and an empty znode of its own.
    pub async fn room(&self) -> (Client, String) {
        let mut client = self.client().await;
        let path = room(&mut client).await;
        (client, path)
    }

    /// zketcd itself.
    pub fn ours(self) -> Running {
        match self {
            Server::Ours(running) => running,
            Server::ZooKeeper(_) => panic!("a test of zketcd's own"),
        }
    }
}

/// Makes an empty znode that no other test has.
pub async fn room(client: &mut Client) -> String {
    let path = format!("/room-{:x}", client.session_id());
    client.create(&path, b"", CreateMode::Persistent).await.expect("a room")
}

/// An event as a client gets it.
pub fn event(kind: i32, path: &str) -> WatcherEvent<'static> {
    WatcherEvent { kind, state: CONNECTED, path: path.to_owned().into() }
}

/// Events without their zxids.
pub fn bare(events: Vec<(i64, WatcherEvent<'static>)>) -> Vec<WatcherEvent<'static>> {
    events.into_iter().map(|(_, event)| event).collect()
}

/// The error that `code` is to a caller.
pub fn refused<T>(code: ErrorCode) -> client::Result<T> {
    Err(Error::Server(code))
}

/// The code that a request is answered with.
pub async fn code(client: &mut Client, request: Request) -> i32 {
    client.call(request).await.expect("an answer").0.err
}

/// The next answer, which must come before any event.
pub async fn answer(client: &mut Client) -> (ReplyHeader, Reply<'static>) {
    match client.recv().await.expect("an answer") {
        Incoming::Reply { header, reply } => (header, reply),
        Incoming::Event { event, .. } => panic!("{event:?} came before the answer"),
    }
}

/// A frame behind its length.
pub fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).expect("a short frame");
    [&length.to_be_bytes()[..], frame].concat()
}

/// A request as it goes over the wire.
pub fn encoded(xid: i32, request: &Request) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_request(&mut out, xid, request);
    out.to_vec()
}

/// A request of that opcode with that body, whatever they are.
pub fn raw_request(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    framed(&[&xid.to_be_bytes()[..], &op.to_be_bytes(), body].concat())
}

pub fn get(path: &str, watch: bool) -> Request {
    Request::GetData { path: path.into(), watch }
}

pub fn exists(path: &str, watch: bool) -> Request {
    Request::Exists { path: path.into(), watch }
}

pub fn children(path: &str, watch: bool) -> Request {
    Request::GetChildren { path: path.into(), watch }
}

pub fn set(path: &str, data: &[u8], version: i32) -> Request {
    Request::SetData { path: path.into(), data: Some(bytes::Bytes::copy_from_slice(data)), version }
}

pub fn delete(path: &str, version: i32) -> Request {
    Request::Delete { path: path.into(), version }
}

pub fn create(path: &str, data: &[u8], mode: CreateMode) -> Request {
    Request::Create(client::create_request(zketcd::jute::op::CREATE, path, data, mode))
}
