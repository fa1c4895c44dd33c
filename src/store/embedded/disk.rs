//! The data directory: a fjall database, a log-structured merge tree with a journal, that holds the keys, the leases and
//! the revision.
//!
//! One keyspace, so that the whole of a journal goes with one flush. The first byte of a record's key says what it is:
//!
//! | first byte | then | value |
//! | --- | --- | --- |
//! | `META` | `format`, `cluster` | a number, 8 bytes, big endian, as all here |
//! | `META` | `revision` | the last revision, and the number of the write that put it here |
//! | `LEASE` | id | ttl in seconds |
//! | `KEY` | the key | create revision, mod revision, version, lease (8 bytes each), then the value |
//!
//! The state has the keys and their revisions in memory, so a write reads nothing, unless its transaction asks for a
//! value. All are read at a start, twice, and for a snapshot after it.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use fjall::config::{BlockSizePolicy, FilterPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use tokio::time::Instant;

use super::ahead::Ahead;
use super::recovery;
use super::state::{Entry, FIRST_REVISION, State, Touched, Values, key_value};
use crate::store::{KeyValue, Limits, StoreError};

/// The data's format. Whoever changes the layout raises it.
const FORMAT: u64 = 3;

/// The database in the directory.
const DATABASE: &str = "zketcd.fjall";

/// The mark of a database that is being made: a start cut short may leave one that fjall can't open. Nobody was served from
/// it, so it is made anew.
const UNFINISHED: &str = "zketcd.unfinished";

/// Locked by the process that uses the directory.
const LOCK: &str = "zketcd.lock";

/// What format 1 had, which no release wrote.
const FORMER: &str = "zketcd.redb";

const KEYSPACE: &str = "zketcd";

const META: u8 = 0;
const LEASE: u8 = 1;
const KEY: u8 = 2;

/// The longest key: fjall counts its length in two bytes, and the first of them says what it is.
pub(super) const MAX_KEY: usize = u16::MAX as usize - 1;

/// The length of what precedes the value in the record of a key.
const HEADER: usize = 32;

/// fjall's cache of blocks: next to nothing is read but for snapshots, and for these each block once.
const CACHE_BYTES: u64 = 1024 * 1024;

/// How much is written to the journal alone before it goes to a table: as little as fjall recommends.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;

/// The size of the journals at which fjall forces tables to be written: as little as it allows.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// Blocks are read one after the other and hardly ever looked up, so large ones, with a small index, are right.
const BLOCK_BYTES: u32 = 32 * 1024;

/// The thread that writes tables and merges them. With more of them, fjall keeps one back from merging, and that one
/// spins while the others merge.
const WORKERS: usize = 1;

/// How a group is committed: with fdatasync, which leaves out nothing but the file's times. The length of a journal that
/// has grown is part of what it writes, as the data could not be read without it.
const DURABILITY: PersistMode = PersistMode::SyncData;

pub(super) struct Disk {
    database: Database,
    keyspace: Keyspace,
    cluster: u64,
    /// How many writes there have been.
    writes: u64,
    ahead: Ahead,
    /// Held until the database has been closed: fields are dropped in order.
    _lock: Lock,
}

/// The lock on the directory. It is given back when this is dropped, also while a child that was just forked has the file
/// open: until its exec it has all that its parent had.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Why a write failed.
pub(super) type Error = fjall::Error;

