//! The server: what runs around the engine.
//!
//! - [`shared`]: the engine behind its mutex, and what wakes the tasks.
//! - [`bootstrap`]: an identity, lanes, the first snapshot.
//! - [`lanes`]: sends batches until their outcome is known.
//! - [`follower`]: applies the store's changes.
//! - [`leases`]: renews and revokes.
//! - [`listener`], [`connection`]: clients.
//! - [`four_letter`], [`admin`], [`stats`], [`view`]: what monitoring sees.

pub mod admin;
pub mod bootstrap;
mod connection;
mod dates;
pub mod environment;
mod follower;
pub mod four_letter;
mod lanes;
mod leases;
mod listener;
pub mod shared;
pub mod stats;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::bootstrap::StartError;
use self::lanes::Over;
use self::shared::Shared;
use crate::config::{Config, StoreConfig};
use crate::metrics::Metrics;
use crate::session::{ALONE_AFTER_MS, Engine, EngineConfig};
use crate::store::etcd::{Etcd, EtcdConfig};
use crate::store::{Identity, Store, StoreError};

/// How often expiry and waiting writes are looked at: sessions end at most this much late.
const TICK: Duration = Duration::from_millis(50);

/// Without a write of its own for this long a server writes nothing, on its lane: whoever sees it knows how far
/// the stream is. A quarter of `--etcd-timeout`, at most this.
const PROBE: Duration = Duration::from_secs(5);

/// How long a server that ends waits for its lease to be revoked.
const LEAVE: Duration = Duration::from_secs(5);

/// How long a server that ends waits for the answers of what it took.
const DRAIN: Duration = Duration::from_secs(10);

/// The pause before another try to begin anew.
const BEGIN_RETRY: Duration = Duration::from_secs(1);

/// Why the server could not start, or had to end: one clear line.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address} (--listen): {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the data under the prefix is damaged; see the log")]
    Damaged,
}

/// Serves until `shutdown`, then drains.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServeError> {
    let listener =
        listener::bind(config.listen).map_err(|error| ServeError::Listen { address: config.listen, error })?;
    let store = open(&config).await?;
    Server::start(config, store, listener).await?.serve(shutdown).await
}

/// A server that has read its tree and serves nobody yet.
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    shared: Arc<Shared>,
    identity: Identity,
    listener: TcpListener,
    admin: Option<TcpListener>,
}

impl Server {
    /// Begins on `store`: fails where it is away, or holds what cannot be served.
    pub async fn start(config: Config, store: Arc<dyn Store>, listener: TcpListener) -> Result<Self, ServeError> {
        let started = Instant::now();
        let admin = match config.admin_listen {
            Some(address) => Some(admin::bind(address).await?),
            None => None,
        };
        let identity = store.identity().await.map_err(StartError::from)?;
        for warning in &identity.warnings {
            tracing::warn!("{warning}");
        }
        let (me, replica) = bootstrap::begin(&store, &identity, config.lanes, None).await?;
        let metrics = Arc::new(Metrics::new());
        let engine_config = EngineConfig {
            store_timeout_ms: config.etcd_timeout.as_millis() as u64,
            limits: store.limits(),
            lanes: config.lanes,
            linearizable_reads: config.linearizable_reads,
            super_digest: config.super_digest.as_ref().map(|digest| digest.reveal().to_owned()),
            outstanding: config.connections.outstanding,
            alone_after_ms: ALONE_AFTER_MS,
        };
        tracing::info!(
            store = identity.description,
            znodes = replica.len(),
            revision = replica.revision(),
            server = format_args!("{:016x}", me.server),
            "the tree is read"
        );
        let engine = Engine::new(engine_config, metrics.clone(), me, replica, shared::now(started));
        if let Some(durable) = store.durable() {
            engine.gate().open(*durable.borrow(), |_| {});
        }
        let shared = Arc::new(Shared::new(store, metrics, started, engine));
        Ok(Server { config: Arc::new(config), shared, identity, listener, admin })
    }

    /// Where clients connect.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then answers what was taken and closes.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Server { config, shared, identity, listener, admin } = self;
        let _admin = admin.map(|admin| {
            let pages = admin::Admin {
                metrics: shared.metrics.clone(),
                probe: Arc::new(view::Pages(shared.clone())),
                draining: shutdown.clone(),
            };
            // It goes on while the server drains, and ends with it.
            AbortOnDropHandle::new(tokio::spawn(admin::serve(admin, pages, CancellationToken::new())))
        });
        let _gate = shared.store.durable().map(|durable| {
            // While the server drains, too.
            AbortOnDropHandle::new(tokio::spawn(open_gate(shared.clone(), durable)))
        });
        tracing::info!(address = %config.listen, "serving ZooKeeper clients");
        let clients = listener::run(shared.clone(), config.clone(), listener, shutdown.clone());
        let clients = AbortOnDropHandle::new(tokio::spawn(clients));
        let core = Core { config, shared, identity };
        let result = tokio::select! {
            result = core.run() => result,
            () = core.drained(&shutdown, clients) => Ok(()),
        };
        core.leave().await;
        result
    }
}

/// What goes on beside the clients' connections.
struct Core {
    config: Arc<Config>,
    shared: Arc<Shared>,
    identity: Identity,
}

impl Core {
    /// One generation after another; ends only where the data cannot be served any more.
    async fn run(&self) -> Result<(), ServeError> {
        loop {
            match self.generation().await {
                Over::Damaged => return Err(ServeError::Damaged),
                over => self.begin_anew(over).await,
            }
        }
    }

