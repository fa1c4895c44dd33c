//! Reading every key under the prefix at one revision, in pages.
//!
//! A range costs etcd a walk over all keys between its two ends, also where a limit cuts the answer short: a million
//! keys read by `[last key, end of the prefix)` again and again cost half a million walks of a million. So each page
//! asks for a range whose end is guessed from how densely the keys before it lay, and the guess follows what it finds.

use etcd_client::proto::PbKeyValue;
use etcd_client::{Client, GetOptions};

use super::convert::Prefix;
use super::failure::Failure;
use super::members::Members;
use crate::store::{KeyValue, Snapshot, StoreError};

/// How many keys the first page asks for.
const FIRST_PAGE: i64 = 1_000;

/// How many keys a page asks for at most.
const MAX_PAGE: i64 = 10_000;

/// How large an answer the page size aims at: large enough to pay for the call, small enough to be read at ease.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The largest answer taken, beside what one value may need. A page that turns out larger is asked for again, smaller.
const MAX_PAGE_BYTES: usize = 64 * 1024 * 1024;

/// What a key costs in an answer beside its key and value.
const RECORD_BYTES: usize = 32;

/// By how much a page shrinks that was too large.
const SHRINK: i64 = 8;

/// How often the reading starts over where etcd compacted the revision being read. Compactions come minutes apart.
const TRIES: usize = 5;

/// Reads all keys. `request_bytes`: the largest value there can be.
pub(super) async fn read(members: &Members, prefix: &Prefix, request_bytes: usize) -> Result<Snapshot, StoreError> {
    for _ in 0..TRIES {
        match read_once(members, prefix, request_bytes).await {
            Err(Failure::Compacted) => {}
            result => return result.map_err(StoreError::from),
        }
    }
    Err(StoreError::Unavailable(format!("etcd compacted the revision being read, {TRIES} times")))
}

async fn read_once(members: &Members, prefix: &Prefix, request_bytes: usize) -> Result<Snapshot, Failure> {
    let mut walk = Walk::new(prefix.start(), prefix.end());
    let mut snapshot = Snapshot { revision: 0, entries: Vec::new() };
    let mut total = 0;
    while let Some(range) = walk.range() {
        let limit = walk.limit;
        let page = members.call(|client| read_page(client, &range, limit, snapshot.revision, request_bytes)).await;
        let page = match page {
            Err(Failure::TooLarge) if limit > 1 => {
                walk.limit = (limit / SHRINK).max(1);
                continue;
            }
            page => page?,
        };
        if snapshot.revision == 0 {
            // The first range is the whole prefix.
            (snapshot.revision, total) = (page.revision, page.count);
        }
        let keys: Vec<&[u8]> = page.kvs.iter().map(|kv| &kv.key[..]).collect();
        let bytes = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len() + RECORD_BYTES).sum();
        walk.advance(range, &keys, page.count, bytes)?;
        for kv in page.kvs {
            let entry: Option<KeyValue> = prefix.key_value(kv);
            snapshot.entries.push(entry.ok_or_else(unexpected)?);
        }
    }
    if usize::try_from(total) != Ok(snapshot.entries.len()) {
        let read = snapshot.entries.len();
        return Err(Failure::away(format!("etcd gave {read} keys of the {total} it counted")));
    }
    Ok(snapshot)
}

struct Page {
    revision: i64,
    /// How many keys the range has, whatever the limit.
    count: i64,
    kvs: Vec<PbKeyValue>,
}

/// `revision` 0: the newest.
async fn read_page(
    client: Client,
    range: &Range,
    limit: i64,
    revision: i64,
    request_bytes: usize,
) -> Result<Page, Failure> {
    let options = GetOptions::new().with_range(&range.end[..]).with_limit(limit).with_revision(revision);
    let mut kv = client.kv_client().max_decoding_message_size(MAX_PAGE_BYTES.max(2 * request_bytes));
    let response = kv.get(&range.start[..], Some(options)).await?.0;
    let header = response.header.ok_or_else(unexpected)?;
    Ok(Page { revision: header.revision, count: response.count, kvs: response.kvs })
}

