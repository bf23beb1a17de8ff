//! How streams travel: taken-over connections, multiplexed frames and JSON lines.

pub(crate) mod detach;
pub(crate) mod frame;
pub(crate) mod hijack;
pub(crate) mod lines;
