//! How streams travel: taken-over connections, multiplexed frames and JSON lines.

pub(crate) mod attachment;
pub(crate) mod frame;
pub(crate) mod hijack;
pub(crate) mod progress;
pub(crate) mod websocket;
