//! Frames kept in `tests/corpus`, malformed ones included, and what is to become of them. How each is written there
//! is said at the top of `requests.txt`; the bytes were derived by hand from ZooKeeper's `zookeeper.jute`.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use zketcd::jute::client::{self, Packet};
use zketcd::jute::{ConnectRequest, Request, encode_event, encode_reply, next_frame};

/// The longest frame in `streams.txt`.
const STREAM_LIMIT: usize = 16;

#[test]
fn requests_decode_as_recorded() {
    check("requests.txt", include_str!("corpus/requests.txt"), |_, bytes| match Request::decode(bytes.clone()) {
        Ok((header, request)) => {
            let mut out = BytesMut::new();
            client::encode_request(&mut out, header.xid, &request);
            let again = only_frame(out);
            assert_eq!(Request::decode(again.clone()), Ok((header, request.clone())));
            format!("{} {} {request:?}", sign(&again, &bytes), header.xid)
        }
        Err(error) => match error.answer() {
            Some((header, code)) => format!("! answered {} {code:?}: {error}", header.xid),
            None => format!("! closed: {error}"),
        },
    });
}

#[test]
fn connects_decode_as_recorded() {
    check("connects.txt", include_str!("corpus/connects.txt"), |_, bytes| match ConnectRequest::decode(&bytes) {
        Ok(request) => {
            let mut out = BytesMut::new();
            client::encode_connect(&mut out, &request);
            let again = only_frame(out);
            assert_eq!(ConnectRequest::decode(&again), Ok(request.clone()));
            format!("{} {request:?}", sign(&again, &bytes))
        }
        Err(error) => format!("! closed: {error}"),
    });
}

#[test]
fn replies_are_written_as_recorded() {
    check("replies.txt", include_str!("corpus/replies.txt"), |name, bytes| {
        let kind = name.rsplit_once("to ").and_then(|(_, kind)| kind.parse().ok()).expect("a type of request");
        let mut out = BytesMut::new();
        let read = match client::decode_packet(&bytes) {
            Ok(Packet::Event { zxid, event }) => {
                encode_event(&mut out, zxid, &event);
                format!("{zxid:#x} {event:?}")
            }
            Ok(Packet::Reply { header, body }) => match client::decode_reply(kind, &header, &body) {
                Ok(reply) => {
                    encode_reply(&mut out, &header, &reply);
                    format!("{} {:#x} {} {reply:?}", header.xid, header.zxid, header.err)
                }
                Err(error) => return format!("! {error}"),
            },
            Err(error) => return format!("! {error}"),
        };
        format!("{} {read}", sign(&only_frame(out), &bytes))
    });
}

#[test]
fn streams_are_cut_as_recorded() {
    check("streams.txt", include_str!("corpus/streams.txt"), |_, bytes| {
        let mut stream = BytesMut::from(&bytes[..]);
        let mut cut = String::new();
        loop {
            match next_frame(&mut stream, STREAM_LIMIT) {
                Ok(Some(frame)) => write!(cut, "{frame:?} ").unwrap(),
                Ok(None) => return format!("= {cut}and {} left", stream.len()),
                Err(error) => return format!("! {cut}{error}"),
            }
        }
    });
}

/// "=" for the same bytes, "~" for others.
fn sign(again: &Bytes, bytes: &Bytes) -> char {
    if again == bytes { '=' } else { '~' }
}

fn only_frame(mut out: BytesMut) -> Bytes {
    let frame = next_frame(&mut out, usize::MAX).unwrap().expect("a whole frame");
    assert!(out.is_empty(), "bytes after the frame");
    frame
}

/// Puts each entry of a corpus file through `outcome`, which gets its name and bytes, and compares what comes out
/// with what is recorded. Fails with all that differ.
fn check(file: &str, corpus: &str, outcome: impl Fn(&str, Bytes) -> String) {
    let entries = entries(corpus);
    assert!(entries.len() > 5, "{file} has lost its entries");
    let mut differences = String::new();
    for Entry { name, bytes, expected } in entries {
        let outcome = outcome(name, bytes);
        if outcome != expected {
            write!(differences, "\n[{name}]\n{outcome}\nrather than\n{expected}\n").unwrap();
        }
    }
    assert!(differences.is_empty(), "{file} says otherwise:{differences}");
}

struct Entry<'a> {
    name: &'a str,
    bytes: Bytes,
    expected: &'a str,
}

fn entries(corpus: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for line in corpus.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            entries.push(Entry { name, bytes: Bytes::new(), expected: "" });
            continue;
        }
        let entry = entries.last_mut().expect("a name before the bytes");
        if line.starts_with(['=', '~', '!']) {
            entry.expected = line;
        } else {
            entry.bytes = [&entry.bytes[..], &bytes(line)].concat().into();
        }
    }
    entries
}

/// Hexadecimal digits in pairs; between quotes, text.
fn bytes(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, part) in line.split('\'').enumerate() {
        if n % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: String = part.split_whitespace().collect();
        assert!(digits.len().is_multiple_of(2), "half a byte in {line:?}");
        let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
        bytes.extend((0..digits.len()).step_by(2).map(pair));
    }
    bytes
}
