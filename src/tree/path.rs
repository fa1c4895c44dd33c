//! Paths of znodes, the names of sequential ones, and what a node's owner says of its kind.

use crate::jute::ErrorCode;

pub const ROOT: &str = "/";
pub const ZOOKEEPER: &str = "/zookeeper";
/// Exists and is empty; clients that follow the ensemble's membership watch it.
pub const CONFIG: &str = "/zookeeper/config";
pub const QUOTA: &str = "/zookeeper/quota";

/// The nodes that are always there and that nobody may delete (`DataTree.isSpecialPath`), parents first.
pub const RESERVED: [&str; 4] = [ROOT, ZOOKEEPER, CONFIG, QUOTA];

/// The owner of a container node: `EphemeralType.CONTAINER_EPHEMERAL_OWNER`.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// Milliseconds, about 34 years: the owner of a TTL node has 40 bits for it.
pub const MAX_TTL: i64 = 0xff_ffff_ffff;
/// The top byte of a TTL node's owner. No session id may start with it.
const TTL_MARK: i64 = 0xff << 56;

/// Whether `path` may name a znode, as `PathUtils.validatePath` decides it.
///
/// A sequential create is judged by the whole name, its number included: `/a/` is then legal.
///
/// # Errors
/// `BadArguments`, for anything that is not a slash followed by names separated by single slashes, where no name is
/// `.` or `..` or has a character that ZooKeeper forbids.
pub fn validate(path: &str) -> Result<(), ErrorCode> {
    let names = path.strip_prefix('/').ok_or(ErrorCode::BadArguments)?;
    let legal = names.is_empty() || names.split('/').all(is_legal_name);
    if legal { Ok(()) } else { Err(ErrorCode::BadArguments) }
}

fn is_legal_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.chars().any(is_forbidden)
}

/// Java looks at UTF-16 units and forbids surrogates, so everything beyond the basic plane is out.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// The path before the last slash; `/` for a node directly below it. `None` for `/` itself, and for what has no slash.
pub fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some(ROOT),
        slash => path.get(..slash),
    }
}

/// What follows the last slash: a node's name among its parent's children. Empty for `/`.
pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// What a sequential create appends: the parent's counter as Java's `%010d` writes it. The counter wraps, and a
/// negative number's sign takes one of the ten places.
pub fn sequence(counter: i32) -> String {
    format!("{counter:010}")
}

/// The longest path that can be created, in bytes. ZooKeeper's limit is the frame; deleting a znode names its path six
/// times in one transaction, which must fit into etcd's 1.5 MiB, and the embedded store's keys are below 64 KiB.
pub const MAX_PATH: usize = 63 * 1024;

/// Whether `path` is one of [`RESERVED`], which delete refuses with `BadArguments`.
pub fn is_reserved(path: &str) -> bool {
    RESERVED.contains(&path)
}

/// What the owner that is kept with a node says of it, with ZooKeeper's extended types on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// A persistent node.
    None,
    /// An ephemeral one, of this session.
    Session(i64),
    Container,
    /// Milliseconds.
    Ttl(i64),
}

impl OwnerKind {
    /// As `EphemeralType.get` reads it. Where that throws (a TTL mark, but reserved bits set), a session is assumed.
    pub fn of(owner: i64) -> Self {
        match owner {
            0 => OwnerKind::None,
            CONTAINER_OWNER => OwnerKind::Container,
            _ if owner & !MAX_TTL == TTL_MARK => OwnerKind::Ttl(owner & MAX_TTL),
            session => OwnerKind::Session(session),
        }
    }
}

/// The `ephemeralOwner` of a node's `Stat`: clients see the owner of an ephemeral node only, and 0 for containers and
/// TTL nodes (`DataNode.copyStat`).
pub fn shown_owner(owner: i64) -> i64 {
    match OwnerKind::of(owner) {
        OwnerKind::Session(session) => session,
        OwnerKind::None | OwnerKind::Container | OwnerKind::Ttl(_) => 0,
    }
}

