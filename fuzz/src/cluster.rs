//! Two servers over one store, and clients: everything that happens is chosen by the fuzzer's bytes.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use tokio::sync::oneshot;
use zketcd::commit::verdict::Write;
use zketcd::jute::{Acl, ErrorCode, Id, MultiOp, Perms, Request, RequestHeader};
use zketcd::session::{ALONE_AFTER_MS, CloseReason, EngineConfig, Incoming, Now};
use zketcd::store::embedded::Embedded;
use zketcd::store::{Limits, Op, Store, Txn};
use zketcd::tree::key;
use zketcd::tree::record::{MetaRecord, SessionRecord};

use crate::check;
use crate::client::{Connection, Session, State};
use crate::request;
use crate::server::{FOREVER, Fate, Followed, Server, at_once};

const SERVERS: usize = 2;
const LANES: usize = 2;
const CLIENTS: usize = 4;

/// Steps of a run: enough for every client to come, work, go and come back.
const STEPS: usize = 300;

/// Rounds after which a cluster that is left in peace has settled: one for each request that could be waiting.
const ROUNDS: usize = 2_000;

/// Milliseconds between two rounds: less than a quarter of the shortest session's timeout, so that none ends by it.
const PAUSE_MS: u64 = 500;

/// Rounds without anything to do, after which nothing is coming any more: longer than what waits for a time (claims,
/// refused reapings).
const QUIET: u32 = 3;

/// Requests of one connection that may wait: few, so that connections are stopped and go on.
const OUTSTANDING: usize = 6;

const STORE_TIMEOUT_MS: u64 = 10_000;

/// Milliseconds since the Unix epoch when a run begins.
const EPOCH: i64 = 1_700_000_000_000;

/// The servers' clock when a run begins, in milliseconds: 0 is never, to them.
const BEGIN_MS: u64 = 1_000;

/// Batches of servers that died, kept to come late.
const MOST_STRAYS: usize = 8;

/// How a session's lease outlives its timeout, as `leases::session_ttl`.
const SLACK_MS: u64 = 1_000;

/// A client: its session outlives its connections.
#[derive(Default)]
struct Client {
    session: Option<Session>,
    connection: Option<Connection>,
    /// The one before, which this client has given up and the servers may not know of.
    old: Option<Connection>,
}

/// A session's, in milliseconds.
struct Lease {
    ttl: u64,
    ends: u64,
}

/// See the module's documentation.
pub struct Cluster {
    store: Arc<Embedded>,
    servers: Vec<Server>,
    clients: Vec<Client>,
    now: Now,
    leases: BTreeMap<i64, Lease>,
    server_leases: Vec<i64>,
    strays: Vec<Txn>,
    next_session: i64,
    next_server: u64,
    /// Every ACL is the open one.
    all_open: bool,
}

impl Cluster {
    /// Small limits make groups, reaping and refusals of every size.
    pub fn new(source: &mut Unstructured<'_>) -> Result<Self> {
        let store = Embedded::memory();
        let limits = match source.int_in_range(0..=3)? {
            0 => Limits { txn_ops: 12, ..store.limits() },
            1 => Limits { txn_ops: 48, request_bytes: 4_096 },
            _ => store.limits(),
        };
        let config = EngineConfig {
            store_timeout_ms: STORE_TIMEOUT_MS,
            limits,
            lanes: LANES,
            linearizable_reads: source.ratio(1, 4)?,
            super_digest: None,
            outstanding: OUTSTANDING,
            alone_after_ms: if source.arbitrary()? { 0 } else { ALONE_AFTER_MS },
        };
        let base = if source.arbitrary()? { 1_000 } else { 0 };
        let value = MetaRecord { cluster_id: 1, bases: vec![(0, base)] }.encode();
        let put = Op::Put { key: key::META.into(), value, lease: 0 };
        at_once(store.transact(Txn { then: vec![put], ..Txn::default() })).expect("the store answers");
        let mut cluster = Cluster {
            store,
            servers: Vec::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            now: Now { mono: BEGIN_MS, wall: EPOCH },
            leases: BTreeMap::new(),
            server_leases: Vec::new(),
            strays: Vec::new(),
            next_session: 1,
            next_server: 1,
            all_open: source.arbitrary()?,
        };
        for _ in 0..SERVERS {
            let number = cluster.server_number();
            let server = Server::start(cluster.store.clone(), config.clone(), number, cluster.now);
            cluster.server_leases.push(server.engine.identity().lease);
            cluster.servers.push(server);
        }
        Ok(cluster)
    }

