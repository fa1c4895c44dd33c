//! The command line: flags, their environment variables and defaults, and the checked [`Config`] they become.
//!
//! Every flag `--some-name` of `serve` can be given as `ZKETCD_SOME_NAME` instead; the flag wins. A [`Config`] that
//! exists is valid: the rest of the program never looks at a flag.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use humantime::format_duration;

use crate::logging;
use crate::server::four_letter::Whitelist;
use crate::server::stats::ConfView;
use crate::store::{Limits, MAX_PREFIX};

/// Where the admin endpoint listens unless told otherwise, and where `healthcheck` looks for it.
pub const DEFAULT_ADMIN_LISTEN: &str = "127.0.0.1:9141";

/// Where etcd listens unless told otherwise.
const DEFAULT_ETCD_ENDPOINT: &str = "http://127.0.0.1:2379";

/// A session's connection is closed a margin of at least 500 ms before its lease is known to end; a timeout below
/// twice that leaves a client no time to live in.
const SHORTEST_SESSION_TIMEOUT: Duration = Duration::from_secs(1);

/// The protocol carries a session's timeout as milliseconds in a signed 32-bit integer.
const LONGEST_SESSION_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// Below this not even a create with a short path and one ACL entry fits.
const SMALLEST_JUTE_BUFFER: usize = 1024;

/// The protocol's length is a signed 32-bit integer; half of it leaves room to count in.
const LARGEST_JUTE_BUFFER: usize = 1 << 30;

/// Two compares and a few puts of one create, its lane and its session: below this no batch can hold a request.
const SMALLEST_TXN_OPS: usize = 16;

/// Record headers, paths, compares and the lane beside a request's own bytes.
const REQUEST_OVERHEAD: usize = 64 * 1024;

/// More commits in flight than this only compete for etcd's one writer.
const MOST_LANES: usize = 64;

/// More threads than processors only compete for them, and few machines have more than this.
const MOST_WORKER_THREADS: usize = 512;

/// What the program is told on its command line.
#[derive(Debug, Parser)]
#[command(name = "zketcd", version, about = "Serves the ZooKeeper client protocol and keeps everything in etcd v3")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve ZooKeeper clients
    Serve(Box<ServeArgs>),
    /// Ask a running server whether it is well: exit code 0 if so, 1 if not (for containers)
    Healthcheck(HealthcheckArgs),
}