/// The owner of a node that lives `ms` milliseconds; `None` where ZooKeeper answers `BadArguments`: not within
/// 1..=[`MAX_TTL`].
pub fn ttl_to_owner(ms: i64) -> Option<i64> {
    (1..=MAX_TTL).contains(&ms).then_some(TTL_MARK | ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_paths() {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a.b/..c/d../...",
            "/.a",
            "/ ",
            "/a b",
            "/~",
            "/\u{a0}",
            "/\u{d7ff}",
            "/\u{f900}",
            "/\u{ffef}",
            "/zookeeper/config",
        ] {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn illegal_paths() {
        for path in [
            "",
            "a",
            "a/b",
            "//",
            "//a",
            "/a/",
            "/a//b",
            "/.",
            "/..",
            "/./a",
            "/../a",
            "/a/.",
            "/a/..",
            "/a/./b",
            "/a/../b",
            "/\0",
            "/a\0b",
            "/\u{1}",
            "/a\n",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{fffd}",
            "/\u{ffff}",
            "/\u{10000}",
            "/😀",
        ] {
            assert_eq!(validate(path), Err(ErrorCode::BadArguments), "{path:?}");
        }
    }

    #[test]
    fn parents_and_names() {
        for (path, up, last) in [
            ("/", None, ""),
            ("/a", Some("/"), "a"),
            ("/a/b", Some("/a"), "b"),
            ("/a/b/c", Some("/a/b"), "c"),
            ("/a/", Some("/a"), ""),
            ("//a", Some("/"), "a"),
            ("/é/ü", Some("/é"), "ü"),
            ("a", None, "a"),
            ("a/b", Some("a"), "b"),
            ("", None, ""),
        ] {
            assert_eq!((parent(path), name(path)), (up, last), "{path:?}");
        }
    }

    #[test]
    fn sequence_numbers_are_written_as_java_does() {
        for (counter, text) in [
            (0, "0000000000"),
            (7, "0000000007"),
            (i32::MAX, "2147483647"),
            (-1, "-000000001"),
            (i32::MIN, "-2147483648"),
        ] {
            assert_eq!(sequence(counter), text);
        }
    }

    #[test]
    fn reserved_are_the_four_that_delete_refuses() {
        for path in RESERVED {
            assert!(is_reserved(path));
            assert_eq!(validate(path), Ok(()));
        }
        for path in ["/zookeeper/quota/a", "/zookeeperx", "/a", ""] {
            assert!(!is_reserved(path), "{path:?}");
        }
    }

    #[test]
    fn owners() {
        assert_eq!(OwnerKind::of(0), OwnerKind::None);
        assert_eq!(OwnerKind::of(0x0100_0000_0000_0001), OwnerKind::Session(0x0100_0000_0000_0001));
        assert_eq!(OwnerKind::of(CONTAINER_OWNER), OwnerKind::Container);
        assert_eq!(OwnerKind::of(-1), OwnerKind::Session(-1));
        assert_eq!(OwnerKind::of(i64::MAX), OwnerKind::Session(i64::MAX));
    }

    #[test]
    fn clients_see_sessions_only() {
        assert_eq!(shown_owner(5), 5);
        assert_eq!([0, CONTAINER_OWNER, TTL_MARK | 1000].map(shown_owner), [0, 0, 0]);
    }

    #[test]
    fn ttls() {
        assert_eq!(ttl_to_owner(1), Some(-0x00ff_ffff_ffff_ffff));
        for ms in [1, 1000, MAX_TTL] {
            assert_eq!(ttl_to_owner(ms).map(OwnerKind::of), Some(OwnerKind::Ttl(ms)));
        }
        for ms in [0, -1, i64::MIN, MAX_TTL + 1, i64::MAX] {
            assert_eq!(ttl_to_owner(ms), None, "{ms}");
        }
    }
}
