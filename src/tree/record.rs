//! The values behind the store's keys, as bytes: node, child, ACL, session, lane, claim and meta records.
//!
//! | key | record |
//! | --- | --- |
//! | `n<path>` | [`NodeRecord`] |
//! | `c<path>` | [`ChildRecord`] |
//! | `a<path>` | [`AclRecord`] |
//! | `s<id>` | [`SessionRecord`] |
//! | `l<server>/<k>` | [`LaneRecord`] |
//! | `l<server>/w<k>.<n>` | [`ClaimRecord`] |
//! | `meta` | [`MetaRecord`] |
//!
//! All integers are big-endian. A record that cannot be read is an error that names its key's kind: another
//! program, or a newer zketcd, has written under the prefix.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::jute::{Acl, Id, Perms};

/// The format of every record here; `meta` carries it, and a server that finds another one refuses to start.
pub const FORMAT: u8 = 1;

/// Slots in a batch: `zxid = (base + revision) << SLOT_BITS | slot`.
pub const SLOT_BITS: u32 = 12;

/// At most this many requests in a batch (slot 0 to 4,094; the zxid has 12 bits for the slot).
pub const MAX_SLOTS: usize = (1 << SLOT_BITS) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {0} record that this version cannot read")]
pub struct BadRecord(pub &'static str);

/// A place in the order of a revision's changes: the request's slot in its batch, and the operation's index in
/// its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    pub slot: u16,
    pub index: u16,
}

/// Who wrote a record: the server, the number of the batch among all of that server's, and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    pub server: u64,
    pub batch: u64,
    pub place: Place,
}

impl Stamp {
    const LEN: usize = 20;

    fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.server);
        out.put_u64(self.batch);
        out.put_u16(self.place.slot);
        out.put_u16(self.place.index);
    }

    fn take(buf: &mut Bytes, what: &'static str) -> Result<Self, BadRecord> {
        need(buf, Self::LEN, what)?;
        Ok(Stamp {
            server: buf.get_u64(),
            batch: buf.get_u64(),
            place: Place { slot: buf.get_u16(), index: buf.get_u16() },
        })
    }
}

/// Where a node's czxid comes from. etcd's create_revision has no slot, and a delete and a create merged into one
/// put keep the old create_revision, so the record itself says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Born {
    /// In this put's own revision, at this place.
    Here(Place),
    /// Earlier: the czxid, in full.
    At(i64),
}

/// `n<path>`: existence and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    pub stamp: Stamp,
    pub born: Born,
    /// Milliseconds since the Unix epoch.
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// As in `Stat`: 0, a session id, or the encoding of a container or TTL node (`EphemeralType`).
    pub owner: i64,
    /// `None`: a null buffer, which ZooKeeper tells from an empty one.
    pub data: Option<Bytes>,
}

impl NodeRecord {
    const NULL: u8 = 1;
    const HERE: u8 = 2;

    pub fn encode(&self) -> Bytes {
        let data = self.data.as_deref().unwrap_or_default();
        let mut out = BytesMut::with_capacity(Stamp::LEN + 2 + 8 + 28 + data.len());
        self.stamp.put(&mut out);
        out.put_u8(FORMAT);
        let null = if self.data.is_none() { Self::NULL } else { 0 };
        match self.born {
            Born::Here(place) => {
                out.put_u8(null | Self::HERE);
                out.put_u32(u32::from(place.slot));
                out.put_u32(u32::from(place.index));
            }
            Born::At(czxid) => {
                out.put_u8(null);
                out.put_i64(czxid);
            }
        }
        out.put_i64(self.ctime);
        out.put_i64(self.mtime);
        out.put_i32(self.version);
        out.put_i64(self.owner);
        out.put_slice(data);
        out.freeze()
    }

    pub fn decode(mut buf: Bytes) -> Result<Self, BadRecord> {
        const WHAT: &str = "node";
        let stamp = Stamp::take(&mut buf, WHAT)?;
        need(&buf, 2 + 8 + 28, WHAT)?;
        format(&mut buf, WHAT)?;
        let flags = buf.get_u8();
        let born = if flags & Self::HERE != 0 {
            Born::Here(Place { slot: buf.get_u32() as u16, index: buf.get_u32() as u16 })
        } else {
            Born::At(buf.get_i64())
        };
        Ok(NodeRecord {
            stamp,
            born,
            ctime: buf.get_i64(),
            mtime: buf.get_i64(),
            version: buf.get_i32(),
            owner: buf.get_i64(),
            data: if flags & Self::NULL != 0 { None } else { Some(buf) },
        })
    }
}

/// `c<path>`: the number of children ever created under the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildRecord {
    pub stamp: Stamp,
    pub created: i32,
}

impl ChildRecord {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(Stamp::LEN + 5);
        self.stamp.put(&mut out);
        out.put_u8(FORMAT);
        out.put_i32(self.created);
        out.freeze()
    }

    pub fn decode(mut buf: Bytes) -> Result<Self, BadRecord> {
        const WHAT: &str = "child";
        let stamp = Stamp::take(&mut buf, WHAT)?;
        need(&buf, 5, WHAT)?;
        format(&mut buf, WHAT)?;
        Ok(ChildRecord { stamp, created: buf.get_i32() })
    }
}