/// Which implementation of [`crate::store::Store`] keeps the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// In this process, durable in --data-dir
    Embedded,
    /// In this process, gone with it
    Memory,
    /// In etcd v3
    Etcd,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The flags of `zketcd serve`, as given; [`ServeArgs::into_config`] checks them.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where ZooKeeper clients connect (address:port)
    #[arg(long, env = "ZKETCD_LISTEN", default_value = "127.0.0.1:2181", value_parser = parse_addr, value_name = "ADDR")]
    pub listen: SocketAddr,

    /// Where everything is kept
    #[arg(long, env = "ZKETCD_STORE", default_value = "embedded", value_enum)]
    pub store: StoreKind,

    /// Directory of the embedded store
    #[arg(long, env = "ZKETCD_DATA_DIR", value_parser = path(), default_value = "zketcd-data", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// etcd's client URLs, separated by commas; a bare host:port means http, or https with --etcd-ca or --etcd-cert
    /// [default: http://127.0.0.1:2379]
    #[arg(long, env = "ZKETCD_ETCD_ENDPOINTS", value_delimiter = ',', value_name = "URL,…")]
    pub etcd_endpoints: Vec<String>,

    /// What all keys in etcd begin with; servers that share it serve the same tree
    #[arg(long, env = "ZKETCD_PREFIX", default_value = "/zketcd", value_name = "PREFIX")]
    pub prefix: String,

    /// Where /metrics, /healthz and /readyz are served (address:port), or `none`
    #[arg(long, env = "ZKETCD_ADMIN_LISTEN", default_value = DEFAULT_ADMIN_LISTEN, value_parser = parse_admin_addr, value_name = "ADDR|none")]
    pub admin_listen: AdminAddr,

    /// Shortest session timeout that a client is given (duration: 500ms, 4s, 1m)
    #[arg(long, env = "ZKETCD_MIN_SESSION_TIMEOUT", default_value = "4s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub min_session_timeout: Duration,

    /// Longest session timeout that a client is given (duration); Flink and Curator ask for 60s
    #[arg(long, env = "ZKETCD_MAX_SESSION_TIMEOUT", default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub max_session_timeout: Duration,

    /// Largest frame that a client may send (bytes), as ZooKeeper's jute.maxbuffer
    #[arg(long, env = "ZKETCD_JUTE_MAX_BUFFER", default_value = "1048575", value_parser = parse_bytes, value_name = "BYTES")]
    pub jute_max_buffer: usize,

    /// Four-letter words that are answered, separated by commas; `*` allows all, `none` none
    #[arg(long, env = "ZKETCD_FOUR_LETTER_WORDS", default_value = "srvr,isro", value_name = "WORD,…")]
    pub four_letter_words: Whitelist,

    /// How often empty containers and expired TTL nodes are looked for (duration)
    #[arg(long, env = "ZKETCD_CONTAINER_CHECK_INTERVAL", default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub container_check_interval: Duration,

    /// How long a write waits for etcd before the connections are closed (duration)
    #[arg(long, env = "ZKETCD_ETCD_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub etcd_timeout: Duration,

    /// User to authenticate to etcd as [default: no authentication]
    #[arg(long, env = "ZKETCD_ETCD_USER", value_name = "USER")]
    pub etcd_user: Option<String>,

    /// Password of --etcd-user (better given in the environment or a file: others can read a command line)
    #[arg(long, env = "ZKETCD_ETCD_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub etcd_password: Option<Secret>,

    /// File that holds the password of --etcd-user; a trailing newline is not part of it
    #[arg(long, env = "ZKETCD_ETCD_PASSWORD_FILE", value_parser = path(), value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,

    /// File with the PEM certificates of the authorities that etcd's certificate is checked against
    /// [default: the system's, for https endpoints]
    #[arg(long, env = "ZKETCD_ETCD_CA", value_parser = path(), value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,

    /// File with the PEM certificate that this server shows to etcd; needs --etcd-key
    #[arg(long, env = "ZKETCD_ETCD_CERT", value_parser = path(), value_name = "FILE")]
    pub etcd_cert: Option<PathBuf>,

    /// File with the PEM private key of --etcd-cert
    #[arg(long, env = "ZKETCD_ETCD_KEY", value_parser = path(), value_name = "FILE")]
    pub etcd_key: Option<PathBuf>,

    /// Most operations in one etcd transaction; not above etcd's own --max-txn-ops
    #[arg(long, env = "ZKETCD_ETCD_MAX_TXN_OPS", default_value_t = 128, value_name = "COUNT")]
    pub etcd_max_txn_ops: usize,

    /// Most bytes in one etcd transaction; not above etcd's own --max-request-bytes
    #[arg(long, env = "ZKETCD_ETCD_MAX_REQUEST_BYTES", default_value = "1572864", value_parser = parse_bytes, value_name = "BYTES")]
    pub etcd_max_request_bytes: usize,

    /// Who is the super user, `name:digest` as ZooKeeper's superDigest (base64 of SHA-1 of `name:password`)
    /// [default: nobody]
    #[arg(long, env = "ZKETCD_SUPER_DIGEST", hide_env_values = true, value_name = "NAME:DIGEST")]
    pub super_digest: Option<Secret>,

    /// Make every read linearizable, as if the client sent `sync` before it (slower) [default: off]
    #[arg(long, env = "ZKETCD_LINEARIZABLE_READS", value_parser = BoolishValueParser::new())]
    pub linearizable_reads: bool,

    /// How log lines are written, on standard error
    #[arg(long, env = "ZKETCD_LOG_FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,zketcd::session=debug`
    #[arg(long, env = "ZKETCD_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,

    /// Most connections from one address (count), as ZooKeeper's maxClientCnxns; 0: no limit
    #[arg(long, env = "ZKETCD_MAX_CLIENT_CONNECTIONS", default_value_t = DEFAULT_MAX_CLIENT_CONNECTIONS, value_name = "COUNT")]
    pub max_client_connections: usize,

    /// Most connections in all (count), as ZooKeeper's maxCnxns; 0: no limit
    #[arg(long, env = "ZKETCD_MAX_CONNECTIONS", default_value_t = DEFAULT_MAX_CONNECTIONS, value_name = "COUNT")]
    pub max_connections: usize,

    /// How long a new connection may take to ask for a session (duration)
    #[arg(long, env = "ZKETCD_HANDSHAKE_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub handshake_timeout: Duration,

    /// Most requests of one connection that wait for their answers (count); past it, no more of its bytes are read
    #[arg(long, env = "ZKETCD_OUTSTANDING_LIMIT", default_value_t = 1000, value_name = "COUNT")]
    pub outstanding_limit: usize,

    /// Most bytes of answers that wait for a client to read them; past it, the connection is closed
    #[arg(long, env = "ZKETCD_MAX_UNSENT_BYTES", default_value = "64MiB", value_parser = parse_bytes, value_name = "BYTES")]
    pub max_unsent_bytes: usize,

    /// Commits to the store that may be in flight at once (count)
    #[arg(long, env = "ZKETCD_LANES", default_value_t = 2, value_name = "COUNT")]
    pub lanes: usize,

    /// Threads that serve connections (count) [default: one fewer than there are processors, as the store takes one, and at
    /// least 1]
    #[arg(long, env = "ZKETCD_WORKER_THREADS", value_name = "COUNT")]
    pub worker_threads: Option<usize>,
}

/// ZooKeeper's own limit of 60 was made for one process a machine. Behind a Kubernetes Service that hides clients'
/// addresses, or a NAT gateway, hundreds of well-behaved clients share one, and a rejected one is an outage; a
/// sidecar's clients number a few. A thousand lets them all in and leaves nine tenths of the default total to
/// everybody else when one address runs wild.
const DEFAULT_MAX_CLIENT_CONNECTIONS: usize = 1_000;

/// A connection costs tens of kilobytes and a file descriptor: ten thousand are some hundreds of megabytes at worst.
const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

/// The flags of `zketcd healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The server's admin address (address:port or http://address:port); `serve` reads the same variable
    #[arg(long, env = "ZKETCD_ADMIN_LISTEN", default_value = DEFAULT_ADMIN_LISTEN, value_parser = parse_admin_addr, value_name = "ADDR")]
    pub admin: AdminAddr,

    /// Ask whether it can commit to the store (/readyz), not only whether it is alive (/healthz) [default: off]
    #[arg(long, env = "ZKETCD_HEALTHCHECK_READY", value_parser = BoolishValueParser::new())]
    pub ready: bool,

    /// How long to wait for the answer (duration)
    #[arg(long, env = "ZKETCD_HEALTHCHECK_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// An address, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminAddr(pub Option<SocketAddr>);

