//! What stands in for the data directory in a store that ends with its process.

use bytes::Bytes;
use hashbrown::HashMap;

use super::state::{State, Touched, Values, key_value};
use crate::store::{KeyValue, StoreError};

/// The values.
#[derive(Debug, Default)]
pub(super) struct Memory(HashMap<Bytes, Bytes>);

impl Memory {
    pub fn write(&mut self, touched: Touched) {
        for (key, value) in touched.keys {
            match value {
                Some((_, value)) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    pub fn entries(&self, state: &State) -> Vec<KeyValue> {
        let entry = |(key, value): (&Bytes, &Bytes)| Some(key_value(key.clone(), value.clone(), state.entry(key)?));
        self.0.iter().filter_map(entry).collect()
    }
}

impl Values for Memory {
    fn value(&self, key: &[u8]) -> Result<Bytes, StoreError> {
        let value = self.0.get(key).cloned();
        value.ok_or_else(|| StoreError::Unavailable(format!("the value of {} is not there", key.escape_ascii())))
    }
}