/// `a<path>`: a list other than the open one, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclRecord {
    pub stamp: Stamp,
    pub aversion: i32,
    pub list: Vec<Acl>,
}

impl AclRecord {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.stamp.put(&mut out);
        out.put_u8(FORMAT);
        out.put_i32(self.aversion);
        for acl in &self.list {
            out.put_i32(acl.perms.0);
            put_str(&mut out, &acl.id.scheme);
            put_str(&mut out, &acl.id.id);
        }
        out.freeze()
    }

    pub fn decode(mut buf: Bytes) -> Result<Self, BadRecord> {
        const WHAT: &str = "ACL";
        let stamp = Stamp::take(&mut buf, WHAT)?;
        need(&buf, 5, WHAT)?;
        format(&mut buf, WHAT)?;
        let aversion = buf.get_i32();
        let mut list = Vec::new();
        while buf.has_remaining() {
            need(&buf, 4, WHAT)?;
            let perms = Perms(buf.get_i32());
            let id = Id { scheme: take_str(&mut buf, WHAT)?, id: take_str(&mut buf, WHAT)? };
            list.push(Acl { perms, id });
        }
        Ok(AclRecord { stamp, aversion, list })
    }
}

/// `s<id>`: a session, attached to the lease of the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRecord {
    /// Negotiated timeout in milliseconds.
    pub timeout: i32,
    pub password: [u8; 16],
    /// Raised by each attach, so that every one is a put.
    pub attached: u32,
}

impl SessionRecord {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(25);
        out.put_u8(FORMAT);
        out.put_i32(self.timeout);
        out.put_slice(&self.password);
        out.put_u32(self.attached);
        out.freeze()
    }

    pub fn decode(mut buf: Bytes) -> Result<Self, BadRecord> {
        const WHAT: &str = "session";
        need(&buf, 25, WHAT)?;
        format(&mut buf, WHAT)?;
        let timeout = buf.get_i32();
        let mut password = [0; 16];
        buf.copy_to_slice(&mut password);
        Ok(SessionRecord { timeout, password, attached: buf.get_u32() })
    }
}

/// What happened to a znode in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    DataChanged,
    Deleted,
}

/// A change that no record can show any more: a deletion, or one that a later change of the batch overwrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub place: Place,
    pub kind: ChangeKind,
    pub path: String,
}

/// The past changes of one group, with the key by which the group is known to have taken effect: they count only
/// if the revision has an event of that key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPast {
    pub witness: Bytes,
    pub changes: Vec<Past>,
}

/// `l<server>/<k>`: a commit lane's last batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneRecord {
    /// From 0 (the lane's creation) up, without a gap.
    pub number: u64,
    /// Random, so that no other batch is taken for this one.
    pub batch_id: u128,
    /// Requests in the batch; the revision's last zxid has slot `slots - 1`.
    pub slots: u16,
    pub past: Vec<GroupPast>,
}

impl LaneRecord {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT);
        out.put_u64(self.number);
        out.put_u128(self.batch_id);
        out.put_u16(self.slots);
        for group in &self.past {
            out.put_u32(group.witness.len() as u32);
            out.put_slice(&group.witness);
            out.put_u32(group.changes.len() as u32);
            for change in &group.changes {
                out.put_u16(change.place.slot);
                out.put_u16(change.place.index);
                out.put_u8(change.kind as u8);
                put_str(&mut out, &change.path);
            }
        }
        out.freeze()
    }

    pub fn decode(mut buf: Bytes) -> Result<Self, BadRecord> {
        const WHAT: &str = "lane";
        need(&buf, 1 + 8 + 16 + 2, WHAT)?;
        format(&mut buf, WHAT)?;
        let mut record =
            LaneRecord { number: buf.get_u64(), batch_id: buf.get_u128(), slots: buf.get_u16(), past: Vec::new() };
        while buf.has_remaining() {
            let witness = take_bytes(&mut buf, WHAT)?;
            need(&buf, 4, WHAT)?;
            let count = buf.get_u32();
            let mut changes = Vec::new();
            for _ in 0..count {
                need(&buf, 5, WHAT)?;
                let place = Place { slot: buf.get_u16(), index: buf.get_u16() };
                let kind = match buf.get_u8() {
                    0 => ChangeKind::Created,
                    1 => ChangeKind::DataChanged,
                    2 => ChangeKind::Deleted,
                    _ => return Err(BadRecord(WHAT)),
                };
                changes.push(Past { place, kind, path: take_str(&mut buf, WHAT)? });
            }
            record.past.push(GroupPast { witness, changes });
        }
        Ok(record)
    }
}

/// `l<server>/w…`: the keys that a server asks the others to leave alone for a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimRecord {
    pub keys: Vec<Bytes>,
}