/// A string that no log line or error message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The string itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Secret(value.to_owned())
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Ok(Secret::from(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Everything `zketcd serve` was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// `None`: no admin endpoint.
    pub admin_listen: Option<SocketAddr>,
    pub store: StoreConfig,
    /// At least a second, at most [`Config::max_session_timeout`].
    pub min_session_timeout: Duration,
    /// Fits the protocol's 32-bit milliseconds.
    pub max_session_timeout: Duration,
    /// Bytes; a frame's length may be this at most.
    pub jute_max_buffer: usize,
    pub four_letter_words: Whitelist,
    pub container_check_interval: Duration,
    /// How long writes wait while the store is away, whichever store it is.
    pub etcd_timeout: Duration,
    /// What a transaction may hold.
    pub txn_limits: Limits,
    /// `name:base64`, well formed.
    pub super_digest: Option<Secret>,
    pub linearizable_reads: bool,
    pub connections: ConnectionLimits,
    /// From 1 to 64.
    pub lanes: usize,
    /// From 1 to 512.
    pub worker_threads: usize,
    pub log: LogConfig,
}

/// What one client, or all of them, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `None`: no limit.
    pub per_address: Option<usize>,
    /// `None`: no limit.
    pub total: Option<usize>,
    /// From the accept to a whole connect request.
    pub handshake_timeout: Duration,
    /// Requests of one connection without an answer; past it, no more of its bytes are read.
    pub outstanding: usize,
    /// Bytes of answers that the client has not read; past it, the connection is closed. Above the jute buffer.
    pub unsent_bytes: usize,
}

#[derive(Debug, Clone)]
pub struct LogConfig {
    pub format: LogFormat,
    /// A filter that `tracing` understands.
    pub filter: String,
}

#[derive(Debug, Clone)]
pub enum StoreConfig {
    Memory,
    Embedded { data_dir: PathBuf },
    Etcd(EtcdConfig),
}

#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// `http://…` or `https://…`, all of one scheme, at least one.
    pub endpoints: Vec<String>,
    /// Begins with `/`, does not end with it.
    pub prefix: String,
    pub credentials: Option<Credentials>,
    /// Present exactly where the endpoints are https.
    pub tls: Option<TlsConfig>,
}

#[derive(Debug, Clone)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
}