impl Disk {
    /// Opens, or makes, the database in `dir` and reads all of it. Refuses a directory that holds anything else, one
    /// that another process has open, and data of another format.
    pub fn open(dir: &Path, limits: Limits, now: Instant) -> Result<(Self, State), StoreError> {
        let failed = |error| unusable(dir, error);
        check(dir)?;
        let lock = lock(dir)?;
        let path = dir.join(DATABASE);
        let unreadable = |why: String| refused(dir, &format!("does not hold data of zketcd that can be read: {why}"));
        let damaged = |error: recovery::Error| unreadable(error.to_string());
        let mark = dir.join(UNFINISHED);
        let is_marked = mark.try_exists().map_err(failed)?;
        // The mark may have come back with a power failure, or stand beside a backup that was restored.
        let is_there = path.try_exists().map_err(failed)?;
        let is_whole = is_there && (!is_marked || recovery::has_served(&path).map_err(damaged)?);
        let (recorded, database, found) = if is_whole {
            let recorded = recovery::prepare(&path).map_err(damaged)?;
            let found = recovery::journals(&path).map_err(failed)?.pop_last().map(|(number, _)| number);
            (recorded, open(&path).map_err(|error| unreadable(error.to_string()))?, found)
        } else {
            (None, make(dir, &path).map_err(|error| unusable(dir, error))?, None)
        };
        if !database.keyspace_exists(KEYSPACE) {
            return Err(refused(dir, "does not hold data of zketcd"));
        }
        let keyspace = database.keyspace(KEYSPACE, options).map_err(|error| unreadable(error.to_string()))?;
        let (cluster, writes, state) = load(&keyspace, limits, now).map_err(|error| match error {
            LoadError::Fjall(error) => unreadable(error.to_string()),
            LoadError::Record(why) => unreadable(why),
            LoadError::Format(format) => {
                refused(dir, &format!("has data of format {format}; this version knows format {FORMAT} only"))
            }
        })?;
        if is_marked || !is_whole {
            fs::remove_file(&mark).map_err(failed)?;
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        // A journal that was cut may end before what is in tables. The next write goes behind its last.
        let writes = recorded.map_or(writes, |last| last.number);
        Ok((Disk { database, keyspace, cluster, writes, ahead: Ahead::new(path, found), _lock: lock }, state))
    }

    /// The random number drawn when the directory was made.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Writes what changed, all of it or nothing; when this returns, it has been fsynced.
    pub fn write(&mut self, touched: &Touched, revision: i64) -> Result<(), Error> {
        let records = touched.keys.len() + touched.leases.len() + 1;
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), records).durability(Some(DURABILITY));
        let mut name = Vec::new();
        let mut record = Vec::new();
        let mut bytes = recovery::BATCH_BYTES + records * recovery::ITEM_BYTES;
        for (key, value) in &touched.keys {
            named(KEY, key, &mut name);
            bytes += name.len();
            match value {
                Some((entry, value)) => {
                    encode(entry, value, &mut record);
                    bytes += record.len();
                    batch.insert(&self.keyspace, &name[..], &record[..]);
                }
                None => batch.remove(&self.keyspace, &name[..]),
            }
        }
        for (id, ttl) in &touched.leases {
            named(LEASE, &id.to_be_bytes(), &mut name);
            bytes += name.len() + size_of::<i64>();
            match ttl {
                Some(ttl) => batch.insert(&self.keyspace, &name[..], ttl.to_be_bytes()),
                None => batch.remove(&self.keyspace, &name[..]),
            }
        }
        let last = LastWrite { number: self.writes + 1, revision };
        batch.insert(&self.keyspace, LastWrite::NAME, last.encode());
        batch.commit()?;
        self.writes = last.number;
        self.ahead.wrote(bytes + LastWrite::NAME.len() + LastWrite::LEN);
        Ok(())
    }

    /// Does beforehand what the next write would wait for.
    pub fn make_room(&mut self) {
        self.ahead.keep();
    }

    /// The values, for whoever reads them while this one writes.
    pub fn values(&self) -> Written {
        Written(self.keyspace.clone())
    }

    /// Every key, about `keys` of them.
    pub fn entries(&self, keys: usize) -> Result<Vec<KeyValue>, StoreError> {
        let mut entries = Vec::with_capacity(keys);
        for pair in self.keyspace.prefix([KEY]) {
            let (name, record) = pair.into_inner().map_err(lost)?;
            let key_record = name.split_first().zip(decode(&record));
            let ((_, key), (entry, value)) = key_record.ok_or_else(|| lost(cut_short(&name)))?;
            entries.push(key_value(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value), &entry));
        }
        Ok(entries)
    }
}

/// The values that have been written.
pub(super) struct Written(Keyspace);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written")
    }
}

impl Values for Written {
    fn value(&self, key: &[u8]) -> Result<Bytes, StoreError> {
        let mut name = Vec::new();
        named(KEY, key, &mut name);
        let record = self.0.get(&name).map_err(lost)?;
        let value = record.as_deref().and_then(decode).map(|(_, value)| Bytes::copy_from_slice(value));
        value.ok_or_else(|| lost(format!("no record of {} can be read", key.escape_ascii())))
    }
}

/// The record that each write has as its last. Numbers of writes have no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastWrite {
    pub revision: i64,
    pub number: u64,
}

impl LastWrite {
    /// `META`, then `revision`.
    pub const NAME: &[u8] = b"\0revision";

    pub const LEN: usize = 16;

    /// What a record holds, where it is this one.
    pub fn of(name: &[u8], value: &[u8]) -> Option<Self> {
        if name == Self::NAME { Self::decode(value) } else { None }
    }

    pub fn decode(mut value: &[u8]) -> Option<Self> {
        let is_whole = value.len() == Self::LEN;
        is_whole.then(|| LastWrite { revision: value.get_i64(), number: value.get_u64() })
    }

