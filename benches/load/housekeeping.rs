//! What is done before a load and after it, and is not measured.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use zketcd::jute::client::decode_reply;
use zketcd::jute::{Acl, CreateMode, CreateRequest, Id, Perms, Reply, ReplyHeader, Request, WatcherEvent, op};

use super::Result;
use super::wire::{Client, Connection, Pool};

/// What setting up, draining and cleaning up may take, each.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Requests in flight on a connection: below the servers' limits of 1,000.
const PIPELINE: usize = 128;
/// Any version will do.
pub const ANY: i32 = -1;

/// A path that nothing has yet.
pub fn fresh(name: &str) -> Result<String> {
    Ok(format!("/load-{name}-{:x}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos()))
}

pub fn creation(path: String, data: &Bytes, mode: CreateMode) -> CreateRequest {
    let open = Acl { perms: Perms::ALL, id: Id { scheme: "world".into(), id: "anyone".into() } };
    CreateRequest { op: op::CREATE, path, data: Some(data.clone()), acl: Some(vec![open]), flags: mode.flags(), ttl: 0 }
}

pub fn create(path: String, data: &Bytes) -> Request {
    Request::Create(creation(path, data, CreateMode::Persistent))
}

pub fn delete(path: String) -> Request {
    Request::Delete { path, version: ANY }
}

/// Makes what a load needs, parents before their children, and lets every connection's server know of it.
pub fn make(pool: &mut Pool, parent: &str, requests: Vec<Request>) -> Result<()> {
    all_on_first(pool, requests)?;
    let sync = pool.connections.iter().map(|_| VecDeque::from([Request::Sync { path: parent.to_owned() }]));
    let mut script = Script::new(sync.collect());
    pool.run(&mut script, PATIENCE)
}

/// Deletes a znode's children, after it has counted them. They have none themselves.
pub fn empty(pool: &mut Pool, parent: &str, expected: u64) -> Result<()> {
    let path = || parent.to_owned();
    let ask = vec![Request::Sync { path: path() }, Request::GetChildren { path: path(), watch: false }];
    let Some(Reply::Children(children)) = all_on_first(pool, ask)? else {
        return Err("getChildren got no children".into());
    };
    if children.len() as u64 != expected {
        return Err(format!("{parent} has {} children, the answers speak of {expected}", children.len()).into());
    }
    let share = children.len().div_ceil(pool.connections.len()).max(1);
    let requests = |names: &[_]| names.iter().map(|name| delete(format!("{parent}/{name}"))).collect();
    let mut script = Script::new(children.chunks(share).map(requests).collect());
    pool.run(&mut script, PATIENCE)
}

/// Deletes the znode that a load had to itself, now that it is empty, and closes all sessions.
pub fn close(pool: &mut Pool, parent: &str) -> Result<()> {
    // this one's server may not have heard of the others' deletions, which makes no difference to a write
    all_on_first(pool, vec![delete(parent.to_owned())])?;
    close_sessions(pool)
}

/// Closes the sessions that are there.
pub fn close_sessions(pool: &mut Pool) -> Result<()> {
    let attached = pool.connections.iter().map(Connection::is_attached);
    let requests = attached.map(|attached| attached.then_some(Request::CloseSession).into_iter().collect()).collect();
    pool.run(&mut Script { closing: true, ..Script::new(requests) }, PATIENCE)
}

/// The last answer.
fn all_on_first(pool: &mut Pool, requests: Vec<Request>) -> Result<Option<Reply<'static>>> {
    let mut script = Script::new(vec![requests.into()]);
    pool.run(&mut script, PATIENCE)?;
    Ok(script.last)
}

/// Requests for each connection, sent in order.
struct Script {
    unsent: Vec<VecDeque<Request>>,
    open: usize,
    closing: bool,
    last: Option<Reply<'static>>,
}

impl Script {
    fn new(unsent: Vec<VecDeque<Request>>) -> Script {
        Script { open: unsent.iter().map(VecDeque::len).sum(), unsent, closing: false, last: None }
    }
}

impl Client for Script {
    fn answer(&mut self, _: usize, kind: i32, body: &[u8], _: Instant, _: Instant) -> Result<()> {
        self.open -= 1;
        self.last = Some(decode_reply(kind, &ReplyHeader { xid: 0, zxid: 0, err: 0 }, body)?);
        Ok(())
    }

    fn fill(&mut self, worker: usize, connection: &mut Connection, now: Instant) -> Result<()> {
        let Some(unsent) = self.unsent.get_mut(worker) else { return Ok(()) };
        while connection.in_flight() < PIPELINE
            && let Some(request) = unsent.pop_front()
        {
            connection.send(&request, now);
        }
        Ok(())
    }

    /// Watches that a load has left fire when their znode goes.
    fn event(&mut self, _: usize, _: WatcherEvent<'static>) -> Result<()> {
        Ok(())
    }

    /// After its closeSession a connection may end.
    fn lost(&mut self, worker: usize, why: &str) -> Result<()> {
        if self.closing { Ok(()) } else { Err(format!("connection {worker}: {why}").into()) }
    }

    fn done(&self) -> bool {
        self.open == 0
    }
}
