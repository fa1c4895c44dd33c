//! The keys of a batch, each by a number: the verdicts of a batch name the same few keys again and again, and what is
//! known of a key is then found by indexing.

use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::tree::key;

/// A key's number, in the order in which the batch first named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// The number that has this index.
    pub fn at(index: usize) -> KeyId {
        KeyId(index as u32)
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which of a znode's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Node,
    Children,
    Acl,
}

impl Kind {
    /// Which record of which path a key stands for; none where it is no znode's.
    pub fn of(key: &[u8]) -> Option<(Kind, &str)> {
        match key::parse(key) {
            key::Parsed::Node(path) => Some((Kind::Node, path)),
            key::Parsed::Children(path) => Some((Kind::Children, path)),
            key::Parsed::Acl(path) => Some((Kind::Acl, path)),
            _ => None,
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Keys {
    index: HashTable<u32>,
    keys: Vec<Bytes>,
    hasher: DefaultHashBuilder,
}

impl Keys {
    /// The key of one of a znode's records.
    pub fn of(&mut self, kind: Kind, path: &str) -> KeyId {
        let (letter, key): (u8, fn(&str) -> Bytes) = match kind {
            Kind::Node => (b'n', key::node),
            Kind::Children => (b'c', key::children),
            Kind::Acl => (b'a', key::acl),
        };
        self.find_or_insert(letter, path.as_bytes(), || key(path))
    }

    pub fn session(&mut self, id: i64) -> KeyId {
        let [letter, id @ ..] = key::session_text(id);
        self.find_or_insert(letter, &id, || Bytes::from([&[letter], &id[..]].concat()))
    }

    pub fn is_session(&self, id: KeyId) -> bool {
        self.get(id).first() == Some(&b's')
    }

    /// How many numbers are given.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    pub fn get(&self, id: KeyId) -> &Bytes {
        &self.keys[id.index()]
    }

    fn find_or_insert(&mut self, letter: u8, rest: &[u8], make: impl FnOnce() -> Bytes) -> KeyId {
        let (keys, hasher) = (&self.keys, &self.hasher);
        let hash = |letter: u8, rest: &[u8]| {
            let mut state = hasher.build_hasher();
            state.write_u8(letter);
            state.write(rest);
            state.finish()
        };
        let hashed = hash(letter, rest);
        let is_it =
            |id: &u32| matches!(&keys[*id as usize][..], [first, tail @ ..] if *first == letter && tail == rest);
        if let Some(id) = self.index.find(hashed, is_it) {
            return KeyId(*id);
        }
        // A batch's keys are bounded by its operations.
        let id = keys.len() as u32;
        let rehash = |id: &u32| match &keys[*id as usize][..] {
            [first, tail @ ..] => hash(*first, tail),
            [] => 0,
        };
        self.index.insert_unique(hashed, id, rehash);
        self.keys.push(make());
        KeyId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_number_and_kinds_are_told_apart() {
        let mut keys = Keys::default();
        let paths: Vec<String> = (0..1_000).map(|n| format!("/{n}")).collect();
        let kinds = [Kind::Node, Kind::Children, Kind::Acl];
        let ids: Vec<KeyId> = paths
            .iter()
            .flat_map(|path| kinds.map(|kind| (kind, path)))
            .map(|(kind, path)| keys.of(kind, path))
            .collect();
        let session = keys.session(7);
        let again = paths.iter().flat_map(|path| kinds.map(|kind| (kind, path)));
        assert!(again.zip(&ids).all(|((kind, path), id)| keys.of(kind, path) == *id));
        assert_eq!(keys.session(7), session);
        assert_eq!(ids.iter().map(|id| id.index()).collect::<Vec<_>>(), (0..3_000).collect::<Vec<_>>());
        assert_eq!(keys.get(ids[4]), &key::children("/1"));
        assert_eq!(keys.get(session), &key::session(7));
    }
}
