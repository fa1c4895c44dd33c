//! The data directory: one redb file that holds the keys, the leases and the revision.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format`, `cluster`, `revision` | a number |
//! | `keys` | the key | create revision, mod revision, version, lease (8 bytes each, big endian), then the value |
//! | `leases` | id | ttl in seconds |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::time::Instant;

use super::state::{Entry, FIRST_REVISION, State, Touched};
use crate::store::{Limits, StoreError};

/// The data's format. Whoever changes the layout raises it.
const FORMAT: u64 = 1;

const FILE: &str = "zketcd.redb";

/// redb's own page cache. Everything is in the state already, so it serves the writing only.
const CACHE_BYTES: usize = 128 * 1024 * 1024;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const KEYS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
const LEASES: TableDefinition<i64, i64> = TableDefinition::new("leases");

/// The length of what precedes the value in the table `keys`.
const HEADER: usize = 32;

#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    cluster: u64,
}

impl Disk {
    /// Opens, or makes, the file in `dir` and reads all of it. Refuses a directory that holds anything else, one that
    /// another process has open, and data of another format.
    pub fn open(dir: &Path, limits: Limits, now: Instant) -> Result<(Self, State), StoreError> {
        let path = prepare(dir)?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => refused(dir, "is in use by another process"),
            DatabaseError::UpgradeRequired(_) => refused(dir, "was written by another version of zketcd"),
            error => refused(dir, &format!("does not hold data of zketcd that can be read: {error}")),
        })?;
        let cluster = identify(&database, dir)?;
        let mut state = State::new(limits, true);
        load(&database, &mut state, now).map_err(|error| refused(dir, &format!("can't be read: {error}")))?;
        Ok((Disk { database, cluster }, state))
    }

    /// The random number drawn when the directory was made.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Writes what changed, in one transaction of redb; when this returns, it has been fsynced.
    pub fn write(&self, state: &State, touched: Touched) -> Result<(), redb::Error> {
        let write = begin(&self.database)?;
        {
            let mut keys = write.open_table(KEYS)?;
            let mut touched_keys: Vec<Bytes> = touched.keys.into_iter().collect();
            touched_keys.sort_unstable();
            let mut record = Vec::new();
            for key in touched_keys {
                match state.entry(&key) {
                    Some(entry) => {
                        encode(entry, &mut record);
                        keys.insert(&key[..], &record[..])?;
                    }
                    None => {
                        keys.remove(&key[..])?;
                    }
                }
            }
            if !touched.leases.is_empty() {
                let mut leases = write.open_table(LEASES)?;
                for id in touched.leases {
                    match state.lease_ttl(id) {
                        Some(ttl) => leases.insert(id, ttl)?,
                        None => leases.remove(id)?,
                    };
                }
            }
            write.open_table(META)?.insert("revision", state.revision().unsigned_abs())?;
        }
        write.commit()?;
        Ok(())
    }
}

/// Makes the directory where it is missing, and gives the file's path in it.
fn prepare(dir: &Path) -> Result<PathBuf, StoreError> {
    let failed = |error: io::Error| refused(dir, &format!("can't be used: {error}"));
    fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join(FILE);
    if !path.try_exists().map_err(failed)? {
        for entry in fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy();
            // A volume's root has a lost+found, and mounts leave hidden files.
            if name != "lost+found" && !name.starts_with('.') {
                return Err(refused(dir, &format!("is not a data directory of zketcd: it holds {name}")));
            }
        }
    }
    Ok(path)
}

/// Checks the format, or writes it where the file is new; gives the cluster's number.
fn identify(database: &Database, dir: &Path) -> Result<u64, StoreError> {
    let failed = |error: redb::Error| refused(dir, &format!("can't be read: {error}"));
    let tables = || -> Result<usize, redb::Error> { Ok(database.begin_read()?.list_tables()?.count()) };
    if tables().map_err(failed)? == 0 {
        return initialize(database).map_err(failed);
    }
    let (format, cluster) = meta(database)
        .map_err(|error| refused(dir, &format!("does not hold data of zketcd ({error})")))?
        .ok_or_else(|| refused(dir, "does not hold data of zketcd"))?;
    if format != FORMAT {
        return Err(refused(dir, &format!("has data of format {format}; this version knows format {FORMAT} only")));
    }
    Ok(cluster)
}

