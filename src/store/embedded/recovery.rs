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
//! Seqnos rise; they are not part of the checksum. The last item of each of our batches has its number ([`LastWrite`]), so
//! a batch whose end can be read says whether it is the one that was due. Only the first in a journal whose predecessor
//! has gone is not known to be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nom::bytes::complete::{tag, take};
use nom::error::{Error as Unreadable, ErrorKind};
use nom::number::complete::{le_u16, le_u32, le_u64};
use nom::{IResult, Parser};
use xxhash_rust::xxh3::xxh3_64;

use super::disk::LastWrite;

const START: &[u8] = &[1];
const ITEM: &[u8] = &[2];
const END: &[u8] = &[3];
const MAGIC: &[u8] = b"FJL\x03";

/// The lengths and the key of [`LastWrite`]'s item.
const LAST_WRITE: &[u8] = b"\x09\0\x10\0\0\0\x10\0\0\0\0revision";

/// What an item has beside its key and its value.
pub(super) const ITEM_BYTES: usize = 21;

/// What a batch has beside its items.
pub(super) const BATCH_BYTES: usize = 26;

/// How much of a journal is read at once. Most of it are zeros, which are not kept.
const CHUNK: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{journal} is damaged at byte {at}, and what was acknowledged can't be read: restore a backup")]
    Damaged { journal: PathBuf, at: usize },
}

/// What a write left that was cut short.
struct Torn {
    journal: PathBuf,
    /// Where it begins.
    at: usize,
    bytes: usize,
}

impl Torn {
    fn cut_off(&self) -> io::Result<()> {
        let Torn { journal, at, bytes } = self;
        let file = File::options().write(true).open(journal)?;
        file.set_len(*at as u64)?;
        file.sync_all()?;
        tracing::warn!(journal = %journal.display(), at, bytes, "the last write was cut short, and is dropped: nobody was told of it");
        Ok(())
    }
}

/// Makes the journals in the database's directory such that fjall can read all of them. Gives the last write that they
/// hold, whose number the next one goes on from.
///
/// # Errors
/// A file that can't be read, and damage to what was acknowledged.
pub(super) fn prepare(database: &Path) -> Result<Option<LastWrite>, Error> {
    let (last, torn) = examine(database)?;
    torn.iter().try_for_each(Torn::cut_off)?;
    Ok(last)
}

/// Whether the database in this directory has been written to since it was made.
///
/// # Errors
/// As [`prepare`].
pub(super) fn has_served(database: &Path) -> Result<bool, Error> {
    let is_first = journals(database)?.keys().all(|number| *number == 0);
    let (last, _) = examine(database)?;
    Ok(!is_first || last.is_some_and(|last| last.number > 0) || has_tables(database)?)
}

