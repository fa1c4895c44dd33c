//! Bytes as the record shows them: all of them, with what differs from run to run replaced by names.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use zketcd::jute::{op, xid};

/// How far from now a number may lie to be taken for a time: longer than any run.
const TIMES: i64 = 3_600_000;

/// The xid that the cases give a createSession.
pub const CREATE_SESSION_XID: i32 = 77;

/// Names for what has been shown, and what is waited for.
#[derive(Default)]
pub struct Shown {
    zxids: Vec<i64>,
    newest: i64,
    sessions: Vec<i64>,
    /// For each connection and xid, the types of the requests that wait for an answer.
    asked: HashMap<(char, i32), VecDeque<i32>>,
}

impl Shown {
    /// Notes a frame that is sent, without its length.
    pub fn asks(&mut self, on: char, frame: &[u8]) {
        if let (Some(xid), Some(op)) = (int_at(frame, 0), int_at(frame, 4)) {
            let xid = if op == op::PING { xid::PING } else { xid };
            self.asked.entry((on, xid)).or_default().push_back(op);
        }
    }

    /// The answer to a connect request.
    pub fn connected(&mut self, frame: &[u8]) -> String {
        let mut from = Reader(frame);
        let mut out = String::from("connected");
        let (Some(version), Some(timeout), Some(session)) = (from.int(), from.int(), from.long()) else {
            return format!("{out} {}", bytes(frame));
        };
        write!(out, " version={version} timeout={timeout} session={} ", self.session(session)).unwrap();
        match from.int() {
            Some(16) if from.0.len() >= 16 => {
                let (password, rest) = from.0.split_at(16);
                from.0 = rest;
                out.push_str(if password.iter().all(|byte| *byte == 0) { "password=00*16" } else { "password=P" });
            }
            other => write!(out, "password of {other:?}").unwrap(),
        }
        if !from.0.is_empty() {
            write!(out, " {}", bytes(from.0)).unwrap();
        }
        out
    }

    /// An answer or an event.
    pub fn frame(&mut self, on: char, frame: &[u8]) -> String {
        let mut from = Reader(frame);
        let asked = |shown: &mut Self, xid| shown.asked.get_mut(&(on, xid)).and_then(VecDeque::pop_front);
        // createSession is answered as a connect request is.
        if int_at(frame, 0) == Some(0)
            && let Some(waiting) = self.asked.get_mut(&(on, CREATE_SESSION_XID))
            && waiting.front() == Some(&op::CREATE_SESSION)
        {
            waiting.pop_front();
            return self.connected(frame);
        }
        let (Some(xid), Some(zxid), Some(err)) = (from.int(), from.long(), from.int()) else {
            return format!("no header: {}", bytes(frame));
        };
        let op = asked(self, xid);
        let shape = match op {
            None if xid == xid::NOTIFICATION => "iip",
            None => "",
            Some(op) if err == 0 || op == op::SASL => shape(op),
            Some(_) => "",
        };
        let change = match op {
            None => true,
            Some(op) => err == 0 && is_change(op),
        };
        let zxid = if change && zxid > 0 { self.zxid(zxid) } else { self.position(zxid) };
        let mut out = format!("{xid} {zxid} {err}");
        for part in shape.chars() {
            out.push(' ');
            if self.part(part, &mut from, &mut out).is_none() {
                out.push('?');
                break;
            }
        }
        if !from.0.is_empty() {
            write!(out, " + {}", bytes(from.0)).unwrap();
        }
        out
    }

    fn part(&mut self, part: char, from: &mut Reader<'_>, out: &mut String) -> Option<()> {
        match part {
            'i' => write!(out, "{}", from.int()?).unwrap(),
            'p' => write!(out, "{}", from.text()?).unwrap(),
            'v' | 'u' | 'a' => {
                let mut elements = Vec::new();
                for _ in 0..from.int()? {
                    elements.push(match part {
                        'v' => from.text()?,
                        'u' => format!("{}:{}", from.text()?, from.text()?),
                        _ => format!("{}:{}:{}", from.int()?, from.text()?, from.text()?),
                    });
                }
                // Children, ephemerals and identities are in hash tables there, and come in any order.
                if part != 'a' {
                    elements.sort();
                }
                write!(out, "({})", elements.join(" ")).unwrap();
            }
            'S' => self.stat(from, out)?,
            'M' => loop {
                let (kind, done, err) = (from.int()?, from.byte()?, from.int()?);
                write!(out, "[{kind} {done} {err}").unwrap();
                if done == 0 {
                    let shape = if kind == op::ERROR { "i" } else { shape(kind) };
                    for part in shape.chars() {
                        out.push(' ');
                        self.part(part, from, out)?;
                    }
                }
                out.push(']');
                if done != 0 {
                    break;
                }
            },
            _ => unreachable!("a shape that nobody knows"),
        }
        Some(())
    }

