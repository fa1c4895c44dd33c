//! What etcd's and the connection's errors mean to the store.

use std::io;

use etcd_client::Error;

use crate::store::StoreError;

/// Why a call to etcd failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer, or one that leaves the outcome open, or one that another try may better. `unsent`: the request
    /// certainly never left.
    Away {
        why: String,
        unsent: bool,
    },
    /// etcd refused; nothing happened.
    Refused(String),
    /// The token is not, or no longer, good: it is to be fetched anew.
    Unauthenticated(String),
    /// The revision asked for has been compacted.
    Compacted,
    /// The answer is larger than asked to be taken.
    TooLarge,
    LeaseNotFound,
    LeaseExists,
}

impl Failure {
    pub fn away(why: impl Into<String>) -> Self {
        Failure::Away { why: why.into(), unsent: false }
    }

    /// Whether another member may do better.
    pub fn is_away(&self) -> bool {
        matches!(self, Failure::Away { .. })
    }

    /// What remains where a new token did not help.
    pub fn with_fresh_token(self) -> Self {
        match self {
            Failure::Unauthenticated(why) if why.contains("permission denied") => Failure::Refused(why),
            Failure::Unauthenticated(why) => Failure::away(why),
            other => other,
        }
    }

    /// As the trait has it. `lease` is the one that the call was about.
    pub fn for_lease(self, lease: i64) -> StoreError {
        match self {
            Failure::Away { why, .. } | Failure::Unauthenticated(why) => StoreError::Unavailable(why),
            Failure::Refused(why) => StoreError::Rejected(why),
            Failure::Compacted => StoreError::Unavailable("etcd has compacted what was asked for".to_owned()),
            Failure::TooLarge => StoreError::Unavailable("etcd's answer is too large".to_owned()),
            Failure::LeaseNotFound => StoreError::LeaseNotFound { id: lease },
            Failure::LeaseExists => StoreError::LeaseExists { id: lease },
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.for_lease(0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => {
                // tonic is no dependency of its own; gRPC's specification numbers its codes.
                let code = status.code() as i32;
                if status.message().starts_with("etcdserver:") {
                    from_etcd(code, status.message())
                } else {
                    from_transport(code, explain(&status, status.message()), &status)
                }
            }
            Error::InvalidArgs(why) => Failure::Refused(why),
            Error::InvalidUri(error) => Failure::Refused(format!("not an endpoint of etcd: {error}")),
            Error::TransportError(error) => Failure::Refused(explain(&error, &error.to_string())),
            // etcd-client's word for an answer with a ttl of 0.
            Error::LeaseKeepAliveError(_) => Failure::LeaseNotFound,
            other => Failure::away(other.to_string()),
        }
    }
}

mod code {
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const OUT_OF_RANGE: i32 = 11;
    pub const UNIMPLEMENTED: i32 = 12;
    pub const UNAUTHENTICATED: i32 = 16;
}

/// etcd's own errors, from its `rpctypes/error.go`.
fn from_etcd(code: i32, text: &str) -> Failure {
    let why = || text.trim_start_matches("etcdserver: ").to_owned();
    let says = |part: &str| text.contains(part);
    match code {
        // The roles changed while the request was under way.
        code::INVALID_ARGUMENT if says("revision of auth store is old") => Failure::Unauthenticated(why()),
        code::INVALID_ARGUMENT if says("authentication failed") => {
            Failure::Refused("etcd does not take this user and password".to_owned())
        }
        code::INVALID_ARGUMENT if says("user name is empty") => {
            Failure::Refused("etcd wants a user and a password".to_owned())
        }
        code::FAILED_PRECONDITION if says("authentication is not enabled") => {
            Failure::Refused("a user is given, but etcd has no authentication enabled".to_owned())
        }
        code::FAILED_PRECONDITION if says("lease already exists") => Failure::LeaseExists,
        // Nothing happened, and another member, or the same one later, will do it.
        code::FAILED_PRECONDITION if says("not leader") || says("not capable") || says("learner") => {
            Failure::away(why())
        }
        code::RESOURCE_EXHAUSTED if says("too many requests") => Failure::away(why()),
        // The transaction that crosses the quota is applied, and answered with this error all the same
        // (`quotaApplierV3.Txn`); those after it are refused.
        code::RESOURCE_EXHAUSTED if says("database space exceeded") => {
            Failure::away("etcd's database is full (NOSPACE): compact, defragment, disarm the alarm")
        }
        code::INVALID_ARGUMENT | code::PERMISSION_DENIED | code::RESOURCE_EXHAUSTED | code::FAILED_PRECONDITION => {
            Failure::Refused(format!("etcd: {}", why()))
        }
        code::OUT_OF_RANGE if says("too large lease TTL") => Failure::Refused(format!("etcd: {}", why())),
        code::OUT_OF_RANGE if says("compacted") => Failure::Compacted,
        code::NOT_FOUND if says("lease not found") => Failure::LeaseNotFound,
        code::UNAUTHENTICATED => Failure::Unauthenticated(why()),
        _ => Failure::away(why()),
    }
}

/// Errors of gRPC and of the connection.
fn from_transport(code: i32, why: String, status: &dyn std::error::Error) -> Failure {
    match code {
        code::OUT_OF_RANGE if why.contains("message length too large") => Failure::TooLarge,
        // A member refuses to receive what is far over its --max-request-bytes.
        code::RESOURCE_EXHAUSTED if why.contains("received message larger than max") => {
            Failure::Refused(format!("etcd: request is too large: {why}"))
        }
        code::UNIMPLEMENTED => Failure::Refused(format!("this is no etcd v3: {why}")),
        _ => Failure::Away { unsent: is_connection_refused(status), why },
    }
}

/// `text` with what lies behind it, each said once: tonic's own is "transport error" for anything.
fn explain(error: &dyn std::error::Error, text: &str) -> String {
    let mut told = text.to_owned();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !told.contains(&more) && !more.contains(&told) {
            told = format!("{told}: {more}");
        } else if more.len() > told.len() {
            told = more;
        }
        source = error.source();
    }
    told
}

