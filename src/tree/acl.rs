//! Access control: which lists a node may have, who they let in, and who a client says it is.
//!
//! The schemes are those that a ZooKeeper without extra settings knows: `world`, `auth`, `digest`, `ip`, and `super`
//! for the one who may do everything.

use hashbrown::HashSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::jute::{Acl, ErrorCode, Id, Perms};

/// The most bytes that an ACL may take on the wire: `jute.maxbuffer`, ZooKeeper's limit of a packet. A longer list
/// could be made of `auth` entries, but no client could read it.
pub const MAX_ACL_BYTES: usize = 0xf_ffff;
/// The most identities of one connection. ZooKeeper has no limit; clients have one or two, and each check of a
/// permission walks through them.
pub const MAX_IDENTITIES: usize = 256;

/// Everybody may do everything: `ZooDefs.Ids.OPEN_ACL_UNSAFE`.
pub static OPEN_ACL_UNSAFE: LazyLock<Vec<Acl>> = LazyLock::new(|| vec![world(Perms::ALL)]);

/// Everybody may read, nobody may do more: `ZooDefs.Ids.READ_ACL_UNSAFE`, the list of `/zookeeper/config`.
pub fn read_only() -> Vec<Acl> {
    vec![world(Perms::READ)]
}

/// Whether `acl` is [`OPEN_ACL_UNSAFE`], which needs no record.
pub fn is_open(acl: &[Acl]) -> bool {
    acl == OPEN_ACL_UNSAFE.as_slice()
}

/// The list that a create or a setACL stores, made of the one that the client sent: duplicates dropped, `auth`
/// replaced by the identities of the connection that can be told apart (`PrepRequestProcessor.fixupACL`).
///
/// Permission bits are kept as sent, known or not.
///
/// # Errors
/// `InvalidAcl`: nothing in it; an unknown scheme; an id that its scheme does not allow; `auth` from a client that has
/// not authenticated; more than [`MAX_ACL_BYTES`].
pub fn resolve(acl: Option<&[Acl]>, ids: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
    let mut seen = HashSet::new();
    let mut resolved = Vec::new();
    let mut bytes = 0;
    for entry in acl.unwrap_or_default().iter().filter(|entry| seen.insert(*entry)) {
        let first = resolved.len();
        match entry.id.scheme.as_str() {
            "auth" => resolved.extend(authenticated(ids).map(|id| Acl { perms: entry.perms, id: id.clone() })),
            _ if is_valid(&entry.id) => resolved.push(entry.clone()),
            _ => return Err(ErrorCode::InvalidAcl),
        }
        let added = resolved.get(first..).unwrap_or_default();
        bytes += added.iter().map(encoded_len).sum::<usize>();
        if added.is_empty() || bytes > MAX_ACL_BYTES {
            return Err(ErrorCode::InvalidAcl);
        }
    }
    if resolved.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(resolved) }
}

/// Whether one who has `ids` is given any of `perms` (`ZooKeeperServer.checkACL`). An empty list lets everybody in.
pub fn permits(acl: &[Acl], perms: Perms, ids: &[Id]) -> bool {
    acl.is_empty()
        || ids.iter().any(|id| id.scheme == "super")
        || acl.iter().any(|entry| entry.perms.0 & perms.0 != 0 && is_met(&entry.id, ids))
}

/// A node's list as getACL shows it: whoever may not change it does not see the passwords' digests.
///
/// # Errors
/// `NoAuth`: `ids` have neither READ nor ADMIN.
pub fn shown(acl: &[Acl], ids: &[Id]) -> Result<Vec<Acl>, ErrorCode> {
    if permits(acl, Perms::ADMIN, ids) {
        return Ok(acl.to_vec());
    }
    if !permits(acl, Perms::READ, ids) {
        return Err(ErrorCode::NoAuth);
    }
    Ok(acl.iter().map(|entry| Acl { perms: entry.perms, id: masked(&entry.id) }).collect())
}

