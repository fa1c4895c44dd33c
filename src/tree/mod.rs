//! The replica's parts: paths, ACLs, watches. Pure and deterministic: no clock, no socket, no task.

pub mod acl;
pub mod path;
pub mod watches;
