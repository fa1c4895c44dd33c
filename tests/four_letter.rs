//! The four-letter words, asked over the wire while clients are connected.

mod support;

use std::collections::HashMap;

use support::client::{Client, Wire};
use support::{Server, Site, each_site};
use zketcd::jute::CreateMode;

each_site! {
    all: [
        every_word_is_answered_in_zookeepers_shape,
        srvr_and_stat_show_the_server,
        mntr_counts_znodes_watches_and_ephemerals,
        cons_and_dump_show_sessions,
        watches_are_shown_by_session_and_by_path,
        the_counters_are_reset,
        a_word_that_nobody_knows_is_not_answered,
    ],
    ours: [
        only_the_words_allowed_are_answered,
        words_are_answered_to_those_who_close_their_side_at_once,
    ],
}

async fn ask(server: &Server, word: &str) -> String {
    let mut wire = Wire::connect(server.address()).await.unwrap();
    wire.send_raw(word.as_bytes()).await.unwrap();
    String::from_utf8(wire.closed().await.unwrap().to_vec()).unwrap()
}

/// The value behind `name` and `separator`, on a line of its own.
fn field<'a>(answer: &'a str, name: &str, separator: &str) -> &'a str {
    let found = answer.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(separator));
    found.unwrap_or_else(|| panic!("no {name} in {answer}"))
}

async fn every_word_is_answered_in_zookeepers_shape(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.get(&room, true).await.unwrap();
    let begins = [
        ("ruok", "imok"),
        ("srvr", "Zookeeper version: 3.9.5-"),
        ("stat", "Zookeeper version: 3.9.5-"),
        ("mntr", "zk_version\t3.9.5-"),
        ("conf", "clientPort="),
        ("cons", " /127.0.0.1:"),
        ("crst", "Connection stats reset.\n"),
        ("dump", "SessionTracker dump:\n"),
        ("envi", "Environment:\nzookeeper.version=3.9.5-"),
        ("isro", "rw"),
        ("wchs", ""),
        ("wchc", "0x"),
        ("wchp", "/"),
        ("dirs", "datadir_size: "),
        ("srst", "Server stats reset.\n"),
    ];
    for (word, beginning) in begins {
        let answer = ask(&server, word).await;
        assert!(!answer.is_empty() && answer.starts_with(beginning), "{word}: {answer}");
    }
    assert!(ask(&server, "wchs").await.contains("Total watches:"));
    client.close().await.unwrap();
}

async fn srvr_and_stat_show_the_server(site: Site) {
    let server = site.server().await;
    let (client, _) = server.room().await;
    for word in ["srvr", "stat"] {
        let answer = ask(&server, word).await;
        assert_eq!(field(&answer, "Mode", ": "), "standalone");
        assert!(field(&answer, "Node count", ": ").parse::<u64>().unwrap() >= 5, "{answer}");
        assert!(field(&answer, "Connections", ": ").parse::<u64>().unwrap() >= 1, "{answer}");
        let zxid = field(&answer, "Zxid", ": 0x");
        assert!(i64::from_str_radix(zxid, 16).unwrap() >= client.last_zxid(), "{answer}");
        let latency: Vec<f64> =
            field(&answer, "Latency min/avg/max", ": ").split('/').map(|number| number.parse().unwrap()).collect();
        assert!(latency.len() == 3 && latency[0] <= latency[1] && latency[1] <= latency[2], "{answer}");
    }
    client.close().await.unwrap();
}

