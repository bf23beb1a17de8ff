//! What crosses the wall between guest and host: published ports in, connections and names out.
//!
//! ```text
//!   guest ──EGRESS───▶ egress.rs ──▶ the host's own sockets        (VPN, proxies, hosts file apply)
//!   guest ──DNS──────▶ dns.rs    ──▶ the host's own resolvers
//!   guest ──PUBLISH──▶ ports.rs  ──▶ a listening socket on the host
//!         ◀─PUBLISHED─           ◀── its clients
//! ```
//!
//! Every connection is a task, every buffer is bounded, and all of it ends when [`Fabric`] is dropped.

mod datagrams;
pub mod dns;
pub mod egress;
pub mod ports;
mod relay;

use std::io;
use std::sync::Arc;

use protocol::FramedStream;
use tokio::task::JoinSet;

use crate::hypervisor::{BoxStream, Incoming, Vm};

pub(crate) use relay::{relay, relay_tcp};

/// Names by which a guest reaches the host itself.
pub const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// The address that those names have in the guest. It routes nowhere: the host end of the fabric knows it and
/// connects to its own loopback instead.
pub const HOST_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 65, 254);

/// Connections of one kind that may be open at once. More wait in the queue of the vsock device.
const MAX_OPEN: usize = 4096;

/// The host's end of the fabric, for one machine.
#[derive(Debug)]
pub struct Fabric {
    _tasks: JoinSet<()>,
}

impl Fabric {
    /// Listens for all that the guest may want. To be called before the guest boots.
    pub async fn open(vm: &Arc<dyn Vm>) -> io::Result<Fabric> {
        use protocol::ports::{DNS, EGRESS, PUBLISH};
        let mut tasks = JoinSet::new();
        if !vm.has_wall() {
            return Ok(Fabric { _tasks: tasks });
        }
        let (egress, names, publish) =
            (vm.listen(EGRESS).await?, vm.listen(DNS).await?, vm.listen(PUBLISH).await?);
        tasks.spawn(each(egress, |stream| egress::serve(FramedStream::new(stream))));
        let resolver = Arc::new(dns::Resolver::system());
        tasks.spawn(each(names, move |stream| dns::serve(FramedStream::new(stream), Arc::clone(&resolver))));
        let weak = Arc::downgrade(vm);
        tasks.spawn(each(publish, move |stream| ports::serve(FramedStream::new(stream), weak.clone())));
        Ok(Fabric { _tasks: tasks })
    }
}

/// One task per connection, and never more than [`MAX_OPEN`] of them. They end with this future.
async fn each<F: Future<Output = ()> + Send + 'static>(
    mut incoming: Incoming,
    serve: impl Fn(BoxStream) -> F,
) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.recv(), if open.len() < MAX_OPEN => match stream {
                Some(stream) => { open.spawn(serve(stream)); }
                None => return,
            },
            Some(_) = open.join_next() => {}
        }
    }
}
