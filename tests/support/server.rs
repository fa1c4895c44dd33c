//! A zketcd in the test's own process, on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zketcd::config::{Cli, Command, Config};
use zketcd::server::{ServeError, Server};
use zketcd::store::Store;

/// A running server; it ends when this is dropped.
pub struct Running {
    pub address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    /// Serves `store` with `flags` (as on the command line) over the defaults for tests: sessions from 1 s, all
    /// four-letter words, no admin pages.
    pub async fn start(store: Arc<dyn Store>, flags: &[&str]) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Server::start(config(flags), store, listener).await.expect("the server starts");
        let address = server.address().expect("its address");
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(stop.clone()));
        Running { address, stop, task }
    }

    /// SIGTERM: answers what was taken, then ends.
    pub async fn drain(mut self) {
        self.stop.cancel();
        (&mut self.task).await.expect("the server's task").expect("a clean end");
    }

    /// SIGKILL: nothing more is said to anybody, clients or store.
    pub fn kill(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The configuration that `flags` make.
pub fn config(flags: &[&str]) -> Config {
    let base = ["zketcd", "serve", "--store=memory", "--admin-listen=none"];
    // Not what a test sets itself: clap takes no flag twice.
    let defaults = ["--min-session-timeout=1s", "--four-letter-words=*"];
    let name = |flag: &str| flag.split('=').next().map(str::to_owned);
    let defaults = defaults.iter().filter(|default| flags.iter().all(|flag| name(flag) != name(default)));
    let cli = Cli::try_parse_from(base.iter().chain(defaults).chain(flags)).expect("legal flags");
    match cli.command {
        Command::Serve(args) => args.into_config().expect("a legal configuration"),
        Command::Healthcheck(_) => unreachable!("serve was asked for"),
    }
}
