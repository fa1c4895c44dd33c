//! A fixed number of requests of one kind, through the decoder, the engine and the store in memory, without sockets
//! and tasks: what callgrind counts of it depends on the code, not on the machine's mood. `benches/instructions.py`
//! runs it.
//!
//! Sixty connections send a request each, then everything is done that is to do: one batch, as under load. All that
//! is counted happens in [`counted`]; making the requests and reading the answers does not.

#[path = "../tests/support/drive.rs"]
mod drive;

use std::error::Error;

use bytes::{Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use drive::{Heard, Talker, Zketcd};
use tokio::runtime::Runtime;
use zketcd::jute::client::encode_request;
use zketcd::jute::{Acl, CreateMode, CreateRequest, Id, MultiOp, Perms, Request, next_frame, op};
use zketcd::store::embedded::Embedded;

/// The server's, as allocating is a good part of what a request costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections: so many requests are a batch.
const CLIENTS: usize = 60;
/// How many batches are counted.
const BATCHES: usize = 160;
/// Znodes that the reads and set spread over.
const NODES: usize = 1_000;
/// Bytes of each znode's data.
const DATA: usize = 100;
const ANY: i32 = -1;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[derive(Parser)]
struct Args {
    kind: Kind,
    /// What cargo bench adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// getData
    Get,
    /// exists
    Exists,
    /// getChildren2 of a znode with 60 children
    Children,
    /// setData of 1,000 znodes
    Set,
    /// setData of one znode
    SetOne,
    /// create under one parent
    Create,
    /// create under each client's own parent
    CreateOwn,
    /// create sequential under one parent
    Sequential,
    /// create ephemeral under one parent
    Ephemeral,
    /// delete under one parent
    Delete,
    /// check, setData, create, delete
    Multi,
    /// setData of a znode that the client itself watches, then getData with a watch again
    Watched,
}

impl Kind {
    /// What a client sends in a batch; `n` is the batch's number.
    fn requests(self, client: usize, n: usize) -> Vec<Request> {
        let any = || format!("/nodes/{}", (client * 37 + n) % NODES);
        let own = || format!("/own-{client}");
        let new = || format!("/many/{client}-{n}");
        vec![match self {
            Kind::Get => Request::GetData { path: any(), watch: false },
            Kind::Exists => Request::Exists { path: any(), watch: false },
            Kind::Children => Request::GetChildren2 { path: "/few".into(), watch: false },
            Kind::Set => set(any(), ANY),
            Kind::SetOne => set("/one".into(), ANY),
            Kind::Create => create(new(), CreateMode::Persistent),
            Kind::CreateOwn => create(format!("{}/{n}", own()), CreateMode::Persistent),
            Kind::Sequential => create(format!("/many/{client}-"), CreateMode::PersistentSequential),
            Kind::Ephemeral => create(new(), CreateMode::Ephemeral),
            Kind::Delete => Request::Delete { path: new(), version: ANY },
            Kind::Multi => Request::Multi(vec![
                MultiOp::Check { path: "/one".into(), version: 0 },
                MultiOp::SetData { path: own(), data: Some(data()), version: n as i32 },
                MultiOp::Create(creation(format!("{}/{}", own(), n + 1), CreateMode::Persistent)),
                MultiOp::Delete { path: format!("{}/{n}", own()), version: ANY },
            ]),
            Kind::Watched => {
                return vec![Request::GetData { path: own(), watch: true }, set(own(), ANY)];
            }
        }]
    }

    /// The znodes that have to be there.
    fn set_up(self) -> Vec<Request> {
        let path = |path| create(path, CreateMode::Persistent);
        let parents = ["/nodes", "/many", "/few", "/one"].map(str::to_owned).into_iter();
        let mut all: Vec<Request> =
            parents.chain((0..CLIENTS).map(|client| format!("/own-{client}"))).map(path).collect();
        all.extend((0..NODES).map(|n| path(format!("/nodes/{n}"))));
        all.extend((0..CLIENTS).map(|n| path(format!("/few/{n}"))));
        match self {
            Kind::Delete => all
                .extend((0..BATCHES).flat_map(|n| (0..CLIENTS).map(move |client| path(format!("/many/{client}-{n}"))))),
            Kind::Multi => all.extend((0..CLIENTS).map(|client| path(format!("/own-{client}/0")))),
            _ => {}
        }
        all
    }
}

fn data() -> Bytes {
    Bytes::from_static(&[b'x'; DATA])
}

fn set(path: String, version: i32) -> Request {
    Request::SetData { path, data: Some(data()), version }
}

fn creation(path: String, mode: CreateMode) -> CreateRequest {
    let open = Acl { perms: Perms::ALL, id: Id { scheme: "world".into(), id: "anyone".into() } };
    CreateRequest { op: op::CREATE, path, data: Some(data()), acl: Some(vec![open]), flags: mode.flags(), ttl: 0 }
}

fn create(path: String, mode: CreateMode) -> Request {
    Request::Create(creation(path, mode))
}

/// What a connection's task has read: each client's frames in one buffer.
fn frames(requests: &[Request]) -> BytesMut {
    let mut out = BytesMut::new();
    requests.iter().for_each(|request| encode_request(&mut out, 1, request));
    out
}

/// Frames in, answers in the outboxes. Callgrind counts from this function's beginning to its end.
#[inline(never)]
fn counted(runtime: &Runtime, server: &mut Zketcd, clients: &mut [Talker], frames: Vec<BytesMut>) -> Result<()> {
    for (client, mut frames) in clients.iter_mut().zip(frames) {
        while let Some(frame) = next_frame(&mut frames, 1 << 20)? {
            let (_, request) = Request::decode(frame)?;
            server.send(client, request);
        }
    }
    runtime.block_on(server.settle());
    Ok(())
}

/// How many successes a client has been told.
fn successes(client: &mut Talker) -> Result<usize> {
    let heard = client.heard();
    if let Some(failed) = heard.iter().find(|heard| matches!(heard, Heard::Reply(header, _) if header.err != 0)) {
        return Err(format!("{failed:?}").into());
    }
    Ok(heard.len())
}

fn main() -> Result<()> {
    let Args { kind, .. } = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut server = runtime.block_on(Zketcd::start(Embedded::memory()));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(runtime.block_on(server.client()));
    }
    let [first, ..] = clients.as_mut_slice() else { return Err("no client".into()) };
    for requests in kind.set_up().chunks(CLIENTS) {
        for request in requests {
            server.send(first, request.clone());
        }
        runtime.block_on(server.settle());
        successes(first)?;
    }
    let mut requests = 0;
    for n in 0..BATCHES {
        let batch: Vec<Vec<Request>> = (0..CLIENTS).map(|client| kind.requests(client, n)).collect();
        let bytes = batch.iter().map(|requests| frames(requests)).collect();
        counted(&runtime, &mut server, &mut clients, bytes)?;
        requests += batch.iter().map(Vec::len).sum::<usize>();
        // a watch's event is heard too
        let expected = if kind == Kind::Watched { 3 } else { 1 };
        for client in &mut clients {
            let heard = successes(client)?;
            if heard != expected {
                return Err(format!("a client heard {heard} times, not {expected}").into());
            }
        }
    }
    println!("{requests}");
    Ok(())
}
