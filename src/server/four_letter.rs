//! The four-letter words: the first four bytes of a connection that are no frame length but a question.
//!
//! Names and formats are those of ZooKeeper 3.9.5 (`server/command`), which monitors and clients parse: go-zookeeper
//! reads `srvr` and `cons`, kazoo `envi`, exporters `mntr`. Lists come sorted here; in ZooKeeper they have no order.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::dates::java_date;
use super::environment;
use super::stats::{ConnectionView, DumpView, Gauges, MonitorValue, ServerView, SessionView};

/// What a server that serves nobody says to most words, as `AbstractFourLetterCommand`.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// All servers of a prefix are equal, and each answers as a ZooKeeper that stands alone does: `leader` or `follower`
/// would make monitors count an ensemble that is not there.
const MODE: &str = "standalone";

macro_rules! words {
    ($($(#[$doc:meta])* $word:ident = $name:literal,)*) => {
        /// A word of ZooKeeper's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Word {
            $($(#[$doc])* $word,)*
        }

        impl Word {
            /// All of them.
            pub const ALL: [Word; [$(Word::$word),*].len()] = [$(Word::$word),*];

            /// As clients send it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Word::$word => $name,)*
                }
            }
        }
    };
}

words! {
    /// The settings.
    Conf = "conf",
    /// The connections, in full.
    Cons = "cons",
    /// Resets the connections' counters.
    Crst = "crst",
    /// Sizes of the store's files.
    Dirs = "dirs",
    /// Sessions, ephemerals and connections with their time of expiry.
    Dump = "dump",
    /// The process's environment.
    Envi = "envi",
    /// The trace mask: there is none here.
    Gtmk = "gtmk",
    /// Digests of the tree: there are none here.
    Hash = "hash",
    /// Whether the server is read-only.
    Isro = "isro",
    /// All numbers, for monitors.
    Mntr = "mntr",
    /// Whether the server runs at all.
    Ruok = "ruok",
    /// Resets the server's counters.
    Srst = "srst",
    /// The server, without its connections.
    Srvr = "srvr",
    /// The server and its connections.
    Stat = "stat",
    /// Sets the trace mask: there is none here.
    Stmk = "stmk",
    /// Watches by session.
    Wchc = "wchc",
    /// Watches by path.
    Wchp = "wchp",
    /// The number of watches.
    Wchs = "wchs",
}

/// Which list of [`ServerView`] a word shows, beside the cheap fields: the caller fills that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Nothing,
    Connections,
    WatchSummary,
    WatchesBySession,
    WatchesByPath,
    Dump,
    Monitor,
}

impl Word {
    /// What the caller has to put into the [`ServerView`].
    pub fn reads(self) -> Reads {
        match self {
            Word::Stat | Word::Cons => Reads::Connections,
            Word::Wchs => Reads::WatchSummary,
            Word::Wchc => Reads::WatchesBySession,
            Word::Wchp => Reads::WatchesByPath,
            Word::Dump => Reads::Dump,
            Word::Mntr => Reads::Monitor,
            _ => Reads::Nothing,
        }
    }

    /// Whether this server can answer it at all; ZooKeeper's tracing has no counterpart here.
    fn answerable(self) -> bool {
        !matches!(self, Word::Gtmk | Word::Stmk | Word::Hash)
    }
}

/// The word that the first four bytes of a connection are, allowed or not; `None`: they are a frame's length.
pub fn parse(first4: [u8; 4]) -> Option<Word> {
    Word::ALL.into_iter().find(|word| word.name().as_bytes() == first4)
}

/// What is said to a word that is not allowed.
pub fn refusal(word: Word) -> String {
    format!("{} is not executed because it is not in the whitelist.\n", word.name())
}