/// The identities that `addauth` gains (`DigestAuthenticationProvider`, `IPAuthenticationProvider`).
///
/// `super_digest` is the `user:digest` whose password makes its owner `super`, as [`digest`] writes it; `None`: nobody.
///
/// # Errors
/// `AuthFailed`, after which ZooKeeper closes the connection: an unknown scheme, or `digest` without any bytes.
pub fn authenticate(
    scheme: &str,
    auth: Option<&[u8]>,
    peer: IpAddr,
    super_digest: Option<&str>,
) -> Result<Vec<Id>, ErrorCode> {
    match scheme {
        "ip" => Ok(connection_ids(peer)),
        "digest" => {
            let digest = digest(&String::from_utf8_lossy(auth.ok_or(ErrorCode::AuthFailed)?));
            let is_super = super_digest == Some(digest.as_str());
            let mut ids = Vec::with_capacity(2);
            if is_super {
                ids.push(Id { scheme: "super".into(), id: String::new() });
            }
            ids.push(Id { scheme: "digest".into(), id: digest });
            Ok(ids)
        }
        _ => Err(ErrorCode::AuthFailed),
    }
}

/// Adds to a connection's identities those that it lacks.
///
/// # Errors
/// `AuthFailed`, and nothing added: they would be more than [`MAX_IDENTITIES`].
pub fn add_identities(ids: &mut Vec<Id>, gained: Vec<Id>) -> Result<(), ErrorCode> {
    let new: Vec<Id> = gained.into_iter().filter(|id| !ids.contains(id)).collect();
    if ids.len() + new.len() > MAX_IDENTITIES {
        return Err(ErrorCode::AuthFailed);
    }
    ids.extend(new);
    Ok(())
}

/// What a connection is before any addauth: its address, as Java writes it (IPv6 in full, without leading zeros;
/// an IPv4 address that came mapped into IPv6 as IPv4).
pub fn connection_ids(peer: IpAddr) -> Vec<Id> {
    let id = match peer.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:x}")).join(":"),
    };
    vec![Id { scheme: "ip".into(), id }]
}

/// `user:password` as `user:base64(sha1(user:password))`: the id of the scheme `digest`
/// (`DigestAuthenticationProvider.generateDigest`).
pub fn digest(credentials: &str) -> String {
    let user = credentials.split(':').next().unwrap_or_default();
    format!("{user}:{}", STANDARD.encode(Sha1::digest(credentials)))
}

