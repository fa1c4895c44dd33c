//! The command line: flags in, exit code out.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use zketcd::config::{Cli, Command, Config, ServeArgs};
use zketcd::server::environment;
use zketcd::{healthcheck, logging, server};

/// A write makes some dozens of small allocations, freed by other threads than made them: the C library's allocator took
/// a fifth of a server's time under load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Files and sockets beside the clients' connections: the store, the admin endpoint, the standard streams.
const RESERVED_FILES: u64 = 128;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve(*args),
        Command::Healthcheck(args) => healthcheck::run(&args).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&one_line(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), Box<dyn Error>> {
    let warnings = args.warnings();
    let config = args.into_config()?;
    logging::init(&config.log)?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    raise_open_files(&config);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(config.worker_threads).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(signals(terminate, interrupt, shutdown.clone()));
        server::run(config, shutdown).await?;
        info!("stopped");
        Ok(())
    })
}

/// The first signal drains the server. The second ends the process: somebody is waiting at a terminal.
async fn signals(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    next(&mut terminate, &mut interrupt).await;
    info!("draining: answering what was taken, then closing; a second signal ends the process at once");
    shutdown.cancel();
    next(&mut terminate, &mut interrupt).await;
    say("ended by a second signal before all was drained");
    std::process::exit(1);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn raise_open_files(config: &Config) {
    let files = environment::raise_open_files();
    if let Some(total) = config.connections.total
        && files < total as u64 + RESERVED_FILES
    {
        warn!(files, "this process may open fewer files than --max-connections {total} needs: raise ulimit -n");
    }
}

/// A last line for whoever still reads; unlike `eprintln!`, it fails for nobody else.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "zketcd: {line}");
}

/// Whoever starts the program in a container sees one line of it.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