/// PEM bytes, read at start.
#[derive(Clone, Default)]
pub struct TlsConfig {
    /// `None`: the system's authorities.
    pub ca: Option<Vec<u8>>,
    /// Certificate and private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

/// Why the flags make no configuration: one line that names the flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ServeArgs {
    /// Checks the flags against each other and reads the files they name.
    ///
    /// # Errors
    /// One line that names the flag at fault.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        self.check_sessions()?;
        self.check_sizes()?;
        logging::check_filter(&self.log_level).map_err(|e| fail(format!("--log-level {}: {e}", self.log_level)))?;
        let super_digest = self.super_digest.clone().filter(|s| !s.reveal().is_empty());
        if let Some(digest) = &super_digest {
            check_super_digest(digest.reveal())?;
        }
        let store = match self.store {
            StoreKind::Memory => StoreConfig::Memory,
            StoreKind::Embedded => StoreConfig::Embedded { data_dir: self.embedded_dir()? },
            StoreKind::Etcd => StoreConfig::Etcd(self.etcd()?),
        };
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen.0,
            store,
            min_session_timeout: self.min_session_timeout,
            max_session_timeout: self.max_session_timeout,
            jute_max_buffer: self.jute_max_buffer,
            four_letter_words: self.four_letter_words,
            container_check_interval: self.container_check_interval,
            etcd_timeout: self.etcd_timeout,
            txn_limits: Limits { txn_ops: self.etcd_max_txn_ops, request_bytes: self.etcd_max_request_bytes },
            super_digest,
            linearizable_reads: self.linearizable_reads,
            connections: ConnectionLimits {
                per_address: (self.max_client_connections > 0).then_some(self.max_client_connections),
                total: (self.max_connections > 0).then_some(self.max_connections),
                handshake_timeout: self.handshake_timeout,
                outstanding: self.outstanding_limit,
                unsent_bytes: self.max_unsent_bytes,
            },
            lanes: self.lanes,
            worker_threads: self.worker_threads.unwrap_or_else(default_worker_threads),
            log: LogConfig { format: self.log_format, filter: self.log_level },
        })
    }

    /// What is allowed but probably not meant; for the log, once it is there.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let about_etcd = [
            ("--etcd-endpoints", !self.etcd_endpoints.is_empty()),
            ("--etcd-user", self.user().is_some()),
            ("--etcd-password", self.password().is_some()),
            ("--etcd-password-file", given(&self.etcd_password_file).is_some()),
            ("--etcd-ca", given(&self.etcd_ca).is_some()),
            ("--etcd-cert", given(&self.etcd_cert).is_some()),
            ("--etcd-key", given(&self.etcd_key).is_some()),
        ];
        for (flag, _) in about_etcd.into_iter().filter(|(_, is_given)| *is_given) {
            if self.store != StoreKind::Etcd {
                warnings.push(format!("{flag} has no effect without --store etcd"));
            } else if flag.starts_with("--etcd-password") && self.user().is_none() {
                warnings.push(format!("{flag} has no effect without --etcd-user"));
            }
        }
        if self.store != StoreKind::Memory && self.etcd_max_request_bytes < self.jute_max_buffer + REQUEST_OVERHEAD {
            warnings.push(format!(
                "--etcd-max-request-bytes {} cannot hold a request of --jute-max-buffer {}: such a write gets an error; \
                 raise it here and at etcd",
                self.etcd_max_request_bytes, self.jute_max_buffer
            ));
        }
        warnings
    }

    fn user(&self) -> Option<&String> {
        self.etcd_user.as_ref().filter(|user| !user.is_empty())
    }

    fn password(&self) -> Option<&Secret> {
        self.etcd_password.as_ref().filter(|password| !password.reveal().is_empty())
    }

    fn check_sessions(&self) -> Result<(), ConfigError> {
        let (min, max) = (self.min_session_timeout, self.max_session_timeout);
        if min < SHORTEST_SESSION_TIMEOUT {
            return Err(fail(format!(
                "--min-session-timeout {} is shorter than {}: a lease in etcd cannot keep that",
                format_duration(min),
                format_duration(SHORTEST_SESSION_TIMEOUT)
            )));
        }
        if max > LONGEST_SESSION_TIMEOUT {
            return Err(fail(format!(
                "--max-session-timeout {} is longer than the protocol's 32-bit milliseconds can tell",
                format_duration(max)
            )));
        }
        if min > max {
            return Err(fail(format!(
                "--min-session-timeout {} is longer than --max-session-timeout {}",
                format_duration(min),
                format_duration(max)
            )));
        }
        for (flag, value) in [
            ("--container-check-interval", self.container_check_interval),
            ("--etcd-timeout", self.etcd_timeout),
            ("--handshake-timeout", self.handshake_timeout),
        ] {
            if value < Duration::from_millis(1) {
                return Err(fail(format!("{flag} must be at least 1ms")));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        in_range("--jute-max-buffer", self.jute_max_buffer, SMALLEST_JUTE_BUFFER, LARGEST_JUTE_BUFFER)?;
        in_range("--etcd-max-txn-ops", self.etcd_max_txn_ops, SMALLEST_TXN_OPS, usize::MAX)?;
        in_range("--etcd-max-request-bytes", self.etcd_max_request_bytes, REQUEST_OVERHEAD, usize::MAX)?;
        in_range("--outstanding-limit", self.outstanding_limit, 1, usize::MAX)?;
        in_range("--lanes", self.lanes, 1, MOST_LANES)?;
        if let Some(threads) = self.worker_threads {
            in_range("--worker-threads", threads, 1, MOST_WORKER_THREADS)?;
        }
        if self.max_unsent_bytes < self.jute_max_buffer {
            return Err(fail(format!(
                "--max-unsent-bytes {} is smaller than --jute-max-buffer {}: one answer could exceed it",
                self.max_unsent_bytes, self.jute_max_buffer
            )));
        }
        Ok(())
    }

    fn embedded_dir(&self) -> Result<PathBuf, ConfigError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(fail("--data-dir is empty: --store embedded keeps its data there".to_owned()));
        }
        Ok(self.data_dir.clone())
    }

    fn etcd(&self) -> Result<EtcdConfig, ConfigError> {
        check_prefix(&self.prefix)?;
        let identity = match (given(&self.etcd_cert), given(&self.etcd_key)) {
            (Some(cert), Some(key)) => Some((read_pem("--etcd-cert", cert)?, read_pem("--etcd-key", key)?)),
            (Some(_), None) => return Err(fail("--etcd-cert needs --etcd-key".to_owned())),
            (None, Some(_)) => return Err(fail("--etcd-key needs --etcd-cert".to_owned())),
            (None, None) => None,
        };
        let ca = given(&self.etcd_ca).map(|path| read_pem("--etcd-ca", path)).transpose()?;
        let tls_given = ca.is_some() || identity.is_some();
        let endpoints = endpoints(&self.etcd_endpoints, tls_given)?;
        let https = endpoints.iter().any(|e| e.starts_with("https://"));
        if tls_given && !https {
            return Err(fail("--etcd-ca and --etcd-cert need https:// in --etcd-endpoints".to_owned()));
        }
        Ok(EtcdConfig {
            endpoints,
            prefix: self.prefix.clone(),
            credentials: self.credentials()?,
            tls: https.then_some(TlsConfig { ca, identity }),
        })
    }

    fn credentials(&self) -> Result<Option<Credentials>, ConfigError> {
        let Some(user) = self.user() else { return Ok(None) };
        let password = match (self.password(), given(&self.etcd_password_file)) {
            (Some(_), Some(_)) => {
                return Err(fail("--etcd-password and --etcd-password-file exclude each other".to_owned()));
            }
            (Some(password), None) => password.clone(),
            (None, Some(path)) => read_password(path)?,
            (None, None) => {
                return Err(fail("--etcd-user needs --etcd-password or --etcd-password-file".to_owned()));
            }
        };
        Ok(Some(Credentials { user: user.clone(), password }))
    }
}

