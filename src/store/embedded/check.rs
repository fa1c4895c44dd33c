//! What etcd refuses before it evaluates a transaction: its `checkTxnRequest` and `checkIntervals`; and keys that the
//! data directory has no room for.

use bytes::Bytes;
use hashbrown::HashSet;

use super::disk::MAX_KEY;
use crate::store::{Limits, Op, StoreError, Txn};

/// How deep transactions may nest. etcd has no such limit of its own (protobuf's, 100, stands in); the evaluation
/// here is recursive and the committer nests twice.
const MAX_DEPTH: usize = 16;

/// Whether etcd would take `txn`: bounded in operations and bytes, no empty key, no key written twice.
pub(super) fn check(txn: &Txn, limits: Limits) -> Result<(), StoreError> {
    let mut bytes = 0;
    check_level(txn, limits.txn_ops, MAX_DEPTH, &mut bytes)?;
    if bytes > limits.request_bytes {
        return Err(refused("request is too large"));
    }
    written(&txn.then)?;
    written(&txn.otherwise)?;
    Ok(())
}

/// An inner level may use what the outer one left: etcd counts each nested transaction alone.
fn check_level(txn: &Txn, ops: usize, depth: usize, bytes: &mut usize) -> Result<(), StoreError> {
    let used = txn.compare.len().max(txn.then.len()).max(txn.otherwise.len());
    if used > ops {
        return Err(refused("too many operations in txn request"));
    }
    for compare in &txn.compare {
        check_key(&compare.key)?;
        *bytes += compare.key.len();
        if let crate::store::Target::Value(value) = &compare.target {
            *bytes += value.len();
        }
    }
    for op in txn.then.iter().chain(&txn.otherwise) {
        match op {
            Op::Put { key, value, .. } => {
                check_key(key)?;
                if key.len() > MAX_KEY {
                    return Err(refused("key is too long"));
                }
                *bytes += key.len() + value.len();
            }
            Op::Delete { key } | Op::Get { key } => {
                check_key(key)?;
                *bytes += key.len();
            }
            Op::Txn(inner) => {
                let depth = depth.checked_sub(1).ok_or_else(|| refused("transactions nested too deep"))?;
                check_level(inner, ops - used, depth, bytes)?;
            }
        }
    }
    Ok(())
}

fn check_key(key: &Bytes) -> Result<(), StoreError> {
    if key.is_empty() { Err(refused("key is not provided")) } else { Ok(()) }
}

#[derive(Default)]
struct Written<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: HashSet<&'a Bytes>,
}

/// The keys that `ops` may put and delete; an error where one key is put twice, or put and deleted. The branches of a
/// nested transaction are alternatives, so the same key in both is fine; so is one deleted twice.
///
/// One case is refused here that etcd lets through: a key put by one nested transaction and deleted by a later one.
/// Its outcome depends on the order in which etcd happens to execute them, which etcd does not promise.
fn written(ops: &[Op]) -> Result<Written<'_>, StoreError> {
    let mut all = Written::default();
    for op in ops {
        if let Op::Delete { key } = op {
            all.deletes.insert(key);
        }
    }
    for op in ops {
        let Op::Txn(inner) = op else { continue };
        let then = written(&inner.then)?;
        let otherwise = written(&inner.otherwise)?;
        let puts = then.puts.iter().chain(&otherwise.puts);
        let deletes = then.deletes.iter().chain(&otherwise.deletes);
        if puts.clone().any(|key| all.puts.contains(*key) || all.deletes.contains(*key))
            || deletes.clone().any(|key| all.puts.contains(*key))
        {
            return Err(duplicate());
        }
        all.puts.extend(puts);
        all.deletes.extend(deletes);
    }
    for op in ops {
        if let Op::Put { key, .. } = op
            && (all.deletes.contains(key) || !all.puts.insert(key))
        {
            return Err(duplicate());
        }
    }
    Ok(all)
}

fn duplicate() -> StoreError {
    refused("duplicate key given in txn request")
}