fn meta(database: &Database) -> Result<Option<(u64, u64)>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let number = |name| -> Result<Option<u64>, redb::Error> { Ok(meta.get(name)?.map(|guard| guard.value())) };
    Ok(number("format")?.zip(number("cluster")?))
}

fn initialize(database: &Database) -> Result<u64, redb::Error> {
    let cluster = super::random_id();
    let write = begin(database)?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("cluster", cluster)?;
        meta.insert("revision", FIRST_REVISION.unsigned_abs())?;
        write.open_table(KEYS)?;
        write.open_table(LEASES)?;
    }
    write.commit()?;
    Ok(cluster)
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    Ok(write)
}

fn load(database: &Database, state: &mut State, now: Instant) -> Result<(), redb::Error> {
    let read = database.begin_read()?;
    for lease in read.open_table(LEASES)?.iter()? {
        let (id, ttl) = lease?;
        state.restore_lease(id.value(), ttl.value(), now);
    }
    for record in read.open_table(KEYS)?.iter()? {
        let (key, record) = record?;
        let entry = decode(record.value())
            .ok_or_else(|| redb::Error::Corrupted(format!("the record of {:?} is cut short", key.value())))?;
        state.restore_key(Bytes::copy_from_slice(key.value()), entry);
    }
    let revision = read.open_table(META)?.get("revision")?.and_then(|guard| i64::try_from(guard.value()).ok());
    state.restore_revision(revision.ok_or_else(|| redb::Error::Corrupted("the revision is missing".to_owned()))?);
    Ok(())
}

fn encode(entry: &Entry, record: &mut Vec<u8>) {
    record.clear();
    record.put_i64(entry.create_revision);
    record.put_i64(entry.mod_revision);
    record.put_i64(entry.version);
    record.put_i64(entry.lease);
    record.put_slice(&entry.value);
}

fn decode(mut record: &[u8]) -> Option<Entry> {
    if record.len() < HEADER {
        return None;
    }
    Some(Entry {
        create_revision: record.get_i64(),
        mod_revision: record.get_i64(),
        version: record.get_i64(),
        lease: record.get_i64(),
        value: Bytes::copy_from_slice(record),
    })
}

fn refused(dir: &Path, why: &str) -> StoreError {
    StoreError::Rejected(format!("the data directory {} {why}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { txn_ops: 10, request_bytes: 1000 };

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
            let write = begin(&disk.database).unwrap();
            write.open_table(META).unwrap().insert("format", 7).unwrap();
            write.commit().unwrap();
        }
        assert!(refusal(dir.path()).contains("format 7"));
    }

    #[test]
    fn a_foreign_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let database = Database::create(dir.path().join(FILE)).unwrap();
            let write = database.begin_write().unwrap();
            write.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
            write.commit().unwrap();
        }
        assert!(refusal(dir.path()).contains("does not hold data of zketcd"));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "something else entirely").unwrap();
        assert!(refusal(dir.path()).contains("does not hold data of zketcd"));
    }

    #[test]
    fn a_directory_with_other_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join("version-2"), "").unwrap();
        assert!(refusal(dir.path()).contains("it holds version-2"));
        fs::remove_file(dir.path().join("version-2")).unwrap();
        let _open = open(dir.path()).unwrap();
        assert!(refusal(dir.path()).contains("in use by another process"));
    }

    #[test]
    fn records_are_read_back() {
        let value = Bytes::from_static(b"value");
        let entry = Entry { value, create_revision: 3, mod_revision: 1 << 40, version: 7, lease: -5 };
        let mut record = Vec::new();
        encode(&entry, &mut record);
        assert_eq!(record.len(), HEADER + 5);
        assert_eq!(decode(&record), Some(entry));
        assert_eq!(decode(&record[..HEADER - 1]), None);
    }
}
