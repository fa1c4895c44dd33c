//! What monitoring sees: the engine's state as the four-letter words and the admin pages show it.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use super::admin::Probe;
use super::four_letter::{self, Reads, Word};
use super::shared::Shared;
use super::stats::{ConfView, ConnectionStats, ConnectionView, Gauges, ServerView};
use crate::config::{Config, StoreConfig};
use crate::session::Engine;

/// The answer to a four-letter word that came from `asker`: `None` is no word at all, which ZooKeeper answers with
/// nothing.
pub fn answer(shared: &Shared, config: &Config, word: Option<Word>, asker: SocketAddr) -> String {
    let Some(word) = word else { return String::new() };
    if !config.four_letter_words.allows(word) {
        return four_letter::refusal(word);
    }
    let view = shared.take(|engine| {
        engine.count_word();
        let view = view(engine, config, word, asker);
        match word {
            Word::Srst => engine.reset_stats(),
            Word::Crst => engine.reset_connection_stats(),
            _ => {}
        }
        engine.count_word_answered();
        view
    });
    four_letter::render(word, &view)
}

fn view(engine: &Engine, config: &Config, word: Word, asker: SocketAddr) -> ServerView {
    let mut conf = ConfView::from(config);
    conf.data_dir_size = data_size(engine, config);
    // As in ZooKeeper, who asks is a connection too.
    let mut gauges = engine.gauges();
    gauges.connections += 1;
    let mut view = ServerView { serving: engine.is_serving(), gauges, conf, ..ServerView::default() };
    match word.reads() {
        Reads::Connections => {
            view.connections = engine.connection_views();
            let stats = ConnectionStats { received: 1, ..ConnectionStats::default() };
            view.connections.push(ConnectionView { peer: asker, interest: 0, queued: 0, stats, session: None });
        }
        Reads::WatchSummary => view.watches = engine.watch_summary(),
        Reads::WatchesBySession => view.watches_by_session = engine.watches_by_session(),
        Reads::WatchesByPath => view.watches_by_path = engine.watches_by_path(),
        Reads::Dump => {
            view.dump = engine.dump();
            let within = i64::try_from(config.connections.handshake_timeout.as_millis()).unwrap_or(i64::MAX);
            view.dump.connections.push((asker, 0, engine.wall().saturating_add(within)));
        }
        Reads::Monitor => view.monitor = engine.monitor(&gauges),
        Reads::Nothing => {}
    }
    view
}

/// Bytes: of the data directory's files, where there is one; else of what the tree holds.
fn data_size(engine: &Engine, config: &Config) -> u64 {
    let StoreConfig::Embedded { data_dir } = &config.store else { return engine.replica().data_bytes() };
    let files = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// What the admin pages ask of the server.
#[derive(Debug)]
pub struct Pages(pub Arc<Shared>);

#[async_trait]
impl Probe for Pages {
    /// A server that answers this at all is alive: what ends it, ends the process.
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        super::commit_nothing(&self.0).await.map_err(|error| error.to_string())
    }

    fn gauges(&self) -> Gauges {
        self.0.take(|engine| engine.gauges())
    }
}