/// What is said to a word that is. For `crst` and `srst` the caller does the resetting.
pub fn render(word: Word, view: &ServerView) -> String {
    match word {
        Word::Ruok => return "imok".to_owned(),
        Word::Isro => return if view.serving { "rw" } else { "null" }.to_owned(),
        Word::Envi => return envi(),
        _ if !view.serving => return NOT_SERVING.to_owned(),
        _ => {}
    }
    let mut out = String::new();
    let written = match word {
        Word::Srvr | Word::Stat => srvr(&mut out, word, view),
        Word::Cons => cons(&mut out, &view.connections),
        Word::Conf => conf(&mut out, view),
        Word::Mntr => mntr(&mut out, view),
        Word::Dump => dump(&mut out, &view.dump),
        Word::Dirs => dirs(&mut out, view.conf.data_dir_size),
        Word::Wchs => wchs(&mut out, view),
        Word::Wchc => wchc(&mut out, &view.watches_by_session),
        Word::Wchp => wchp(&mut out, &view.watches_by_path),
        Word::Crst => writeln!(out, "Connection stats reset."),
        Word::Srst => writeln!(out, "Server stats reset."),
        Word::Ruok | Word::Isro | Word::Envi | Word::Gtmk | Word::Hash | Word::Stmk => Ok(()),
    };
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    out
}

/// The words that are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whitelist(Vec<Word>);

impl Whitelist {
    pub fn allows(&self, word: Word) -> bool {
        self.0.contains(&word)
    }
}

impl Default for Whitelist {
    fn default() -> Self {
        Whitelist(vec![Word::Isro, Word::Srvr])
    }
}

/// A word that no ZooKeeper knows, or that cannot be answered here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no four-letter word of this server; they are {}", answerable_names())]
pub struct UnknownWord {
    word: String,
}

fn answerable_names() -> String {
    let names: Vec<&str> = Word::ALL.into_iter().filter(|word| word.answerable()).map(Word::name).collect();
    names.join(", ")
}

impl FromStr for Whitelist {
    type Err = UnknownWord;

    /// Words separated by commas; one `*` among them allows all, `none` or nothing allows none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "none") {
            if name == "*" {
                words.extend(Word::ALL.into_iter().filter(|word| word.answerable()));
                continue;
            }
            let word = Word::ALL.into_iter().find(|word| word.answerable() && word.name() == name);
            words.push(word.ok_or_else(|| UnknownWord { word: name.to_owned() })?);
        }
        words.sort();
        words.dedup();
        Ok(Whitelist(words))
    }
}

impl fmt::Display for Whitelist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|word| word.name()).collect();
        f.write_str(if names.is_empty() { "none".to_owned() } else { names.join(",") }.as_str())
    }
}

fn envi() -> String {
    let mut out = "Environment:\n".to_owned();
    for (key, value) in environment::list() {
        out.push_str(key);
        out.push('=');
        out.push_str(&value);
        out.push('\n');
    }
    out
}

fn srvr(out: &mut String, word: Word, view: &ServerView) -> fmt::Result {
    let Gauges { stats, connections, outstanding, last_zxid, znodes, .. } = &view.gauges;
    writeln!(out, "Zookeeper version: {}", environment::full_version())?;
    if word == Word::Stat {
        writeln!(out, "Clients:")?;
        for connection in &view.connections {
            write_connection(out, connection, false)?;
        }
        writeln!(out)?;
    }
    let latency = &stats.latency;
    writeln!(out, "Latency min/avg/max: {}/{:?}/{}", latency.min_ms(), latency.avg_ms(), latency.max_ms())?;
    writeln!(out, "Received: {}\nSent: {}", stats.received, stats.sent)?;
    writeln!(out, "Connections: {connections}\nOutstanding: {outstanding}")?;
    writeln!(out, "Zxid: {last_zxid:#x}\nMode: {MODE}\nNode count: {znodes}")
}

fn cons(out: &mut String, connections: &[ConnectionView]) -> fmt::Result {
    for connection in connections {
        write_connection(out, connection, true)?;
    }
    writeln!(out)
}

