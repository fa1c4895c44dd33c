//! Keys that several servers write: each batch of one makes those of the others fail that are based on what it
//! overwrote. So a server that has had its turn leaves such a key to the others until one of them has had its own.

use bytes::Bytes;
use hashbrown::HashMap;

use crate::store::{Change, Revision};

/// How long a claim holds, in milliseconds: some round trips to etcd.
const CLAIM_MS: u64 = 50;

/// How long a key is left to another server after a batch of one's own, in milliseconds: a busy server's next batch takes
/// less. It may have nothing to write any more.
const TURN_MS: u64 = 10;

/// How long, in milliseconds, another server is thought to write a key after it was last seen to.
const SHARED_MS: u64 = 2 * TURN_MS;

/// See the module's documentation. Times are milliseconds of the engine's clock.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Keys that are another server's turn, and until when.
    left: HashMap<Bytes, u64>,
    /// Keys that this server claimed before another did, and until when: all heed the first claim in the store's order.
    mine: HashMap<Bytes, u64>,
    /// Keys that another server writes too, and when it was last seen.
    shared: HashMap<Bytes, u64>,
}

impl Turns {
    pub fn is_left(&self, key: &[u8]) -> bool {
        !self.left.is_empty() && self.left.contains_key(key)
    }

    /// Another server asks for these keys.
    pub fn claimed(&mut self, keys: &[Bytes], now: u64) {
        for key in keys.iter().filter(|key| !self.mine.contains_key(*key)) {
            self.left.insert(key.clone(), now + CLAIM_MS);
            self.shared.insert(key.clone(), now);
        }
    }

    /// This server's own claim has come through the store.
    pub fn claimed_here(&mut self, keys: &[Bytes], now: u64) {
        for key in keys.iter().filter(|key| !self.left.contains_key(*key)) {
            self.mine.insert(key.clone(), now + CLAIM_MS);
        }
    }

    /// Another server wrote. `is_wanted`: whether a batch of one's own that writes the key is under way. True: some key is
    /// left to nobody any more.
    pub fn others(&mut self, revision: &Revision, now: u64, is_wanted: impl Fn(&Bytes) -> bool) -> bool {
        let before = self.left.len();
        for key in revision.changes.iter().map(Change::key) {
            self.left.remove(key);
            self.mine.remove(key);
            if let Some(seen) = self.shared.get_mut(key) {
                *seen = now;
            } else if is_wanted(key) {
                self.shared.insert(key.clone(), now);
            }
        }
        self.left.len() < before
    }

    /// A batch of one's own came to this revision.
    pub fn own(&mut self, revision: &Revision, now: u64) {
        if self.shared.is_empty() {
            return;
        }
        for key in revision.changes.iter().map(Change::key) {
            self.mine.remove(key);
            if self.shared.get(key).is_some_and(|seen| now.saturating_sub(*seen) < SHARED_MS) {
                self.left.insert(key.clone(), now + TURN_MS);
            }
        }
    }

    /// Forgets what is over. True: some key is left to nobody any more.
    pub fn expire(&mut self, now: u64) -> bool {
        let (before, shared) = (self.left.len(), &mut self.shared);
        self.left.retain(|key, until| {
            let is_left = *until > now;
            if !is_left {
                // Nobody came for it.
                shared.remove(key);
            }
            is_left
        });
        self.mine.retain(|_, until| *until > now);
        self.shared.retain(|_, seen| now.saturating_sub(*seen) < SHARED_MS);
        self.left.len() < before
    }

    /// When the next key is left to nobody any more, where none of them is written before.
    pub fn next(&self) -> Option<u64> {
        self.left.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn key() -> Bytes {
        Bytes::from_static(b"c/a")
    }

    fn revision() -> Revision {
        Revision { revision: 7, changes: vec![Change::Delete { key: key() }] }
    }

    #[test]
    fn who_has_had_its_turn_leaves_a_shared_key_to_the_others_for_a_while() {
        let mut turns = Turns::default();
        turns.own(&revision(), NOW);
        assert!(!turns.is_left(&key()), "nobody else writes it");
        assert!(!turns.others(&revision(), NOW, |_| false));
        turns.own(&revision(), NOW);
        assert!(!turns.is_left(&key()), "the other was not in the way");
        turns.others(&revision(), NOW, |_| true);
        turns.own(&revision(), NOW + 1);
        assert!(turns.is_left(&key()));
        assert!(turns.others(&revision(), NOW + 2, |_| false), "the other has had its turn");
        assert!(!turns.is_left(&key()));
        turns.own(&revision(), NOW + 3);
        assert_eq!(turns.next(), Some(NOW + 3 + TURN_MS));
        assert!(!turns.expire(NOW + 2 + TURN_MS));
        assert!(turns.expire(NOW + 3 + TURN_MS), "nobody came for it");
        turns.own(&revision(), NOW + 3 + TURN_MS);
        assert!(!turns.is_left(&key()), "it is not shared any more");
    }

    #[test]
    fn the_first_claim_holds() {
        let mut turns = Turns::default();
        turns.claimed_here(&[key()], NOW);
        turns.claimed(&[key()], NOW);
        assert!(!turns.is_left(&key()));
        turns.expire(NOW + CLAIM_MS);
        turns.claimed(&[key()], NOW + CLAIM_MS);
        assert!(turns.is_left(&key()));
        turns.claimed_here(&[key()], NOW + CLAIM_MS);
        assert!(turns.is_left(&key()), "the other's was first");
    }
}
