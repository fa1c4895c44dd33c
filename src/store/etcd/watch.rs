//! The change stream: one watch over the prefix, its events put together to whole revisions.

use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{Client, WatchOptions, WatchStream};
use futures::{StreamExt, stream};

use super::convert::Prefix;
use super::failure::Failure;
use crate::store::{Change, ChangeStream, Revision, StoreError};

/// The largest watch response taken: as much as etcd can send. One holds up to 1,000 revisions, and those that queued
/// up before the watch was confirmed come in one piece, fragments allowed or not.
const MAX_RESPONSE_BYTES: usize = i32::MAX as usize;

/// `WatchResponse`'s event types, from etcd's kv.proto.
const PUT: i32 = 0;
const DELETE: i32 = 1;

/// A watch that etcd has confirmed.
pub(super) struct Watch {
    stream: WatchStream,
    assembler: Assembler,
}

impl Watch {
    /// Opens a watch from revision `from` on, and waits until etcd has confirmed it.
    pub async fn open(client: Client, prefix: Prefix, from: i64) -> Result<Self, Failure> {
        let options = WatchOptions::new().with_range(prefix.end()).with_start_revision(from.max(1)).with_fragment();
        let mut watches = client.watch_client().max_decoding_message_size(MAX_RESPONSE_BYTES);
        let mut stream = watches.watch(prefix.start(), Some(options)).await?;
        match stream.message().await?.map(|response| response.0) {
            Some(response) if response.created && !response.canceled => {
                Ok(Watch { stream, assembler: Assembler::new(prefix) })
            }
            Some(response) => Err(refusal(&response)),
            None => Err(ended()),
        }
    }

    pub fn into_stream(self) -> ChangeStream {
        let runs = stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(run) => Some((Ok(run), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        });
        runs.boxed()
    }

    /// The next whole revisions, at least one.
    async fn next(&mut self) -> Result<Vec<Revision>, StoreError> {
        loop {
            let response = self.stream.message().await.map_err(Failure::from)?.ok_or_else(ended)?.0;
            if response.compact_revision != 0 {
                return Err(StoreError::Compacted { revision: response.compact_revision });
            }
            if response.canceled {
                return Err(refusal(&response).into());
            }
            let run = self.assembler.push(response.events, response.fragment)?;
            if !run.is_empty() {
                return Ok(run);
            }
        }
    }
}

/// A watch that etcd does not grant, or ends.
fn refusal(response: &PbWatchResponse) -> Failure {
    let why = format!("etcd ended the watch: {}", response.cancel_reason);
    let says = |part: &str| response.cancel_reason.contains(part);
    // etcd 3.4 says "permission denied", too, where it does not know the token.
    if says("auth token") || says("auth store is old") || says("permission denied") {
        Failure::Unauthenticated(why)
    } else if says("user name is empty") {
        Failure::Refused("etcd wants a user and a password".to_owned())
    } else {
        Failure::away(why)
    }
}

fn ended() -> Failure {
    Failure::away("etcd ended the watch")
}

/// Puts events together to revisions. A response holds whole revisions, unless it says that a fragment follows: then
/// its last revision may go on there.
struct Assembler {
    prefix: Prefix,
    /// The newest revision given out.
    given: i64,
    /// The last revision of a fragment.
    open: Option<Revision>,
}

impl Assembler {
    fn new(prefix: Prefix) -> Self {
        Assembler { prefix, given: 0, open: None }
    }

    /// The revisions that are whole now that `events` have come. An error where etcd goes back in time or sends what
    /// it should not (old versions are known to): the watch has to be opened anew.
    fn push(&mut self, events: Vec<PbEvent>, fragment: bool) -> Result<Vec<Revision>, Failure> {
        let mut whole = Vec::new();
        for event in events {
            let (revision, change) = self.change(event)?;
            if revision <= self.given {
                let given = self.given;
                return Err(Failure::away(format!("etcd's watch went back from revision {given} to {revision}")));
            }
            match &mut self.open {
                Some(open) if open.revision == revision => open.changes.push(change),
                open => {
                    if let Some(done) = open.replace(Revision { revision, changes: vec![change] }) {
                        self.given = done.revision;
                        whole.push(done);
                        if revision <= self.given {
                            return Err(Failure::away("etcd's watch sent revisions out of order"));
                        }
                    }
                }
            }
        }
        if !fragment && let Some(done) = self.open.take() {
            self.given = done.revision;
            whole.push(done);
        }
        Ok(whole)
    }

    fn change(&self, event: PbEvent) -> Result<(i64, Change), Failure> {
        let foreign = || Failure::away("etcd's watch sent what was not asked for");
        let kv = event.kv.ok_or_else(foreign)?;
        let revision = kv.mod_revision;
        let change = match event.r#type {
            PUT => Change::Put(self.prefix.key_value(kv).ok_or_else(foreign)?),
            DELETE => Change::Delete { key: self.prefix.strip(kv.key).ok_or_else(foreign)? },
            _ => return Err(foreign()),
        };
        Ok((revision, change))
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbKeyValue;

    use super::*;

    fn deletion(revision: i64, key: &str) -> PbEvent {
        let kv = PbKeyValue { key: format!("/p/{key}").into(), mod_revision: revision, ..Default::default() };
        PbEvent { r#type: DELETE, kv: Some(kv), prev_kv: None }
    }

    fn assembler() -> Assembler {
        Assembler::new(Prefix::new("/p"))
    }

    fn revisions(run: &[Revision]) -> Vec<(i64, usize)> {
        run.iter().map(|revision| (revision.revision, revision.changes.len())).collect()
    }

    #[test]
    fn a_response_without_fragments_holds_whole_revisions() {
        let mut assembler = assembler();
        let run = assembler.push(vec![deletion(3, "a"), deletion(3, "b"), deletion(5, "a")], false).unwrap();
        assert_eq!(revisions(&run), [(3, 2), (5, 1)]);
        let run = assembler.push(vec![deletion(6, "a")], false).unwrap();
        assert_eq!(revisions(&run), [(6, 1)]);
        assert_eq!(run[0].changes, [Change::Delete { key: "a".into() }]);
    }

    #[test]
    fn a_revision_in_two_fragments_is_given_when_whole() {
        let mut assembler = assembler();
        let run = assembler.push(vec![deletion(3, "a"), deletion(4, "a")], true).unwrap();
        assert_eq!(revisions(&run), [(3, 1)]);
        assert!(assembler.push(vec![deletion(4, "b")], true).unwrap().is_empty());
        let run = assembler.push(vec![deletion(4, "c"), deletion(5, "a")], false).unwrap();
        assert_eq!(revisions(&run), [(4, 3), (5, 1)]);
    }

    #[test]
    fn a_stream_that_goes_back_is_given_up() {
        let mut assembler = assembler();
        assembler.push(vec![deletion(3, "a")], false).unwrap();
        assert!(assembler.push(vec![deletion(3, "b")], false).is_err(), "the rest of a revision given out");
        let mut assembler = self::assembler();
        assert!(assembler.push(vec![deletion(3, "a"), deletion(2, "b")], false).is_err());
    }

    #[test]
    fn foreign_events_are_errors() {
        let mut foreign = deletion(3, "a");
        foreign.kv.as_mut().unwrap().key = b"/q/a".to_vec();
        assert!(assembler().push(vec![foreign], false).is_err());
        assert!(assembler().push(vec![PbEvent { r#type: DELETE, kv: None, prev_kv: None }], false).is_err());
        let mut unknown = deletion(3, "a");
        unknown.r#type = 7;
        assert!(assembler().push(vec![unknown], false).is_err());
    }
}