/// What whoAmI answers: each scheme with the name that its provider shows; none has one for `super`.
pub fn who_am_i(ids: &[Id]) -> Vec<Id> {
    let name = |id: &Id| match id.scheme.as_str() {
        "ip" => id.id.clone(),
        "digest" => id.id.split(':').next().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    ids.iter().map(|id| Id { scheme: id.scheme.clone(), id: name(id) }).collect()
}

fn world(perms: Perms) -> Acl {
    Acl { perms, id: Id { scheme: "world".into(), id: "anyone".into() } }
}

/// Those that `auth` stands for: an address says where somebody is, not who, and `super` has no provider.
fn authenticated(ids: &[Id]) -> impl Iterator<Item = &Id> {
    ids.iter().filter(|id| id.scheme == "digest")
}

fn is_valid(id: &Id) -> bool {
    match id.scheme.as_str() {
        "world" => id.id == "anyone",
        "digest" => is_valid_digest(&id.id),
        "ip" => AddressRange::parse(&id.id).is_some(),
        _ => false,
    }
}

/// One colon with something behind it; more colons at the very end don't count, as Java's `split` drops what is empty
/// there.
fn is_valid_digest(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

fn is_met(wanted: &Id, ids: &[Id]) -> bool {
    let mut same_scheme = ids.iter().filter(|id| id.scheme == wanted.scheme);
    match wanted.scheme.as_str() {
        "world" => wanted.id == "anyone",
        "digest" => same_scheme.any(|id| id.id == wanted.id),
        "ip" => AddressRange::parse(&wanted.id)
            .is_some_and(|range| same_scheme.filter_map(|id| Address::parse(&id.id)).any(|peer| range.contains(&peer))),
        _ => false,
    }
}

fn masked(id: &Id) -> Id {
    match id.id.split_once(':') {
        Some((user, _)) if id.scheme == "digest" => Id { scheme: id.scheme.clone(), id: format!("{user}:x") },
        _ => id.clone(),
    }
}

/// Bytes on the wire: permissions, and two strings with their lengths.
fn encoded_len(acl: &Acl) -> usize {
    12 + acl.id.scheme.len() + acl.id.id.len()
}

/// An address as `IPAuthenticationProvider` reads it, which is neither more nor less than what `std` would take:
/// numbers may have leading zeros or a sign, and IPv4 within IPv6 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Address {
    /// Left-aligned: an IPv4 address takes the highest 32 bits.
    bits: u128,
    /// 32 or 128.
    width: u32,
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        if text.contains(':') { Self::parse_v6(text) } else { Self::parse_v4(text) }
    }

    fn parse_v4(text: &str) -> Option<Self> {
        let bytes = text.split('.').map(|part| u8::try_from(part.parse::<i32>().ok()?).ok());
        let bytes: [u8; 4] = bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()?;
        Some(Address { bits: u128::from(u32::from_be_bytes(bytes)) << 96, width: 32 })
    }

    fn parse_v6(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split("::").collect();
        let (head, tail) = match parts.as_slice() {
            [whole] => (parse_segments(whole)?, None),
            [head, tail] => (parse_segments(head)?, Some(parse_segments(tail)?)),
            _ => return None,
        };
        let mut segments = [0; 8];
        match tail {
            None => segments = head.try_into().ok()?,
            Some(tail) => {
                if head.len() + tail.len() >= segments.len() {
                    return None;
                }
                let gap = segments.len() - tail.len();
                segments.get_mut(..head.len())?.copy_from_slice(&head);
                segments.get_mut(gap..)?.copy_from_slice(&tail);
            }
        }
        let bits = segments.iter().fold(0, |bits, segment| bits << 16 | u128::from(*segment));
        Some(Address { bits, width: 128 })
    }
}

/// The segments of one side of a `::`. One of up to four characters may be a sign and three digits: a negative one
/// keeps its lower 16 bits.
fn parse_segments(text: &str) -> Option<Vec<u16>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let segment = |text: &str| if text.len() <= 4 { i32::from_str_radix(text, 16).ok() } else { None };
    text.split(':').map(|part| segment(part).map(|value| value as u16)).collect()
}

/// An address, and how many of its bits count: `192.168.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AddressRange {
    address: Address,
    prefix: u32,
}