/// Whether records have been written to tables of the first keyspace, after that of fjall's own.
fn has_tables(database: &Path) -> io::Result<bool> {
    match fs::read_dir(database.join("keyspaces/1/tables")) {
        Ok(mut tables) => Ok(tables.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The last write that the journals hold, and what is behind it.
fn examine(database: &Path) -> Result<(Option<LastWrite>, Option<Torn>), Error> {
    let mut last = None;
    let mut seqno = None;
    let mut number_before = None;
    let mut torn: Option<Torn> = None;
    for (number, journal) in journals(database)? {
        let bytes = written(&journal)?;
        // fjall may begin a journal after a write that failed in part. What follows that was acknowledged.
        if let Some(Torn { journal, at, .. }) = torn.take_if(|_| !bytes.is_empty()) {
            return Err(Error::Damaged { journal, at });
        }
        // Journals whose records are in tables have gone, not always in order.
        if number_before.replace(number).is_some_and(|before| before + 1 != number) {
            last = None;
        }
        let mut rest = &bytes[..];
        while let Ok((after, batch)) = batch(rest) {
            if seqno.replace(batch.seqno).is_some_and(|before| before >= batch.seqno) || !follows(batch.last, last) {
                return Err(Error::Damaged { journal, at: bytes.len() - rest.len() });
            }
            rest = after;
            last = batch.last.or(last);
        }
        if !rest.is_empty() {
            let at = bytes.len() - rest.len();
            if !is_one_write(rest, last) {
                return Err(Error::Damaged { journal, at });
            }
            torn = Some(Torn { journal, at, bytes: rest.len() });
        }
    }
    Ok((last, torn))
}

/// The journals with their numbers, oldest first.
pub(super) fn journals(database: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut journals = BTreeMap::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    Ok(journals)
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

struct Batch {
    seqno: u64,
    last: Option<LastWrite>,
}

/// A whole batch.
fn batch(input: &[u8]) -> IResult<&[u8], Batch> {
    let (items, (_, count, seqno)) = (tag(START), le_u32, le_u64).parse(input)?;
    let (mut rest, mut last) = (items, None);
    for _ in 0..count {
        let (after, (name, value)) = item(rest)?;
        (rest, last) = (after, LastWrite::of(name, value));
    }
    let (after, (_, checksum, _)) = (tag(END), le_u64, tag(MAGIC)).parse(rest)?;
    if xxh3_64(&items[..items.len() - rest.len()]) != checksum {
        return Err(nom::Err::Error(Unreadable::new(rest, ErrorKind::Verify)));
    }
    Ok((after, Batch { seqno, last }))
}

fn item(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    let lengths = (le_u16, le_u32, le_u32);
    let (rest, (_, _, (name, _, stored))) = (tag(ITEM), take(1_usize + 1 + 8), lengths).parse(input)?;
    (take(name), take(stored)).parse(rest)
}

/// Whether a write is the one after `last`, as far as either is known.
fn follows(this: Option<LastWrite>, last: Option<LastWrite>) -> bool {
    this.zip(last).is_none_or(|(this, last)| this.number.checked_sub(1) == Some(last.number))
}

/// Whether what can't be read is no more than the write after `last`. (A value that holds a journal's bytes may look like
/// more. Then a start is refused that need not be.)
fn is_one_write(rest: &[u8], last: Option<LastWrite>) -> bool {
    let end = (tag(LAST_WRITE), take(LastWrite::LEN), tag(END), take(8_usize), tag(MAGIC));
    let mut end = end.map(|(_, value, ..)| value);
    // The first end there is: a write follows it, or none does.
    let found = (0..rest.len()).find_map(|at| {
        let parsed: IResult<_, _> = end.parse(&rest[at..]);
        parsed.ok()
    });
    let Some((after, value)) = found else { return true };
    after.is_empty() && follows(LastWrite::decode(value), last)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::disk::Disk;
    use super::super::state::State;
    use super::*;
    use crate::store::{Limits, Op, StoreError, Txn};

    const LIMITS: Limits = Limits { txn_ops: 10, request_bytes: 100_000 };

    /// A value of many blocks of a disk.
    const LARGE: usize = 40_000;

    const KEYS: [&str; 3] = ["first", "second", "third"];

    /// A data directory with a write for each of the keys, the bytes of its journal, and where each of them begins.
    struct Written {
        dir: tempfile::TempDir,
        journal: PathBuf,
        bytes: Vec<u8>,
        begin: [usize; 3],
    }

    impl Written {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (mut disk, mut state) = open(dir.path()).unwrap();
            KEYS.iter().for_each(|key| write(&mut disk, &mut state, key));
            drop(disk);
            let journal = dir.path().join("zketcd.fjall/0.jnl");
            let bytes = written(&journal).unwrap();
            let mut rest = &bytes[..];
            let begin = KEYS.map(|_| {
                rest = batch(rest).unwrap().0;
                bytes.len() - rest.len()
            });
            Written { dir, journal, bytes, begin }
        }

        fn put(&self, bytes: &[u8]) {
            fs::write(&self.journal, bytes).unwrap();
        }

        fn next_journal(&self, bytes: &[u8]) {
            fs::write(self.journal.with_file_name("1.jnl"), bytes).unwrap();
        }

        fn refusal(&self) -> String {
            match open(self.dir.path()) {
                Err(StoreError::Rejected(why)) => why,
                other => panic!("{other:?}"),
            }
        }

        /// Refuses the start, each time, and leaves the journal alone.
        fn is_refused(&self) {
            let bytes = fs::read(&self.journal).unwrap();
            for _ in 0..2 {
                assert!(self.refusal().contains("what was acknowledged can't be read"));
                assert!(fs::read(&self.journal).unwrap() == bytes);
            }
        }

        /// Starts, each time, with so many of the keys.
        fn has(&self, keys: usize) {
            for _ in 0..2 {
                let (_, state) = open(self.dir.path()).unwrap();
                let found = KEYS.map(|key| state.entry(key.as_bytes()).is_some());
                assert_eq!(found, [0, 1, 2].map(|index| index < keys));
            }
        }
    }

    fn open(dir: &Path) -> Result<(Disk, State), StoreError> {
        Disk::open(dir, LIMITS, Instant::now())
    }

    fn write(disk: &mut Disk, state: &mut State, key: &'static str) {
        let put = Op::Put { key: key.into(), value: vec![b'v'; LARGE].into(), lease: 0 };
        state.transact(Txn { then: vec![put], ..Txn::default() }, &disk.values()).unwrap();
        let touched = state.take_touched();
        disk.write(&touched, state.revision()).unwrap();
    }

    /// As a disk leaves blocks that it never wrote.
    fn lost(bytes: &[u8], ranges: &[(usize, usize)]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        ranges.iter().for_each(|(from, to)| bytes[*from..*to].fill(0));
        bytes
    }

    #[test]
    fn a_torn_last_write_is_dropped_and_a_torn_earlier_one_is_refused() {
        let written = Written::new();
        let end = written.bytes.len();
        let [first, second, third] = written.begin.map(|begin| begin + LARGE / 2);
        for ranges in [
            &[(first, first + 9)][..],
            &[(second, second + 9)],
            // The end of the second and the beginning of the third: what is left looks like one write.
            &[(second, third)],
            // The third was being written, so it may lack its end. The second may not lack anything.
            &[(second, second + 9), (third, end)],
        ] {
            written.put(&lost(&written.bytes, ranges));
            written.is_refused();
        }
        for range in [(third, third + 9), (third, end), (end - 1, end)] {
            written.put(&lost(&written.bytes, &[range]));
            written.has(2);
        }
        written.put(&written.bytes[..third]);
        written.has(2);
        written.put(&written.bytes);
        written.has(3);
    }

    /// fjall begins the next journal also after a write that failed in part, and then writes nothing more.
    #[test]
    fn nothing_follows_a_torn_write() {
        let written = Written::new();
        let [_, _, third] = written.begin;
        written.put(&written.bytes[..third + LARGE / 2]);
        written.next_journal(&written.bytes[third..]);
        written.is_refused();
        written.next_journal(b"");
        written.has(2);
    }

    #[test]
    fn a_write_that_is_missing_between_two_journals_is_refused() {
        let written = Written::new();
        let [_, second, third] = written.begin;
        written.put(&written.bytes[..second]);
        written.next_journal(&written.bytes[third..]);
        written.is_refused();
        written.next_journal(&written.bytes[second..]);
        written.has(3);
    }

    /// fjall takes a write with a small seqno for older than what it has, and leaves it out.
    #[test]
    fn a_damaged_seqno_is_refused() {
        let written = Written::new();
        for begin in &written.begin[1..] {
            let seqno = begin + START.len() + 4;
            written.put(&lost(&written.bytes, &[(seqno, seqno + 8)]));
            written.is_refused();
        }
    }

    /// Of a journal that was cut, as the documents say, the last writes may be in tables already.
    #[test]
    fn a_journal_that_was_cut_goes_on() {
        let written = Written::new();
        let last = LastWrite { revision: 3, number: 9 };
        let begun = Disk::open(written.dir.path(), LIMITS, Instant::now()).unwrap();
        drop(begun);
        let database = fjall::Database::builder(written.journal.parent().unwrap()).open().unwrap();
        let keyspace = database.keyspace("zketcd", fjall::KeyspaceCreateOptions::default).unwrap();
        keyspace.insert(LastWrite::NAME, last.encode()).unwrap();
        keyspace.rotate_memtable_and_wait().unwrap();
        drop((keyspace, database));
        written.put(&written.bytes[..written.begin[2]]);
        for _ in 0..2 {
            let (mut disk, mut state) = open(written.dir.path()).unwrap();
            write(&mut disk, &mut state, "more");
        }
        open(written.dir.path()).unwrap();
    }
}
