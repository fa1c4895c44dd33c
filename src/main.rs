use clap::Parser;
#[tokio::main]
async fn main() {
    let cli = zketcd::config::Cli::parse();
    if let zketcd::config::Command::Serve(args) = cli.command {
        tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
        let config = args.into_config().unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let s = stop.clone();
        tokio::spawn(async move {
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap().recv().await;
            s.cancel();
        });
        if let Err(e) = zketcd::server::run(config, stop).await {
            eprintln!("zketcd: {e}");
            std::process::exit(1);
        }
    }
}
