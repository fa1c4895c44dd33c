//! server
pub mod stats;
