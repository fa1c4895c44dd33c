//! The four-letter words as programs read them that are out there: each test goes by the rules of one of them. They
//! hold for ZooKeeper itself, too, and every word's answer has the shape of ZooKeeper's.

mod support;

use support::client::{Client, Wire};
use support::{Server, Site, each_site};
use zketcd::jute::CreateMode;

each_site! {
    all: [
        telegraf_reads_mntr,
        datadog_reads_stat_and_mntr,
        dabealus_exporter_reads_mntr,
        go_zookeeper_reads_cons,
        kazoo_reads_the_version,
        connections_and_packets_are_counted,
        watches_fired_are_counted,
    ],
    ours: [
        check_zookeeper_finds_the_old_keys_in_what_it_reads,
        go_zookeeper_reads_srvr,
    ],
}

async fn ask(server: &Server, word: &str) -> String {
    let mut wire = Wire::connect(server.address()).await.unwrap();
    wire.send_raw(word.as_bytes()).await.unwrap();
    String::from_utf8(wire.closed().await.unwrap().to_vec()).unwrap()
}

/// A server that has something to show: an ephemeral znode, a watch.
async fn busy(site: &Site) -> (Server, Client) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.create(&format!("{room}/e"), b"", CreateMode::Ephemeral).await.unwrap();
    client.get(&room, true).await.unwrap();
    (server, client)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// `plugins/inputs/zookeeper`: each line is `zk_`, a name, white space, a value, both of word characters, dots and hyphens; the
/// first line that is not ends in an error.
async fn telegraf_reads_mntr(site: Site) {
    let (server, client) = busy(&site).await;
    let answer = ask(&server, "mntr\n").await;
    let mut numbers = 0;
    for line in answer.lines() {
        let rest = line.strip_prefix("zk_").unwrap_or_else(|| panic!("{line:?}"));
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or_else(|| panic!("{line:?}"));
        assert!(!name.is_empty() && name.chars().all(|c| is_word(c) || matches!(c, '.' | '-')), "{line:?}");
        let value: String = value.chars().take_while(|c| is_word(*c) || matches!(c, '.' | '-')).collect();
        assert!(!value.is_empty(), "{line:?}");
        numbers += usize::from(value.parse::<i64>().is_ok());
    }
    assert!(numbers > 30, "{answer}");
    assert!(answer.contains("\nzk_server_state\tstandalone\n"), "{answer}");
    client.close().await.unwrap();
}

/// `zk.py` reads `stat` line by line: what stands where is fixed. In `mntr` it skips the first line.
async fn datadog_reads_stat_and_mntr(site: Site) {
    let (server, client) = busy(&site).await;
    assert_eq!(ask(&server, "ruok").await, "imok");
    let answer = ask(&server, "stat").await;
    let mut lines = answer.lines();
    let mut next = || lines.next().unwrap_or_else(|| panic!("{answer}"));
    assert!(next().starts_with("Zookeeper version: 3.9.5"));
    assert_eq!(next(), "Clients:");
    let mut clients = 0;
    while !next().trim().is_empty() {
        clients += 1;
    }
    let mut value = |name: &str| {
        let (found, value) = next().split_once(':').unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(found, name, "{answer}");
        value.trim().to_owned()
    };
    let latency: Vec<f64> = value("Latency min/avg/max").split('/').map(|part| part.parse().unwrap()).collect();
    assert_eq!(latency.len(), 3);
    for name in ["Received", "Sent"] {
        value(name).parse::<u64>().unwrap();
    }
    let connections: usize = value("Connections").parse().unwrap();
    value("Outstanding").parse::<u64>().unwrap();
    assert!(i64::from_str_radix(value("Zxid").trim_start_matches("0x"), 16).unwrap() > 0);
    assert_eq!(value("Mode").to_lowercase(), "standalone");
    value("Node count").parse::<u64>().unwrap();
    // Who asks is one of them. A ZooKeeper that other tests use has others come and go.
    if let Server::Ours(_) = server {
        assert_eq!((clients, connections), (2, 2), "{answer}");
    }
    let answer = ask(&server, "mntr").await;
    let mode = answer.lines().skip(1).find_map(|line| line.strip_prefix("zk_server_state")).map(str::trim);
    assert_eq!(mode, Some("standalone"));
    client.close().await.unwrap();
}