/// ` /127.0.0.1:33654[1](queued=0,recved=6,sent=6,sid=0x1…,lop=PING,…)`, as `ServerCnxn.dumpConnectionInfo`.
fn write_connection(out: &mut String, connection: &ConnectionView, full: bool) -> fmt::Result {
    let ConnectionView { peer, interest, queued, stats, session } = connection;
    write!(out, " {}[{interest:x}]", JavaAddress(*peer))?;
    write!(out, "(queued={queued},recved={},sent={}", stats.received, stats.sent)?;
    if let Some(SessionView { id, established_ms, timeout_ms }) = session.filter(|_| full) {
        write!(out, ",sid={id:#x},lop={},est={established_ms},to={timeout_ms}", stats.last_op)?;
        if stats.last_cxid >= 0 {
            write!(out, ",lcxid={:#x}", stats.last_cxid)?;
        }
        write!(out, ",lzxid={:#x},lresp={}", stats.last_zxid, stats.last_response_ms)?;
        let latency = &stats.latency;
        write!(out, ",llat={},minlat={}", stats.last_latency_ms, latency.min_ms())?;
        // A whole number here, unlike in `srvr`: go-zookeeper takes nothing else.
        write!(out, ",avglat={},maxlat={}", latency.avg_ms() as u64, latency.max_ms())?;
    }
    writeln!(out, ")")
}

/// An address as `InetSocketAddress.toString` writes it: no name before the slash, IPv6 in brackets and never
/// shortened, IPv4 in an IPv6 address as IPv4.
struct JavaAddress(SocketAddr);

impl fmt::Display for JavaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port();
        match self.0.ip().to_canonical() {
            IpAddr::V4(ip) => write!(f, "/{ip}:{port}"),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, g, h, i] = ip.segments();
                write!(f, "/[{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{g:x}:{h:x}:{i:x}]:{port}")
            }
        }
    }
}

fn conf(out: &mut String, view: &ServerView) -> fmt::Result {
    let conf = &view.conf;
    writeln!(out, "clientPort={}\nsecureClientPort=-1", conf.client_port)?;
    writeln!(out, "dataDir={}\ndataDirSize={}", conf.data_dir, conf.data_dir_size)?;
    writeln!(out, "dataLogDir={}\ndataLogSize={}", conf.data_dir, conf.data_dir_size)?;
    writeln!(out, "tickTime={}\nmaxClientCnxns={}", conf.tick_time.as_millis(), conf.max_client_connections)?;
    writeln!(out, "minSessionTimeout={}", conf.min_session_timeout.as_millis())?;
    writeln!(out, "maxSessionTimeout={}", conf.max_session_timeout.as_millis())?;
    writeln!(out, "clientPortListenBacklog=-1\nserverId=0")
}

fn mntr(out: &mut String, view: &ServerView) -> fmt::Result {
    writeln!(out, "zk_version\t{}\nzk_server_state\t{MODE}", environment::full_version())?;
    for (name, value) in &view.monitor {
        match value {
            MonitorValue::Int(value) => writeln!(out, "zk_{name}\t{value}")?,
            MonitorValue::Float(value) => writeln!(out, "zk_{name}\t{value:?}")?,
        }
    }
    Ok(())
}

fn dirs(out: &mut String, size: u64) -> fmt::Result {
    writeln!(out, "datadir_size: {size}\nlogdir_size: {size}")
}

fn wchs(out: &mut String, view: &ServerView) -> fmt::Result {
    let summary = &view.watches;
    writeln!(out, "{} connections watching {} paths", summary.connections, summary.paths)?;
    writeln!(out, "Total watches:{}", summary.watches)
}

fn wchc(out: &mut String, by_session: &[(i64, Vec<String>)]) -> fmt::Result {
    for (session, paths) in by_session {
        writeln!(out, "{session:#x}")?;
        for path in paths {
            writeln!(out, "\t{path}")?;
        }
    }
    writeln!(out)
}

fn wchp(out: &mut String, by_path: &[(String, Vec<i64>)]) -> fmt::Result {
    for (path, sessions) in by_path {
        writeln!(out, "{path}")?;
        for session in sessions {
            writeln!(out, "\t{session:#x}")?;
        }
    }
    writeln!(out)
}

