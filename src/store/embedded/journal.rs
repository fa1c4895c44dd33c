//! The last revisions, and the streams that read them.
//!
//! Streams hold no queue of their own: each one is a position in the one history, which keeps what one of them has not read
//! yet, and some of what all have. A consumer slower than the history is long finds its place gone and is told so
//! (`Compacted`), whatever it costs it costs nobody else.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Change, ChangeStream, Revision, StoreError};

/// How many revisions the history keeps: a second or so of the fastest writing this store is meant for, and hours of
/// an ordinary one.
const HISTORY_REVISIONS: usize = 200_000;

/// How many bytes the history takes at most: what two lanes' largest batches have in flight (56 MiB each), or four seconds
/// of the fastest writing, for whoever reads a large snapshot before its stream begins.
const UNREAD_BYTES: usize = 128 * 1024 * 1024;

/// How many bytes it takes where all of its streams, of which there are some, have read them: for one that is opened anew.
const READ_BYTES: usize = 1024 * 1024;

/// What a change takes beside its key and value: its own 104 bytes, and what the two allocations round up and share.
const CHANGE_BYTES: usize = 200;

/// How many revisions a stream gives in one item: enough to pay for the waking, little enough to give way.
const RUN_REVISIONS: usize = 1024;

#[derive(Debug)]
pub(super) struct Journal {
    history: Mutex<History>,
    /// The newest revision; changed, too, where the journal is closed.
    published: watch::Sender<i64>,
}

#[derive(Debug)]
struct History {
    /// The revision of the front; where `revisions` is empty, the one that comes next.
    first: i64,
    revisions: VecDeque<Revision>,
    bytes: usize,
    /// The revision that each stream reads next.
    readers: Vec<Weak<AtomicI64>>,
    closed: Option<StoreError>,
}

impl Journal {
    /// A journal that begins after `revision`.
    pub fn new(revision: i64) -> Arc<Self> {
        let history =
            History { first: revision + 1, revisions: VecDeque::new(), bytes: 0, readers: Vec::new(), closed: None };
        Arc::new(Journal { history: Mutex::new(history), published: watch::Sender::new(revision) })
    }

    /// Shows `revisions`, which follow the last ones without a gap, to the streams.
    pub fn publish(&self, revisions: Vec<Revision>) {
        let Some(newest) = revisions.last().map(|revision| revision.revision) else { return };
        self.history.lock().append(revisions);
        self.published.send_replace(newest);
    }

    /// Forgets what came before `revision`.
    pub fn compact(&self, revision: i64) {
        let mut history = self.history.lock();
        while history.first < revision && history.drop_first() {}
    }

    /// Ends every stream, present and future, with `error`.
    pub fn close(&self, error: StoreError) {
        self.history.lock().closed.get_or_insert(error);
        self.published.send_modify(|_| {});
    }