/// `main.go` splits each line at tabs and blanks, and takes the second part of each line that is not empty.
async fn dabealus_exporter_reads_mntr(site: Site) {
    let (server, client) = busy(&site).await;
    for line in ask(&server, "mntr").await.split('\n').filter(|line| !line.is_empty()) {
        let line = line.replace('\t', " ");
        let parts: Vec<&str> = line.split(' ').collect();
        assert!(parts.len() > 1 && !parts[0].is_empty(), "{line:?}");
        if !matches!(parts[0], "zk_version" | "zk_server_state") {
            // As Prometheus reads it then.
            parts[1].parse::<f64>().unwrap_or_else(|_| panic!("{line:?}"));
        }
    }
    client.close().await.unwrap();
}

/// `check_zookeeper.py` takes one read of 2,048 bytes, whatever is behind it, and splits at the tab. ZooKeeper itself
/// has five hundred lines in no order since 3.6.
async fn check_zookeeper_finds_the_old_keys_in_what_it_reads(site: Site) {
    let (server, client) = busy(&site).await;
    let answer = ask(&server, "mntr").await;
    let read = &answer[..answer.len().min(2048)];
    let keys: Vec<&str> = read.lines().filter_map(|line| Some(line.split_once('\t')?.0)).collect();
    let wanted = [
        "version",
        "avg_latency",
        "max_latency",
        "min_latency",
        "packets_received",
        "packets_sent",
        "num_alive_connections",
        "outstanding_requests",
        "server_state",
        "znode_count",
        "watch_count",
        "ephemerals_count",
        "approximate_data_size",
        "open_file_descriptor_count",
        "max_file_descriptor_count",
    ];
    for name in wanted {
        assert!(keys.contains(&format!("zk_{name}").as_str()), "{name} is not in {read}");
    }
    client.close().await.unwrap();
}

/// The parts of `text` between these, in their order.
fn between<'a>(mut text: &'a str, separators: &[&str]) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    for separator in separators {
        let (part, rest) = text.split_once(separator)?;
        parts.push(part);
        text = rest;
    }
    Some(parts)
}

/// `zk/flw.go`, `FLWCons`: a line that does not match ends in an error. Of a connection with a session all of it must
/// be there, `lcxid` too.
async fn go_zookeeper_reads_cons(site: Site) {
    let (server, client) = busy(&site).await;
    // One that has done nothing yet.
    let fresh = server.client().await;
    let answer = ask(&server, "cons").await;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_hex = |text: &str| text.strip_prefix("0x").is_some_and(|hex| u64::from_str_radix(hex, 16).is_ok());
    let mut with_session = 0;
    for line in answer.lines().filter(|line| !line.is_empty()) {
        let parts = between(line, &["/", ":", "[", "](queued=", ",recved=", ",sent="]).unwrap_or_default();
        let [" ", address, port, interest, queued, received] = parts[..] else { panic!("{line:?}") };
        assert!(address.split('.').count() == 4, "{line:?}");
        assert!([port, interest, queued, received].into_iter().all(is_number), "{line:?}");
        let Some((_, session)) = line.split_once(",sid=") else { continue };
        with_session += 1;
        let names = [
            ",lop=", ",est=", ",to=", ",lcxid=", ",lzxid=", ",lresp=", ",llat=", ",minlat=", ",avglat=", ",maxlat=",
            ")",
        ];
        let parts = between(session, &names).unwrap_or_default();
        let [sid, lop, est, to, lcxid, lzxid, lresp, llat, minlat, avglat, maxlat] = parts[..] else {
            panic!("{line:?}")
        };
        assert!([sid, lcxid, lzxid].into_iter().all(is_hex), "{line:?}");
        assert!(lop.chars().all(is_word), "{line:?}");
        assert!([est, to, lresp, llat, minlat, avglat, maxlat].into_iter().all(is_number), "{line:?}");
    }
    assert!(with_session >= 2, "{answer}");
    fresh.close().await.unwrap();
    client.close().await.unwrap();
}