fn dump(out: &mut String, dump: &DumpView) -> fmt::Result {
    let here = dump.sessions.iter().filter_map(|&(id, expiry)| Some((expiry?, format!("{id:#x}"))));
    writeln!(out, "SessionTracker dump:")?;
    expiry_sets(out, "Session", here)?;
    let elsewhere: Vec<i64> = dump.sessions.iter().filter(|(_, expiry)| expiry.is_none()).map(|(id, _)| *id).collect();
    if !elsewhere.is_empty() {
        writeln!(out, "{} expire at other servers:", elsewhere.len())?;
        for id in elsewhere {
            writeln!(out, "\t{id:#x}")?;
        }
    }
    writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", dump.ephemerals.len())?;
    for (owner, paths) in &dump.ephemerals {
        writeln!(out, "{owner:#x}:")?;
        for path in paths {
            writeln!(out, "\t{path}")?;
        }
    }
    writeln!(out, "Connections dump:")?;
    let connections = dump
        .connections
        .iter()
        .map(|&(peer, session, expiry)| (expiry, format!("ip: {} sessionId: {session:#x}", JavaAddress(peer))));
    expiry_sets(out, "Connections", connections)
}

/// As `ExpiryQueue.dump`: what expires within one second is one set.
fn expiry_sets(out: &mut String, what: &str, elements: impl Iterator<Item = (i64, String)>) -> fmt::Result {
    let mut sets: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for (expiry_ms, element) in elements {
        sets.entry(expiry_ms.div_euclid(1000)).or_default().push(element);
    }
    writeln!(out, "{what} Sets ({})/({}):", sets.len(), sets.values().map(Vec::len).sum::<usize>())?;
    for (second, elements) in sets {
        writeln!(out, "{} expire at {}:", elements.len(), java_date(second))?;
        for element in elements {
            writeln!(out, "\t{element}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::jute::op;
    use crate::server::stats::{ConfView, ConnectionStats, WatchSummary};

    const SESSION: i64 = 0x100_001c_e22c_0001;

    fn serving() -> ServerView {
        ServerView { serving: true, ..ServerView::default() }
    }

    /// The two connections of a capture of ZooKeeper 3.9.5, and the one that asks.
    fn connections() -> Vec<ConnectionView> {
        let view = |peer: &str, stats, session| ConnectionView {
            peer: peer.parse().unwrap(),
            interest: 1,
            queued: 0,
            stats,
            session,
        };
        let mut first = ConnectionStats::default();
        for _ in 0..6 {
            first.record_received();
        }
        first.record_answer(4, op::GET_DATA, 6, Duration::from_millis(2), 100);
        first.record_answer(-2, op::PING, 6, Duration::ZERO, 1_958_098);
        first.record_notification();
        let session = SessionView { id: SESSION, established_ms: 1_795_486_754_053, timeout_ms: 30_000 };
        let fresh = SessionView { id: SESSION - 1, established_ms: 1_795_486_754_033, timeout_ms: 10_000 };
        let asking = ConnectionStats { received: 1, ..ConnectionStats::default() };
        vec![
            view("127.0.0.1:33654", first, Some(session)),
            view("[::1]:33644", ConnectionStats::default(), Some(fresh)),
            ConnectionView { interest: 0, ..view("[::ffff:10.1.2.3]:33688", asking, None) },
        ]
    }

    fn gauges() -> Gauges {
        let mut gauges = Gauges { connections: 3, outstanding: 2, last_zxid: 0x1f006, znodes: 9, ..Gauges::default() };
        gauges.stats.received = 15;
        gauges.stats.record_answer(Duration::from_millis(10), 16);
        gauges.stats.record_answer(Duration::from_micros(500), 16);
        gauges
    }

    #[test]
    fn words_are_told_from_frame_lengths() {
        for word in Word::ALL {
            let bytes: [u8; 4] = word.name().as_bytes().try_into().unwrap();
            assert_eq!(parse(bytes), Some(word));
        }
        for other in [*b"RUOK", *b"abcd", [0, 0, 0, 45], [0xff, 0xf4, 0xff, 0xfd]] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn the_whitelist_is_what_it_says() {
        let default = Whitelist::default();
        assert_eq!(default, "srvr,isro".parse().unwrap());
        assert!(default.allows(Word::Srvr) && default.allows(Word::Isro) && !default.allows(Word::Ruok));
        let some: Whitelist = " ruok, mntr ,ruok,".parse().unwrap();
        assert_eq!(some.to_string(), "mntr,ruok");
        let all: Whitelist = "*".parse().unwrap();
        assert!(
            ["conf", "cons", "crst", "dirs", "dump", "envi", "isro", "mntr", "ruok", "srst", "srvr", "stat"]
                .into_iter()
                .chain(["wchc", "wchp", "wchs"])
                .all(|name| all.allows(Word::ALL.into_iter().find(|word| word.name() == name).unwrap()))
        );
        assert!(!all.allows(Word::Gtmk) && !all.allows(Word::Stmk) && !all.allows(Word::Hash));
        for none in ["", "none"] {
            assert!(!none.parse::<Whitelist>().unwrap().allows(Word::Srvr));
        }
        let error = "srvr,obst".parse::<Whitelist>().unwrap_err().to_string();
        assert!(error.starts_with("\"obst\" is no four-letter word of this server; they are conf, cons,"), "{error}");
    }

    #[test]
    fn refusals_are_zookeepers() {
        assert_eq!(refusal(Word::Ruok), "ruok is not executed because it is not in the whitelist.\n");
    }

    #[test]
    fn ruok_and_isro_have_no_newline() {
        assert_eq!(render(Word::Ruok, &serving()), "imok");
        assert_eq!(render(Word::Isro, &serving()), "rw");
    }

    #[test]
    fn a_server_that_serves_nobody_says_so() {
        let away = ServerView::default();
        assert_eq!(render(Word::Ruok, &away), "imok");
        assert_eq!(render(Word::Isro, &away), "null");
        assert!(render(Word::Envi, &away).starts_with("Environment:\nzookeeper.version=3.9.5-"));
        for word in [Word::Srvr, Word::Stat, Word::Mntr, Word::Conf, Word::Cons, Word::Crst, Word::Dump, Word::Wchs] {
            let expected = "This ZooKeeper instance is not currently serving requests\n";
            assert_eq!(render(word, &away), expected, "{word:?}");
        }
    }

    #[test]
    fn srvr() {
        let answer = render(Word::Srvr, &ServerView { gauges: gauges(), ..serving() });
        let (first, rest) = answer.split_once('\n').unwrap();
        assert_eq!(first, format!("Zookeeper version: {}", environment::full_version()));
        assert_eq!(
            rest,
            "Latency min/avg/max: 0/5.25/10\nReceived: 15\nSent: 2\nConnections: 3\nOutstanding: 2\n\
             Zxid: 0x1f006\nMode: standalone\nNode count: 9\n"
        );
        let fresh = render(Word::Srvr, &serving());
        assert!(fresh.contains("\nLatency min/avg/max: 0/0.0/0\n") && fresh.contains("\nZxid: 0x0\n"), "{fresh}");
    }

    #[test]
    fn stat_shows_connections_in_brief() {
        let answer = render(Word::Stat, &ServerView { connections: connections(), gauges: gauges(), ..serving() });
        let expected = "\nClients:\n /127.0.0.1:33654[1](queued=0,recved=6,sent=3)\n \
                        /[0:0:0:0:0:0:0:1]:33644[1](queued=0,recved=0,sent=0)\n \
                        /10.1.2.3:33688[0](queued=0,recved=1,sent=0)\n\nLatency min/avg/max: 0/5.25/10\n";
        assert!(answer.contains(expected), "{answer}");
    }

    #[test]
    fn cons_shows_connections_in_full() {
        let answer = render(Word::Cons, &ServerView { connections: connections(), ..serving() });
        assert_eq!(
            answer,
            " /127.0.0.1:33654[1](queued=0,recved=6,sent=3,sid=0x100001ce22c0001,lop=PING,est=1795486754053,to=30000,\
             lcxid=0x4,lzxid=0x6,lresp=1958098,llat=0,minlat=0,avglat=1,maxlat=2)\n \
             /[0:0:0:0:0:0:0:1]:33644[1](queued=0,recved=0,sent=0,sid=0x100001ce22c0000,lop=NA,est=1795486754033,\
             to=10000,lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)\n \
             /10.1.2.3:33688[0](queued=0,recved=1,sent=0)\n\n"
        );
        assert_eq!(render(Word::Cons, &serving()), "\n");
    }

    #[test]
    fn negative_session_ids_are_shown_as_java_does() {
        let by_session = vec![(-2i64, vec!["/a".to_owned()])];
        let answer = render(Word::Wchc, &ServerView { watches_by_session: by_session, ..serving() });
        assert_eq!(answer, "0xfffffffffffffffe\n\t/a\n\n");
    }

    #[test]
    fn conf() {
        let conf = ConfView {
            client_port: 2181,
            data_dir: "/data".into(),
            data_dir_size: 478,
            tick_time: Duration::from_secs(2),
            max_client_connections: 60,
            min_session_timeout: Duration::from_secs(4),
            max_session_timeout: Duration::from_secs(60),
        };
        assert_eq!(
            render(Word::Conf, &ServerView { conf: conf.clone(), ..serving() }),
            "clientPort=2181\nsecureClientPort=-1\ndataDir=/data\ndataDirSize=478\ndataLogDir=/data\ndataLogSize=478\n\
             tickTime=2000\nmaxClientCnxns=60\nminSessionTimeout=4000\nmaxSessionTimeout=60000\n\
             clientPortListenBacklog=-1\nserverId=0\n"
        );
        let answer = render(Word::Dirs, &ServerView { conf, ..serving() });
        assert_eq!(answer, "datadir_size: 478\nlogdir_size: 478\n");
    }

    #[test]
    fn mntr_is_tab_separated() {
        let monitor = vec![
            ("avg_latency".to_owned(), MonitorValue::Float(0.0)),
            ("avg_updatelatency".to_owned(), MonitorValue::Float(3.1667)),
            ("znode_count".to_owned(), MonitorValue::from_u64(9)),
            ("last_client_response_size".to_owned(), MonitorValue::Int(-1)),
        ];
        assert_eq!(
            render(Word::Mntr, &ServerView { monitor, ..serving() }),
            format!(
                "zk_version\t{}\nzk_server_state\tstandalone\nzk_avg_latency\t0.0\nzk_avg_updatelatency\t3.1667\n\
                 zk_znode_count\t9\nzk_last_client_response_size\t-1\n",
                environment::full_version()
            )
        );
    }

    #[test]
    fn dump() {
        let peer = |text: &str| text.parse().unwrap();
        let dump = DumpView {
            sessions: vec![(0x10, Some(1_795_486_764_900)), (0x11, Some(1_795_486_784_000)), (0x12, None)],
            ephemerals: vec![(0x10, vec!["/a/e1".into(), "/a/e2".into()]), (0x12, vec!["/a/b1".into()])],
            connections: vec![
                (peer("127.0.0.1:33644"), 0x10, 1_795_486_765_000),
                (peer("127.0.0.1:33692"), 0, 1_795_486_765_999),
                (peer("127.0.0.1:33654"), 0x11, 1_795_486_785_000),
            ],
        };
        assert_eq!(
            render(Word::Dump, &ServerView { dump, ..serving() }),
            "SessionTracker dump:\nSession Sets (2)/(2):\n\
             1 expire at Tue Nov 24 02:19:24 UTC 2026:\n\t0x10\n1 expire at Tue Nov 24 02:19:44 UTC 2026:\n\t0x11\n\
             1 expire at other servers:\n\t0x12\n\
             ephemeral nodes dump:\nSessions with Ephemerals (2):\n0x10:\n\t/a/e1\n\t/a/e2\n0x12:\n\t/a/b1\n\
             Connections dump:\nConnections Sets (2)/(3):\n\
             2 expire at Tue Nov 24 02:19:25 UTC 2026:\n\tip: /127.0.0.1:33644 sessionId: 0x10\n\
             \tip: /127.0.0.1:33692 sessionId: 0x0\n\
             1 expire at Tue Nov 24 02:19:45 UTC 2026:\n\tip: /127.0.0.1:33654 sessionId: 0x11\n"
        );
        assert_eq!(
            render(Word::Dump, &serving()),
            "SessionTracker dump:\nSession Sets (0)/(0):\nephemeral nodes dump:\nSessions with Ephemerals (0):\n\
             Connections dump:\nConnections Sets (0)/(0):\n"
        );
    }

    #[test]
    fn envi_is_key_and_value() {
        let answer = render(Word::Envi, &serving());
        let mut lines = answer.lines();
        assert_eq!(lines.next(), Some("Environment:"));
        assert!(lines.all(|line| line.contains('=')), "{answer}");
    }

    #[test]
    fn watches() {
        let view = ServerView {
            watches: WatchSummary { connections: 2, paths: 2, watches: 3 },
            watches_by_session: vec![(0x10, vec!["/a".into(), "/no".into()]), (0x11, vec!["/a".into()])],
            watches_by_path: vec![("/a".into(), vec![0x10, 0x11]), ("/no".into(), vec![0x10])],
            ..serving()
        };
        assert_eq!(render(Word::Wchs, &view), "2 connections watching 2 paths\nTotal watches:3\n");
        assert_eq!(render(Word::Wchc, &view), "0x10\n\t/a\n\t/no\n0x11\n\t/a\n\n");
        assert_eq!(render(Word::Wchp, &view), "/a\n\t0x10\n\t0x11\n/no\n\t0x10\n\n");
        assert_eq!(render(Word::Wchc, &serving()), "\n");
        assert_eq!(render(Word::Wchp, &serving()), "\n");
    }

    #[test]
    fn resets_say_so() {
        assert_eq!(render(Word::Crst, &serving()), "Connection stats reset.\n");
        assert_eq!(render(Word::Srst, &serving()), "Server stats reset.\n");
    }

    #[test]
    fn a_word_that_shows_a_list_names_it() {
        // A view whose every list is filled: emptying just the one that the word names must change its answer, and
        // emptying the others must not.
        let full = ServerView {
            connections: connections(),
            watches: WatchSummary { connections: 2, paths: 2, watches: 3 },
            watches_by_session: vec![(1, vec!["/a".into()])],
            watches_by_path: vec![("/a".into(), vec![1])],
            dump: DumpView { sessions: vec![(1, None)], ..DumpView::default() },
            monitor: vec![("x".into(), MonitorValue::Int(1))],
            ..serving()
        };
        let emptied = |reads| {
            let mut view = full.clone();
            match reads {
                Reads::Nothing => {}
                Reads::Connections => view.connections.clear(),
                Reads::WatchSummary => view.watches = WatchSummary::default(),
                Reads::WatchesBySession => view.watches_by_session.clear(),
                Reads::WatchesByPath => view.watches_by_path.clear(),
                Reads::Dump => view.dump = DumpView::default(),
                Reads::Monitor => view.monitor.clear(),
            }
            view
        };
        let lists = [
            Reads::Connections,
            Reads::WatchSummary,
            Reads::WatchesBySession,
            Reads::WatchesByPath,
            Reads::Dump,
            Reads::Monitor,
        ];
        for word in Word::ALL.into_iter().filter(|word| *word != Word::Envi) {
            for list in lists {
                let changed = render(word, &emptied(list)) != render(word, &full);
                assert_eq!(changed, word.reads() == list, "{word:?} {list:?}");
            }
        }
    }
}