fn unexpected() -> Failure {
    Failure::away("etcd gave what was not asked for")
}

/// From `start`, included, to `end`, excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    start: Vec<u8>,
    end: Vec<u8>,
}

/// Where the reading has got to, and how far the next page reaches.
struct Walk {
    rest: Range,
    /// The length of what all keys begin with.
    floor: usize,
    /// None: to the end.
    span: Option<Span>,
    /// How many keys the next page asks for.
    limit: i64,
}

/// A distance between keys, read as fractions of base 256: `delta` at the place `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    position: usize,
    delta: u32,
}

impl Walk {
    fn new(start: Vec<u8>, end: Vec<u8>) -> Self {
        let floor = start.len();
        Walk { rest: Range { start, end }, floor, span: None, limit: FIRST_PAGE }
    }

    /// The next page's range; none where all is read.
    fn range(&self) -> Option<Range> {
        let Range { start, end } = &self.rest;
        let guess = self.span.and_then(|span| span.after(start)).unwrap_or_else(|| end.clone());
        (start < end).then(|| Range { start: start.clone(), end: guess.min(end.clone()) })
    }

    /// Moves on past a page that gave `keys`, in their order, of the `count` that `range` has.
    fn advance(&mut self, range: Range, keys: &[&[u8]], count: i64, bytes: usize) -> Result<(), Failure> {
        let given = keys.len() as i64;
        let start = match keys.last() {
            Some(last) if given < count => {
                self.span = density(keys);
                [last, &b"\0"[..]].concat()
            }
            _ => {
                let factor = match given {
                    // Over the edge of a densely filled place, whose span is far too small for what comes next.
                    0 => 256,
                    given if given < self.limit / 4 => 4,
                    _ => 1,
                };
                self.span = self.span.and_then(|span| span.widened(factor, self.floor));
                range.end
            }
        };
        if start <= range.start {
            return Err(unexpected());
        }
        self.rest.start = start;
        if let Some(each) = bytes.checked_div(keys.len()) {
            let fitting = i64::try_from(PAGE_BYTES / each.max(1)).unwrap_or(MAX_PAGE);
            self.limit = fitting.min(self.limit * 4).clamp(1, MAX_PAGE);
        }
        Ok(())
    }
}

impl Span {
    /// The first key that is this far from `key`; none past the last key there can be.
    fn after(self, key: &[u8]) -> Option<Vec<u8>> {
        let mut after = key.to_vec();
        after.resize(self.position + 1, 0);
        let mut carry = self.delta;
        for digit in after.iter_mut().rev() {
            carry += u32::from(*digit);
            *digit = (carry % 256) as u8;
            carry /= 256;
        }
        (carry == 0).then_some(after)
    }

    /// `factor` times as far; none past `floor`.
    fn widened(self, factor: u32, floor: usize) -> Option<Span> {
        let Span { mut position, mut delta } = self;
        delta *= factor;
        while delta > 255 {
            position = position.checked_sub(1).filter(|position| *position >= floor)?;
            delta = (delta / 256).max(1);
        }
        Some(Span { position, delta })
    }

    /// How far `to` is from `from`, which is before it, in one digit.
    fn between(from: &[u8], to: &[u8]) -> Span {
        let digit = |key: &[u8], position: usize| key.get(position).copied().map_or(0, u32::from);
        let position = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        match digit(to, position).saturating_sub(digit(from, position)) {
            // The leading digits are neighbours: the next ones tell how near.
            0 | 1 => {
                let delta = (256 + digit(to, position + 1)).saturating_sub(digit(from, position + 1));
                Span { position: position + 1, delta: delta.clamp(1, 255) }
            }
            delta => Span { position, delta },
        }
    }
}

