//! The embedded name server: `127.0.0.11` in each container on a network of a user's.
//!
//! Its sockets are opened inside the container's namespace and served by tasks of the engine. What members call
//! each other is answered from a table; everything else goes to the machine's own name servers.

mod answer;
mod door;
mod forward;
mod serve;
mod table;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::error::{Result, kernel};
use crate::networks::Networks;
use crate::spec::{EndpointRecord, NetworkRecord};
use table::Table;

/// Questions of one container that may be on their way to other servers at once.
const FORWARDED_AT_ONCE: usize = 256;

/// The name server of one container.
#[derive(Debug, Clone)]
pub struct ResolverSpec {
    /// The container's id.
    pub container: String,
    /// Who is asked what no member is called, in their order.
    pub servers: Vec<Upstream>,
    /// Whether the container's own resolver was told to try search domains first (`ndots`): then names without a
    /// dot are asked of nobody else.
    pub ndots: bool,
}

/// A name server elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is asked from inside the container rather than from this machine.
    pub inside: bool,
}

/// The table and the servers.
#[derive(Default)]
pub(crate) struct Dns {
    table: Arc<RwLock<Table>>,
    /// The task of each container's server, by the container's id.
    serving: Mutex<HashMap<String, Serving>>,
}

struct Serving {
    task: AbortHandle,
    servers: Vec<Upstream>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a container's server works with.
struct Context {
    container: String,
    table: Arc<RwLock<Table>>,
    servers: Vec<Upstream>,
    ndots: bool,
    netns: OwnedFd,
    /// Counts answers, so that of several addresses each comes first in turn.
    turn: AtomicUsize,
    room: Arc<Semaphore>,
}

impl Dns {
    fn table(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> MutexGuard<'_, HashMap<String, Serving>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_network(&self, network: &NetworkRecord) {
        self.table().add_network(network);
    }

    pub(crate) fn remove_network(&self, id: &str) {
        self.table().remove_network(id);
    }

    pub(crate) fn add(&self, endpoint: &EndpointRecord) {
        self.table().add(endpoint);
    }

    /// Forgets an endpoint; with a container's last one its server ends.
    pub(crate) fn remove(&self, endpoint: &EndpointRecord) {
        let last = self.table().remove(endpoint);
        if last {
            self.serving().remove(&endpoint.container);
        }
    }
}

impl Networks {
    /// Opens the name server of a container, unless it is open with these servers already. It ends when the
    /// container leaves its last network. To be called within the runtime that is to serve it.
    pub fn resolve(&self, netns: BorrowedFd<'_>, spec: ResolverSpec) -> Result<()> {
        let failed = |error: std::io::Error| kernel("open a container's name server", error.into());
        if self.0.dns.serving().get(&spec.container).is_some_and(|open| open.servers == spec.servers) {
            return Ok(());
        }
        let netns = netns.try_clone_to_owned().map_err(failed)?;
        let door = door::open(netns.as_fd()).map_err(failed)?;
        let (container, servers) = (spec.container.clone(), spec.servers.clone());
        let context = Context {
            container: spec.container,
            table: self.0.dns.table.clone(),
            servers: spec.servers,
            ndots: spec.ndots,
            netns,
            turn: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(FORWARDED_AT_ONCE)),
        };
        let task = serve::start(door, context).map_err(failed)?;
        self.0.dns.serving().insert(container, Serving { task, servers });
        Ok(())
    }

    /// Gives an endpoint other names.
    pub fn rename(&self, endpoint: &EndpointRecord, names: Vec<String>) -> EndpointRecord {
        let renamed = EndpointRecord { names, ..endpoint.clone() };
        let mut state = self.0.state();
        if let Some(member) = state.members.get_mut(&endpoint.id) {
            let mut table = self.0.dns.table();
            table.remove(&member.record);
            member.record.names.clone_from(&renamed.names);
            table.add(&member.record);
        }
        renamed
    }
}
