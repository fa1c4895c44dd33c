//! The wire: ZooKeeper's jute records and the length-prefixed frames they travel in.
//!
//! Knows nothing of the rest of the program. Bytes in, values out, and back: once a value of this module exists
//! it is well formed; whether it makes sense (a legal path, a known create mode) is for others to say.

pub mod client;
mod decode;
mod encode;
mod error;
mod frame;
mod read;
mod reply;
mod request;
mod stat;
#[cfg(test)]
mod tests;
mod write;

pub use decode::DecodeError;
pub use encode::{encode_data, encode_event, encode_names, encode_reply};
pub use error::ErrorCode;
pub use frame::{DEFAULT_MAX_BUFFER, FrameError, LENGTH_BYTES, next_frame};
pub use read::Malformed;
pub use reply::{ConnectResponse, MultiResult, Reply, ReplyHeader, WatcherEvent};
pub use request::{
    Acl, AuthPacket, ConnectRequest, CreateMode, CreateRequest, Id, MultiOp, MultiReadOp, Perms, Request,
    RequestHeader, SetWatches, SetWatches2, WatcherType, op, xid,
};
pub use stat::Stat;
