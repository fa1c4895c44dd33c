//! What the checks stand on: clients, events with deadlines, a network that goes away, a program that dies, the runner's
//! control of the servers.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use zookeeper_client::{
    Acls, Client, Connector, CreateMode, CreateOptions, Error, EventType, OneshotWatcher, PersistentWatcher,
    SessionState, StateWatcher, WatchedEvent,
};

/// For what must come; only a deadline.
const DEADLINE: Duration = Duration::from_secs(30);
/// After it a check has hung.
const HANGS: Duration = Duration::from_secs(90);
/// Sessions that must not expire on a busy machine.
pub const SESSION: Duration = Duration::from_secs(10);
/// Sessions that are to expire.
pub const SHORT: Duration = Duration::from_secs(1);

pub const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
pub const NUMBERED: CreateOptions<'static> = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
pub const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
pub const EPHEMERAL_NUMBERED: CreateOptions<'static> = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());

pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
pub type Check = (&'static str, fn(World) -> Running);

/// `check!(name)`: the entry of an async function that takes a [`World`].
#[macro_export]
macro_rules! check {
    ($name:ident) => {
        (stringify!($name), |world| Box::pin($name(world)))
    };
}

/// What a future gives, where it does so in time.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// A connection that ended: the library says so where it read the end, and hands on the system's error where it was writing.
pub fn is_lost(error: &Error) -> bool {
    matches!(error, Error::ConnectionLoss | Error::Custom(_))
}

/// The event of a watcher of either kind.
pub trait Fires {
    async fn event(self) -> WatchedEvent;
}

impl Fires for OneshotWatcher {
    async fn event(self) -> WatchedEvent {
        self.changed().await
    }
}

impl Fires for &mut PersistentWatcher {
    async fn event(self) -> WatchedEvent {
        self.changed().await
    }
}

/// The next event must be this one; its zxid.
pub async fn fires(watcher: impl Fires, kind: EventType, path: &str) -> i64 {
    let event = within("an event", watcher.event()).await;
    assert_eq!((event.event_type, event.path.as_str()), (kind, path));
    event.zxid
}

/// Waits for a state of the session.
pub async fn until(states: &mut StateWatcher, wanted: SessionState) {
    within("a state of the session", async { while states.changed().await != wanted {} }).await;
}

/// A part of a check that runs on its own.
pub struct Part<T>(JoinHandle<T>);

pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Part<T> {
    Part(tokio::spawn(work))
}

impl<T> Part<T> {
    pub async fn end(self) -> T {
        match within("a part's end", self.0).await {
            Ok(value) => value,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

/// What one check is given: the servers, and a path of its own.
#[derive(Clone)]
pub struct World {
    pub servers: String,
    pub root: String,
}

impl World {
    pub async fn client(&self) -> Client {
        self.connect(Client::connector()).await
    }

    pub async fn connect(&self, connector: Connector) -> Client {
        within("a session", connector.with_session_timeout(SESSION).connect(&self.servers)).await.unwrap()
    }

    pub async fn short(&self) -> Client {
        within("a session", Client::connector().with_session_timeout(SHORT).connect(&self.servers)).await.unwrap()
    }

    pub async fn connect_by(&self, network: &Network) -> Client {
        let connector = Client::connector().with_session_timeout(SESSION);
        within("a session", connector.connect(&network.address)).await.unwrap()
    }

    /// A path below the check's own.
    pub fn at(&self, name: &str) -> String {
        format!("{}{name}", self.root)
    }

    /// This program again, as a process of its own that a check may kill; it is ready when this returns.
    pub async fn program(&self, role: &str) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&self.servers, "--as", role, &self.root])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert_eq!(within("the other program", said.next_line()).await.unwrap().as_deref(), Some("ready"));
        child
    }
}

/// Ends a program of its own: it lives until it is killed.
pub async fn stays() {
    println!("ready");
    std::future::pending().await
}

/// A network between a client and the servers: it is there until it is cut.
pub struct Network {
    pub address: String,
    servers: String,
    carries: Option<JoinHandle<()>>,
}

impl Network {
    pub async fn new(servers: &str) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut network = Network { address, servers: servers.to_owned(), carries: None };
        network.carry(listener);
        network
    }

    fn carry(&mut self, listener: TcpListener) {
        let servers = self.servers.clone();
        self.carries = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, servers.clone()));
            }
        }));
    }

    pub async fn cut(&mut self) {
        if let Some(carries) = self.carries.take() {
            carries.abort();
            let _ = carries.await;
        }
    }

    pub async fn heal(&mut self) {
        self.carry(TcpListener::bind(&self.address).await.unwrap());
    }
}

/// Joins a client to the first of the servers that is there.
async fn relay(mut client: TcpStream, servers: String) {
    for server in servers.split(',') {
        if let Ok(mut server) = TcpStream::connect(server).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}

/// Has the runner do something to the servers; it is done when this returns.
pub async fn control(word: &str) {
    println!("control {word}");
    let answer = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    assert_eq!(within("the runner", answer).await.unwrap().unwrap().unwrap(), "done");
}

fn reason(failed: Box<dyn std::any::Any + Send>) -> String {
    let text = failed.downcast_ref::<String>().cloned();
    let text = text.or_else(|| failed.downcast_ref::<&str>().map(|text| text.to_string()));
    text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn passes((name, run): &Check, servers: &str) -> bool {
    let world = World { servers: servers.to_owned(), root: format!("/{name}") };
    let why = match tokio::time::timeout(HANGS, tokio::spawn(run(world))).await {
        Ok(Ok(())) => {
            println!("ok {name}");
            return true;
        }
        Ok(Err(failed)) => reason(failed.into_panic()),
        Err(_) => format!("did not end within {HANGS:?}"),
    };
    println!("FAILED {name}: {why}");
    control("heal").await;
    false
}

pub async fn main(checks: &[Check], roles: &[Check]) -> i32 {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (servers, rest) = arguments.split_first().expect("the servers");
    if let [word, role, root] = rest {
        assert_eq!(word, "--as");
        let (_, run) = roles.iter().find(|(name, _)| name == role).expect("a role");
        run(World { servers: servers.clone(), root: root.clone() }).await;
    }
    let mut code = 0;
    for check in checks {
        if rest.first().map_or(true, |part| check.0.contains(part.as_str())) && !passes(check, servers).await {
            code = 1;
        }
    }
    std::io::stdout().flush().unwrap();
    code
}