async fn mntr(server: &Server) -> HashMap<String, String> {
    let answer = ask(server, "mntr").await;
    let pairs = answer.lines().map(|line| line.split_once('\t').unwrap_or_else(|| panic!("{line:?}")));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn mntr_counts_znodes_watches_and_ephemerals(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let count = |all: &HashMap<String, String>, name: &str| all[name].parse::<i64>().unwrap();
    let before = mntr(&server).await;
    for n in 0..7 {
        client.create(&format!("{room}/{n}"), b"", CreateMode::Ephemeral).await.unwrap();
        client.get(&format!("{room}/{n}"), true).await.unwrap();
    }
    let after = mntr(&server).await;
    assert_eq!(after["zk_server_state"], "standalone");
    // A ZooKeeper that other tests use meanwhile counts theirs too, and forgets all where they reset it.
    if let Site::Zketcd(_) = site {
        for name in ["zk_znode_count", "zk_ephemerals_count", "zk_watch_count"] {
            assert_eq!(count(&after, name) - count(&before, name), 7, "{name}");
        }
        assert!(count(&after, "zk_packets_received") >= count(&before, "zk_packets_received") + 14);
    }
    assert!(count(&after, "zk_num_alive_connections") >= 1);
    client.close().await.unwrap();
}

async fn cons_and_dump_show_sessions(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let path = format!("{room}/e");
    client.create(&path, b"", CreateMode::Ephemeral).await.unwrap();
    let id = format!("0x{:x}", client.session_id());
    let cons = ask(&server, "cons").await;
    let mine = cons.lines().find(|line| line.contains(&format!("sid={id},"))).unwrap_or_else(|| panic!("{cons}"));
    for part in ["queued=0", "recved=", "sent=", "lop=CREA", "to=30000", "lzxid=0x", "est="] {
        assert!(mine.contains(part), "{part} in {mine}");
    }
    let dump = ask(&server, "dump").await;
    assert!(dump.contains(&format!("{id}:\n\t{path}\n")), "{dump}");
    client.close().await.unwrap();
}

async fn watches_are_shown_by_session_and_by_path(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.get(&room, true).await.unwrap();
    client.exists(&format!("{room}/none"), true).await.unwrap();
    let id = format!("0x{:x}", client.session_id());
    assert!(ask(&server, "wchc").await.contains(&format!("{id}\n\t{room}")));
    let by_path = ask(&server, "wchp").await;
    assert!(by_path.contains(&format!("{room}/none\n\t{id}\n")), "{by_path}");
    client.close().await.unwrap();
}

async fn the_counters_are_reset(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    for _ in 0..500 {
        client.get(&room, false).await.unwrap();
    }
    let received = |answer: &str| field(answer, "Received", ": ").parse::<u64>().unwrap();
    let before = received(&ask(&server, "srvr").await);
    ask(&server, "srst").await;
    let after = received(&ask(&server, "srvr").await);
    assert!(before >= 500 && after < before, "{before}, then {after}");
    client.close().await.unwrap();
}

async fn a_word_that_nobody_knows_is_not_answered(site: Site) {
    let Site::Zketcd(_) = site else {
        // ZooKeeper takes it for a frame's length, and closes as well.
        return;
    };
    let server = site.server().await;
    let mut client: Client = server.client().await;
    for word in ["abcd", "zzzz"] {
        assert_eq!(ask(&server, word).await, "");
    }
    client.ping().await.unwrap();
}

async fn only_the_words_allowed_are_answered(site: Site) {
    let server = site.server_with(&["--four-letter-words=ruok,isro"]).await;
    assert_eq!((ask(&server, "ruok").await.as_str(), ask(&server, "isro").await.as_str()), ("imok", "rw"));
    for word in ["srvr", "wchp", "crst"] {
        let expected = format!("{word} is not executed because it is not in the whitelist.\n");
        assert_eq!(ask(&server, word).await, expected);
    }
    let server = site.server_with(&["--four-letter-words=none"]).await;
    assert_eq!(ask(&server, "ruok").await, "ruok is not executed because it is not in the whitelist.\n");
}

async fn words_are_answered_to_those_who_close_their_side_at_once(site: Site) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = site.server().await;
    // `echo ruok | nc`: four bytes, a newline, and the end.
    let mut socket = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(b"ruok\n").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    // The newline that nobody read may reset the connection after the answer.
    let _ = socket.read_to_string(&mut answer).await;
    assert_eq!(answer, "imok");
}