    pub fn encode(self) -> Vec<u8> {
        [self.revision.to_be_bytes(), self.number.to_be_bytes()].concat()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Makes the directory where it is missing, and looks whether it is ours.
fn check(dir: &Path) -> Result<(), StoreError> {
    let failed = |error| unusable(dir, error);
    fs::create_dir_all(dir).map_err(failed)?;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if name == FORMER {
            let why = format!("was written by an earlier version of zketcd: this one can't read its {FORMER}");
            return Err(refused(dir, &why));
        }
        // A volume's root has a lost+found, and mounts leave hidden files.
        if ![DATABASE, UNFINISHED, LOCK, "lost+found"].contains(&&*name) && !name.starts_with('.') {
            return Err(refused(dir, &format!("is not a data directory of zketcd: it holds {name}")));
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<Lock, StoreError> {
    let failed = |error| unusable(dir, error);
    let file = File::create(dir.join(LOCK)).map_err(failed)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => refused(dir, "is in use by another process"),
        TryLockError::Error(error) => failed(error),
    })?;
    Ok(Lock(file))
}

/// Makes the database, and leaves the mark that it is unfinished. It is not opened again, as to a journal that it found
/// fjall would only append ([`Ahead`]).
fn make(dir: &Path, path: &Path) -> Result<Database, Error> {
    File::create(dir.join(UNFINISHED))?;
    File::open(dir)?.sync_all()?;
    if path.try_exists()? {
        fs::remove_dir_all(path)?;
    }
    let database = open(path)?;
    let keyspace = database.keyspace(KEYSPACE, options)?;
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    put_number(&mut batch, &keyspace, "format", FORMAT);
    put_number(&mut batch, &keyspace, "cluster", super::random_id());
    let last = LastWrite { revision: FIRST_REVISION, number: 0 };
    batch.insert(&keyspace, LastWrite::NAME, last.encode());
    batch.commit()?;
    Ok(database)
}

fn open(path: &Path) -> Result<Database, Error> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(WORKERS)
        .manual_journal_persist(true)
        .open()
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .filter_policy(FilterPolicy::disabled())
        .filter_block_pinning_policy(PinningPolicy::disabled())
        .index_block_pinning_policy(PinningPolicy::disabled())
        .manual_journal_persist(true)
}

enum LoadError {
    Fjall(fjall::Error),
    Record(String),
    Format(u64),
}

impl From<fjall::Error> for LoadError {
    fn from(error: fjall::Error) -> Self {
        LoadError::Fjall(error)
    }
}

/// The cluster, the number of the last write, and all that there is.
fn load(keyspace: &Keyspace, limits: Limits, now: Instant) -> Result<(u64, u64, State), LoadError> {
    let number = |name: &str| -> Result<u64, LoadError> {
        let mut key = Vec::new();
        named(META, name.as_bytes(), &mut key);
        let number = keyspace.get(&key)?.and_then(|value| Some(u64::from_be_bytes((*value).try_into().ok()?)));
        number.ok_or_else(|| LoadError::Record(format!("no {name}")))
    };
    let format = number("format")?;
    if format != FORMAT {
        return Err(LoadError::Format(format));
    }
    let mut state = State::new(limits);
    // Leases come before the keys that they hold.
    for pair in keyspace.range([LEASE]..) {
        let (name, value) = pair.into_inner()?;
        restore(&mut state, &name, &value, now).ok_or_else(|| LoadError::Record(cut_short(&name)))?;
    }
    let last = keyspace.get(LastWrite::NAME)?.and_then(|value| LastWrite::decode(&value));
    let last = last.ok_or_else(|| LoadError::Record("no revision".to_owned()))?;
    state.restore_revision(last.revision);
    Ok((number("cluster")?, last.number, state))
}

fn restore(state: &mut State, name: &[u8], value: &[u8], now: Instant) -> Option<()> {
    match name.split_first()? {
        (&LEASE, id) => {
            let number = |bytes: &[u8]| Some(i64::from_be_bytes(bytes.try_into().ok()?));
            state.restore_lease(number(id)?, number(value)?, now);
        }
        (&KEY, key) => state.restore_key(key, decode(value)?.0),
        _ => return None,
    }
    Some(())
}

fn named(kind: u8, rest: &[u8], name: &mut Vec<u8>) {
    name.clear();
    name.push(kind);
    name.extend_from_slice(rest);
}

fn put_number(batch: &mut OwnedWriteBatch, keyspace: &Keyspace, name: &str, number: u64) {
    let mut key = Vec::new();
    named(META, name.as_bytes(), &mut key);
    batch.insert(keyspace, key, number.to_be_bytes());
}

fn encode(entry: &Entry, value: &[u8], record: &mut Vec<u8>) {
    record.clear();
    record.put_i64(entry.create_revision);
    record.put_i64(entry.mod_revision);
    record.put_i64(entry.version);
    record.put_i64(entry.lease);
    record.put_slice(value);
}

/// The counters, and the value.
fn decode(record: &[u8]) -> Option<(Entry, &[u8])> {
    let (mut header, value) = record.split_at_checked(HEADER)?;
    let entry = Entry {
        create_revision: header.get_i64(),
        mod_revision: header.get_i64(),
        version: header.get_i64(),
        lease: header.get_i64(),
    };
    Some((entry, value))
}

fn cut_short(name: &[u8]) -> String {
    format!("the record of {name:?} is cut short")
}

/// What was written can't be read.
fn lost(why: impl fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("the data directory can't be read: {why}"))
}

