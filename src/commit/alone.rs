//! A server that is alone: while no other writes, one small guard stands for all that a batch's verdicts read.
//!
//! Whatever changes a znode is a batch of some server, and puts the lane that it goes by. So where every other lane is as
//! this replica has it, and no other server has begun or ended since, everything is as this replica has it, save what this
//! server's own batches under way change, and what the store ends by itself.
//!
//! - A server puts `began` with its lanes, and no lease takes that away again: one that came, wrote and went between two
//!   batches is seen by it.
//! - What an own batch writes that is under way when this one is built is in no verdict: its keys are busy. One that is
//!   built later may write what this one's verdicts read: its lane must not have come further than the one before.
//! - A store that was restored from a backup lacks batches, whose lanes it has as they were. A server that ends in order
//!   puts `began` again; one that dies keeps its lanes for longer than any other leaves its own alone.
//! - Sessions end with their leases: their records are compared one by one.
//!
//! All this is true of a replica that has missed nothing: where a lane's numbers show that the stream has, there is no
//! guard until the next snapshot. What it loses of the end of a server's life they do not show.

use bytes::Bytes;

use crate::store::{Compare, CompareOp, Limits, Op, Target, Txn};
use crate::tree::key;
use crate::tree::replica::Replica;

/// The part of a transaction's operations that a guard may take: each of its compares costs the store as much as one of
/// those that it saves. With etcd's default, seven servers of two lanes are below it.
const GUARD_SHARE: usize = 8;

/// What holds as long as no other server has written since the replica's last revision, nor any of this one's other lanes
/// more than the batch that it has under way; none where that is too much to compare. `lane`: the batch's own.
pub fn guard(
    replica: &Replica,
    (server, lane): (u64, usize),
    under_way: impl Fn(usize) -> Option<u64>,
    limits: Limits,
) -> Option<Vec<Compare>> {
    let mut guard = vec![Compare::mod_revision(Bytes::from_static(key::BEGAN), replica.began())];
    for (other, at, put) in replica.lanes().filter(|(other, at, _)| (*other, *at) != (server, lane)) {
        let key = key::lane(other, at);
        match under_way(at).filter(|_| other == server) {
            None => guard.push(Compare::mod_revision(key, put.mod_revision)),
            // It may have come to the store or not, but neither a later one, nor is one before it missing. The version of
            // an own lane's key is one above the number: the first made number 0.
            Some(number) => {
                let bound = |op, version| Compare { key: key.clone(), op, target: Target::Version(version) };
                guard.push(bound(CompareOp::Greater, number as i64 - 1));
                guard.push(bound(CompareOp::Less, number as i64 + 2));
            }
        }
    }
    (guard.len() <= limits.txn_ops / GUARD_SHARE).then_some(guard)
}

/// How many writes one level of a transaction may have that has so many of them, and compares, where etcd counts no more
/// than `room`. None: it does not fit. The larger of a level's compares and operations counts, and the level below it.
pub fn level(room: usize, compares: usize, writes: usize) -> Option<usize> {
    if compares.max(writes) <= room {
        return Some(room);
    }
    // The writes go in nested transactions, of which the level has as many operations.
    let nested = room.checked_sub(compares)?.min(room / 2);
    (nested > 0 && writes.div_ceil(nested) <= room - nested).then_some(nested)
}

/// The same operations on one level, or, where they are more than a level may have, in parts that always happen.
pub fn parted(mut ops: Vec<Op>, level: usize) -> Vec<Op> {
    if ops.len() <= level {
        return ops;
    }
    let mut parts = Vec::with_capacity(ops.len().div_ceil(level));
    while !ops.is_empty() {
        let rest = ops.split_off(level.min(ops.len()));
        parts.push(Op::Txn(Txn { then: std::mem::replace(&mut ops, rest), ..Txn::default() }));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_parted_where_one_level_has_no_room_for_them() {
        assert_eq!(level(126, 126, 126), Some(126));
        assert_eq!(level(126, 127, 1), None);
        assert_eq!(level(126, 66, 200), Some(60));
        assert_eq!(level(126, 1, 63 * 63), Some(63));
        assert_eq!(level(126, 1, 63 * 63 + 1), None);
        assert_eq!(level(126, 124, 248), Some(2));
        assert_eq!(level(126, 124, 249), None);
        assert_eq!(level(126, 126, 127), None);
    }

    #[test]
    fn parts_hold_every_operation_once_and_in_order() {
        let ops: Vec<Op> = (0..7u8).map(|n| Op::Delete { key: vec![n].into() }).collect();
        assert_eq!(parted(ops.clone(), 7), ops);
        let parts = parted(ops.clone(), 3);
        let inner = parts.iter().map(|op| match op {
            Op::Txn(txn) if txn.compare.is_empty() && txn.otherwise.is_empty() => &txn.then[..],
            other => panic!("{other:?}"),
        });
        let inner: Vec<&[Op]> = inner.collect();
        assert_eq!(inner.iter().map(|part| part.len()).collect::<Vec<_>>(), [3, 3, 1]);
        assert_eq!(inner.concat(), ops);
    }
}
