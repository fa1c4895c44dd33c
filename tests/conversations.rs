//! Conversations, byte for byte: what a client sends, well-formed or not, and what comes back.
//!
//! `tests/conversations/cases.rs` says what is sent; `tests/corpus/conversations.txt` holds what the real ZooKeeper
//! answered, and is written by `make corpus`, never by hand. Here each store of zketcd is held to it, and with
//! `make reference` ZooKeeper itself.

mod conversations {
    pub mod cases;
    pub mod frames;
    pub mod play;
    pub mod show;
}
mod support;

use std::fmt::Write;

use conversations::cases;
use conversations::play;
use support::{Site, each_site};

/// What `tests/tools/zookeeper/run.sh` gives ZooKeeper.
const FLAGS: [&str; 3] =
    ["--min-session-timeout=1s", "--max-session-timeout=60s", "--super-digest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="];

/// What ZooKeeper answered.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/conversations.txt");

each_site! {
    all: [],
    ours: [conversations_go_as_recorded],
}

async fn conversations_go_as_recorded(site: Site) {
    let record = std::fs::read_to_string(RECORD).expect("the record");
    let record = entries(&record);
    let server = site.server_with(&FLAGS).await;
    let mut differences = String::new();
    let cases = cases::all();
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let recorded: Vec<&str> = record.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, recorded, "the record has other cases: `make corpus` writes it anew");
    for (case, (_, zookeeper, zketcd)) in cases.iter().zip(record) {
        let expected = zketcd.unwrap_or(zookeeper);
        let played = play::play(server.address(), case, Some(expected)).await;
        if played != expected {
            write!(differences, "\n[{}]\n{played}rather than\n{expected}", case.name).unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Name, ZooKeeper's conversation, and zketcd's where it is meant to differ.
fn entries(record: &str) -> Vec<(&str, &str, Option<&str>)> {
    let mut entries = Vec::new();
    for entry in record.split("\n[").skip(1) {
        let (name, rest) = entry.split_once("]\n").expect("a name");
        match rest.split_once("# zketcd: ") {
            Some((zookeeper, deviation)) => {
                let (_reason, deviation) = deviation.split_once('\n').expect("a reason's line");
                entries.push((name, zookeeper, Some(deviation)));
            }
            None => entries.push((name, rest, None)),
        }
    }
    entries
}

/// The record is what ZooKeeper says, and zketcd where it is meant to differ. `make corpus` writes it anew.
#[cfg(feature = "zookeeper")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_is_what_zookeeper_says() {
    let zookeeper = Site::zookeeper().server().await;
    let zketcd = Site::memory().await.server_with(&FLAGS).await;
    let mut out = HEAD.to_owned();
    for case in cases::all() {
        let played = play::play(zookeeper.address(), &case, None).await;
        write!(out, "\n[{}]\n{played}", case.name).unwrap();
        if let Some(reason) = case.deviates {
            let played = play::play(zketcd.address(), &case, None).await;
            write!(out, "# zketcd: {reason}\n{played}").unwrap();
        }
    }
    if std::env::var_os("CORPUS").is_some() {
        std::fs::write(RECORD, out).expect("the record is written");
        return;
    }
    let record = std::fs::read_to_string(RECORD).expect("the record");
    let differs = |(ours, theirs): &(&str, &str)| ours != theirs;
    let differences: Vec<(&str, &str)> = record.lines().zip(out.lines()).filter(differs).take(20).collect();
    assert!(differences.is_empty(), "recorded, and now: {differences:#?}");
    assert_eq!(record.len(), out.len(), "the record has another length now");
}

#[cfg(feature = "zookeeper")]
const HEAD: &str = "\
# Conversations with ZooKeeper 3.9.5, written by `make corpus`: do not edit. What is sent comes from
# tests/conversations/cases.rs.
#
#   a> bytes that connection a sends: hexadecimal, or text between quotes, *N for what comes N times
#   a< what comes back: the header (xid, zxid, error), then the body
#   a: what became of the connection
#
# zxids: z1, z2… for those of changes, in the order they show; z for one that is not below what was shown before. S1:
# a session's id, P: its password, t: a time. What stands after `# zketcd:` is what zketcd does instead, and why.
";
