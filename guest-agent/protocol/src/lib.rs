//! What crosses the VM's wall, and nothing else: vsock ports, the records on them, and the messages in those.
//!
//! The guest listens on some ports and the host on the others ([`ports`]). Every connection carries a
//! [`FramedStream`], because what a vsock implementation does with half-close and with large writes differs.
//! Most connections open with one request message and one reply, after which they are a plain stream of bytes.
//!
//! This crate names nothing else of ours and nothing of Linux: both sides of the wall build it, on macOS too.

mod control;
mod datagram;
mod fabric;
mod framed;

pub use control::{
    DiskState, DiskStatus, EngineStatus, GuestReply, GuestStatus, HostRequest, MemoryStatus, Phase, Stage,
    VERSION,
};
pub use datagram::{recv_datagram, send_datagram};
pub use fabric::{
    DialFailure, DialRequest, Dialed, EgressReply, EgressRequest, PublishReply, PublishRequest, Transport,
};
pub use framed::{FramedStream, MAX_MESSAGE, MAX_PAYLOAD};

/// The vsock address of the host: the only one that the guest talks to or lets in.
pub const HOST_CID: u32 = 2;

/// The vsock ports in use.
pub mod ports {
    /// The guest listens: a [`FramedStream`](crate::FramedStream) that carries the Docker Engine API.
    pub const DOCKER_API: u32 = 2375;
    /// The guest listens: one [`HostRequest`](crate::HostRequest) and one
    /// [`GuestReply`](crate::GuestReply) per connection.
    pub const CONTROL: u32 = 1024;
    /// The guest listens: a [`DialRequest`](crate::DialRequest), a [`Dialed`](crate::Dialed), then the bytes of
    /// one connection to a published port.
    pub const PUBLISHED: u32 = 1025;
    /// The host listens: an [`EgressRequest`](crate::EgressRequest), an [`EgressReply`](crate::EgressReply),
    /// then the bytes of one connection to the outside world.
    pub const EGRESS: u32 = 2048;
    /// The host listens: DNS messages, each behind its length in two big-endian bytes as in DNS over TCP,
    /// any number per connection, answered in any order.
    pub const DNS: u32 = 2049;
    /// The host listens: a [`PublishRequest`](crate::PublishRequest) and a
    /// [`PublishReply`](crate::PublishReply). The port stays published while the connection is open.
    pub const PUBLISH: u32 = 2050;
}