    fn stat(&mut self, from: &mut Reader<'_>, out: &mut String) -> Option<()> {
        let (czxid, mzxid) = (from.long()?, from.long()?);
        write!(out, "{{c={} m={} ", self.zxid(czxid), self.zxid(mzxid)).unwrap();
        write!(out, "ct={} mt={} ", time(from.long()?), time(from.long()?)).unwrap();
        write!(out, "v={} cv={} av={} ", from.int()?, from.int()?, from.int()?).unwrap();
        let owner = from.long()?;
        write!(out, "eo={} dl={} nc={} ", self.session(owner), from.int()?, from.int()?).unwrap();
        let pzxid = from.long()?;
        write!(out, "p={}}}", self.zxid(pzxid)).unwrap();
        Some(())
    }

    /// The zxid of a change.
    fn zxid(&mut self, zxid: i64) -> String {
        if zxid <= 0 {
            return zxid.to_string();
        }
        self.newest = self.newest.max(zxid);
        let at = self.zxids.iter().position(|known| *known == zxid).unwrap_or_else(|| {
            self.zxids.push(zxid);
            self.zxids.len() - 1
        });
        format!("z{}", at + 1)
    }

    /// The zxid in the header of a read or an error: how far the server is.
    fn position(&mut self, zxid: i64) -> String {
        match zxid {
            ..=0 => zxid.to_string(),
            _ if zxid >= self.newest => "z".to_owned(),
            _ => format!("{} again", self.zxid(zxid)),
        }
    }

    fn session(&mut self, id: i64) -> String {
        // Containers and TTLs, too, stand where a session's id does.
        if id == 0 || id == i64::MIN || (id as u64) >> 56 == 0xff {
            return format!("{id:#x}");
        }
        let at = self.sessions.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.sessions.push(id);
            self.sessions.len() - 1
        });
        format!("S{}", at + 1)
    }
}

fn is_change(op: i32) -> bool {
    matches!(
        op,
        op::CREATE
            | op::CREATE2
            | op::CREATE_CONTAINER
            | op::CREATE_TTL
            | op::DELETE
            | op::DELETE_CONTAINER
            | op::SET_DATA
            | op::SET_ACL
    )
}

/// What the body of an answer holds.
fn shape(op: i32) -> &'static str {
    match op {
        op::CREATE | op::SYNC | op::SASL => "p",
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL | op::GET_DATA => "pS",
        op::EXISTS | op::SET_DATA | op::SET_ACL => "S",
        op::GET_ACL => "aS",
        op::GET_CHILDREN | op::GET_EPHEMERALS => "v",
        op::GET_CHILDREN2 => "vS",
        op::MULTI | op::MULTI_READ => "M",
        op::ADD_WATCH | op::GET_ALL_CHILDREN_NUMBER => "i",
        op::WHO_AM_I => "u",
        _ => "",
    }
}

fn time(ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    if (ms - now).abs() < TIMES { "t".to_owned() } else { ms.to_string() }
}

/// Hexadecimal in words of four bytes, text between quotes, a count behind what comes often.
pub fn bytes(bytes: &[u8]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|byte| *byte == first).count();
        let printable = |byte: &&u8| (b' '..=b'~').contains(byte) && **byte != b'\'';
        let text = rest.iter().take_while(printable).count();
        let (shown, length) = if same > 16 {
            (format!("{first:02x}*{same}"), same)
        } else if text > 1 {
            // A long run inside of text is a part of its own.
            let length = (1..text).find(|at| rest[*at..].iter().take(17).filter(|b| **b == rest[*at]).count() == 17);
            let length = length.unwrap_or(text);
            (format!("'{}'", String::from_utf8_lossy(&rest[..length])), length)
        } else {
            let ends = |at: &usize| {
                let rest = &rest[*at..];
                rest.iter().take_while(printable).count() > 1
                    || rest.len() > 16 && rest[..17].iter().all(|byte| *byte == rest[0])
            };
            let length = (1..4.min(rest.len())).find(ends).unwrap_or(4.min(rest.len()));
            (rest[..length].iter().map(|byte| format!("{byte:02x}")).collect(), length)
        };
        parts.push(shown);
        rest = &rest[length..];
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
}

fn int_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// What is left of a frame.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn int(&mut self) -> Option<i32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*first))
    }

    fn long(&mut self) -> Option<i64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*first))
    }

    /// A string or a buffer, shown.
    fn text(&mut self) -> Option<String> {
        let length = self.int()?;
        if length == -1 {
            return Some("null".to_owned());
        }
        let (text, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        let plain = text.len() <= 16 && text.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b'\'');
        Some(if plain { format!("'{}'", String::from_utf8_lossy(text)) } else { format!("<{}>", bytes(text)) })
    }
}
