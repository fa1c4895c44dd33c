//! Two servers' words made comparable: the one place where something is overlooked, each with its reason.
//!
//! - **zxids** of transactions (a write's answer, an event, a Stat) become their rank among the case's. zketcd's have
//!   gaps (`docs/COMPATIBILITY.md`), and other cases write at the same time.
//! - **A read's header** carries the last zxid that the server knows, here as there: other cases move it. It may not go
//!   back on a connection, nor be older than what the answer shows; that is checked as the answer is read.
//! - **A write that fails before ZooKeeper gives it a zxid** (MarshallingError, Unimplemented) is answered with the last
//!   one, as a read is (`PrepRequestProcessor.pRequestHelper`). So is reconfig where it is disabled, by zketcd: it gets
//!   a zxid in ZooKeeper, which nothing can show.
//! - **Times** have to lie within the case's own, and all times of one transaction have to be the same.
//! - **Session ids** are named by who they are.
//! - **Names of children, ephemerals, and identities** come in a `HashMap`'s order (`DataNode.getChildren`,
//!   `DataTree.getEphemerals`, `ServerCnxn.getAuthInfo`), which nobody defines: they are sorted as they are read.
//!   So are entries of an ACL that have the same permissions and stand together: `auth` became them in that order
//!   (`PrepRequestProcessor.fixupACL`).
//! - **Events of a session's end**, one transaction, come in the order of a `HashSet` of paths
//!   (`DataTree.killSession`, `PrepRequestProcessor.pRequest2Txn`): those of one connection are sorted.
//! - **Answers behind a closeSession's** are SessionExpired, and reach the client if they are queued before the
//!   connection is closed (`NIOServerCnxn.handleWrite`): a matter of time. They are dropped.
//! - **Characters beyond the Basic Multilingual Plane** come as UTF-8 from zketcd (`docs/COMPATIBILITY.md`,
//!   `wire::paired`).
//! - **Pings and auth** are answered ahead of waiting requests (`docs/COMPATIBILITY.md`; auth in ZooKeeper too,
//!   `ZooKeeperServer.processPacket`): a ping's answer is dropped, auth goes out alone.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use crate::player::{Entry, Log, What};
use crate::wire::{Piece, op};

/// How far a transaction's time may lie outside of the case's: it is taken before it is sent.
const CLOCK_SLACK_MS: i64 = 20;

/// A log as text that the other server's can be compared with.
pub fn lines(log: &Log) -> Vec<String> {
    let entries = compared(log);
    let ranks = Ranks::new(&entries);
    let line = |entry: &&Entry| {
        let end = match entry.what {
            What::Event { zxid, .. } if log.ends.contains(&zxid) => Some((entry.who.clone(), zxid)),
            _ => None,
        };
        (end, line(entry, log, &ranks))
    };
    let mut lines: Vec<_> = entries.iter().map(line).collect();
    for run in lines.chunk_by_mut(|(one, _), (other, _)| one.is_some() && one == other) {
        run.sort();
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

/// All but pings' answers and those behind a closeSession's.
fn compared<'a>(log: &'a Log) -> Vec<&'a Entry> {
    let mut closing = None;
    let compared = |entry: &&'a Entry| {
        let What::Answer { op, header, .. } = &entry.what else { return true };
        if *op == op::PING || closing == Some((&entry.who, entry.step)) {
            return false;
        }
        if *op == op::CLOSE_SESSION && header.err == 0 {
            closing = Some((&entry.who, entry.step));
        }
        true
    };
    log.entries.iter().filter(compared).collect()
}

/// Where two logs differ first: how many lines are alike.
pub fn difference(theirs: &[String], ours: &[String]) -> Option<usize> {
    let alike = theirs.iter().zip(ours).take_while(|(one, other)| one == other).count();
    (alike < theirs.len().max(ours.len())).then_some(alike)
}