    /// The revisions from `from` on. `Compacted`, at once or later, where the history no longer has the next one.
    pub fn stream(self: &Arc<Self>, from: i64) -> Result<ChangeStream, StoreError> {
        let next = self.history.lock().reader(from)?;
        let reader = Reader { journal: self.clone(), next, published: self.published.subscribe() };
        let revisions = stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.read().await {
                Ok(run) => Some((Ok(run), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(revisions.boxed())
    }
}

impl History {
    fn append(&mut self, revisions: Vec<Revision>) {
        for revision in revisions {
            assert_eq!(revision.revision, self.first + self.revisions.len() as i64, "a gap in the history");
            self.bytes += size(&revision);
            self.revisions.push_back(revision);
        }
        let unread = self.unread();
        while self.revisions.len() > HISTORY_REVISIONS
            || self.bytes > UNREAD_BYTES
            || (self.bytes > READ_BYTES && self.first < unread)
        {
            if self.revisions.len() == 1 || !self.drop_first() {
                return;
            }
        }
    }

    /// The first revision that a stream has not read; where there is no stream, the first of all.
    fn unread(&self) -> i64 {
        let next = self.readers.iter().filter_map(Weak::upgrade).map(|next| next.load(Ordering::Relaxed));
        next.min().unwrap_or(self.first)
    }

    /// A stream's position. What is gone is told before the stream exists.
    fn reader(&mut self, next: i64) -> Result<Arc<AtomicI64>, StoreError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if next < self.first {
            return Err(StoreError::Compacted { revision: self.first });
        }
        let next = Arc::new(AtomicI64::new(next));
        self.readers.retain(|next| next.strong_count() > 0);
        self.readers.push(Arc::downgrade(&next));
        Ok(next)
    }

    fn drop_first(&mut self) -> bool {
        let Some(revision) = self.revisions.pop_front() else { return false };
        self.bytes -= size(&revision);
        self.first += 1;
        true
    }

    /// A run of revisions from `next` on; empty where there is none yet.
    fn run(&self, next: i64) -> Result<Vec<Revision>, StoreError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let skipped = usize::try_from(next - self.first);
        let skipped = skipped.map_err(|_| StoreError::Compacted { revision: self.first })?;
        Ok(self.revisions.iter().skip(skipped).take(RUN_REVISIONS).cloned().collect())
    }
}

struct Reader {
    journal: Arc<Journal>,
    next: Arc<AtomicI64>,
    published: watch::Receiver<i64>,
}

impl Reader {
    async fn read(&mut self) -> Result<Vec<Revision>, StoreError> {
        loop {
            self.published.mark_unchanged();
            let run = self.journal.history.lock().run(self.next.load(Ordering::Relaxed))?;
            if let Some(last) = run.last() {
                self.next.store(last.revision + 1, Ordering::Relaxed);
                return Ok(run);
            }
            // The sender lives in the journal that this reader holds.
            let _ = self.published.changed().await;
        }
    }
}

/// What a revision takes in memory, about.
pub(super) fn size(revision: &Revision) -> usize {
    let bytes = |change: &Change| match change {
        Change::Put(kv) => kv.key.len() + kv.value.len() + CHANGE_BYTES,
        Change::Delete { key } => key.len() + CHANGE_BYTES,
    };
    revision.changes.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn revision(revision: i64, key: &[u8]) -> Revision {
        Revision { revision, changes: vec![Change::Delete { key: Bytes::copy_from_slice(key) }] }
    }

    #[tokio::test]
    async fn a_slow_consumer_loses_its_place_and_costs_no_memory() {
        let journal = Journal::new(1);
        let mut slow = journal.stream(2).unwrap();
        for n in 0..HISTORY_REVISIONS as i64 + 10 {
            journal.publish(vec![revision(2 + n, b"k")]);
        }
        assert_eq!(journal.history.lock().revisions.len(), HISTORY_REVISIONS);
        assert_eq!(slow.next().await, Some(Err(StoreError::Compacted { revision: 12 })));
        assert!(slow.next().await.is_none());
        let run = journal.stream(12).unwrap().next().await.unwrap().unwrap();
        assert_eq!(run.first().map(|r| r.revision), Some(12));
    }

    /// Of a history of revisions of a quarter of the most each, how many are kept.
    fn kept(journal: &Arc<Journal>, first: i64) -> usize {
        let key = vec![0; UNREAD_BYTES / 4];
        for n in 0..10 {
            journal.publish(vec![revision(first + n, &key)]);
        }
        journal.history.lock().revisions.len()
    }

    #[test]
    fn the_history_is_bounded_in_bytes() {
        let journal = Journal::new(1);
        assert_eq!(kept(&journal, 2), 3);
        journal.publish(vec![revision(12, &vec![0; UNREAD_BYTES])]);
        assert_eq!(journal.history.lock().revisions.len(), 1, "the newest stays, however large");
    }

    #[tokio::test]
    async fn what_all_have_read_is_kept_for_less_long() {
        let journal = Journal::new(1);
        let mut slow = journal.stream(2).unwrap();
        let quick = journal.stream(12).unwrap();
        assert_eq!(kept(&journal, 2), 3, "the slow one has read nothing");
        assert_eq!(slow.next().await, Some(Err(StoreError::Compacted { revision: 9 })));
        drop(slow);
        assert_eq!(kept(&journal, 12), 3, "nor has the quick one");
        let mut anew = journal.stream(19).unwrap();
        drop(quick);
        assert_eq!(anew.next().await.unwrap().unwrap().len(), 3);
        journal.publish(vec![revision(22, b"k")]);
        assert_eq!(journal.history.lock().first, 22);
        assert_eq!(anew.next().await.unwrap().unwrap().len(), 1);
        drop(anew);
        assert_eq!(kept(&journal, 23), 3, "whoever comes next may have begun to read long ago");
    }

    #[tokio::test]
    async fn closing_ends_the_streams() {
        let journal = Journal::new(1);
        let mut stream = journal.stream(2).unwrap();
        let error = StoreError::Unavailable("closed".into());
        journal.close(error.clone());
        assert_eq!(stream.next().await, Some(Err(error.clone())));
        assert_eq!(journal.stream(2).err(), Some(error));
    }
}
