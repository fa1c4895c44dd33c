//! An etcd of three members, each killed in turn while a client writes: every write takes effect once, and the
//! client notices nothing.

#[path = "support/client.rs"]
mod client;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "support/server.rs"]
mod server;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use client::{Client, ConnectOptions, DEADLINE};
use server::Running;
use tempfile::TempDir;
use tokio::sync::watch;
use zketcd::jute::CreateMode;
use zketcd::store::etcd::{Etcd, EtcdConfig};

/// Writes before the next member is killed, and after the last.
const WRITES: u32 = 40;

struct Member {
    name: String,
    dir: TempDir,
    client: u16,
    peer: u16,
    child: Option<Child>,
}

struct Cluster {
    program: PathBuf,
    members: Vec<Member>,
}

impl Cluster {
    fn start() -> Cluster {
        let default = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/etcd-3.6");
        let program = PathBuf::from(std::env::var("ZKETCD_TEST_ETCD_36").unwrap_or_else(|_| default.to_owned()));
        assert!(program.exists(), "{} is not there: run `make tools`", program.display());
        let free: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> = free.iter().map(|port| port.local_addr().expect("its address").port()).collect();
        drop(free);
        let member = |(at, ports): (usize, &[u16])| Member {
            name: format!("m{at}"),
            dir: tempfile::tempdir().expect("a temporary directory"),
            client: ports[0],
            peer: ports[1],
            child: None,
        };
        let members = ports.chunks(2).enumerate().map(member).collect();
        let mut cluster = Cluster { program, members };
        (0..3).for_each(|at| cluster.launch(at));
        cluster
    }

    fn endpoint(&self, at: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[at].client)
    }

    fn launch(&mut self, at: usize) {
        let peers = self.members.iter().map(|one| format!("{}=http://127.0.0.1:{}", one.name, one.peer));
        let peers = peers.collect::<Vec<_>>().join(",");
        let client = self.endpoint(at);
        let member = &mut self.members[at];
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let child = Command::new(&self.program)
            .args(["--name", &member.name, "--initial-cluster", &peers])
            .arg("--data-dir")
            .arg(member.dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        member.child = Some(child);
    }

    fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            child.kill().expect("etcd is killed");
            child.wait().expect("etcd ends");
        }
    }

    /// Returns when this member answers with a quorum behind it.
    async fn serves(&self, at: usize) {
        let answers = async {
            while Etcd::connect(EtcdConfig::new([self.endpoint(at)])).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, answers).await.expect("the member serves");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..3).for_each(|at| self.kill(at));
    }
}

/// Sets the znode again and again, one answer awaited before the next; how often, is told.
async fn write(mut client: Client, path: String, written: watch::Sender<u32>) -> Client {
    while !written.is_closed() {
        let count = *written.borrow();
        let stat = client.set(&path, count.to_string().as_bytes(), -1).await.expect("the write is answered");
        assert_eq!(stat.version as u32, count + 1, "each write takes effect once");
        written.send_replace(count + 1);
    }
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_does_not_notice_that_members_die() {
    let mut cluster = Cluster::start();
    for at in 0..3 {
        cluster.serves(at).await;
    }
    let endpoints: Vec<String> = (0..3).map(|at| cluster.endpoint(at)).collect();
    let store = Etcd::connect(EtcdConfig::new(endpoints)).await.expect("a connection to etcd");
    let server = Running::start(store, &[]).await;
    let options = ConnectOptions { timeout: std::time::Duration::from_secs(60), ..ConnectOptions::default() };
    let mut client = Client::connect(server.address, options).await.expect("a session");
    client.create("/counter", b"", CreateMode::Persistent).await.expect("a znode");
    client.create("/mine", b"", CreateMode::Ephemeral).await.expect("an ephemeral znode");

    let (written, mut count) = watch::channel(0);
    let writing = tokio::spawn(write(client, "/counter".to_owned(), written));
    for at in 0..3 {
        let before = *count.borrow();
        count.wait_for(|count| *count >= before + WRITES).await.expect("the writer goes on");
        cluster.kill(at);
        let before = *count.borrow();
        count.wait_for(|count| *count >= before + WRITES).await.expect("the writer goes on with two members");
        cluster.launch(at);
        cluster.serves(at).await;
    }
    drop(count);
    let mut client = writing.await.expect("every write was answered");
    assert!(client.exists("/mine", false).await.expect("an answer").is_some(), "the session lived on");
}
