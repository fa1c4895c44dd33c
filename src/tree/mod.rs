//! The replica: znodes, stats, ACL checks, watches. Pure and deterministic: no clock, no socket, no task.

pub mod acl;
pub mod key;
pub mod node;
pub mod path;
pub mod quota;
pub mod record;
pub mod replica;
pub mod watches;