/// `FLWSrvr` wants the build's date as it stood until 3.6, which ZooKeeper 3.9.5 has not any more.
async fn go_zookeeper_reads_srvr(site: Site) {
    let (server, client) = busy(&site).await;
    let answer = ask(&server, "srvr").await;
    let first = answer.lines().next().unwrap_or_default();
    let parts = between(first, &["Zookeeper version: ", ", built on ", "/", "/", " ", ":", " "]);
    let parts = parts.unwrap_or_else(|| panic!("{first}"));
    assert!(parts[1].chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')), "{first}");
    for (part, digits) in parts[2..].iter().zip([2, 2, 4, 2, 2]) {
        assert!(part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()), "{first}");
    }
    client.close().await.unwrap();
}

/// `KazooClient.server_version` (from memory of kazoo 2.10): in `envi`, the digits and dots of `zookeeper.version`.
async fn kazoo_reads_the_version(site: Site) {
    let (server, client) = busy(&site).await;
    let answer = ask(&server, "envi").await;
    let mut properties = answer.lines().skip(1).filter_map(|line| line.split_once('='));
    let (_, version) = properties.find(|(name, _)| *name == "zookeeper.version").expect("a version");
    let digits: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    assert_eq!(digits, "3.9.5");
    client.close().await.unwrap();
}

fn number(answer: &str, name: &str) -> i64 {
    let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {answer}"))
}

async fn connections_and_packets_are_counted(site: Site) {
    let server = site.server().await;
    let before = ask(&server, "mntr").await;
    let mut client = server.client().await;
    client.get("/zookeeper", false).await.unwrap();
    client.exists("/none", false).await.unwrap();
    let id = format!("sid=0x{:x},", client.session_id());
    let cons = ask(&server, "cons").await;
    // The connect request and its answer are counted.
    let mine = cons.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{cons}"));
    assert!(mine.contains(",recved=3,sent=3,") && mine.contains("lop=EXIS"), "{mine}");
    // Who asks is shown, too.
    assert!(cons.lines().any(|line| line.ends_with("[0](queued=0,recved=1,sent=0)")), "{cons}");
    drop(client);
    let resumed = server.client().await;
    let after = ask(&server, "mntr").await;
    let grown = |name: &str| number(&after, name) - number(&before, name);
    if let Server::Ours(_) = server {
        // Two connect requests, two reads, three words and their answers but the last's.
        assert_eq!((grown("zk_packets_received"), grown("zk_packets_sent")), (6, 6));
        assert_eq!(grown("zk_connection_request_count"), 2);
        // An exists of what is not there is a header alone.
        assert_eq!(
            (number(&after, "zk_min_client_response_size"), number(&after, "zk_last_client_response_size")),
            (16, 16)
        );
    }
    assert!(grown("zk_connection_request_count") >= 2);
    assert!(number(&after, "zk_max_client_response_size") >= 16 + 4 + 68);
    resumed.close().await.unwrap();
}

async fn watches_fired_are_counted(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/n");
    let before = ask(&server, "mntr").await;
    client.exists(&path, true).await.unwrap();
    client.children(&room, true).await.unwrap();
    client.create(&path, b"", CreateMode::Persistent).await.unwrap();
    client.get(&path, true).await.unwrap();
    client.set(&path, b"x", -1).await.unwrap();
    client.get(&path, true).await.unwrap();
    client.delete(&path, -1).await.unwrap();
    assert_eq!(client.settled_events().await.unwrap().len(), 4);
    let after = ask(&server, "mntr").await;
    for kind in ["created", "deleted", "changed", "children"] {
        for of in ["cnt", "sum"] {
            let name = format!("zk_{of}_node_{kind}_watch_count");
            let grown = number(&after, &name) - number(&before, &name);
            // A ZooKeeper that other tests use counts theirs.
            assert!(grown == 1 || grown > 1 && matches!(server, Server::ZooKeeper(_)), "{name}: {grown}");
        }
    }
    let bytes = number(&after, "zk_watch_bytes") - number(&before, "zk_watch_bytes");
    assert!(bytes > 0, "{bytes}");
    client.close().await.unwrap();
}