fn unusable(dir: &Path, error: impl fmt::Display) -> StoreError {
    refused(dir, &format!("can't be used: {error}"))
}

fn refused(dir: &Path, why: &str) -> StoreError {
    StoreError::Rejected(format!("the data directory {} {why}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { txn_ops: 10, request_bytes: 100_000 };

    fn open(dir: &Path) -> Result<(Disk, State), StoreError> {
        Disk::open(dir, LIMITS, Instant::now())
    }

    fn refusal(dir: &Path) -> String {
        match open(dir) {
            Err(StoreError::Rejected(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let (disk, _) = open(dir.path()).unwrap();
            let mut batch = disk.database.batch().durability(Some(DURABILITY));
            put_number(&mut batch, &disk.keyspace, "format", 7);
            batch.commit().unwrap();
        }
        assert!(refusal(dir.path()).contains("format 7"));
    }

    #[test]
    fn a_foreign_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let database = super::open(&dir.path().join(DATABASE)).unwrap();
            database.keyspace("theirs", options).unwrap().insert("1", "1").unwrap();
        }
        assert!(refusal(dir.path()).contains("does not hold data of zketcd"));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(DATABASE), "something else entirely").unwrap();
        assert!(refusal(dir.path()).contains("does not hold data of zketcd"));
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(DATABASE)).unwrap();
        fs::write(dir.path().join(DATABASE).join("version"), "something else entirely").unwrap();
        assert!(refusal(dir.path()).contains("does not hold data of zketcd"));
    }

    #[test]
    fn what_an_earlier_version_wrote_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FORMER), "redb").unwrap();
        assert!(refusal(dir.path()).contains("an earlier version of zketcd"));
    }

    #[test]
    fn a_directory_with_other_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join(".nfs"), "").unwrap();
        fs::write(dir.path().join("version-2"), "").unwrap();
        assert!(refusal(dir.path()).contains("it holds version-2"));
        assert!(!dir.path().join(LOCK).exists(), "nothing is left in what is not ours");
        fs::remove_file(dir.path().join("version-2")).unwrap();
        let _open = open(dir.path()).unwrap();
        assert!(refusal(dir.path()).contains("in use by another process"));
    }

    /// The copy is what a child has between its fork and its exec.
    #[test]
    fn a_directory_is_free_once_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, _) = open(dir.path()).unwrap();
        let _inherited = disk._lock.0.try_clone().unwrap();
        drop(disk);
        open(dir.path()).unwrap();
    }

    /// What a start leaves that was killed while it made the database.
    #[test]
    fn a_database_made_in_part_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(DATABASE)).unwrap();
        fs::write(dir.path().join(DATABASE).join("0.jnl"), "").unwrap();
        fs::write(dir.path().join(UNFINISHED), "").unwrap();
        let (disk, _) = open(dir.path()).unwrap();
        let cluster = disk.cluster();
        drop(disk);
        assert_eq!(open(dir.path()).unwrap().0.cluster(), cluster);
        assert!(!dir.path().join(UNFINISHED).exists());
    }

    /// What a power failure may leave that brings the mark back, or a backup restored where a start was cut short.
    #[test]
    fn what_has_served_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, mut state) = open(dir.path()).unwrap();
        let cluster = disk.cluster();
        state.grant(7, 60, Instant::now()).unwrap();
        let touched = state.take_touched();
        disk.write(&touched, state.revision()).unwrap();
        drop(disk);
        for is_in_table in [false, true] {
            fs::write(dir.path().join(UNFINISHED), "").unwrap();
            let (disk, state) = open(dir.path()).unwrap();
            assert_eq!((disk.cluster(), state.lease_ttl(7)), (cluster, Some(60)));
            assert!(!dir.path().join(UNFINISHED).exists());
            if !is_in_table {
                disk.keyspace.rotate_memtable_and_wait().unwrap();
                drop(disk);
                fs::write(dir.path().join(DATABASE).join("0.jnl"), "").unwrap();
            }
        }
    }

    #[test]
    fn records_are_read_back() {
        let entry = Entry { create_revision: 3, mod_revision: 1 << 40, version: 7, lease: -5 };
        let mut record = Vec::new();
        encode(&entry, b"value", &mut record);
        assert_eq!(record.len(), HEADER + 5);
        assert_eq!(decode(&record), Some((entry, &b"value"[..])));
        assert_eq!(decode(&record[..HEADER - 1]), None);
    }
}
