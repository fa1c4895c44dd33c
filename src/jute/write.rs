//! Writing jute's types, as `BinaryOutputArchive` writes them. One difference: characters beyond the Basic
//! Multilingual Plane are written in UTF-8's four bytes, where Java's archive writes two surrogates that no decoder,
//! its own included, reads back. They can't stand in a path, only in an ACL's ids.

use bytes::{BufMut, BytesMut};

use super::frame::LENGTH_BYTES;
use super::{Acl, Id, Stat};

/// Bytes of a [`Stat`].
pub(super) const STAT_BYTES: usize = 68;

/// Writes a frame: its length, then what `body` writes.
pub(super) fn frame(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    body(out);
    let prefix = length(out.len() - start - LENGTH_BYTES).to_be_bytes();
    out[start..start + LENGTH_BYTES].copy_from_slice(&prefix);
}

/// A length on the wire. All that is sent comes from znodes, each bounded by a frame's limit, so that 2 GiB of it in
/// one record means that something else is badly wrong.
fn length(length: usize) -> i32 {
    assert!(length <= i32::MAX as usize, "a record of {length} bytes has no length on the wire");
    length as i32
}

pub(super) fn boolean(out: &mut BytesMut, value: bool) {
    out.put_u8(u8::from(value));
}

pub(super) fn buffer(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            out.put_i32(length(bytes.len()));
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

pub(super) fn string(out: &mut BytesMut, string: &str) {
    buffer(out, Some(string.as_bytes()));
}

/// How many elements of a vector follow.
pub(super) fn count(out: &mut BytesMut, count: usize) {
    out.put_i32(length(count));
}

pub(super) fn vector<T>(out: &mut BytesMut, elements: &[T], mut element: impl FnMut(&mut BytesMut, &T)) {
    count(out, elements.len());
    for one in elements {
        element(out, one);
    }
}

pub(super) fn strings(out: &mut BytesMut, elements: &[impl AsRef<str>]) {
    out.reserve(elements.iter().map(|one| LENGTH_BYTES + one.as_ref().len()).sum::<usize>() + LENGTH_BYTES);
    vector(out, elements, |out, one| string(out, one.as_ref()));
}

pub(super) fn id(out: &mut BytesMut, id: &Id) {
    string(out, &id.scheme);
    string(out, &id.id);
}

pub(super) fn acls(out: &mut BytesMut, acls: &[Acl]) {
    vector(out, acls, |out, acl| {
        out.put_i32(acl.perms.0);
        id(out, &acl.id);
    });
}

pub(super) fn stat(out: &mut BytesMut, stat: &Stat) {
    out.put_i64(stat.czxid);
    out.put_i64(stat.mzxid);
    out.put_i64(stat.ctime);
    out.put_i64(stat.mtime);
    out.put_i32(stat.version);
    out.put_i32(stat.cversion);
    out.put_i32(stat.aversion);
    out.put_i64(stat.ephemeral_owner);
    out.put_i32(stat.data_length);
    out.put_i32(stat.num_children);
    out.put_i64(stat.pzxid);
}

/// Stands before each operation of a multi, and after the last.
pub(super) fn multi_header(out: &mut BytesMut, kind: i32, done: bool, err: i32) {
    out.put_i32(kind);
    boolean(out, done);
    out.put_i32(err);
}

/// What a multi, asked or answered, ends with.
pub(super) fn multi_end(out: &mut BytesMut) {
    multi_header(out, -1, true, -1);
}