impl ClaimRecord {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT);
        for key in &self.keys {
            out.put_u32(key.len() as u32);
            out.put_slice(key);
        }
        out.freeze()
    }

    pub fn decode(mut buf: Bytes) -> Result<Self, BadRecord> {
        const WHAT: &str = "claim";
        need(&buf, 1, WHAT)?;
        format(&mut buf, WHAT)?;
        let mut keys = Vec::new();
        while buf.has_remaining() {
            keys.push(take_bytes(&mut buf, WHAT)?);
        }
        Ok(ClaimRecord { keys })
    }
}

/// `meta`: what every server of the prefix agrees on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaRecord {
    pub cluster_id: u64,
    /// `(from revision, zxid base)`, ascending; the last pair whose revision is not above counts.
    pub bases: Vec<(i64, i64)>,
}

impl MetaRecord {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT);
        out.put_u64(self.cluster_id);
        for (from, base) in &self.bases {
            out.put_i64(*from);
            out.put_i64(*base);
        }
        out.freeze()
    }

    pub fn decode(mut buf: Bytes) -> Result<Self, BadRecord> {
        const WHAT: &str = "meta";
        need(&buf, 9, WHAT)?;
        format(&mut buf, WHAT)?;
        let cluster_id = buf.get_u64();
        let mut bases = Vec::new();
        while buf.has_remaining() {
            need(&buf, 16, WHAT)?;
            bases.push((buf.get_i64(), buf.get_i64()));
        }
        Ok(MetaRecord { cluster_id, bases })
    }
}

fn need(buf: &Bytes, len: usize, what: &'static str) -> Result<(), BadRecord> {
    if buf.remaining() < len { Err(BadRecord(what)) } else { Ok(()) }
}

fn format(buf: &mut Bytes, what: &'static str) -> Result<(), BadRecord> {
    if buf.get_u8() == FORMAT { Ok(()) } else { Err(BadRecord(what)) }
}

fn put_str(out: &mut BytesMut, s: &str) {
    out.put_u32(s.len() as u32);
    out.put_slice(s.as_bytes());
}

fn take_bytes(buf: &mut Bytes, what: &'static str) -> Result<Bytes, BadRecord> {
    need(buf, 4, what)?;
    let len = buf.get_u32() as usize;
    need(buf, len, what)?;
    Ok(buf.split_to(len))
}

fn take_str(buf: &mut Bytes, what: &'static str) -> Result<String, BadRecord> {
    String::from_utf8(take_bytes(buf, what)?.to_vec()).map_err(|_| BadRecord(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp { server: 7, batch: 9, place: Place { slot: 3, index: 1 } }
    }

    #[test]
    fn every_record_comes_back_as_it_was_written() {
        for born in [Born::Here(Place { slot: 4094, index: 65535 }), Born::At(i64::MAX)] {
            for data in [None, Some(Bytes::new()), Some(Bytes::from_static(b"x"))] {
                let record =
                    NodeRecord { stamp: stamp(), born, ctime: 1, mtime: 2, version: -3, owner: i64::MIN, data };
                assert_eq!(NodeRecord::decode(record.encode()), Ok(record));
            }
        }
        let child = ChildRecord { stamp: stamp(), created: i32::MAX };
        assert_eq!(ChildRecord::decode(child.encode()), Ok(child));
        let id = Id { scheme: "digest".into(), id: "a:b".into() };
        let acl = AclRecord { stamp: stamp(), aversion: 2, list: vec![Acl { perms: Perms::ALL, id }] };
        assert_eq!(AclRecord::decode(acl.encode()), Ok(acl));
        let session = SessionRecord { timeout: 4000, password: [7; 16], attached: 3 };
        assert_eq!(SessionRecord::decode(session.encode()), Ok(session));
        let change = Past { place: Place { slot: 1, index: 2 }, kind: ChangeKind::Deleted, path: "/a".into() };
        let past = vec![GroupPast { witness: Bytes::from_static(b"n/a"), changes: vec![change] }];
        let lane = LaneRecord { number: 5, batch_id: 6, slots: 7, past };
        assert_eq!(LaneRecord::decode(lane.encode()), Ok(lane));
        let claim = ClaimRecord { keys: vec![Bytes::from_static(b"c/a")] };
        assert_eq!(ClaimRecord::decode(claim.encode()), Ok(claim));
        let meta = MetaRecord { cluster_id: 1, bases: vec![(0, 0), (9, 100)] };
        assert_eq!(MetaRecord::decode(meta.encode()), Ok(meta));
    }

    #[test]
    fn a_record_cut_short_or_of_another_format_is_an_error() {
        let whole = ChildRecord { stamp: stamp(), created: 1 }.encode();
        assert!(ChildRecord::decode(whole.slice(..whole.len() - 1)).is_err());
        let mut other = whole.to_vec();
        other[Stamp::LEN] = FORMAT + 1;
        assert_eq!(ChildRecord::decode(other.into()), Err(BadRecord("child")));
    }
}