    /// Lives until the bytes run out, then settles.
    pub fn run(&mut self, source: &mut Unstructured<'_>) {
        for _ in 0..STEPS {
            if source.is_empty() || self.step(source).is_err() {
                break;
            }
            self.read();
        }
        self.settle();
    }

    fn step(&mut self, source: &mut Unstructured<'_>) -> Result<()> {
        let server = usize::from(source.arbitrary::<bool>()?);
        match source.int_in_range(0..=31)? {
            0..=11 => self.act(server, source)?,
            12..=16 => {
                let (lane, fate) = (source.int_in_range(0..=LANES - 1)?, fate(source)?);
                self.step_lane(server, lane, fate);
            }
            17..=19 => {
                self.follow(server, source.int_in_range(1..=4)?);
            }
            20..=22 => self.run_server(server),
            23 => self.hang_up(source.int_in_range(0..=CLIENTS - 1)?, source.arbitrary()?),
            24 => {
                let ms = *source.choose(&[1, 10, 60, 600, 1_600, 5_000])?;
                self.advance(ms);
            }
            25 | 26 => {
                let fate = fate(source)?;
                self.renew(server, fate);
            }
            27 => self.servers[server].revoke(),
            28 => self.servers[server].engine.sweep(),
            29 => self.servers[server].break_stream(),
            30 => self.servers[server].send_again(source.int_in_range(0..=LANES - 1)?),
            _ => self.misfortune(server, source)?,
        }
        Ok(())
    }

    /// What is rare, so that between two of them something is built up.
    fn misfortune(&mut self, server: usize, source: &mut Unstructured<'_>) -> Result<()> {
        match source.int_in_range(0..=4)? {
            0 => {
                let revision = at_once(self.store.snapshot()).expect("the store answers").revision;
                self.store.compact(revision + 1);
            }
            1 => {
                if let Some(id) = pick(source, &self.leases.keys().copied().collect::<Vec<_>>())? {
                    self.end_lease(id);
                }
            }
            2 => {
                if let Some(lease) = pick(source, &self.server_leases)? {
                    at_once(self.store.lease_revoke(lease)).expect("the store answers");
                }
            }
            3 => self.crash(server),
            _ => {
                if let Some(stray) = self.strays.pop() {
                    // It may take effect or not; nobody hears of it.
                    let _ = at_once(self.store.transact(stray));
                }
            }
        }
        Ok(())
    }

    /// A client connects, or sends requests.
    fn act(&mut self, server: usize, source: &mut Unstructured<'_>) -> Result<()> {
        let at = source.int_in_range(0..=CLIENTS - 1)?;
        let Some(connection) = &mut self.clients[at].connection else {
            return self.connect(at, server, source);
        };
        if !connection.may_send() {
            return Ok(());
        }
        let mut incoming = Vec::new();
        for _ in 0..source.int_in_range(1..=4)? {
            if source.ratio(1, 64)? {
                let code = ErrorCode::MarshallingError;
                let header = RequestHeader { xid: connection.ask_malformed(code), op: 1 };
                incoming.push(Incoming::Malformed(header, code));
                continue;
            }
            let mut request = request(source)?;
            if self.all_open {
                open_acls(&mut request);
            }
            let header = RequestHeader { xid: connection.ask(&request), op: request.op() };
            incoming.push(Incoming::Request(header, request));
        }
        let engine = &mut self.servers[connection.server].engine;
        connection.full = !engine.receive(connection.id, incoming);
        Ok(())
    }

