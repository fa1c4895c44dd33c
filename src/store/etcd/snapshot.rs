//! Every key under the prefix at one revision, read by ranges with an end.
//!
//! An open range with a limit costs etcd, for each page, all that is left: a million keys took minutes. So the key
//! space is halved by what it holds: a range with more keys than a page is cut at the byte in which its keys
//! begin to differ, and its parts are counted and read for themselves.

use etcd_client::{Client, GetOptions, GetResponse, KvClient};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};

use super::{CALL, MAX_RESPONSE, convert, within};
use crate::store::{KeyValue, Snapshot, StoreError};

/// Keys read at once.
const PAGE: i64 = 10_000;

/// Requests under way at once, at each level of the cutting.
const CONCURRENT: usize = 16;

/// How often a snapshot is begun anew because its revision was compacted away meanwhile.
const TRIES: usize = 5;

/// Reads it, linearizable.
pub async fn read(client: &Client, prefix: &[u8]) -> Result<Snapshot, StoreError> {
    let mut last = StoreError::Compacted { revision: 0 };
    for _ in 0..TRIES {
        match attempt(client, prefix).await {
            Err(error @ StoreError::Compacted { .. }) => last = error,
            result => return result,
        }
    }
    Err(StoreError::Unavailable(format!("no snapshot in {TRIES} tries: {last}")))
}

async fn attempt(client: &Client, prefix: &[u8]) -> Result<Snapshot, StoreError> {
    let mut reader = Reader {
        kv: client.kv_client().max_decoding_message_size(MAX_RESPONSE),
        strip: prefix.len(),
        revision: 0,
    };
    let first = reader.get(prefix.to_vec(), range().with_count_only()).await?;
    reader.revision = first.header().map_or(0, |header| header.revision());
    let entries = reader.load(prefix.to_vec(), first.count()).await?;
    Ok(Snapshot { revision: reader.revision, entries })
}

#[derive(Clone)]
struct Reader {
    kv: KvClient,
    strip: usize,
    /// 0: the newest.
    revision: i64,
}

impl Reader {
    async fn get(&self, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, StoreError> {
        let mut kv = self.kv.clone();
        within(CALL * 4, kv.get(key, Some(options.with_revision(self.revision)))).await
    }

    async fn count(&self, prefix: &[u8]) -> Result<i64, StoreError> {
        Ok(self.get(prefix.to_vec(), range().with_count_only()).await?.count())
    }

    /// All `count` keys that begin with `prefix`.
    fn load(&self, prefix: Vec<u8>, count: i64) -> BoxFuture<'_, Result<Vec<KeyValue>, StoreError>> {
        Box::pin(async move {
            if count == 0 {
                return Ok(Vec::new());
            }
            if count <= PAGE {
                return self.page(&prefix).await;
            }
            let stem = self.stem(&prefix, count).await?;
            let mut entries = self.one(&stem).await?;
            let parts = futures::stream::iter(0..=u8::MAX).map(|byte| {
                let mut part = stem.clone();
                part.push(byte);
                async move {
                    let count = self.count(&part).await?;
                    self.load(part, count).await
                }
            });
            let mut parts = parts.buffer_unordered(CONCURRENT);
            while let Some(part) = parts.try_next().await? {
                entries.extend(part);
            }
            Ok(entries)
        })
    }

    async fn page(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, StoreError> {
        let mut response = self.get(prefix.to_vec(), range()).await?;
        response.take_kvs().into_iter().map(|kv| convert::key_value(kv, self.strip)).collect()
    }

    async fn one(&self, key: &[u8]) -> Result<Vec<KeyValue>, StoreError> {
        let mut response = self.get(key.to_vec(), GetOptions::new()).await?;
        response.take_kvs().into_iter().map(|kv| convert::key_value(kv, self.strip)).collect()
    }

    /// The longest beginning that all `count` keys of `prefix` share.
    async fn stem(&self, prefix: &[u8], count: i64) -> Result<Vec<u8>, StoreError> {
        let options = range().with_limit(1).with_keys_only();
        let mut response = self.get(prefix.to_vec(), options).await?;
        let Some(first) = response.take_kvs().into_iter().next() else { return Ok(prefix.to_vec()) };
        let key = first.key();
        // Invariant: `key[..shared]` is shared by all, `key[..=key.len()]` by one at most.
        let (mut shared, mut unshared) = (prefix.len(), key.len() + 1);
        while unshared - shared > 1 {
            let middle = shared + (unshared - shared) / 2;
            if self.count(&key[..middle]).await? == count {
                shared = middle;
            } else {
                unshared = middle;
            }
        }
        Ok(key[..shared].to_vec())
    }
}

fn range() -> GetOptions {
    GetOptions::new().with_prefix()
}