/// What an answer looks like when its numbers, addresses and names are left out, and what is the same on several lines.
#[cfg(feature = "zookeeper")]
fn shape(answer: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in answer.split('\n') {
        // Values that are the machine's or the build's own.
        let line = match line.split_once('=') {
            Some((key, _)) if !line.starts_with(' ') => format!("{key}="),
            _ => line.split(", built on").next().unwrap_or_default().to_owned(),
        };
        let line = line.split("-").next().filter(|_| line.contains("version: ")).map_or(line.clone(), str::to_owned);
        let mut shown = String::new();
        for part in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '.') {
            let (word, end) =
                part.split_at(part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '.').len());
            let is_number = word.starts_with(|c: char| c.is_ascii_digit());
            shown += if is_number { "#" } else { word };
            shown += end;
        }
        if lines.last() != Some(&shown) {
            lines.push(shown);
        }
    }
    lines
}

#[cfg(feature = "zookeeper")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_word_has_the_shape_of_zookeepers() {
    // One of its own: it must have nobody else's sessions.
    let zookeeper = tokio::task::spawn_blocking(support::zookeeper::ZooKeeper::start).await.unwrap();
    let (theirs, ours) = (Site::ZooKeeper(zookeeper.address()), Site::memory().await);
    let mut sides = Vec::new();
    for site in [theirs, ours] {
        let server = site.server().await;
        let mut client = server.client().await;
        client.create("/e", b"", CreateMode::Ephemeral).await.unwrap();
        client.get("/e", true).await.unwrap();
        sides.push((server, client));
    }
    let words =
        ["ruok", "srvr", "stat", "conf", "cons", "dump", "wchs", "wchc", "wchp", "dirs", "isro", "crst", "srst"];
    for word in words {
        let (theirs, ours) = (ask(&sides[0].0, word).await, ask(&sides[1].0, word).await);
        let sorted = |answer: &str| {
            let mut lines = shape(answer);
            // Connections are in a hash table there.
            if matches!(word, "stat" | "cons") {
                lines.sort();
            }
            lines
        };
        assert_eq!(sorted(&ours), sorted(&theirs), "{word}:\n{ours}\nand ZooKeeper's\n{theirs}");
    }
    let keys = |answer: &str| {
        answer.lines().map(|line| line.split('=').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let (theirs, ours) = (ask(&sides[0].0, "envi").await, ask(&sides[1].0, "envi").await);
    let (theirs, mut ours) = (keys(&theirs), keys(&ours));
    assert_eq!(ours.pop().as_deref(), Some("zketcd.version"));
    assert_eq!(ours, theirs);
    // `mntr`: keys of ZooKeeper's, whole numbers and others where they are there; the first two lines first.
    let (theirs, ours) = (ask(&sides[0].0, "mntr").await, ask(&sides[1].0, "mntr").await);
    let kinds = |answer: &str| {
        let kind =
            |line: &str| line.split_once('\t').map(|(key, value)| (key.to_owned(), value.contains('.'))).unwrap();
        answer.lines().skip(1).map(kind).collect::<Vec<_>>()
    };
    let (theirs, ours) = (kinds(&theirs), kinds(&ours));
    assert_eq!(ours[0], theirs[0]);
    for kind in &ours {
        assert!(theirs.contains(kind), "{kind:?} is not in ZooKeeper's {theirs:?}");
    }
}