impl From<&Config> for ConfView {
    /// What `conf` shows; sizes are 0 until the store is asked.
    fn from(config: &Config) -> Self {
        ConfView {
            client_port: config.listen.port(),
            data_dir: match &config.store {
                StoreConfig::Memory => "memory".to_owned(),
                StoreConfig::Embedded { data_dir } => data_dir.display().to_string(),
                StoreConfig::Etcd(etcd) => format!("etcd:{}", etcd.prefix),
            },
            data_dir_size: 0,
            // ZooKeeper's tick is half of its shortest session timeout.
            tick_time: config.min_session_timeout / 2,
            max_client_connections: config.connections.per_address.unwrap_or(0),
            min_session_timeout: config.min_session_timeout,
            max_session_timeout: config.max_session_timeout,
        }
    }
}

/// The store's own thread, or etcd beside us, takes a processor of its own under load. Where two threads share two with it,
/// each waits for the others a third of the time, and every task that wakes another wakes a thread too.
fn default_worker_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors - 1).clamp(1, MOST_WORKER_THREADS)
}

fn fail(message: String) -> ConfigError {
    ConfigError(message)
}

/// A path given by an empty environment variable was not given.
fn given(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn in_range(flag: &str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
    if value < least {
        return Err(fail(format!("{flag} {value} is below {least}")));
    }
    if value > most {
        return Err(fail(format!("{flag} {value} is above {most}")));
    }
    Ok(())
}

fn check_prefix(prefix: &str) -> Result<(), ConfigError> {
    if !prefix.starts_with('/') {
        return Err(fail(format!("--prefix {prefix:?} does not begin with '/'")));
    }
    if prefix.ends_with('/') {
        return Err(fail(format!("--prefix {prefix:?} ends with '/': name what is to stand before the keys")));
    }
    if prefix.len() > MAX_PREFIX {
        return Err(fail(format!("--prefix is {} bytes long, more than {MAX_PREFIX}", prefix.len())));
    }
    if prefix.contains('\0') {
        return Err(fail(format!("--prefix {prefix:?} contains a null character")));
    }
    Ok(())
}

/// `name:base64(sha1(name:password))`, as ZooKeeper's `DigestAuthenticationProvider.generateDigest` makes it.
fn check_super_digest(digest: &str) -> Result<(), ConfigError> {
    const SHA1_BYTES: usize = 20;
    let well_formed = digest.split_once(':').is_some_and(|(name, hash)| {
        let hash = base64::engine::general_purpose::STANDARD.decode(hash);
        !name.is_empty() && hash.is_ok_and(|hash| hash.len() == SHA1_BYTES)
    });
    if !well_formed {
        return Err(fail("--super-digest is not name:digest with the base64 of a SHA-1".to_owned()));
    }
    Ok(())
}

fn endpoints(given: &[String], tls: bool) -> Result<Vec<String>, ConfigError> {
    let default_scheme = if tls { "https" } else { "http" };
    let mut endpoints = Vec::new();
    for endpoint in given.iter().map(|e| e.trim()).map(|e| e.strip_suffix('/').unwrap_or(e)).filter(|e| !e.is_empty()) {
        let url = match endpoint.split_once("://") {
            Some(("http" | "https", _)) => endpoint.to_owned(),
            Some(_) => return Err(fail(format!("--etcd-endpoints {endpoint}: neither http:// nor https://"))),
            None => format!("{default_scheme}://{endpoint}"),
        };
        let authority = url.split_once("://").map_or("", |(_, rest)| rest);
        let (host, port) = authority.rsplit_once(':').unwrap_or_default();
        if host.is_empty() || host.contains(['/', ' ', '?', '#', '@']) || port.parse::<u16>().is_err() {
            return Err(fail(format!("--etcd-endpoints {endpoint}: not a URL of the form http://host:port")));
        }
        endpoints.push(url);
    }
    if endpoints.is_empty() {
        endpoints.push(if tls {
            DEFAULT_ETCD_ENDPOINT.replace("http:", "https:")
        } else {
            DEFAULT_ETCD_ENDPOINT.into()
        });
    }
    let https = endpoints.iter().filter(|e| e.starts_with("https://")).count();
    if https != 0 && https != endpoints.len() {
        return Err(fail("--etcd-endpoints mixes http:// and https://".to_owned()));
    }
    Ok(endpoints)
}

fn read_pem(flag: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = std::fs::read(path).map_err(|e| fail(format!("{flag} {}: {e}", path.display())))?;
    if !pem.windows(11).any(|w| w == b"-----BEGIN ") {
        return Err(fail(format!("{flag} {}: not a PEM file", path.display())));
    }
    Ok(pem)
}

fn read_password(path: &Path) -> Result<Secret, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|e| fail(format!("--etcd-password-file {}: {e}", path.display())))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(fail(format!("--etcd-password-file {}: the file is empty", path.display())));
    }
    Ok(Secret::from(password))
}

/// Unlike clap's own, this one takes an empty value: variables of orchestrators' templates may be empty.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|e| format!("not an address:port ({e})"))?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}

fn parse_admin_addr(text: &str) -> Result<AdminAddr, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(AdminAddr(None));
    }
    let text = text.strip_prefix("http://").unwrap_or(text);
    parse_addr(text.trim_end_matches('/')).map(|addr| AdminAddr(Some(addr)))
}

