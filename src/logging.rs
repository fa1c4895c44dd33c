//! Log lines, through `tracing`: text for people or JSON for collectors, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// The embedded store's database tells of each of its steps at `info`. What the filter says of it goes before this.
const QUIET: &str = "fjall=warn,lsm_tree=warn";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("the log filter: {0}")]
    Filter(#[from] ParseError),
    #[error("the log: {0}")]
    Init(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Whether [`init`] will understand the filter.
///
/// # Errors
/// The part that is no directive of `tracing_subscriber::EnvFilter`.
pub fn check_filter(filter: &str) -> Result<(), ParseError> {
    EnvFilter::builder().parse(filter).map(drop)
}

fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::builder().parse(directives)?;
    match filter.max_level_hint() {
        Some(LevelFilter::OFF | LevelFilter::ERROR) => Ok(filter),
        _ => EnvFilter::builder().parse(format!("{QUIET},{directives}")),
    }
}

/// Starts logging for the whole process; to be called once.
///
/// # Errors
/// The filter is malformed, or a log was started before.
pub fn init(config: &LogConfig) -> Result<(), LoggingError> {
    // Who read the lines may be gone: to say so on the same stream would end the thread that logs.
    let lines = fmt().with_env_filter(filter(&config.filter)?).with_writer(std::io::stderr).log_internal_errors(false);
    match config.format {
        LogFormat::Text => lines.with_ansi(wants_colour()).try_init()?,
        // The spans (a connection's, with its session's id) stand beside the fields, not only as a list of parents.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()?,
    }
    Ok(())
}

/// <https://no-color.org>: any value but the empty one turns colours off.
fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_before_they_are_used() {
        for good in ["info", "error", "info,zketcd::session=debug", "zketcd[connection{session=1}]=trace"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        for bad in ["info,zketcd=loud", "=", "a=b=c"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_database_is_quiet_unless_it_is_asked_for() {
        let has = |directives: &str, directive: &str| {
            filter(directives).unwrap().to_string().split(',').any(|one| one == directive)
        };
        assert!(has("info", "fjall=warn") && has("info", "info"));
        assert!(has("info,fjall=debug", "fjall=debug") && !has("info,fjall=debug", "fjall=warn"));
        assert!(!has("off", "fjall=warn") && !has("error", "fjall=warn"));
    }
}