/// The span over which keys lie as densely as in the denser half of `keys`: where the page crosses from one crowded
/// place to another, the gap between the two says nothing.
fn density(keys: &[&[u8]]) -> Option<Span> {
    let (first, last) = (keys.first()?, keys.last()?);
    let middle = keys.get(keys.len() / 2)?;
    let (one, other) = (Span::between(first, middle), Span::between(middle, last));
    let size = |span: &Span| (std::cmp::Reverse(span.position), span.delta);
    Some(if size(&one) < size(&other) { one } else { other })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What reading `keys` costs.
    struct Cost {
        pages: usize,
        /// Keys that etcd walks over.
        walked: usize,
    }

    /// Reads `keys` as etcd would give them and checks that all come, in order and once.
    fn read_all(keys: &BTreeSet<Vec<u8>>, value_bytes: usize) -> Cost {
        let mut walk = Walk::new(b"/p/".to_vec(), b"/p0".to_vec());
        let mut cost = Cost { pages: 0, walked: 0 };
        let mut read: Vec<Vec<u8>> = Vec::new();
        while let Some(range) = walk.range() {
            let within: Vec<&[u8]> = keys.range(range.start.clone()..range.end.clone()).map(|key| &key[..]).collect();
            let page: Vec<&[u8]> = within.iter().take(walk.limit as usize).copied().collect();
            read.extend(page.iter().map(|key| key.to_vec()));
            cost.pages += 1;
            cost.walked += within.len();
            let bytes = page.len() * value_bytes;
            walk.advance(range, &page, within.len() as i64, bytes).unwrap();
        }
        assert!(read.iter().eq(keys), "not every key once and in order");
        cost
    }

    /// A number that looks random and is the same in every run.
    fn scatter(n: u64) -> u64 {
        let x = n.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ (x >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    fn check(name: &str, keys: impl Iterator<Item = String>) {
        let keys: BTreeSet<Vec<u8>> = keys.map(|key| format!("/p/{key}").into_bytes()).collect();
        let cost = read_all(&keys, 100);
        let (pages, walked) = (cost.pages, cost.walked);
        // By open ranges: a walk over half of all the keys for each page.
        assert!(walked <= 5 * keys.len(), "{name}: walked over {walked} keys for {}", keys.len());
        assert!(pages <= 50 + keys.len() / 200, "{name}: {pages} pages for {} keys", keys.len());
    }

    #[test]
    fn the_cost_stays_near_the_number_of_keys() {
        check("none", std::iter::empty());
        check("one", ["n/".to_owned()].into_iter());
        check("sequence", (0..100_000).map(|n| format!("n/app/lock/member-{n:010}")));
        check("random", (0..100_000).map(|n| format!("n/flink/default/blobs/{:016x}", scatter(n))));
        check("jobs", (0..100_000).map(|n| format!("n/flink/jobs/{:016x}/checkpoints/{:019}", scatter(n / 500), n)));
        check("crowds", (0..100_000).map(|n| format!("n/tenants/{:016x}/{:016x}", scatter(n / 20_000), scatter(n))));
        check("pairs", (0..100_000).map(|n| format!("{}/a/{}", if n % 2 == 0 { "n" } else { "c" }, n / 2)));
        check("deep", (0..20_000).map(|n| format!("n{}/{}", "/level".repeat((n % 40) as usize), scatter(n))));
    }

    #[test]
    fn large_values_make_small_pages() {
        let keys: BTreeSet<Vec<u8>> = (0..3_000).map(|n| format!("/p/n/{n:06}").into_bytes()).collect();
        let cost = read_all(&keys, 1024 * 1024);
        assert!((500..5_000).contains(&cost.pages), "{} pages for 3 GB", cost.pages);
        assert!(cost.walked < 20_000, "walked over {} keys for 3,000", cost.walked);
    }

    #[test]
    fn keys_of_any_bytes_are_read() {
        let keys = (0..50_000).map(|n| {
            let mut key = b"/p/".to_vec();
            key.extend(&scatter(n).to_be_bytes()[..(n % 8) as usize + 1]);
            key.extend(vec![0xff; (n % 3) as usize]);
            key
        });
        read_all(&keys.collect(), 10);
    }

    #[test]
    fn an_answer_from_elsewhere_is_an_error() {
        let mut walk = Walk::new(b"/p/".to_vec(), b"/p0".to_vec());
        let range = walk.range().unwrap();
        assert!(walk.advance(range, &[b"/a"], 2, 10).is_err());
    }
}
