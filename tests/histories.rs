//! Random histories: several sessions on two servers, their batches built, sent, sent again, answered and applied in
//! any order. Whatever happens, all answers, stats, events and trees are those of a ZooKeeper that does one request
//! at a time, in the order of the zxids.

#[path = "support/drive.rs"]
mod drive;
#[path = "support/model.rs"]
mod model;
mod support;

use std::collections::VecDeque;

use drive::{Heard, Sent, Talker, Zketcd};
use model::{Event, Model};
use proptest::prelude::*;
use support::client::{check_op, create_request, delete_op, open_acl, set_op};
use support::{delete, exists, get, set};
use zketcd::jute::{CreateMode, ErrorCode, MultiOp, Reply, ReplyHeader, Request, op};
use zketcd::store::embedded::Embedded;
use zketcd::store::{Snapshot, Store, TxnResult};
use zketcd::tree::key::{self, Parsed};

const CLIENTS: usize = 3;

/// Batches of a server that may be under way at a time.
const LANES: usize = 3;

/// Milliseconds that a step takes: a few of them make a store slow, and end another server's turn.
const STEP_MS: u64 = 2;

/// What the test does next, at one of the two servers.
#[derive(Debug, Clone)]
enum Step {
    Send {
        client: usize,
        requests: Vec<Request>,
    },
    Build,
    /// The store has a batch, the oldest or, `late` ones overtaken, the newest; `again`: and has it a second time, as where
    /// the first answer was lost.
    Commit {
        again: bool,
        late: bool,
    },
    Answer {
        late: bool,
    },
    Pull,
    Resync,
}

struct Server {
    zketcd: Zketcd,
    clients: Vec<Client>,
    watcher: Talker,
    events: Vec<Event>,
    /// Built and not yet with the store, or with the store and not yet answered.
    built: VecDeque<Sent>,
    committed: VecDeque<(usize, TxnResult)>,
    /// The store has a batch that the stream has not brought back yet.
    unseen: bool,
    resynced: bool,
}

struct Client {
    talker: Talker,
    /// Sent, in order; answered ones first.
    requests: Vec<(i32, Request)>,
    answers: Vec<(ReplyHeader, Reply<'static>)>,
    closed: bool,
}

impl Server {
    /// `alone_after`: milliseconds.
    async fn start(store: std::sync::Arc<Embedded>, alone_after: u64) -> Server {
        // Few operations in a transaction, so that some batches do not take all.
        let limits = zketcd::store::Limits { txn_ops: 64, ..drive::LIMITS };
        let mut zketcd = Zketcd::alone_after(alone_after, store, LANES, limits).await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let talker = zketcd.client().await;
            clients.push(Client { talker, requests: Vec::new(), answers: Vec::new(), closed: false });
        }
        let mut watcher = zketcd.client().await;
        zketcd.ok(&mut watcher, Request::AddWatch { path: "/".into(), mode: 1 }).await;
        let (built, committed) = (VecDeque::new(), VecDeque::new());
        Server { zketcd, clients, watcher, events: Vec::new(), built, committed, unseen: false, resynced: false }
    }

    async fn step(&mut self, step: Step) {
        self.zketcd.pass_unseen(STEP_MS);
        match step {
            Step::Send { client, requests } => {
                let client = &mut self.clients[client];
                for request in requests {
                    if !client.closed {
                        client.closed = request == Request::CloseSession;
                        let xid = self.zketcd.send(&mut client.talker, request.clone());
                        client.requests.push((xid, request));
                    }
                }
            }
            Step::Build => self.built.extend(self.zketcd.build()),
            Step::Commit { again, late } => {
                let Some(sent) = take(&mut self.built, late) else { return };
                let mut result = self.zketcd.commit(&sent).await;
                self.unseen = true;
                if again {
                    result = self.zketcd.commit(&sent).await;
                }
                self.committed.push_back((sent.lane, result));
            }
            Step::Answer { late } => {
                let Some((lane, result)) = take(&mut self.committed, late) else { return };
                self.zketcd.answer(lane, result).unwrap();
            }
            Step::Pull => {
                self.unseen = false;
                self.zketcd.pull().unwrap();
            }
            Step::Resync => {
                // The outcome of a batch whose answer is still out could not be told.
                while let Some((lane, result)) = self.committed.pop_front() {
                    self.zketcd.answer(lane, result).unwrap();
                }
                // Answers that a snapshot brings carry its zxid, not their own: no order could be told from them.
                if std::mem::take(&mut self.unseen) {
                    self.zketcd.pull().unwrap();
                }
                self.resynced = true;
                self.zketcd.resync().await;
            }
        }
        self.listen();
    }

