//! Blocks for fjall's journal, there before fjall writes to them.
//!
//! A new journal is 64 MiB long and one hole: it has no blocks yet. An fdatasync of a write into a hole waits for what the
//! file system notes of the new blocks too, and takes twice as long. So the thread that writes puts zeros into the hole, a
//! little ahead of fjall, and only where it reads zeros: to whoever reads the file nothing changes.
//!
//! A journal that fjall finds when it starts is cut to what it holds, and appended to. It gets nothing: a store that was
//! started again is as fast as a new one once it has begun its next journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};

use super::recovery::journals;

/// How far ahead of fjall there are blocks, at most: some thousand writes, on the disk within milliseconds.
const LEAD: usize = 1024 * 1024;

/// There are more of them once this is left.
const LEAST: usize = LEAD / 2;

/// They come in pieces of this many bytes, a multiple of most file systems' blocks, so that they end where a block ends.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Ahead {
    database: PathBuf,
    /// The newest journal's number, and where its last zeros were put.
    journal: Option<(u64, u64)>,
    /// Of the lead, about what is left.
    left: usize,
}

impl Ahead {
    /// For the database in this directory, and for journals after the one that was found there.
    pub fn new(database: PathBuf, found: Option<u64>) -> Self {
        Ahead { database, journal: found.map(|number| (number, u64::MAX)), left: 0 }
    }

    /// Counts what was written to the journal.
    pub fn wrote(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Sees to the blocks for what is written next. Nothing else may write to the journal meanwhile. Where it fails, as on a
    /// full disk, fjall gets its blocks as it goes, and it is tried again later. A file system that knows no holes has none.
    pub fn keep(&mut self) {
        if self.left > LEAST {
            return;
        }
        self.left = self.fill().unwrap_or_else(|error| {
            tracing::debug!(%error, "no blocks for the journal ahead of its writes");
            LEAD
        });
    }

    /// What is left of the lead then.
    fn fill(&mut self) -> io::Result<usize> {
        let Some((number, path)) = journals(&self.database)?.pop_last() else { return Ok(LEAD) };
        let until = self.journal.filter(|(known, _)| *known == number).map_or(0, |(_, until)| until);
        let file = File::options().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        if until >= length {
            return Ok(LEAD);
        }
        let hole = seek(&file, SeekFrom::Hole(until))?;
        // A new journal, or one in which fjall was faster than was counted.
        let left = if until == 0 || hole > until { 0 } else { self.left };
        let bytes = (LEAD - left) / PIECE * PIECE;
        let mut zeros = vec![0; bytes.min((length - hole) as usize)];
        // Not every file system knows at once that something was written to a hole.
        file.read_exact_at(&mut zeros, hole)?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other("what is said to be a hole is none"));
        }
        file.write_all_at(&zeros, hole)?;
        self.journal = Some((number, hole + zeros.len() as u64));
        Ok(left + bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    const LENGTH: u64 = 8 * LEAD as u64;

    /// A journal as fjall makes it.
    fn journal(dir: &Path, number: u64) -> File {
        let file = File::create_new(dir.join(format!("{number}.jnl"))).unwrap();
        file.set_len(LENGTH).unwrap();
        file
    }

    /// How many bytes have blocks.
    fn blocks(file: &File) -> u64 {
        file.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn blocks_are_there_before_they_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = journal(dir.path(), 3);
        let mut ahead = Ahead::new(dir.path().to_owned(), None);
        ahead.keep();
        let mut at = 0;
        while at < LENGTH {
            let there = seek(&file, SeekFrom::Hole(0)).unwrap();
            let least = (at + LEAST as u64 - PIECE as u64).min(LENGTH);
            assert!((least..=at + LEAD as u64).contains(&there), "{there} at {at}");
            let bytes = vec![7; 100_003.min((LENGTH - at) as usize)];
            file.write_all_at(&bytes, at).unwrap();
            at += bytes.len() as u64;
            ahead.wrote(bytes.len());
            ahead.keep();
        }
        assert!(fs::read(dir.path().join("3.jnl")).unwrap().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_written_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = journal(dir.path(), 1);
        let mut ahead = Ahead::new(dir.path().to_owned(), None);
        // Faster than was said, past the blocks that are there.
        let bytes = vec![7; 2 * LEAD + 5];
        file.write_all_at(&bytes, 0).unwrap();
        ahead.keep();
        let read = fs::read(dir.path().join("1.jnl")).unwrap();
        assert_eq!(read[..bytes.len()], bytes);
        assert!(read[bytes.len()..].iter().all(|byte| *byte == 0));
        assert!(blocks(&file) > 3 * LEAD as u64);
    }

    /// As one may be that was restored from a backup.
    #[test]
    fn what_is_behind_a_hole_stays_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = journal(dir.path(), 0);
        file.write_all_at(&[7; 10_000], 0).unwrap();
        file.write_all_at(&[7; 10_000], LEAD as u64 / 2).unwrap();
        let before = fs::read(dir.path().join("0.jnl")).unwrap();
        let mut ahead = Ahead::new(dir.path().to_owned(), None);
        for _ in 0..20 {
            ahead.keep();
            ahead.wrote(LEAD);
        }
        assert!(fs::read(dir.path().join("0.jnl")).unwrap() == before);
    }

    #[test]
    fn the_newest_journal_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = journal(dir.path(), 9);
        let mut ahead = Ahead::new(dir.path().to_owned(), None);
        ahead.keep();
        let second = journal(dir.path(), 10);
        let before = blocks(&first);
        assert_eq!(blocks(&second), 0);
        ahead.wrote(LEAST);
        ahead.keep();
        assert_eq!(blocks(&first), before);
        assert!(blocks(&second) >= LEAD as u64);
    }

    #[test]
    fn one_that_was_found_gets_none() {
        let dir = tempfile::tempdir().unwrap();
        let found = journal(dir.path(), 4);
        let mut ahead = Ahead::new(dir.path().to_owned(), Some(4));
        ahead.keep();
        assert_eq!(blocks(&found), 0);
        let next = journal(dir.path(), 5);
        ahead.wrote(LEAD);
        ahead.keep();
        assert_eq!((blocks(&found), blocks(&next)), (0, LEAD as u64));
    }
}