    /// Begins a session, or attaches the one that the client has, as `server::connection` does.
    fn connect(&mut self, at: usize, server: usize, source: &mut Unstructured<'_>) -> Result<()> {
        let client = &mut self.clients[at];
        let engine = &mut self.servers[server].engine;
        let (session, write, renewed_at, wrong) = match &client.session {
            None => {
                let id = self.next_session;
                self.next_session += 1;
                let timeout_ms = *source.choose(&[4_000, 8_000])?;
                let password = [id as u8; 16];
                at_once(self.store.lease_grant(id, FOREVER)).expect("a new lease");
                let ttl = timeout_ms + SLACK_MS;
                self.leases.insert(id, Lease { ttl, ends: self.now.mono + ttl });
                let record = SessionRecord { timeout: timeout_ms as i32, password, attached: 0 };
                (Session::new(id, password), Write::Open { id, record }, self.now.mono, false)
            }
            Some(session) => {
                let replica = engine.replica();
                if session.last_zxid > 0 && replica.revision_of(session.last_zxid) > replica.revision() {
                    // The server waits until it has seen what the client has.
                    engine.sync(oneshot::channel().0);
                    return Ok(());
                }
                let wrong = source.ratio(1, 16)?;
                let password = if wrong { vec![0; 16] } else { session.password.to_vec() };
                let alive = at_once(self.store.lease_keep_alive(session.id)).is_ok();
                let write = Write::Attach { id: session.id, password };
                (session.clone(), write, if alive { self.now.mono } else { 0 }, wrong)
            }
        };
        if let (Write::Attach { id, .. }, true) = (&write, renewed_at > 0) {
            self.keep_lease(*id);
        }
        let client = &mut self.clients[at];
        let engine = &mut self.servers[server].engine;
        let mut connection = Connection::new(server, session, self.all_open);
        connection.wrong_password = wrong;
        connection.id = engine.connect(connection.outbox.clone(), peer(), true);
        engine.handshake(connection.id, write, renewed_at);
        client.connection = Some(connection);
        Ok(())
    }

    /// The client gives its connection up. `heard`: the server is told so; else it goes on with what it has.
    fn hang_up(&mut self, at: usize, heard: bool) {
        let client = &mut self.clients[at];
        let Some(connection) = client.connection.take() else { return };
        client.session = connection.attached.then(|| connection.session.clone()).or(client.session.take());
        if heard {
            self.servers[connection.server].engine.disconnect(connection.id);
            return;
        }
        if let Some(older) = client.old.replace(connection) {
            self.servers[older.server].engine.disconnect(older.id);
        }
    }

    /// Clients read what has come.
    fn read(&mut self) {
        for client in &mut self.clients {
            if let Some(connection) = &mut client.old
                && connection.read() != State::Open
            {
                self.servers[connection.server].engine.disconnect(connection.id);
                client.old = None;
            }
            let Some(connection) = &mut client.connection else { continue };
            let state = connection.read();
            if connection.attached {
                client.session = Some(connection.session.clone());
            }
            let engine = &mut self.servers[connection.server].engine;
            match state {
                State::Open => continue,
                State::Refused => {
                    let snapshot = at_once(self.store.snapshot()).expect("the store answers");
                    let record = key::session(connection.session.id);
                    let over = snapshot.entries.iter().all(|entry| entry.key != record);
                    assert!(over || connection.wrong_password, "a session that lives is refused");
                    client.session = client.session.take().filter(|_| !over);
                }
                State::Closed(CloseReason::SessionClosed) => client.session = None,
                State::Closed(reason) => check::may_close(reason),
            }
            engine.disconnect(connection.id);
            client.connection = None;
        }
    }

    fn step_lane(&mut self, server: usize, lane: usize, fate: Fate) {
        if !self.servers[server].step_lane(lane, fate) {
            self.begin_anew(server);
        }
    }

    /// False: nothing came.
    fn follow(&mut self, server: usize, most: usize) -> bool {
        let followed = self.servers[server].follow(most);
        if followed == Followed::LaneLost {
            self.begin_anew(server);
        }
        followed != Followed::Nothing
    }

    fn begin_anew(&mut self, server: usize) {
        let number = self.server_number();
        let revoked = self.servers[server].engine.identity().lease;
        let gone = at_once(self.store.lease_keep_alive(revoked)).is_err();
        assert!(gone, "a lane is lost, and its lease is not");
        let strays = self.servers[server].begin_anew(number);
        self.stray(strays);
        self.server_leases.push(self.servers[server].engine.identity().lease);
    }

    fn crash(&mut self, server: usize) {
        let number = self.server_number();
        let strays = self.servers[server].crash(number, self.now);
        self.stray(strays);
        self.server_leases.push(self.servers[server].engine.identity().lease);
        for client in &mut self.clients {
            client.old = client.old.take().filter(|connection| connection.server != server);
            if let Some(connection) = client.connection.take_if(|connection| connection.server == server)
                && connection.attached
            {
                client.session = Some(connection.session);
            }
        }
    }