/// Both, side by side as far as they are alike, then what each says from there on in that step and the next few lines.
pub fn shown(theirs: &[String], ours: &[String], alike: usize) -> String {
    /// Lines before and after.
    const AROUND: usize = 6;
    let mut text = String::new();
    for line in theirs.iter().take(alike).skip(alike.saturating_sub(AROUND)) {
        let _ = writeln!(text, "            {line}");
    }
    for line in theirs.iter().skip(alike).take(AROUND) {
        let _ = writeln!(text, "  ZooKeeper {line}");
    }
    for line in ours.iter().skip(alike).take(AROUND) {
        let _ = writeln!(text, "     zketcd {line}");
    }
    text
}

struct Ranks {
    zxids: HashMap<i64, usize>,
    times: HashMap<i64, i64>,
}

impl Ranks {
    fn new(entries: &[&Entry]) -> Ranks {
        let mut zxids = BTreeSet::new();
        let mut times = HashMap::new();
        let note = |pieces: &[Piece], zxids: &mut BTreeSet<i64>, times: &mut HashMap<i64, i64>| {
            for piece in pieces {
                match piece {
                    Piece::Zxid(zxid) => {
                        zxids.insert(*zxid);
                    }
                    Piece::Time { zxid, ms } => {
                        times.entry(*zxid).or_insert(*ms);
                    }
                    Piece::Text(_) | Piece::Session(_) => {}
                }
            }
        };
        for entry in entries {
            match &entry.what {
                What::Event { zxid, pieces } => {
                    zxids.insert(*zxid);
                    note(pieces, &mut zxids, &mut times);
                }
                What::Answer { header, ranked, pieces, .. } => {
                    if *ranked {
                        zxids.insert(header.zxid);
                    }
                    note(pieces, &mut zxids, &mut times);
                }
                What::Said(pieces) => note(pieces, &mut zxids, &mut times),
            }
        }
        let zxids = zxids.into_iter().filter(|zxid| *zxid > 0).enumerate().map(|(rank, zxid)| (zxid, rank)).collect();
        Ranks { zxids, times }
    }

    fn show(&self, zxid: i64) -> String {
        self.zxids.get(&zxid).map_or_else(|| zxid.to_string(), |rank| format!("#{rank}"))
    }

    fn time(&self, zxid: i64, ms: i64, log: &Log) -> String {
        if zxid == 0 || ms == 0 {
            return ms.to_string();
        }
        if self.times.get(&zxid) != Some(&ms) {
            return format!("{ms}, not that of {}", self.show(zxid));
        }
        let when = match ms {
            // Of what all rooms share, in a case that is alone.
            _ if zxid < log.furnished => " before the case",
            _ if ms < log.from - CLOCK_SLACK_MS => " too early",
            _ if ms > log.to + CLOCK_SLACK_MS => " too late",
            _ => "",
        };
        format!("t{}{when}", self.show(zxid))
    }
}

fn line(entry: &Entry, log: &Log, ranks: &Ranks) -> String {
    let mut line = format!("{:>2} {} ", entry.step, entry.who);
    let pieces = match &entry.what {
        What::Event { zxid, pieces } => {
            let _ = write!(line, "<- {} ", ranks.show(*zxid));
            pieces
        }
        What::Answer { op, header, ranked, pieces, .. } => {
            let _ = write!(line, "{} xid {} err {}", op::name(*op), header.xid, header.err);
            if *ranked {
                let _ = write!(line, " {}", ranks.show(header.zxid));
            }
            pieces
        }
        What::Said(pieces) => pieces,
    };
    for piece in pieces {
        match piece {
            Piece::Text(text) => line.push_str(text),
            Piece::Zxid(zxid) => line.push_str(&ranks.show(*zxid)),
            Piece::Time { zxid, ms } => line.push_str(&ranks.time(*zxid, *ms, log)),
            Piece::Session(0) => line.push('0'),
            Piece::Session(id) => {
                line.push_str(log.sessions.get(id).map_or_else(|| format!("{id:#x}"), Clone::clone).as_str());
            }
        }
    }
    line
}