    fn listen(&mut self) {
        for client in &mut self.clients {
            client.answers.extend(client.talker.replies());
        }
        for heard in self.watcher.heard() {
            if let Heard::Event(zxid, event) = heard {
                self.events.push((zxid, event.kind, event.path.into_owned()));
            }
        }
    }

    async fn finish(&mut self) {
        while !self.built.is_empty() {
            self.step(Step::Commit { again: false, late: false }).await;
        }
        while !self.committed.is_empty() {
            self.step(Step::Answer { late: false }).await;
        }
        self.zketcd.settle().await;
        self.listen();
    }
}

fn take<T>(queue: &mut VecDeque<T>, late: bool) -> Option<T> {
    if late { queue.pop_back() } else { queue.pop_front() }
}

/// Both servers' answers, reads and events against the model.
fn check(servers: &mut [Server; 2]) {
    let mut writes = Vec::new();
    let mut reads = Vec::new();
    for server in servers.iter() {
        for client in &server.clients {
            assert_eq!(client.requests.len(), client.answers.len(), "every request is answered");
            let mut last = 0;
            for ((xid, request), (header, reply)) in client.requests.iter().zip(&client.answers) {
                assert_eq!(*xid, header.xid, "answers come in the order sent");
                assert!(header.zxid >= last, "a session never goes back");
                last = header.zxid;
                let session = client.talker.session();
                if is_read(request) { &mut reads } else { &mut writes }.push((header, request, reply, session));
            }
        }
    }
    writes.sort_by_key(|(header, ..)| header.zxid);
    reads.sort_by_key(|(header, ..)| header.zxid);
    let mut model = Model::new();
    let mut reads = reads.into_iter().peekable();
    let mut last = 0;
    for (header, request, reply, session) in writes {
        assert!(header.zxid > last, "zxids are unique");
        last = header.zxid;
        while let Some((read, request, reply, _)) = reads.next_if(|(read, ..)| read.zxid < header.zxid) {
            assert_eq!(answer(read, reply), model.read(request), "{request:?} at {:#x}", read.zxid);
        }
        let expected = model.write(request, session, header.zxid);
        assert_eq!(answer(header, reply), expected, "{request:?} at {:#x}", header.zxid);
    }
    for (read, request, reply, _) in reads {
        assert_eq!(answer(read, reply), model.read(request), "{request:?} at {:#x}", read.zxid);
    }
    for server in servers {
        if !server.resynced {
            assert_eq!(server.events, model.events);
        }
    }
}

fn is_read(request: &Request) -> bool {
    matches!(request, Request::Exists { .. } | Request::GetData { .. } | Request::GetChildren2 { .. })
}

fn answer(header: &ReplyHeader, reply: &Reply<'static>) -> Result<Reply<'static>, ErrorCode> {
    match ErrorCode::from_code(header.err).expect("a known error") {
        ErrorCode::Ok => Ok(match reply.clone() {
            Reply::Children2(mut names, stat) => {
                names.sort();
                Reply::Children2(names, stat)
            }
            reply => reply,
        }),
        error => Err(error),
    }
}

fn same_tree(a: &Zketcd, b: &Zketcd) {
    let all = |server: &Zketcd| {
        let mut nodes: Vec<_> = server
            .replica()
            .iter()
            .map(|node| (node.path().to_owned(), node.stat(), node.data().map(<[u8]>::to_vec), node.acl().cloned()))
            .collect();
        nodes.sort_by(|x, y| x.0.cmp(&y.0));
        nodes
    };
    assert_eq!(all(a), all(b));
}

/// The znodes' keys have the revisions that the replica tells from their zxids.
fn same_revisions(server: &Zketcd, snapshot: &Snapshot) {
    for entry in &snapshot.entries {
        let Parsed::Node(path) = key::parse(&entry.key) else { continue };
        let node = server.replica().node(path).unwrap();
        let told = (server.replica().create_revision(node), server.replica().mod_revision(node));
        assert_eq!(told, (entry.create_revision, entry.mod_revision), "{path}");
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["/a", "/b", "/a/x", "/a/y", "/a/x/z"]).prop_map(str::to_owned)
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(-1), 1 => 0..3]
}

