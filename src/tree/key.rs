//! The store's keys: `n<path>`, `c<path>`, `a<path>`, `s<id>`, `l<server>/<k>`, `l<server>/w…`, `meta` and
//! `began`.

use bytes::Bytes;

/// The key of [`super::record::MetaRecord`].
pub const META: &[u8] = b"meta";

/// Each server that begins, or ends in order, puts this key, with its number for people to read: the revision tells the
/// others. No lease carries it.
pub const BEGAN: &[u8] = b"began";

pub fn node(path: &str) -> Bytes {
    join("n", path)
}

pub fn children(path: &str) -> Bytes {
    join("c", path)
}

pub fn acl(path: &str) -> Bytes {
    join("a", path)
}

pub fn session(id: i64) -> Bytes {
    Bytes::copy_from_slice(&session_text(id))
}

/// The bytes of a session's key: `s`, and the id in hexadecimal.
pub fn session_text(id: i64) -> [u8; 17] {
    let mut text = [b's'; 17];
    for (at, digit) in text.iter_mut().skip(1).enumerate() {
        *digit = b"0123456789abcdef"[(id >> (60 - 4 * at)) as usize & 0xf];
    }
    text
}

pub fn lane(server: u64, lane: usize) -> Bytes {
    Bytes::from(format!("l{server:016x}/{lane}"))
}

pub fn claim(server: u64, lane: usize, slot: u16) -> Bytes {
    Bytes::from(format!("l{server:016x}/w{lane}.{slot}"))
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    Node(&'a str),
    Children(&'a str),
    Acl(&'a str),
    Session(i64),
    Lane {
        server: u64,
        lane: usize,
    },
    Claim {
        server: u64,
    },
    Meta,
    Began,
    /// Not one of ours.
    Foreign,
}

pub fn parse(key: &[u8]) -> Parsed<'_> {
    if key == META {
        return Parsed::Meta;
    }
    if key == BEGAN {
        return Parsed::Began;
    }
    let Ok(text) = std::str::from_utf8(key) else { return Parsed::Foreign };
    let Some(first) = text.as_bytes().first() else { return Parsed::Foreign };
    let parsed = text.get(1..).and_then(|rest| match first {
        b'n' if rest.starts_with('/') => Some(Parsed::Node(rest)),
        b'c' if rest.starts_with('/') => Some(Parsed::Children(rest)),
        b'a' if rest.starts_with('/') => Some(Parsed::Acl(rest)),
        b's' => i64::from_str_radix(rest, 16).ok().map(Parsed::Session),
        b'l' => {
            let (server, rest) = rest.split_once('/')?;
            let server = u64::from_str_radix(server, 16).ok()?;
            match rest.strip_prefix('w') {
                Some(_) => Some(Parsed::Claim { server }),
                None => rest.parse().ok().map(|lane| Parsed::Lane { server, lane }),
            }
        }
        _ => None,
    });
    parsed.unwrap_or(Parsed::Foreign)
}

fn join(kind: &str, path: &str) -> Bytes {
    let mut key = String::with_capacity(1 + path.len());
    key.push_str(kind);
    key.push_str(path);
    Bytes::from(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parsed_to_what_made_it() {
        assert_eq!(parse(&node("/a")), Parsed::Node("/a"));
        assert_eq!(parse(&children("/")), Parsed::Children("/"));
        assert_eq!(parse(&acl("/a/b")), Parsed::Acl("/a/b"));
        for id in [0x1f, 0x123_4567_89ab_cdef, i64::MAX] {
            assert_eq!(parse(&session(id)), Parsed::Session(id));
            assert_eq!(session(id), format!("s{id:016x}"));
        }
        assert_eq!(parse(&lane(9, 3)), Parsed::Lane { server: 9, lane: 3 });
        assert_eq!(parse(&claim(9, 3, 1)), Parsed::Claim { server: 9 });
        assert_eq!(parse(META), Parsed::Meta);
        assert_eq!(parse(BEGAN), Parsed::Began);
        for foreign in [&b""[..], b"n", b"nothing", b"s", b"l/0", b"\xff", b"x/a"] {
            assert_eq!(parse(foreign), Parsed::Foreign, "{foreign:?}");
        }
    }
}
