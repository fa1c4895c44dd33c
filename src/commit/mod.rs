//! The committer's pure half: requests to verdicts, verdicts to groups, groups to batches.
//!
//! - [`draft`]: one request's reads and writes, and the compares that follow from them.
//! - [`keys`]: the keys of a batch, by numbers.
//! - [`verdict`]: what each write does, in ZooKeeper's order of checks; a file for each request type.
//! - [`alone`]: what stands for all compares while no other server writes.
//! - [`batch`]: independent groups of requests in one transaction, on a lane.

pub mod alone;
pub mod batch;
pub mod draft;
pub mod keys;
pub mod verdict;
