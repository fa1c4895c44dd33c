//! Reading jute's types, as `BinaryInputArchive` reads them: nom parsers over the bytes of one frame.

use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::{be_i32, be_i64, be_u8};
use nom::{Err, IResult, Parser};

use super::{Acl, Id, Perms, Stat};

/// The fewest bytes of a string: its length.
const MIN_STRING: usize = 4;
/// The fewest bytes of an ACL: permissions and two strings.
const MIN_ACL: usize = 12;
/// The fewest bytes of an identity: two strings.
const MIN_ID: usize = 8;

/// Why a record can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it ends in the middle of a record")]
    Truncated,
    #[error("{0} is no length")]
    Length(i32),
    #[error("a string or vector is null where ZooKeeper needs one")]
    Null,
    #[error("a password of {0} bytes")]
    Password(usize),
    #[error("operation {0} has no place in this multi")]
    MultiOp(i32),
    #[error("a create of type {op} with flags {flags} has no place in a multi")]
    MultiCreate { op: i32, flags: i32 },
    #[error("{0} is no result of a multi")]
    MultiResult(i32),
    #[error("{0} is no error code")]
    ErrorCode(i32),
    #[error("request type {0} has no known reply")]
    ReplyKind(i32),
}

/// All that nom itself reports is a lack of bytes; what is wrong with bytes that are there is said by this module.
impl ParseError<&[u8]> for Malformed {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Malformed::Truncated
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, Malformed>;

/// The end of parsing, for what no later byte can mend.
pub(super) fn refuse<T>(why: Malformed) -> Result<T, Err<Malformed>> {
    Err(Err::Failure(why))
}

/// Runs `parser` over `input`. What is left over is ignored, as ZooKeeper ignores it.
pub(super) fn parse<'a, T>(
    mut parser: impl Parser<&'a [u8], Output = T, Error = Malformed>,
    input: &'a [u8],
) -> Result<T, Malformed> {
    match parser.parse(input) {
        Ok((_, value)) => Ok(value),
        Err(Err::Error(why) | Err::Failure(why)) => Err(why),
        Err(Err::Incomplete(_)) => Err(Malformed::Truncated),
    }
}

/// Any byte but 0 is true (`DataInputStream.readBoolean`).
pub(super) fn boolean(input: &[u8]) -> Parsed<'_, bool> {
    be_u8.map(|byte| byte != 0).parse(input)
}

/// A buffer; `None` for a null one (length -1).
pub(super) fn buffer(input: &[u8]) -> Parsed<'_, Option<&[u8]>> {
    let (input, declared) = be_i32(input)?;
    if declared == -1 {
        return Ok((input, None));
    }
    match usize::try_from(declared) {
        Ok(length) => take(length).map(Some).parse(input),
        Err(_) => refuse(Malformed::Length(declared)),
    }
}

/// A string; `None` for a null one. What isn't UTF-8 is replaced, as Java's `String` does it, and fails later where
/// it is a path: U+FFFD may not stand in one.
pub(super) fn nullable_string(input: &[u8]) -> Parsed<'_, Option<String>> {
    buffer.map(|bytes| bytes.map(text)).parse(input)
}

/// Java and Rust agree on what is replaced by one U+FFFD, save for surrogates: Java takes such a sequence, or as much of
/// it as is there, as one character that may not be (`String.decodeUTF8_UTF16`), Rust each of its bytes.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    // Bytes of a surrogate that may follow those that are replaced already.
    let mut rest = 0;
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            text.push_str(chunk.valid());
            rest = 0;
        }
        match (rest, chunk.invalid()) {
            (_, []) => {}
            (2, [0xa0..=0xbf]) | (1, [0x80..=0xbf]) => rest -= 1,
            (_, invalid) => {
                text.push(char::REPLACEMENT_CHARACTER);
                rest = if *invalid == [0xed] { 2 } else { 0 };
            }
        }
    }
    text
}

/// A string that may not be null.
pub(super) fn string(input: &[u8]) -> Parsed<'_, String> {
    match nullable_string(input)? {
        (rest, Some(string)) => Ok((rest, string)),
        (_, None) => refuse(Malformed::Null),
    }
}

/// A string of which null means as much as the empty one.
pub(super) fn string_or_empty(input: &[u8]) -> Parsed<'_, String> {
    nullable_string.map(Option::unwrap_or_default).parse(input)
}

