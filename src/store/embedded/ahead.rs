//! Blocks for fjall's journal, there before fjall writes to them.
//!
//! A new journal is 64 MiB long and one hole: it has no blocks yet. An fdatasync of a write into a hole waits for what the
//! file system notes of the new blocks too, and takes twice as long. So the thread that writes puts zeros into the hole, a
//! little ahead of fjall: whoever reads the file finds zeros there before and after.
//!
//! A journal that fjall finds when it starts is cut to what it holds, and appended to. It has no hole, and gets nothing: a
//! store that was started again is as fast as a new one once it has begun its next journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};

use super::recovery::journals;

/// How far ahead of fjall there are blocks, at most: some thousand writes, on the disk within milliseconds.
const LEAD: usize = 1024 * 1024;

/// After how much that was written there are more of them.
const STEP: usize = LEAD / 2;

static ZEROS: [u8; LEAD] = [0; LEAD];

#[derive(Debug)]
pub(super) struct Ahead {
    database: PathBuf,
    journal: Option<Journal>,
    /// About how many bytes were written since there were blocks for [`LEAD`].
    written: usize,
    failed: bool,
}

#[derive(Debug)]
struct Journal {
    number: u64,
    file: File,
    /// There are blocks up to here.
    until: u64,
}

impl Ahead {
    /// For the database in this directory.
    pub fn new(database: PathBuf) -> Self {
        Ahead { database, journal: None, written: STEP, failed: false }
    }

    /// Counts what was written to the journal.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Sees to the blocks for what is written next. Nothing else may write to the journal meanwhile. Where it fails, on a full
    /// disk or one that knows no holes, it is given up: fjall gets its blocks as it goes.
    pub fn keep(&mut self) {
        if self.failed || self.written < STEP {
            return;
        }
        self.written = 0;
        if let Err(error) = self.fill() {
            tracing::info!(%error, "no blocks for the journal ahead of its writes");
            self.failed = true;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let Some((number, path)) = journals(&self.database)?.pop_last() else { return Ok(()) };
        let known = self.journal.take().filter(|journal| journal.number == number);
        let journal = match known {
            Some(journal) => journal,
            None => Journal { number, file: File::options().write(true).open(path)?, until: 0 },
        };
        let journal = self.journal.insert(journal);
        let length = journal.file.metadata()?.len();
        if journal.until < length {
            let bytes = if journal.until == 0 { LEAD } else { STEP };
            let hole = seek(&journal.file, SeekFrom::Hole(journal.until))?;
            let bytes = bytes.min((length - hole) as usize);
            journal.file.write_all_at(&ZEROS[..bytes], hole)?;
            journal.until = hole + bytes as u64;
        }
        Ok(())
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
        let mut ahead = Ahead::new(dir.path().to_owned());
        ahead.keep();
        let mut at = 0;
        while at < LENGTH {
            let there = seek(&file, SeekFrom::Hole(0)).unwrap();
            assert!(there == LENGTH || there >= at + STEP as u64, "{there} at {at}");
            assert!(there <= at + LEAD as u64, "{there} at {at}");
            let bytes = [7; STEP / 4];
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
        let mut ahead = Ahead::new(dir.path().to_owned());
        // Faster than was said, past the blocks that are there.
        let bytes = vec![7; 2 * LEAD + 5];
        file.write_all_at(&bytes, 0).unwrap();
        ahead.keep();
        let read = fs::read(dir.path().join("1.jnl")).unwrap();
        assert_eq!(read[..bytes.len()], bytes);
        assert!(read[bytes.len()..].iter().all(|byte| *byte == 0));
        assert!(blocks(&file) > 3 * LEAD as u64);
    }

    #[test]
    fn the_newest_journal_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = journal(dir.path(), 9);
        let mut ahead = Ahead::new(dir.path().to_owned());
        ahead.keep();
        let second = journal(dir.path(), 10);
        let before = blocks(&first);
        assert_eq!(blocks(&second), 0);
        ahead.wrote(STEP);
        ahead.keep();
        assert_eq!(blocks(&first), before);
        assert!(blocks(&second) >= LEAD as u64);
    }

    #[test]
    fn one_that_is_appended_to_stays_as_long_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        fs::write(&path, "all that there is").unwrap();
        let mut ahead = Ahead::new(dir.path().to_owned());
        for _ in 0..3 {
            ahead.keep();
            ahead.wrote(STEP);
        }
        assert!(!ahead.failed);
        assert_eq!(fs::read(&path).unwrap(), b"all that there is");
    }
}