    fn stray(&mut self, strays: Vec<Txn>) {
        self.strays.extend(strays);
        self.strays.truncate(MOST_STRAYS);
    }

    fn server_number(&mut self) -> u64 {
        self.next_server += 1;
        self.next_server - 1
    }

    /// All that a server can do without time going on.
    fn run_server(&mut self, server: usize) {
        for _ in 0..ROUNDS {
            let mut busy = self.follow(server, usize::MAX);
            for lane in 0..LANES {
                busy |= self.servers[server].is_sending();
                self.step_lane(server, lane, Fate::Answered);
                busy |= self.servers[server].is_sending();
            }
            if !busy {
                return;
            }
        }
        panic!("server {server} never rests");
    }

    fn renew(&mut self, server: usize, fate: Fate) {
        for id in self.servers[server].renew(fate, self.now) {
            self.keep_lease(id);
        }
    }

    fn keep_lease(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.ends = self.now.mono + lease.ttl;
        }
    }

    fn end_lease(&mut self, id: i64) {
        self.leases.remove(&id);
        at_once(self.store.lease_revoke(id)).expect("the store answers");
    }

    /// Time goes on. Leases end, and nobody may still be told that their sessions live.
    fn advance(&mut self, ms: u64) {
        self.now.mono += ms;
        self.now.wall += ms as i64;
        for server in &mut self.servers {
            server.engine.set_now(self.now);
            server.engine.tick();
        }
        let over = self.leases.iter().filter(|(_, lease)| lease.ends <= self.now.mono);
        let over: Vec<i64> = over.map(|(id, _)| *id).collect();
        for id in over {
            for client in &self.clients {
                for connection in client.connection.iter().chain(&client.old) {
                    let told = connection.attached && connection.session.id == id;
                    assert!(!told || connection.outbox.closed().is_some(), "session {id} outlives its lease");
                }
            }
            self.end_lease(id);
        }
    }

    /// Everything gets through from now on: after a while nothing is left to be done, and all is as it should be.
    fn settle(&mut self) {
        for server in &mut self.servers {
            server.engine.sync(oneshot::channel().0);
        }
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            for server in 0..SERVERS {
                self.renew(server, Fate::Answered);
                self.run_server(server);
                self.servers[server].revoke();
            }
            self.read();
            let revision = at_once(self.store.snapshot()).expect("the store answers").revision;
            let level = |server: &Server| server.engine.replica().revision() == revision && !server.engine.has_work();
            quiet = if self.servers.iter().all(level) { quiet + 1 } else { 0 };
            if quiet > QUIET {
                self.check();
                return;
            }
            self.advance(PAUSE_MS);
        }
        panic!("the cluster does not settle");
    }

    fn check(&mut self) {
        let snapshot = at_once(self.store.snapshot()).expect("the store answers");
        check::replicas(snapshot, &self.servers.iter().map(|server| server.engine.replica()).collect::<Vec<_>>());
        let mut owned = HashSet::new();
        for client in &mut self.clients {
            for connection in client.connection.iter_mut().chain(&mut client.old) {
                assert_eq!(connection.unanswered(), 0, "requests without an answer");
                assert!(connection.attached, "a connect request without an answer");
                assert!(connection.may_send(), "a connection is not read any more");
                assert!(owned.insert(connection.session.id), "two connections have one session");
            }
        }
    }
}

fn fate(source: &mut Unstructured<'_>) -> Result<Fate> {
    Ok(match source.int_in_range(0..=7)? {
        0 => Fate::Lost,
        1 => Fate::AnswerLost,
        _ => Fate::Answered,
    })
}

fn pick(source: &mut Unstructured<'_>, among: &[i64]) -> Result<Option<i64>> {
    if among.is_empty() { Ok(None) } else { source.choose(among).copied().map(Some) }
}

fn peer() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

fn open_acls(request: &mut Request) {
    let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    let open = || Some(vec![Acl { perms: Perms::ALL, id: id.clone() }]);
    match request {
        Request::Create(create) => create.acl = open(),
        Request::SetAcl { acl, .. } => *acl = open(),
        Request::Multi(ops) => {
            for op in ops {
                if let MultiOp::Create(create) = op {
                    create.acl = open();
                }
            }
        }
        _ => {}
    }
}