impl AddressRange {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = Address::parse(address)?;
        let prefix = match prefix {
            Some(prefix) => u32::try_from(prefix.parse::<i32>().ok()?).ok()?,
            None => address.width,
        };
        (prefix <= address.width).then_some(AddressRange { address, prefix })
    }

    fn contains(&self, peer: &Address) -> bool {
        let differing = (self.address.bits ^ peer.bits).checked_shr(128 - self.prefix).unwrap_or(0);
        self.address.width == peer.width && differing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        let (scheme, id) = text.split_once('|').expect("scheme|id");
        Id { scheme: scheme.into(), id: id.into() }
    }

    fn ids(texts: &[&str]) -> Vec<Id> {
        texts.iter().map(|text| id(text)).collect()
    }

    fn acl(perms: i32, text: &str) -> Acl {
        Acl { perms: Perms(perms), id: id(text) }
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_acl_needs_entries() {
        assert_eq!(resolve(None, &[]), Err(ErrorCode::InvalidAcl));
        assert_eq!(resolve(Some(&[]), &[]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn duplicates_go_and_the_order_stays() {
        let sent = [acl(31, "world|anyone"), acl(1, "digest|a:b"), acl(31, "world|anyone"), acl(2, "digest|a:b")];
        let kept = vec![acl(31, "world|anyone"), acl(1, "digest|a:b"), acl(2, "digest|a:b")];
        assert_eq!(resolve(Some(&sent), &[]), Ok(kept));
    }

    #[test]
    fn permission_bits_are_not_judged() {
        for perms in [0, 32, -1, i32::MIN] {
            let sent = [acl(perms, "world|anyone")];
            assert_eq!(resolve(Some(&sent), &[]), Ok(sent.to_vec()), "{perms}");
        }
    }

    #[test]
    fn auth_stands_for_every_digest_of_the_connection() {
        let have = ids(&["ip|10.0.0.1", "super|", "digest|a:1", "digest|b:2"]);
        let sent = [acl(3, "auth|whatever"), acl(3, "digest|a:1")];
        let expanded = vec![acl(3, "digest|a:1"), acl(3, "digest|b:2"), acl(3, "digest|a:1")];
        assert_eq!(resolve(Some(&sent), &have), Ok(expanded));
    }

    #[test]
    fn auth_without_an_identity_is_invalid() {
        for have in [ids(&[]), ids(&["ip|10.0.0.1"]), ids(&["super|"])] {
            assert_eq!(resolve(Some(&[acl(31, "auth|")]), &have), Err(ErrorCode::InvalidAcl), "{have:?}");
            let with_others = [acl(31, "world|anyone"), acl(31, "auth|")];
            assert_eq!(resolve(Some(&with_others), &have), Err(ErrorCode::InvalidAcl), "{have:?}");
        }
    }

    #[test]
    fn one_bad_entry_spoils_the_list() {
        for bad in ["world|me", "super|", "sasl|a", "x509|CN=a", "|", "foo|bar", "digest|", "ip|"] {
            let sent = [acl(31, "world|anyone"), acl(31, bad)];
            assert_eq!(resolve(Some(&sent), &[]), Err(ErrorCode::InvalidAcl), "{bad}");
        }
    }

    #[test]
    fn digest_ids_have_two_parts_as_java_splits() {
        for (text, valid) in [
            ("a:b", true),
            (":b", true),
            ("a:b:", true),
            ("a:b::", true),
            ("", false),
            (":", false),
            ("::", false),
            ("a", false),
            ("a:", false),
            ("a::", false),
            ("::b", false),
            ("a::b", false),
            ("a:b:c", false),
        ] {
            assert_eq!(is_valid_digest(text), valid, "{text}");
        }
    }

    #[test]
    fn ip_expressions() {
        for (text, valid) in [
            ("10.0.0.1", true),
            ("10.0.0.1/0", true),
            ("10.0.0.1/32", true),
            ("010.+1.-0.255", true),
            ("10.0.0.1/33", false),
            ("10.0.0.1/-1", false),
            ("10.0.0.1/", false),
            ("10.0.0.1/8/8", false),
            ("10.0.0", false),
            ("10.0.0.1.", false),
            ("10.0.0.256", false),
            ("10.0.0.-1", false),
            ("10.0.0.", false),
            ("10.0.0. 1", false),
            ("localhost", false),
            ("", false),
            ("::", true),
            ("::1", true),
            ("1::", true),
            ("1:2:3:4:5:6:7:8", true),
            ("1:2:3:4:5:6:7:8/128", true),
            ("fe80::1/10", true),
            ("1::2/129", false),
            ("1:2:3:4:5:6:7", false),
            ("1:2:3:4:5:6:7:8:9", false),
            ("1:2:3:4::5:6:7:8", false),
            ("1:2:3::4:5:6:7", true),
            ("1::2::3", false),
            (":::", false),
            (":1::2", false),
            ("12345::", false),
            ("g::", false),
            ("::ffff:10.0.0.1", false),
            (":", false),
        ] {
            assert_eq!(AddressRange::parse(text).is_some(), valid, "{text}");
        }
    }

    #[test]
    fn a_list_no_packet_could_carry_is_invalid() {
        let have: Vec<Id> = (0..MAX_IDENTITIES).map(|n| id(&format!("digest|u{n}:{}", "x".repeat(28)))).collect();
        let sent: Vec<Acl> = (0..100).map(|perms| acl(perms, "auth|")).collect();
        assert_eq!(resolve(Some(&sent), &have), Err(ErrorCode::InvalidAcl));
        assert!(resolve(Some(&sent[..10]), &have).is_ok());
    }

    #[test]
    fn who_is_let_in() {
        let world_reads = [acl(1, "world|anyone")];
        let alice_writes = [acl(2, "digest|alice:x"), acl(1, "world|anyone")];
        let office = [acl(31, "ip|10.1.0.0/16")];
        for (list, perms, have, allowed) in [
            (&[][..], Perms::ADMIN, ids(&[]), true),
            (&world_reads, Perms::READ, ids(&[]), true),
            (&world_reads, Perms::WRITE, ids(&["ip|10.0.0.1", "digest|alice:x"]), false),
            (&world_reads, Perms::WRITE, ids(&["super|"]), true),
            (&world_reads, Perms(1 | 16), ids(&[]), true),
            (&alice_writes, Perms::WRITE, ids(&["digest|alice:x"]), true),
            (&alice_writes, Perms::WRITE, ids(&["digest|alice:y"]), false),
            (&alice_writes, Perms::WRITE, ids(&["ip|alice:x"]), false),
            (&alice_writes, Perms::READ, ids(&["digest|bob:x"]), true),
            (&office, Perms::CREATE, ids(&["ip|10.1.2.3"]), true),
            (&office, Perms::CREATE, ids(&["ip|10.2.2.3"]), false),
            (&[acl(31, "super|"), acl(31, "foo|a")], Perms::READ, ids(&["foo|a"]), false),
            (&[acl(31, "world|somebody")], Perms::READ, ids(&["world|somebody"]), false),
            (&[acl(0, "world|anyone")], Perms::READ, ids(&[]), false),
            (&[acl(-1, "world|anyone")], Perms::ADMIN, ids(&[]), true),
        ] {
            assert_eq!(permits(list, perms, &have), allowed, "{list:?} {perms:?} {have:?}");
        }
    }

    #[test]
    fn address_ranges() {
        for (range, address, inside) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.9/31", "10.0.0.8", true),
            ("10.0.0.9/31", "10.0.0.10", false),
            ("10.0.0.0/0", "200.1.1.1", true),
            ("10.0.0.0/0", "0:0:0:0:0:0:0:1", false),
            ("::/0", "10.0.0.1", false),
            ("::/0", "fe80:0:0:0:0:0:0:1", true),
            ("::1", "0:0:0:0:0:0:0:1", true),
            ("fe80::/10", "febf:0:0:0:0:0:0:1", true),
            ("fe80::/10", "fec0:0:0:0:0:0:0:1", false),
            ("1::2:3", "1:0:0:0:0:0:2:3", true),
            ("-1::", "ffff:0:0:0:0:0:0:0", true),
            ("10.0.0.0/8", "fe80:0:0:0:0:0:0:1%eth0", false),
        ] {
            let list = [acl(31, &format!("ip|{range}"))];
            assert_eq!(permits(&list, Perms::READ, &ids(&[&format!("ip|{address}")])), inside, "{range} {address}");
        }
    }

    #[test]
    fn digests_are_shown_to_administrators_only() {
        let list = [acl(1, "world|anyone"), acl(31, "digest|a:secret"), acl(1, "ip|::1")];
        let plain = list.to_vec();
        let hidden = vec![acl(1, "world|anyone"), acl(31, "digest|a:x"), acl(1, "ip|::1")];
        assert_eq!(shown(&list, &ids(&["digest|a:secret"])), Ok(plain.clone()));
        assert_eq!(shown(&list, &ids(&["super|"])), Ok(plain));
        assert_eq!(shown(&list, &ids(&["digest|b:c"])), Ok(hidden));
        assert_eq!(shown(&[acl(6, "world|anyone")], &[]), Err(ErrorCode::NoAuth));
        assert_eq!(shown(&[], &[]), Ok(vec![]));
    }

    #[test]
    fn open_is_just_the_open_list() {
        assert!(is_open(&OPEN_ACL_UNSAFE));
        assert!(is_open(&[acl(31, "world|anyone")]));
        for list in
            [vec![], read_only(), vec![acl(-1, "world|anyone")], [OPEN_ACL_UNSAFE.clone(), read_only()].concat()]
        {
            assert!(!is_open(&list), "{list:?}");
        }
    }

    #[test]
    fn digest_is_zookeepers() {
        // As `DigestAuthenticationProvider` prints it for super:test, in ZooKeeper's own tests.
        assert_eq!(digest("super:test"), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert!(digest("a:b:c").starts_with("a:"));
        assert!(digest("nocolon").starts_with("nocolon:"));
        assert!(digest("").starts_with(':'));
    }

    #[test]
    fn authentication() {
        let here = peer("10.0.0.1");
        let administrator = digest("super:test");
        let plain = authenticate("digest", Some(b"u:p"), here, Some(&administrator));
        assert_eq!(plain, Ok(vec![Id { scheme: "digest".into(), id: digest("u:p") }]));
        let ids = authenticate("digest", Some(b"super:test"), here, Some(&administrator)).expect("a digest");
        assert_eq!(ids, vec![id("super|"), Id { scheme: "digest".into(), id: administrator }]);
        assert!(authenticate("digest", Some(b"super:test"), here, None).is_ok_and(|ids| ids.len() == 1));
        assert!(authenticate("digest", Some(b"\xff\xfe"), here, None).is_ok());
        assert_eq!(authenticate("digest", None, here, None), Err(ErrorCode::AuthFailed));
        assert_eq!(authenticate("ip", None, here, None), Ok(vec![id("ip|10.0.0.1")]));
        for scheme in ["", "world", "auth", "super", "sasl", "Digest"] {
            assert_eq!(authenticate(scheme, Some(b"a:b"), here, None), Err(ErrorCode::AuthFailed), "{scheme}");
        }
    }

    #[test]
    fn addresses_are_written_as_java_does() {
        for (address, text) in [
            ("10.0.0.1", "ip|10.0.0.1"),
            ("::1", "ip|0:0:0:0:0:0:0:1"),
            ("2001:db8::0a00", "ip|2001:db8:0:0:0:0:0:a00"),
            ("::ffff:10.0.0.1", "ip|10.0.0.1"),
        ] {
            assert_eq!(connection_ids(peer(address)), ids(&[text]));
        }
    }

    #[test]
    fn identities_are_a_set_with_a_limit() {
        let mut have = ids(&["ip|10.0.0.1"]);
        assert_eq!(add_identities(&mut have, ids(&["digest|a:1", "ip|10.0.0.1"])), Ok(()));
        assert_eq!(have, ids(&["ip|10.0.0.1", "digest|a:1"]));
        let many = (0..MAX_IDENTITIES - 1).map(|n| id(&format!("digest|{n}:x"))).collect();
        assert_eq!(add_identities(&mut have, many), Err(ErrorCode::AuthFailed));
        assert_eq!(have.len(), 2);
    }

    #[test]
    fn whoami_shows_no_secret() {
        let have = ids(&["ip|10.0.0.1", "super|", "digest|a:1"]);
        assert_eq!(who_am_i(&have), ids(&["ip|10.0.0.1", "super|", "digest|a"]));
    }
}
