//! Rows by the millions, each found by its key, that grow a piece at a time.
//!
//! A vector that is full moves all that it has, and a hash table looks up every key again: with a million znodes a tenth
//! of a second, in which nobody reads. Here rows stay where they are, in chunks, and the index is in shards, of which one
//! grows at a time, with a few thousand keys in it.

use std::fmt;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// How many rows are made room for at once.
const CHUNK: usize = 1024;

/// With a million rows, each shard has four thousand: looked up anew in a third of a millisecond.
const SHARDS: usize = 256;

/// What has a key, which never changes.
pub trait Row {
    fn key(&self) -> &[u8];
}

/// See the module's documentation. A row's number is its own until it is removed.
pub struct Table<T> {
    chunks: Vec<Vec<Option<T>>>,
    /// Numbers of rows that were removed.
    free: Vec<u32>,
    shards: Box<[HashTable<u32>]>,
    hasher: DefaultHashBuilder,
}

impl<T: Row> Table<T> {
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Table { chunks: Vec::new(), free: Vec::new(), shards, hasher: DefaultHashBuilder::default() }
    }

    pub fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK + last - self.free.len()
    }

    /// The number of the row with this key.
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let same = |number: &u32| self.get(*number).is_some_and(|row| row.key() == key);
        self.shards[shard(hash)].find(hash, same).copied()
    }

    pub fn get(&self, number: u32) -> Option<&T> {
        let (chunk, at) = place(number);
        self.chunks.get(chunk)?.get(at)?.as_ref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (chunk, at) = place(number);
        self.chunks.get_mut(chunk)?.get_mut(at)?.as_mut()
    }

    /// Adds a row whose key is not there, and gives its number.
    pub fn insert(&mut self, row: T) -> u32 {
        debug_assert!(self.find(row.key()).is_none());
        let hash = self.hasher.hash_one(row.key());
        let number = match self.free.pop() {
            Some(number) => {
                let (chunk, at) = place(number);
                self.chunks[chunk][at] = Some(row);
                number
            }
            None => self.push(row),
        };
        let Table { chunks, shards, hasher, .. } = self;
        let rehash = |number: &u32| {
            let (chunk, at) = place(*number);
            chunks[chunk][at].as_ref().map_or(0, |row| hasher.hash_one(row.key()))
        };
        shards[shard(hash)].insert_unique(hash, number, rehash);
        number
    }

    pub fn remove(&mut self, number: u32) -> Option<T> {
        let hash = self.hasher.hash_one(self.get(number)?.key());
        if let Ok(entry) = self.shards[shard(hash)].find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        self.free.push(number);
        let (chunk, at) = place(number);
        self.chunks[chunk][at].take()
    }

    /// Every row, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flatten()
    }

    fn push(&mut self, row: T) -> u32 {
        let full = self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK);
        if full {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let last = &mut self.chunks[before / CHUNK];
        last.push(Some(row));
        (before + last.len() - 1) as u32
    }
}

/// A row's chunk, and where it is in it.
fn place(number: u32) -> (usize, usize) {
    (number as usize / CHUNK, number as usize % CHUNK)
}

/// Bits of which the table in a shard makes little use: it takes the lowest for a row's place, the highest for its tag.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("chunks", &self.chunks.len()).field("free", &self.free.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct Word(String);

    impl Row for Word {
        fn key(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }

    fn word(number: u32) -> String {
        format!("/word/{number}")
    }

    #[test]
    fn rows_are_found_while_shards_grow() {
        // Some 32 for each shard: hashes have a seed of their own each time, and of a few rows a shard may get none.
        let count = (8 * CHUNK + 7) as u32;
        let mut table = Table::new();
        for number in 0..count {
            assert_eq!(table.insert(Word(word(number))), number);
        }
        assert_eq!(table.len(), count as usize);
        assert!((0..count).all(|number| table.find(word(number).as_bytes()) == Some(number)));
        assert_eq!(table.find(word(count).as_bytes()), None);
        assert!(table.shards.iter().all(|shard| !shard.is_empty()), "every shard has its part");
    }

    proptest! {
        /// Rows come and go as in a map, and keep their numbers.
        #[test]
        fn a_table_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..40_u32), 0..400)) {
            let mut table = Table::new();
            let mut map: HashMap<String, u32> = HashMap::new();
            for (insert, number) in steps {
                let key = word(number);
                match (insert, map.get(&key).copied()) {
                    (true, None) => {
                        let number = table.insert(Word(key.clone()));
                        prop_assert!(!map.values().any(|other| *other == number));
                        map.insert(key, number);
                    }
                    (false, Some(number)) => {
                        prop_assert_eq!(table.remove(number).map(|row| row.0), Some(key.clone()));
                        prop_assert!(table.get(number).is_none() && table.remove(number).is_none());
                        map.remove(&key);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), map.len());
            }
            for (key, number) in &map {
                prop_assert_eq!(table.find(key.as_bytes()), Some(*number));
                prop_assert_eq!(table.get_mut(*number).map(|row| row.0.clone()), Some(key.clone()));
            }
            prop_assert_eq!(table.iter().count(), map.len());
        }
    }
}
