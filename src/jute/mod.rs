//! The wire: ZooKeeper's jute records and the length-prefixed frames they travel in.
//!
//! Knows nothing of the rest of the program. Bytes in, values out, and back: once a value of this module exists
//! it is well formed; whether it makes sense (a legal path, a known create mode) is for others to say.

mod error;
mod reply;
mod request;
mod stat;

pub use error::ErrorCode;
pub use reply::{ConnectResponse, MultiResult, Reply, ReplyHeader, WatcherEvent};
pub use request::{
    Acl, AuthPacket, ConnectRequest, CreateMode, CreateRequest, Id, MultiOp, MultiReadOp, Perms, Request,
    RequestHeader, SetWatches, SetWatches2, WatcherType, op, xid,
};
pub use stat::Stat;
