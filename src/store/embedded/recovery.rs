//! fjall's journals, looked at before fjall reads them.
//!
//! fjall takes the first thing that it can't read for the journal's end and cuts off what follows. That is right for the
//! last write, where power failed before its fsync was done: nobody was told of it. Where a disk lost a block of an
//! earlier one, acknowledged writes would go without a word. So a start looks first: what can be the last write alone is
//! cut off and said, anything else is refused and left as it is.
//!
//! A journal of fjall 3 is a row of batches, then zeros. Numbers are little endian.
//!
//! | part | its bytes |
//! | --- | --- |
//! | start | 1, how many items (4), seqno (8) |
//! | item | 2, kind (1), compression (1), keyspace (8), length of key (2), of value (4), of value as stored (4), key, value |
//! | end | 3, xxh3 of the items (8), `FJL` 3 |
//!
//! The last item of each of our batches is the revision with the one before it ([`Revision`]), so a batch whose end can
//! be read says whether it is the one that was due.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nom::bytes::complete::{tag, take};
use nom::error::{Error as Unreadable, ErrorKind};
use nom::number::complete::{le_u16, le_u32, le_u64};
use nom::{IResult, Parser};
use xxhash_rust::xxh3::xxh3_64;

use super::disk::Revision;

const START: &[u8] = &[1];
const ITEM: &[u8] = &[2];
const END: &[u8] = &[3];
const MAGIC: &[u8] = b"FJL\x03";

/// The lengths and the key of the revision's item.
const REVISION: &[u8] = b"\x09\0\x10\0\0\0\x10\0\0\0\0revision";

/// How much of a journal is read at once. Most of it are zeros, which are not kept.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{journal} is damaged at byte {at}, and acknowledged writes follow: restore a backup")]
    Damaged { journal: PathBuf, at: usize },
}

/// Makes the journals in the database's directory such that fjall can read all of them.
///
/// # Errors
/// A file that can't be read, and damage to what was acknowledged.
pub(super) fn prepare(database: &Path) -> Result<(), Error> {
    let mut last = None;
    let mut journals = journals(database)?.into_iter().peekable();
    while let Some(journal) = journals.next() {
        let bytes = written(&journal)?;
        let mut rest = &bytes[..];
        while let Ok((after, revision)) = batch(rest) {
            rest = after;
            last = revision.or(last);
        }
        if rest.is_empty() {
            continue;
        }
        let at = bytes.len() - rest.len();
        if journals.peek().is_some() || !is_one_write(rest, last) {
            return Err(Error::Damaged { journal, at });
        }
        let file = File::options().write(true).open(&journal)?;
        file.set_len(at as u64)?;
        file.sync_all()?;
        let bytes = rest.len();
        tracing::warn!(journal = %journal.display(), at, bytes, "the last write was cut short, and is dropped: nobody was told of it");
    }
    Ok(())
}

/// The journals, oldest first.
fn journals(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(name.map(|number| (number, path)));
    }
    journals.sort_unstable();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// All of a file but the zeros at its end.
fn written(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    let mut zeros = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(bytes);
        }
        if let Some(last) = chunk[..read].iter().rposition(|byte| *byte != 0) {
            bytes.resize(bytes.len() + zeros, 0);
            bytes.extend_from_slice(&chunk[..=last]);
            zeros = read - last - 1;
        } else {
            zeros += read;
        }
    }
}

/// A whole batch. Gives its revision.
fn batch(input: &[u8]) -> IResult<&[u8], Option<Revision>> {
    let (items, (_, count, _seqno)) = (tag(START), le_u32, le_u64).parse(input)?;
    let (mut rest, mut revision) = (items, None);
    for _ in 0..count {
        let (after, (name, value)) = item(rest)?;
        (rest, revision) = (after, Revision::of(name, value));
    }
    let (after, (_, checksum, _)) = (tag(END), le_u64, tag(MAGIC)).parse(rest)?;
    if xxh3_64(&items[..items.len() - rest.len()]) != checksum {
        return Err(nom::Err::Error(Unreadable::new(rest, ErrorKind::Verify)));
    }
    Ok((after, revision))
}

fn item(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    let lengths = (le_u16, le_u32, le_u32);
    let (rest, (_, _, (name, _, stored))) = (tag(ITEM), take(1_usize + 1 + 8), lengths).parse(input)?;
    (take(name), take(stored)).parse(rest)
}

/// Whether what can't be read is no more than the write after `last`.
fn is_one_write(rest: &[u8], last: Option<Revision>) -> bool {
    let end = (tag(REVISION), take(Revision::LEN), tag(END), take(8_usize), tag(MAGIC));
    let mut end = end.map(|(_, revision, ..)| revision);
    // The first end there is: a write follows it, or none does.
    let found = (0..rest.len()).find_map(|at| {
        let parsed: IResult<_, _> = end.parse(&rest[at..]);
        parsed.ok()
    });
    let Some((after, revision)) = found else { return true };
    let is_due = Revision::decode(revision).zip(last).is_none_or(|(this, last)| this.before == last.last);
    after.is_empty() && is_due
}