pub(super) fn refused(why: &str) -> StoreError {
    StoreError::Rejected(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Compare;

    const LIMITS: Limits = Limits { txn_ops: 4, request_bytes: 1000 };

    fn put(key: &'static str) -> Op {
        Op::Put { key: Bytes::from_static(key.as_bytes()), value: Bytes::new(), lease: 0 }
    }

    fn delete(key: &'static str) -> Op {
        Op::Delete { key: Bytes::from_static(key.as_bytes()) }
    }

    fn then(ops: Vec<Op>) -> Txn {
        Txn { then: ops, ..Txn::default() }
    }

    fn accepted(txn: Txn) -> bool {
        check(&txn, LIMITS).is_ok()
    }

    #[test]
    fn one_key_is_written_once() {
        assert!(accepted(then(vec![put("a"), put("b"), delete("c"), delete("c")])));
        assert!(!accepted(then(vec![put("a"), put("a")])));
        assert!(!accepted(then(vec![delete("a"), put("a")])));
        assert!(!accepted(then(vec![put("a"), Op::Txn(then(vec![put("a")]))])));
        assert!(!accepted(then(vec![put("a"), Op::Txn(then(vec![delete("a")]))])));
        assert!(!accepted(then(vec![delete("a"), Op::Txn(then(vec![put("a")]))])));
        assert!(!accepted(then(vec![Op::Txn(then(vec![put("a")])), Op::Txn(then(vec![put("a")]))])));
        assert!(!accepted(then(vec![Op::Txn(then(vec![delete("a")])), Op::Txn(then(vec![put("a")]))])));
        assert!(!accepted(then(vec![Op::Txn(then(vec![put("a")])), Op::Txn(then(vec![delete("a")]))])));
        assert!(!accepted(Txn { otherwise: vec![put("a"), put("a")], ..Txn::default() }));
    }

    #[test]
    fn branches_are_alternatives() {
        let either = |a: Op, b: Op| Txn { compare: vec![], then: vec![a], otherwise: vec![b] };
        assert!(accepted(either(put("a"), put("a"))));
        assert!(accepted(either(put("a"), delete("a"))));
        assert!(accepted(then(vec![Op::Txn(either(put("a"), put("a")))])));
        assert!(accepted(then(vec![Op::Txn(either(put("a"), delete("a")))])));
        assert!(!accepted(then(vec![Op::Txn(either(put("a"), put("b"))), Op::Txn(either(put("c"), put("b")))])));
    }

    #[test]
    fn the_inner_level_gets_what_the_outer_left() {
        let gets = |n| then(vec![Op::Get { key: Bytes::from_static(b"g") }; n]);
        assert!(accepted(gets(4)));
        assert!(!accepted(gets(5)));
        assert!(accepted(then(vec![Op::Txn(gets(2)), Op::Txn(gets(2))])));
        assert!(!accepted(then(vec![Op::Txn(gets(3)), Op::Txn(gets(2))])));
        let compares = vec![Compare::version(Bytes::from_static(b"k"), 0); 3];
        assert!(accepted(Txn { compare: compares.clone(), then: vec![Op::Txn(gets(1))], otherwise: vec![] }));
        assert!(!accepted(Txn { compare: compares, then: vec![Op::Txn(gets(2))], otherwise: vec![] }));
    }

    #[test]
    fn nesting_and_bytes_are_bounded() {
        let limits = Limits { txn_ops: 1000, request_bytes: 10 };
        let mut txn = Txn::default();
        for _ in 0..MAX_DEPTH {
            txn = then(vec![Op::Txn(txn)]);
        }
        assert_eq!(check(&txn, limits), Ok(()));
        assert!(check(&then(vec![Op::Txn(txn)]), limits).is_err());

        let of = |value: &'static str| then(vec![Op::Put { key: "k".into(), value: value.into(), lease: 0 }]);
        assert_eq!(check(&of("123456789"), limits), Ok(()));
        assert!(check(&of("1234567890"), limits).is_err());
        assert!(check(&then(vec![put("")]), limits).is_err());

        let limits = Limits { txn_ops: 1, request_bytes: 1 << 20 };
        let of = |length| then(vec![Op::Put { key: vec![b'k'; length].into(), value: Bytes::new(), lease: 0 }]);
        assert_eq!(check(&of(MAX_KEY), limits), Ok(()));
        assert!(check(&of(MAX_KEY + 1), limits).is_err());
    }
}