/// A vector whose elements take `least` bytes or more; `None` for a null one (count -1), while other negative counts
/// are an empty one (`BinaryIndex.done`). The count is believed only as far as the bytes left can bear it out.
pub(super) fn vector<'a, T>(
    least: usize,
    element: impl Fn(&'a [u8]) -> Parsed<'a, T>,
) -> impl Fn(&'a [u8]) -> Parsed<'a, Option<Vec<T>>> {
    move |input| {
        let (mut input, declared) = be_i32(input)?;
        if declared == -1 {
            return Ok((input, None));
        }
        let count = usize::try_from(declared).unwrap_or(0);
        if count > input.len() / least {
            return refuse(Malformed::Truncated);
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            let (rest, one) = element(input)?;
            elements.push(one);
            input = rest;
        }
        Ok((input, Some(elements)))
    }
}

/// A vector of strings, none of them null, nor the vector itself.
pub(super) fn strings(input: &[u8]) -> Parsed<'_, Vec<String>> {
    match vector(MIN_STRING, string)(input)? {
        (rest, Some(strings)) => Ok((rest, strings)),
        (_, None) => refuse(Malformed::Null),
    }
}

/// A null scheme or id is read as an empty one: neither can be part of a valid ACL.
fn id(input: &[u8]) -> Parsed<'_, Id> {
    (string_or_empty, string_or_empty).map(|(scheme, id)| Id { scheme, id }).parse(input)
}

pub(super) fn ids(input: &[u8]) -> Parsed<'_, Vec<Id>> {
    vector(MIN_ID, id).map(Option::unwrap_or_default).parse(input)
}

pub(super) fn acls(input: &[u8]) -> Parsed<'_, Option<Vec<Acl>>> {
    let acl = |input| (be_i32, id).map(|(perms, id)| Acl { perms: Perms(perms), id }).parse(input);
    vector(MIN_ACL, acl)(input)
}

pub(super) fn stat(input: &[u8]) -> Parsed<'_, Stat> {
    let zxids_and_times = (be_i64, be_i64, be_i64, be_i64);
    let versions = (be_i32, be_i32, be_i32);
    (zxids_and_times, versions, be_i64, be_i32, be_i32, be_i64)
        .map(|(times, versions, ephemeral_owner, data_length, num_children, pzxid)| {
            let (czxid, mzxid, ctime, mtime) = times;
            let (version, cversion, aversion) = versions;
            Stat {
                czxid,
                mzxid,
                ctime,
                mtime,
                version,
                cversion,
                aversion,
                ephemeral_owner,
                data_length,
                num_children,
                pzxid,
            }
        })
        .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_null_and_other_negative_lengths_are_refused() {
        assert_eq!(parse(buffer, &[0xff, 0xff, 0xff, 0xff]), Ok(None));
        assert_eq!(parse(buffer, &[0xff, 0xff, 0xff, 0xfe]), Err(Malformed::Length(-2)));
        assert_eq!(parse(buffer, &[0, 0, 0, 0]), Ok(Some(&[][..])));
        assert_eq!(parse(string, &[0xff, 0xff, 0xff, 0xff]), Err(Malformed::Null));
    }

    #[test]
    fn a_vector_of_a_negative_count_is_null_or_empty() {
        assert_eq!(parse(acls, &[0xff, 0xff, 0xff, 0xff]), Ok(None));
        assert_eq!(parse(acls, &[0xff, 0xff, 0xff, 0xfe]), Ok(Some(vec![])));
        assert_eq!(parse(acls, &[0x80, 0, 0, 0]), Ok(Some(vec![])));
        assert_eq!(parse(strings, &[0xff, 0xff, 0xff, 0xff]), Err(Malformed::Null));
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_before_the_elements_are_read() {
        let never = |_: &[u8]| -> Parsed<'_, u8> { panic!("an element was read") };
        assert_eq!(parse(vector(4, never), &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed::Truncated));
        assert_eq!(parse(vector(4, never), &[0x7f, 0xff, 0xff, 0xff]), Err(Malformed::Truncated));
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(parse(string, &[0, 0, 0, 3, b'a', 0xff, b'b']), Ok("a\u{fffd}b".to_owned()));
        assert_eq!(parse(string, &[0, 0, 0, 2, 0, b'b']), Ok("\0b".to_owned()));
    }

    #[test]
    fn a_surrogate_is_replaced_as_java_does_it() {
        for (bytes, replaced) in [
            (&b"\xed\xa0\x80"[..], "\u{fffd}"),
            (b"\xed\xa0\x80\x80", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0\x80\xed\xb0\x80a", "\u{fffd}\u{fffd}a"),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed\xbfab", "\u{fffd}ab"),
            (b"\xed\xed\xa0", "\u{fffd}\u{fffd}"),
            (b"\xed\x80a", "\u{fffd}a"),
            (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
            (b"\xe0\x80\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf0\x90\x80", "\u{fffd}"),
        ] {
            assert_eq!(text(bytes), replaced, "{bytes:x?}");
        }
    }

    #[test]
    fn any_byte_but_zero_is_true() {
        assert_eq!(parse(boolean, &[0]), Ok(false));
        assert_eq!(parse(boolean, &[1]), Ok(true));
        assert_eq!(parse(boolean, &[0x80]), Ok(true));
    }
}
