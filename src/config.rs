//! The command line: flags, their environment variables and defaults, and the checked [`Config`] they become.
//!
//! Every flag `--some-name` of `serve` can be given as `ZKETCD_SOME_NAME` instead; the flag wins. A [`Config`] that
//! exists is valid: the rest of the program never looks at a flag.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use humantime::format_duration;

use crate::logging;
use crate::server::four_letter::Whitelist;
use crate::server::stats::ConfView;
use crate::store::Limits;

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
    #[arg(long, env = "ZKETCD_DATA_DIR", default_value = "zketcd-data", value_name = "DIR")]
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
    #[arg(long, env = "ZKETCD_ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,

    /// File with the PEM certificates of the authorities that etcd's certificate is checked against
    /// [default: the system's, for https endpoints]
    #[arg(long, env = "ZKETCD_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,

    /// File with the PEM certificate that this server shows to etcd; needs --etcd-key
    #[arg(long, env = "ZKETCD_ETCD_CERT", value_name = "FILE")]
    pub etcd_cert: Option<PathBuf>,

    /// File with the PEM private key of --etcd-cert
    #[arg(long, env = "ZKETCD_ETCD_KEY", value_name = "FILE")]
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
            log: LogConfig { format: self.log_format, filter: self.log_level },
        })
    }

    /// What is allowed but probably not meant; for the log, once it is there.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.store != StoreKind::Etcd && !self.etcd_endpoints.is_empty() {
            warnings.push("--etcd-endpoints has no effect without --store etcd".to_owned());
        }
        if self.store != StoreKind::Memory && self.etcd_max_request_bytes < self.jute_max_buffer + REQUEST_OVERHEAD {
            warnings.push(format!(
                "--etcd-max-request-bytes {} cannot hold a request of --jute-max-buffer {}: such a write gets an error; \
                 raise it here and at etcd",
                self.etcd_max_request_bytes, self.jute_max_buffer
            ));
        }
        if self.etcd_password.is_some() && self.etcd_user.is_none() {
            warnings.push("--etcd-password has no effect without --etcd-user".to_owned());
        }
        warnings
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
        let Some(user) = self.etcd_user.as_ref().filter(|user| !user.is_empty()) else { return Ok(None) };
        let password = self.etcd_password.as_ref().filter(|password| !password.reveal().is_empty());
        let password = match (password, given(&self.etcd_password_file)) {
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
    for endpoint in given.iter().map(|e| e.trim().trim_end_matches('/')).filter(|e| !e.is_empty()) {
        let url = match endpoint.split_once("://") {
            Some(("http" | "https", _)) => endpoint.to_owned(),
            Some(_) => return Err(fail(format!("--etcd-endpoints {endpoint}: neither http:// nor https://"))),
            None => format!("{default_scheme}://{endpoint}"),
        };
        let authority = url.split_once("://").map_or("", |(_, rest)| rest);
        if authority.is_empty() || authority.contains(['/', ' ', '?', '#', '@']) {
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