    /// Waits for `shutdown`, then for the answers of what was taken.
    async fn drained(&self, shutdown: &CancellationToken, clients: AbortOnDropHandle<()>) {
        shutdown.cancelled().await;
        tracing::info!("draining");
        self.shared.with(Engine::drain);
        if tokio::time::timeout(DRAIN, clients).await.is_err() {
            tracing::warn!("some answers were not given in time");
        }
    }

    async fn leave(&self) {
        let me = self.shared.take(|engine| engine.identity());
        if !matches!(tokio::time::timeout(LEAVE, bootstrap::end(&*self.shared.store, me)).await, Ok(Ok(()))) {
            tracing::debug!("the server's lease was not revoked: it will expire");
        }
    }

    /// Runs everything that goes on under one identity, until that is over.
    async fn generation(&self) -> Over {
        let mut tasks = JoinSet::new();
        for lane in 0..self.config.lanes {
            tasks.spawn(lanes::run(self.shared.clone(), lane));
        }
        tasks.spawn(follower::run(self.shared.clone()));
        let mut helpers = JoinSet::new();
        helpers.spawn(leases::renew_sessions(self.shared.clone()));
        helpers.spawn(leases::renew_server(self.shared.clone()));
        helpers.spawn(leases::revoke(self.shared.clone()));
        helpers.spawn(tick(self.shared.clone()));
        helpers.spawn(sweep(self.shared.clone(), self.config.container_check_interval));
        helpers.spawn(probe(self.shared.clone(), PROBE.min(self.config.etcd_timeout / 4)));
        let over = tokio::select! {
            over = tasks.join_next() => match over {
                Some(Ok(over)) => over,
                Some(Err(error)) => {
                    tracing::error!(%error, "a task of the server ended");
                    Over::Damaged
                }
                None => Over::Damaged,
            },
            ended = helpers.join_next() => {
                tracing::error!(?ended, "a task of the server ended");
                Over::Damaged
            }
        };
        // None of them may touch the engine after it has begun anew.
        tokio::join!(tasks.shutdown(), helpers.shutdown());
        over
    }

    /// A new identity and a new snapshot; every connection ends.
    async fn begin_anew(&self, over: Over) {
        tracing::warn!(?over, "beginning anew: all connections are closed");
        let seen = self.shared.take(|engine| {
            engine.suspend();
            let revision = engine.replica().revision();
            (revision, engine.replica().zxid(revision, 0) >> crate::tree::record::SLOT_BITS)
        });
        loop {
            match bootstrap::begin(&self.shared.store, &self.identity, self.config.lanes, Some(seen)).await {
                Ok((me, replica)) => {
                    self.shared.with(|engine| engine.reset(me, replica));
                    return;
                }
                Err(error) => tracing::warn!(%error, "cannot begin anew yet"),
            }
            tokio::time::sleep(BEGIN_RETRY).await;
        }
    }
}

async fn open(config: &Config) -> Result<Arc<dyn Store>, StartError> {
    let store: Arc<dyn Store> = match &config.store {
        StoreConfig::Memory => crate::store::embedded::Embedded::memory(),
        StoreConfig::Embedded { data_dir } => crate::store::embedded::Embedded::open(data_dir)?,
        StoreConfig::Etcd(etcd) => {
            let mut settings = EtcdConfig::new(&etcd.endpoints);
            settings.prefix = etcd.prefix.clone();
            settings.user = etcd.credentials.as_ref().map(|one| (one.user.clone(), one.password.reveal().to_owned()));
            settings.ca = etcd.tls.as_ref().and_then(|tls| tls.ca.clone());
            settings.identity = etcd.tls.as_ref().and_then(|tls| tls.identity.clone());
            settings.limits = config.txn_limits;
            Etcd::connect(settings).await?
        }
    };
    Ok(store)
}

/// Lets answers go as the store writes what they tell.
async fn open_gate(shared: Arc<Shared>, mut durable: watch::Receiver<i64>) {
    loop {
        let revision = *durable.borrow_and_update();
        shared.gate.open(revision, |waited| shared.metrics.held_duration.observe(waited.as_secs_f64()));
        if durable.changed().await.is_err() {
            return;
        }
    }
}

async fn tick(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        shared.with(Engine::tick);
    }
}

async fn sweep(shared: Arc<Shared>, every: Duration) {
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        shared.with(Engine::sweep);
    }
}

async fn probe(shared: Arc<Shared>, every: Duration) {
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        if shared.take(|engine| engine.staleness()) >= every.as_millis() as u64
            && let Err(error) = commit_nothing(&shared).await
        {
            tracing::debug!(%error, "no probe");
        }
    }
}

/// Commits nothing, and returns when that is applied here and lasts.
pub(crate) async fn commit_nothing(shared: &Shared) -> Result<(), StoreError> {
    let (done, committed) = oneshot::channel();
    shared.with(|engine| engine.sync(done));
    let begins_anew = |_| StoreError::Unavailable("the server begins anew".to_owned());
    committed.await.map_err(begins_anew)?;
    let revision = shared.take(|engine| engine.replica().revision());
    if let Some(mut durable) = shared.store.durable() {
        let ended = |_| StoreError::Unavailable("the store has been closed".to_owned());
        durable.wait_for(|durable| *durable >= revision).await.map_err(ended)?;
    }
    Ok(())
}
