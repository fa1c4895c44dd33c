//! Keys that several servers write: each batch of one makes those of the others fail that are based on what it
//! overwrote. So a server that has had its turn leaves such a key to the others until one of them has had its own.

use bytes::Bytes;
use hashbrown::HashMap;

use crate::store::Revision;

/// How long keys that another server claims are left out of batches, in milliseconds: some round trips to etcd.
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
    /// Keys that another server writes too, and when it was last seen.
    shared: HashMap<Bytes, u64>,
}

impl Turns {
    pub fn is_left(&self, key: &[u8]) -> bool {
        !self.left.is_empty() && self.left.contains_key(key)
    }

    /// Another server asks for these keys.
    pub fn claimed(&mut self, keys: &[Bytes], now: u64) {
        for key in keys {
            self.left.insert(key.clone(), now + CLAIM_MS);
            self.shared.insert(key.clone(), now);
        }
    }

    /// Another server wrote. `is_wanted`: whether a batch of one's own that writes the key is under way. True: some key is
    /// left to nobody any more.
    pub fn others(&mut self, revision: &Revision, now: u64, is_wanted: impl Fn(&Bytes) -> bool) -> bool {
        let before = self.left.len();
        for change in &revision.changes {
            let key = change.key();
            self.left.remove(key);
            if let Some(seen) = self.shared.get_mut(key) {
                *seen = now;
            } else if is_wanted(key) {
                self.shared.insert(key.clone(), now);
            }
        }
        self.left.len() < before
    }

    /// A batch of one's own took effect, which wrote these keys.
    pub fn own(&mut self, keys: &[Bytes], now: u64) {
        if self.shared.is_empty() {
            return;
        }
        for key in keys {
            if self.shared.get(key).is_some_and(|seen| now - seen < SHARED_MS) {
                self.left.insert(key.clone(), now + TURN_MS);
            }
        }
    }

    /// Forgets what is over. True: some key is left to nobody any more.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = self.left.len();
        self.left.retain(|_, until| *until > now);
        self.shared.retain(|_, seen| now - *seen < SHARED_MS);
        self.left.len() < before
    }

    /// When the next key is left to nobody any more, where none of them is written before.
    pub fn next(&self) -> Option<u64> {
        self.left.values().min().copied()
    }
}