/// Whether there was not even a connection.
fn is_connection_refused(error: &dyn std::error::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_did_not_happen_is_refused() {
        let refused = [
            (3, "etcdserver: too many operations in txn request"),
            (3, "etcdserver: request is too large"),
            (3, "etcdserver: authentication failed, invalid user ID or password"),
            (7, "etcdserver: permission denied"),
            (9, "etcdserver: authentication is not enabled"),
            (11, "etcdserver: too large lease TTL"),
        ];
        for (code, text) in refused {
            assert!(matches!(from_etcd(code, text), Failure::Refused(_)), "{text}");
        }
        let open = [
            (8, "etcdserver: mvcc: database space exceeded"),
            (14, "etcdserver: leader changed"),
            (14, "etcdserver: request timed out"),
            (14, "etcdserver: no leader"),
            (4, "etcdserver: context deadline exceeded"),
            (1, "etcdserver: request canceled"),
            (2, "etcdserver: something new"),
            (8, "etcdserver: too many requests"),
            (9, "etcdserver: rpc not supported for learner"),
            (15, "etcdserver: corrupt cluster"),
        ];
        for (code, text) in open {
            assert!(from_etcd(code, text).is_away(), "{text}");
        }
        assert_eq!(from_etcd(5, "etcdserver: requested lease not found"), Failure::LeaseNotFound);
        assert_eq!(from_etcd(9, "etcdserver: lease already exists"), Failure::LeaseExists);
        assert_eq!(from_etcd(11, "etcdserver: mvcc: required revision has been compacted"), Failure::Compacted);
        assert!(matches!(from_etcd(16, "etcdserver: invalid auth token"), Failure::Unauthenticated(_)));
    }
}
