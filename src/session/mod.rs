//! Sessions and their connections: attach, order of requests, heartbeat, expiry, reaping.
//!
//! The [`Engine`] is one synchronous state machine around the replica, the watches, the connections' queues and
//! the lanes. It is told what came (frames, the store's answers, its changes, the time) and leaves what is to go
//! out in the connections' outboxes and in its lanes; it knows no socket and no task, so a test can drive it step
//! by step. `server` puts it behind a mutex and runs the I/O.

mod apply;
mod commit;
mod connection;
mod engine;
mod gate;
mod lists;
mod outbox;
mod read;
mod turns;
mod view;

pub use commit::{ALONE_AFTER_MS, LaneAnswer, LaneLost, Outgoing, SLOW_MS};
pub use connection::Incoming;
pub use engine::{ConnectionId, Engine, EngineConfig, Now, RENEWALS_PER_TIMEOUT, ServerIdentity};
pub use gate::Gate;
pub use outbox::{CloseReason, FLUSH, Outbox, Outgo};
