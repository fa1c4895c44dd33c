//! Between the store's types and etcd's messages. Keys get the prefix on their way out and lose it on their way in.

use bytes::Bytes;
use etcd_client::proto::{PbKeyValue, PbResponseOp, PbTxnOpResponse};
use etcd_client::{Compare as EtcdCompare, CompareOp as EtcdCompareOp, GetOptions, PutOptions, TxnOp};

use crate::store::{Compare, CompareOp, KeyValue, Op, OpResult, Target, Txn};

/// What precedes every key in etcd.
#[derive(Debug, Clone)]
pub(super) struct Prefix(Bytes);

impl Prefix {
    /// `prefix`, closed by one slash.
    pub fn new(prefix: &str) -> Self {
        Prefix(format!("{}/", prefix.trim_end_matches('/')).into())
    }

    /// The first key of the prefix's range.
    pub fn start(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// The first key after the prefix's range: `0` comes after `/`.
    pub fn end(&self) -> Vec<u8> {
        let mut end = self.0.to_vec();
        if let Some(slash) = end.last_mut() {
            *slash += 1;
        }
        end
    }

    pub fn add(&self, key: &Bytes) -> Vec<u8> {
        [&self.0[..], &key[..]].concat()
    }

    /// The key without the prefix; none where it has not got it.
    pub fn strip(&self, key: Vec<u8>) -> Option<Bytes> {
        key.starts_with(&self.0).then(|| Bytes::from(key).slice(self.0.len()..))
    }

    /// etcd's key and value in the store's words; none where the key is not under the prefix.
    pub fn key_value(&self, kv: PbKeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.strip(kv.key)?,
            value: kv.value.into(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        })
    }

    pub fn txn(&self, txn: &Txn) -> etcd_client::Txn {
        let compares: Vec<EtcdCompare> = txn.compare.iter().map(|compare| self.compare(compare)).collect();
        let ops = |ops: &[Op]| -> Vec<TxnOp> { ops.iter().map(|op| self.op(op)).collect() };
        etcd_client::Txn::new().when(compares).and_then(ops(&txn.then)).or_else(ops(&txn.otherwise))
    }

    fn compare(&self, compare: &Compare) -> EtcdCompare {
        let key = self.add(&compare.key);
        let op = match compare.op {
            CompareOp::Equal => EtcdCompareOp::Equal,
            CompareOp::Greater => EtcdCompareOp::Greater,
            CompareOp::Less => EtcdCompareOp::Less,
        };
        match &compare.target {
            Target::Version(version) => EtcdCompare::version(key, op, *version),
            Target::CreateRevision(revision) => EtcdCompare::create_revision(key, op, *revision),
            Target::ModRevision(revision) => EtcdCompare::mod_revision(key, op, *revision),
            Target::Value(value) => EtcdCompare::value(key, op, &value[..]),
        }
    }

    fn op(&self, op: &Op) -> TxnOp {
        match op {
            Op::Put { key, value, lease } => {
                TxnOp::put(self.add(key), &value[..], Some(PutOptions::new().with_lease(*lease)))
            }
            Op::Delete { key } => TxnOp::delete(self.add(key), None),
            Op::Get { key } => TxnOp::get(self.add(key), Some(GetOptions::new())),
            Op::Txn(txn) => TxnOp::txn(self.txn(txn)),
        }
    }

    /// The results of the branch taken of `txn`; none where etcd's answer does not fit what was asked.
    pub fn results(&self, txn: &Txn, succeeded: bool, responses: Vec<PbResponseOp>) -> Option<Vec<OpResult>> {
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        if ops.len() != responses.len() {
            return None;
        }
        ops.iter().zip(responses).map(|(op, response)| self.result(op, response.response?)).collect()
    }

    fn result(&self, op: &Op, response: PbTxnOpResponse) -> Option<OpResult> {
        match (op, response) {
            (Op::Put { .. }, PbTxnOpResponse::ResponsePut(_)) => Some(OpResult::Put),
            (Op::Delete { .. }, PbTxnOpResponse::ResponseDeleteRange(response)) => {
                Some(OpResult::Delete { deleted: response.deleted })
            }
            (Op::Get { .. }, PbTxnOpResponse::ResponseRange(response)) => match response.kvs.into_iter().next() {
                Some(kv) => Some(OpResult::Get(Some(self.key_value(kv)?))),
                None => Some(OpResult::Get(None)),
            },
            (Op::Txn(txn), PbTxnOpResponse::ResponseTxn(response)) => {
                let succeeded = response.succeeded;
                let results = self.results(txn, succeeded, response.responses)?;
                Some(OpResult::Txn { succeeded, results })
            }
            _ => None,
        }
    }
}

/// The first lease that `txn` names: etcd does not say which one it did not find.
pub(super) fn first_lease(txn: &Txn) -> i64 {
    let of = |op: &Op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Txn(txn) => first_lease(txn),
        Op::Delete { .. } | Op::Get { .. } => 0,
    };
    txn.then.iter().chain(&txn.otherwise).map(of).find(|lease| *lease != 0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_neighbours() {
        let prefix = Prefix::new("/zketcd");
        assert_eq!(prefix.start(), b"/zketcd/");
        assert_eq!(prefix.end(), b"/zketcd0");
        assert_eq!(Prefix::new("/zketcd/").start(), b"/zketcd/");
        assert_eq!(Prefix::new("").start(), b"/");
        let key = Bytes::from_static(b"n/flink");
        assert_eq!(prefix.add(&key), b"/zketcd/n/flink");
        assert_eq!(prefix.strip(b"/zketcd/n/flink".to_vec()), Some(key));
        assert_eq!(prefix.strip(b"/zketcd2/n/flink".to_vec()), None);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_no_result() {
        let prefix = Prefix::new("/p");
        let txn = Txn { then: vec![Op::Delete { key: "k".into() }], ..Txn::default() };
        assert_eq!(prefix.results(&txn, true, vec![]), None);
        assert_eq!(prefix.results(&txn, true, vec![PbResponseOp { response: None }]), None);
        let put = PbTxnOpResponse::ResponsePut(Default::default());
        assert_eq!(prefix.results(&txn, true, vec![PbResponseOp { response: Some(put) }]), None);
    }
}