fn creation() -> impl Strategy<Value = zketcd::jute::CreateRequest> {
    let mode = prop_oneof![
        4 => Just(CreateMode::Persistent),
        2 => Just(CreateMode::Ephemeral),
        1 => Just(CreateMode::PersistentSequential),
    ];
    (path(), mode, prop::bool::ANY, 0..4usize).prop_map(|(path, mode, with_stat, size)| {
        create_request(if with_stat { op::CREATE2 } else { op::CREATE }, &path, &vec![b'd'; size], mode)
    })
}

fn operation() -> impl Strategy<Value = MultiOp> {
    prop_oneof![
        3 => creation().prop_map(MultiOp::Create),
        3 => (path(), version()).prop_map(|(path, version)| delete_op(&path, version)),
        3 => (path(), version()).prop_map(|(path, version)| set_op(&path, b"m", version)),
        1 => (path(), version()).prop_map(|(path, version)| check_op(&path, version)),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        60 => creation().prop_map(Request::Create),
        40 => (path(), version()).prop_map(|(path, version)| delete(&path, version)),
        40 => (path(), version()).prop_map(|(path, version)| set(&path, b"set", version)),
        20 => (path(), version()).prop_map(|(path, version)| Request::SetAcl { path, acl: Some(open_acl()), version }),
        40 => prop::collection::vec(operation(), 1..5).prop_map(Request::Multi),
        10 => path().prop_map(|path| Request::Sync { path }),
        20 => path().prop_map(|path| get(&path, false)),
        20 => path().prop_map(|path| exists(&path, false)),
        20 => prop_oneof![path(), Just("/".to_owned())].prop_map(|path| Request::GetChildren2 { path, watch: false }),
        3 => Just(Request::CloseSession),
    ]
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let requests = prop::collection::vec(request(), 1..4);
    let step = prop_oneof![
        60 => (0..CLIENTS, requests).prop_map(|(client, requests)| Step::Send { client, requests }),
        30 => Just(Step::Build),
        30 => (prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(|(again, late)| Step::Commit { again, late }),
        30 => prop::bool::weighted(0.2).prop_map(|late| Step::Answer { late }),
        25 => Just(Step::Pull),
        2 => Just(Step::Resync),
    ];
    (0..2usize, step)
}

/// Cases as `PROPTEST_CASES` says, or few enough for every run of the tests.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    ProptestConfig { cases, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn any_history_is_that_of_one_request_at_a_time(
        steps in prop::collection::vec(step(), 1..120),
        // Always, after some steps, and never: whoever takes itself to be alone need not be.
        alone_after in [prop::sample::select(vec![0, 5, 1_000]), prop::sample::select(vec![0, 5, 1_000])],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Embedded::memory();
            let [one, other] = alone_after;
            let mut servers = [Server::start(store.clone(), one).await, Server::start(store.clone(), other).await];
            for (server, step) in steps {
                servers[server].step(step).await;
            }
            for _ in 0..2 {
                for server in &mut servers {
                    server.finish().await;
                }
            }
            check(&mut servers);
            same_tree(&servers[0].zketcd, &servers[1].zketcd);
            same_revisions(&servers[0].zketcd, &store.snapshot().await.unwrap());
            // A server that begins now reads the same tree.
            let third = Zketcd::start(store).await;
            same_tree(&servers[0].zketcd, &third);
        });
    }
}