/// A number of bytes: plain, or with `KiB`, `MiB` or `GiB` behind it.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1usize << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (number, unit) = units
        .iter()
        .find_map(|(name, bytes)| text.strip_suffix(name).map(|number| (number.trim_end(), *bytes)))
        .unwrap_or((text, 1));
    let number: usize = number.parse().map_err(|_| "not a number of bytes such as 1048575 or 64MiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::server::four_letter::Word;

    fn args(flags: &[&str]) -> Result<ServeArgs, clap::Error> {
        let line = ["zketcd", "serve"].iter().chain(flags);
        match Cli::try_parse_from(line)?.command {
            Command::Serve(args) => Ok(*args),
            Command::Healthcheck(_) => unreachable!("the line says serve"),
        }
    }

    fn config(flags: &[&str]) -> Config {
        args(flags).unwrap().into_config().unwrap()
    }

    fn refused(flags: &[&str]) -> String {
        let error = match args(flags) {
            Ok(args) => args.into_config().expect_err(&format!("{flags:?}")).to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(error.lines().next().map(str::is_empty), Some(false));
        error
    }

    #[test]
    fn the_defaults() {
        let config = config(&[]);
        assert_eq!(config.listen, "127.0.0.1:2181".parse().unwrap());
        assert_eq!(config.admin_listen, Some("127.0.0.1:9141".parse().unwrap()));
        assert!(matches!(&config.store, StoreConfig::Embedded { data_dir } if data_dir == Path::new("zketcd-data")));
        assert_eq!(config.min_session_timeout, Duration::from_secs(4));
        assert_eq!(config.max_session_timeout, Duration::from_secs(60));
        assert_eq!(config.jute_max_buffer, 1_048_575);
        assert_eq!(config.four_letter_words, Whitelist::default());
        assert_eq!(config.container_check_interval, Duration::from_secs(60));
        assert_eq!(config.etcd_timeout, Duration::from_secs(30));
        assert_eq!(config.txn_limits, Limits { txn_ops: 128, request_bytes: 1_572_864 });
        assert_eq!(config.super_digest, None);
        assert!(!config.linearizable_reads);
        assert_eq!(
            config.connections,
            ConnectionLimits {
                per_address: Some(1000),
                total: Some(10_000),
                handshake_timeout: Duration::from_secs(10),
                outstanding: 1000,
                unsent_bytes: 64 << 20,
            }
        );
        assert_eq!(config.lanes, 2);
        assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Text, "info"));
        assert!(args(&[]).unwrap().warnings().is_empty());
    }

    #[test]
    fn every_flag_has_its_variable_a_default_and_a_unit() {
        for subcommand in Cli::command().get_subcommands().filter(|command| command.get_name() != "help") {
            for arg in subcommand.get_arguments().filter(|arg| arg.get_id() != "help") {
                let long = arg.get_long().unwrap();
                let own = format!("ZKETCD_{}", long.to_uppercase().replace('-', "_"));
                let env = arg.get_env().and_then(|env| env.to_str()).unwrap_or_default();
                match (subcommand.get_name(), long) {
                    ("serve", _) => assert_eq!(env, own),
                    ("healthcheck", "admin") => assert_eq!(env, "ZKETCD_ADMIN_LISTEN"),
                    _ => assert_eq!(env, own.replace("ZKETCD_", "ZKETCD_HEALTHCHECK_")),
                }
                let help = arg.get_help().unwrap_or_else(|| panic!("--{long} has no help")).to_string();
                let optional = ["etcd-password", "etcd-password-file", "etcd-cert", "etcd-key"];
                let has_default = !arg.get_default_values().is_empty() && arg.get_action().takes_values();
                assert!(has_default || help.contains("[default: ") || optional.contains(&long), "--{long}");
                let unit: &[&str] = match arg.get_value_names().unwrap_or_default().first().map(|name| name.as_str()) {
                    Some("DURATION") => &["(duration"],
                    Some("BYTES") => &["bytes"],
                    Some("COUNT") => &["(count", "operations"],
                    Some("ADDR" | "ADDR|none") => &["(address:port"],
                    _ => continue,
                };
                assert!(unit.iter().any(|unit| help.contains(unit)), "--{long}: {help}");
            }
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, duration) in [
            ("1500ms", Duration::from_millis(1500)),
            ("4s", Duration::from_secs(4)),
            ("1m", Duration::from_secs(60)),
            ("1m 30s", Duration::from_secs(90)),
        ] {
            assert_eq!(
                config(&["--min-session-timeout", text, "--max-session-timeout", "1h"]).min_session_timeout,
                duration
            );
        }
        for bad in ["4", "", "s", "-4s", "4 parsecs"] {
            let error = refused(&[&format!("--min-session-timeout={bad}")]);
            assert!(error.contains("--min-session-timeout"), "{bad}: {error}");
        }
    }

    #[test]
    fn bytes_may_have_a_unit() {
        for (text, bytes) in
            [("4096", Some(4096)), ("64KiB", Some(65_536)), ("1 MiB", Some(1 << 20)), ("2GiB", Some(2 << 30))]
        {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "1MB", "99999999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_stores() {
        assert!(matches!(config(&["--store", "memory"]).store, StoreConfig::Memory));
        let embedded = config(&["--store=embedded", "--data-dir=/var/lib/zketcd"]).store;
        assert!(matches!(embedded, StoreConfig::Embedded { data_dir } if data_dir == Path::new("/var/lib/zketcd")));
        assert!(refused(&["--data-dir="]).starts_with("--data-dir is empty"));
        let StoreConfig::Etcd(etcd) = config(&["--store", "etcd"]).store else { panic!("not etcd") };
        assert_eq!(etcd.endpoints, ["http://127.0.0.1:2379"]);
        assert_eq!(etcd.prefix, "/zketcd");
        assert!(etcd.credentials.is_none() && etcd.tls.is_none());
        refused(&["--store", "consul"]);
    }

    #[test]
    fn etcd_endpoints_are_urls_of_one_scheme() {
        let of = |endpoints: &str, tls| endpoints_of(endpoints, tls).unwrap();
        fn endpoints_of(text: &str, tls: bool) -> Result<Vec<String>, ConfigError> {
            endpoints(&text.split(',').map(str::to_owned).collect::<Vec<_>>(), tls)
        }
        assert_eq!(
            of("http://a:2379,b:2379 , http://c:2379/,", false),
            ["http://a:2379", "http://b:2379", "http://c:2379"]
        );
        assert_eq!(of("a:2379,https://b:2379", true), ["https://a:2379", "https://b:2379"]);
        assert_eq!(of("[::1]:2379", false), ["http://[::1]:2379"]);
        assert_eq!(of("", true), ["https://127.0.0.1:2379"]);
        for bad in
            ["ftp://a:2379", "http://", "http://a", "http://a:1/b", "http://me:word@a:1", "http://a:1,https://b:1"]
        {
            let error = endpoints_of(bad, false).unwrap_err().to_string();
            assert!(error.starts_with("--etcd-endpoints "), "{bad}: {error}");
        }
    }

    #[test]
    fn the_prefix_is_an_absolute_path() {
        let etcd = |prefix: &str| args(&["--store=etcd", &format!("--prefix={prefix}")]).unwrap().into_config();
        assert!(etcd("/a/b").is_ok());
        for bad in ["zketcd", "", "/", "/a/", "/a\0b"] {
            assert!(etcd(bad).unwrap_err().to_string().starts_with("--prefix "), "{bad}");
        }
    }

    #[test]
    fn credentials_are_whole_and_secret() {
        let etcd = |flags: &[&str]| match args(&[&["--store=etcd"], flags].concat()).unwrap().into_config() {
            Ok(Config { store: StoreConfig::Etcd(etcd), .. }) => Ok(etcd),
            Ok(_) => unreachable!("the store is etcd"),
            Err(error) => Err(error.to_string()),
        };
        let etcd_config = etcd(&["--etcd-user=root", "--etcd-password=hunter2"]).unwrap();
        assert!(!format!("{etcd_config:?}").contains("hunter2"));
        let credentials = etcd_config.credentials.unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.reveal()), ("root", "hunter2"));

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let flag = format!("--etcd-password-file={}", file.display());
        for (content, password) in
            [("secret\n", "secret"), ("two words", "two words"), ("dos\r\n", "dos"), ("x\n\n", "x\n")]
        {
            std::fs::write(&file, content).unwrap();
            let credentials = etcd(&["--etcd-user=root", &flag]).unwrap().credentials.unwrap();
            assert_eq!(credentials.password.reveal(), password);
        }
        std::fs::write(&file, "\n").unwrap();
        assert!(etcd(&["--etcd-user=root", &flag]).unwrap_err().ends_with("the file is empty"));
        std::fs::remove_file(&file).unwrap();
        let error = etcd(&["--etcd-user=root", &flag]).unwrap_err();
        assert!(error.starts_with("--etcd-password-file ") && error.contains("No such file"), "{error}");
        assert!(etcd(&["--etcd-user=root"]).unwrap_err().contains("needs --etcd-password"));
        assert!(etcd(&["--etcd-user=root", "--etcd-password=x", &flag]).unwrap_err().contains("exclude"));
        // An orchestrator's template may leave variables empty.
        assert!(etcd(&["--etcd-user=", "--etcd-password="]).unwrap().credentials.is_none());
    }

    #[test]
    fn tls_files_are_read_and_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("x.pem");
        std::fs::write(&pem, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let (ca, cert) = (format!("--etcd-ca={}", pem.display()), format!("--etcd-cert={}", pem.display()));
        let key = format!("--etcd-key={}", pem.display());
        let etcd = |flags: &[&str]| match args(&[&["--store=etcd"], flags].concat()).unwrap().into_config() {
            Ok(Config { store: StoreConfig::Etcd(etcd), .. }) => Ok(etcd),
            Ok(_) => unreachable!("the store is etcd"),
            Err(error) => Err(error.to_string()),
        };
        let with_all = etcd(&[&ca, &cert, &key]).unwrap();
        assert_eq!(with_all.endpoints, ["https://127.0.0.1:2379"]);
        let tls = with_all.tls.unwrap();
        assert!(tls.ca.is_some() && tls.identity.is_some());
        let system = etcd(&["--etcd-endpoints=https://a:2379", "--etcd-ca=", "--etcd-cert="]).unwrap().tls.unwrap();
        assert!(system.ca.is_none() && system.identity.is_none());
        assert_eq!(etcd(&[&cert]).unwrap_err(), "--etcd-cert needs --etcd-key");
        assert_eq!(etcd(&[&key]).unwrap_err(), "--etcd-key needs --etcd-cert");
        assert!(etcd(&[&ca, "--etcd-endpoints=http://a:2379"]).unwrap_err().contains("need https://"));
        assert!(etcd(&["--etcd-ca=/nowhere/ca.pem"]).unwrap_err().starts_with("--etcd-ca /nowhere/ca.pem: "));
        std::fs::write(&pem, "not PEM").unwrap();
        assert!(etcd(&[&ca]).unwrap_err().ends_with("not a PEM file"));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for (flags, expected) in [
            (vec!["--min-session-timeout=90s"], "--min-session-timeout 1m 30s is longer than --max-session-timeout 1m"),
            (vec!["--min-session-timeout=900ms"], "--min-session-timeout 900ms is shorter than 1s"),
            (vec!["--max-session-timeout=25days"], "--max-session-timeout 25days is longer than"),
            (vec!["--jute-max-buffer=10"], "--jute-max-buffer 10 is below 1024"),
            (vec!["--jute-max-buffer=2GiB"], "--jute-max-buffer 2147483648 is above 1073741824"),
            (vec!["--max-unsent-bytes=1000"], "--max-unsent-bytes 1000 is smaller than --jute-max-buffer 1048575"),
            (vec!["--etcd-max-txn-ops=3"], "--etcd-max-txn-ops 3 is below 16"),
            (vec!["--etcd-max-request-bytes=9"], "--etcd-max-request-bytes 9 is below 65536"),
            (vec!["--outstanding-limit=0"], "--outstanding-limit 0 is below 1"),
            (vec!["--lanes=0"], "--lanes 0 is below 1"),
            (vec!["--lanes=65"], "--lanes 65 is above 64"),
            (vec!["--worker-threads=0"], "--worker-threads 0 is below 1"),
            (vec!["--worker-threads=513"], "--worker-threads 513 is above 512"),
            (vec!["--container-check-interval=0s"], "--container-check-interval must be at least 1ms"),
            (vec!["--etcd-timeout=0s"], "--etcd-timeout must be at least 1ms"),
            (vec!["--handshake-timeout=0s"], "--handshake-timeout must be at least 1ms"),
            (vec!["--log-level=zketcd=loud"], "--log-level zketcd=loud: "),
            (vec!["--super-digest=super:test"], "--super-digest is not name:digest"),
            (vec!["--super-digest=D/InIHSb7yEEbrWz8b9l71RjZJU="], "--super-digest is not name:digest"),
        ] {
            let error = refused(&flags);
            assert!(error.starts_with(expected) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn zero_means_no_limit_of_connections() {
        let limits = config(&["--max-client-connections=0", "--max-connections=0"]).connections;
        assert_eq!((limits.per_address, limits.total), (None, None));
        let limits = config(&["--max-client-connections=60", "--max-connections=500"]).connections;
        assert_eq!((limits.per_address, limits.total), (Some(60), Some(500)));
    }

    #[test]
    fn the_other_flags() {
        let config = config(&[
            "--listen=[::]:2182",
            "--admin-listen=none",
            "--four-letter-words=*",
            "--super-digest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
            "--linearizable-reads",
            "--log-format=json",
            "--log-level=warn,zketcd=debug",
            "--lanes=4",
            "--worker-threads=3",
        ]);
        assert_eq!(config.listen, "[::]:2182".parse().unwrap());
        assert_eq!(config.admin_listen, None);
        assert!(config.four_letter_words.allows(Word::Wchp));
        assert_eq!(config.super_digest.as_ref().unwrap().reveal(), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert!(config.linearizable_reads);
        assert_eq!((config.log.format, config.lanes, config.worker_threads), (LogFormat::Json, 4, 3));
        assert!(!format!("{config:?}").contains("D/InIHSb7"));
        for bad in ["--listen=2181", "--listen=127.0.0.1", "--admin-listen=off", "--four-letter-words=help"] {
            refused(&[bad]);
        }
    }

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let warnings = |flags: &[&str]| args(flags).unwrap().warnings();
        for name in ["endpoints", "user", "password", "password-file", "ca", "cert", "key"] {
            let given = warnings(&[&format!("--etcd-{name}=a")]);
            assert_eq!(given, [format!("--etcd-{name} has no effect without --store etcd")]);
            if name != "endpoints" {
                assert!(warnings(&[&format!("--etcd-{name}=")]).is_empty(), "an empty one is none");
            }
        }
        for name in ["password", "password-file"] {
            let given = warnings(&["--store=etcd", &format!("--etcd-{name}=a")]);
            assert_eq!(given, [format!("--etcd-{name} has no effect without --etcd-user")]);
        }
        let raised = warnings(&["--store=etcd", "--jute-max-buffer=4MiB"]);
        assert!(raised[0].contains("cannot hold a request of --jute-max-buffer 4194304"), "{raised:?}");
    }

    #[test]
    fn conf_shows_the_settings() {
        let view = ConfView::from(&config(&["--store=etcd", "--prefix=/flink", "--listen=127.0.0.1:2182"]));
        assert_eq!((view.client_port, view.data_dir.as_str()), (2182, "etcd:/flink"));
        assert_eq!((view.tick_time, view.max_client_connections), (Duration::from_secs(2), 1000));
        assert_eq!(ConfView::from(&config(&["--max-client-connections=0"])).max_client_connections, 0);
    }

    #[test]
    fn healthcheck_takes_an_address_or_a_url() {
        let admin = |flag: &str| match Cli::try_parse_from(["zketcd", "healthcheck", "--admin", flag]) {
            Ok(Cli { command: Command::Healthcheck(args) }) => Ok(args.admin.0),
            Ok(_) => unreachable!("the line says healthcheck"),
            Err(error) => Err(error.to_string()),
        };
        for text in ["127.0.0.1:80", "http://127.0.0.1:80", "http://127.0.0.1:80/"] {
            assert_eq!(admin(text), Ok(Some("127.0.0.1:80".parse().unwrap())));
        }
        assert_eq!(admin("none"), Ok(None));
        assert!(admin("https://127.0.0.1:80").is_err());
    }
}
