//! Where the store answers before it has written (the embedded store with a data directory): nobody is told of what may
//! not last.

#[path = "support/drive.rs"]
mod drive;
mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use drive::{Heard, SESSION_MS, Talker, Zketcd};
use support::client::{Client, ConnectOptions};
use support::{create, delete, get, set};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zketcd::jute::{CreateMode, Reply, Request};
use zketcd::session::CloseReason;
use zketcd::store::embedded::Embedded;

const PERSISTENT: CreateMode = CreateMode::Persistent;

/// How long a write may wait for the store, in milliseconds ([`Zketcd::start`]).
const STORE_TIMEOUT_MS: u64 = 30_000;

/// A server with `/a`, and two clients of it. From here on the store has written what there is, and writes no more.
async fn begin() -> (Zketcd, Talker, Talker) {
    let mut server = Zketcd::start(Embedded::memory()).await;
    let (mut one, other) = (server.client().await, server.client().await);
    server.ok(&mut one, create("/a", b"", PERSISTENT)).await;
    written(&server, server.replica().revision());
    (server, one, other)
}

/// The store has written all up to `revision`.
fn written(server: &Zketcd, revision: i64) {
    server.engine.gate().open(revision, |_| {});
}

fn data(heard: &Heard) -> &[u8] {
    match heard {
        Heard::Reply(_, Reply::Data(data, _)) => data.as_deref().expect("data"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_told_of_what_may_not_last() {
    let (mut server, mut one, mut other) = begin().await;
    server.ok(&mut other, get("/a", true)).await;
    server.send(&mut one, set("/a", b"new", -1));
    server.settle().await;
    // The watcher reads what the event is about; whoever pings, or begins a session, is told the zxid.
    server.send(&mut other, get("/a", false));
    server.send(&mut other, Request::Ping);
    let mut third = server.open().await;
    server.settle().await;
    assert_eq!((one.heard(), other.heard(), third.attached()), (vec![], vec![], None));

    written(&server, server.replica().revision());
    assert!(matches!(one.heard()[..], [Heard::Reply(..)]));
    let heard = other.heard();
    assert!(matches!(heard[..], [Heard::Event(..), Heard::Reply(..), Heard::Reply(..)]), "{heard:?}");
    assert_eq!(data(&heard[1]), b"new");
    assert!(third.attached().is_some());
}

/// As long as the store writes, whoever waits hears of it, whatever is behind it.
#[tokio::test]
async fn what_lasts_is_told_though_more_is_to_come() {
    let (mut server, mut one, mut other) = begin().await;
    server.ok(&mut one, get("/a", false)).await;
    let mut revisions = Vec::new();
    for value in [b"1", b"2", b"3"] {
        server.send(&mut one, set("/a", value, -1));
        server.settle().await;
        server.send(&mut other, get("/a", false));
        revisions.push(server.replica().revision());
    }
    for (revision, value) in revisions.into_iter().zip([b"1", b"2", b"3"]) {
        written(&server, revision - 1);
        assert_eq!((one.heard(), other.heard()), (vec![], vec![]));
        written(&server, revision);
        assert!(matches!(one.heard()[..], [Heard::Reply(..)]));
        let heard = other.heard();
        assert_eq!(heard.iter().map(data).collect::<Vec<_>>(), [value]);
    }
}

#[tokio::test]
async fn a_session_that_ends_is_told_so_when_that_lasts() {
    let (mut server, mut one, _) = begin().await;
    server.send(&mut one, Request::CloseSession);
    server.settle().await;
    assert_eq!((one.closed(), one.heard()), (Some(CloseReason::SessionClosed), vec![]));
    written(&server, server.replica().revision());
    assert!(matches!(one.heard()[..], [Heard::Reply(..)]));
}

/// Nor is it told that all is well, and no client's silence counts meanwhile: none can make itself heard for long.
#[tokio::test]
async fn a_store_that_writes_no_more_closes_the_connections_and_ends_no_session() {
    let (mut server, mut one, mut other) = begin().await;
    let sessions = [one.session(), other.session()];
    server.send(&mut one, delete("/a", -1));
    server.settle().await;
    for _ in 0..STORE_TIMEOUT_MS / 1_000 {
        assert_eq!((one.closed(), other.closed()), (None, None));
        for session in sessions {
            server.engine.renewed(session, server.now());
        }
        // The store goes on taking what it does not write.
        server.send(&mut other, set("/", b"", -1));
        server.pass(1_000);
        server.settle().await;
    }
    server.pass(2_000);
    assert_eq!((one.closed(), other.closed()), (Some(CloseReason::StoreAway), Some(CloseReason::StoreAway)));
    assert_eq!((one.heard(), other.heard()), (vec![], vec![]));

    written(&server, server.replica().revision());
    server.pass(SESSION_MS / 2);
    server.settle().await;
    for session in sessions {
        assert!(server.replica().session(session).is_some(), "silence was counted");
        let mut again = server.attach(session);
        server.settle().await;
        written(&server, server.replica().revision());
        assert_eq!(again.attached(), Some(session));
    }
}

/// How many creates are answered before the server is killed.
const ANSWERED: usize = 200;

/// Bytes of each of their znodes: as many as keep the disk busy.
const LARGE: usize = 200_000;

/// The program with this data directory, killed at the end.
struct Program(Child);

impl Program {
    /// Started, and a client of it that has seen this zxid.
    async fn start(dir: &Path, listen: SocketAddr, last_zxid: i64) -> (Program, Client) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zketcd"));
        command.args(["serve", "--store=embedded", "--admin-listen=127.0.0.1:0", "--listen", &listen.to_string()]);
        command.arg("--data-dir").arg(dir).env_clear().stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines().map_while(Result::ok);
        let program = Program(child);
        assert!(log.any(|line| line.contains("serving ZooKeeper clients")), "it ended before it served anybody");
        let client = Client::connect(listen, ConnectOptions { last_zxid, ..ConnectOptions::default() }).await;
        (program, client.expect("a server that knows this zxid"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Neither what was answered to those who wrote it nor what others have read: the writing thread dies between two writes,
/// or in the middle of one.
#[tokio::test]
async fn what_a_client_was_told_survives_a_kill() {
    const WRITERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (program, mut reader) = Program::start(dir.path(), listen, 0).await;
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let answered = answered.clone();
        let mut client = Client::connect(listen, ConnectOptions::default()).await.unwrap();
        writers.spawn(async move {
            for n in 0.. {
                let path = format!("/{writer}-{n}");
                if client.create(&path, &[0; LARGE], PERSISTENT).await.is_err() {
                    return;
                }
                let _ = answered.send(path);
            }
        });
    }
    drop(answered);
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Ok(children) = reader.children("/", false).await {
            seen = children;
        }
        (seen, reader.last_zxid())
    });
    let mut told = HashSet::new();
    while told.len() < ANSWERED {
        told.insert(answers.recv().await.expect("the writers go on"));
    }
    drop(program);
    writers.join_all().await;
    while let Some(path) = answers.recv().await {
        told.insert(path);
    }
    let (seen, last_zxid) = reading.await.unwrap();
    told.extend(seen.into_iter().map(|name| format!("/{name}")));

    let (_program, mut client) = Program::start(dir.path(), listen, last_zxid).await;
    let there: HashSet<String> =
        client.children("/", false).await.unwrap().into_iter().map(|name| format!("/{name}")).collect();
    let lost: Vec<&String> = told.difference(&there).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), told.len());
}
