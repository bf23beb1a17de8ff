//! What engine and supervisor say to each other: one postcard record per packet, descriptors beside it.

use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::SystemTime;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

/// Where a started child finds its plan.
pub const PLAN_FD: RawFd = 3;
/// Where a started child finds its socket to the engine.
pub const SYNC_FD: RawFd = 4;
/// Where the descriptors of [`crate::SpawnRequest::pass`] begin.
pub const FIRST_PASSED_FD: RawFd = 5;

/// The longest record. Keys are short and plans travel in memfds.
pub(crate) const MAX_RECORD: usize = 4096;
/// The most descriptors beside one record.
pub(crate) const MAX_FDS: usize = 64;

/// How a child of the supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// What it returned, if it returned.
    pub code: Option<i32>,
    /// What killed it, if it was killed.
    pub signal: Option<i32>,
    /// When the supervisor saw it.
    pub at: SystemTime,
}

impl ExitStatus {
    /// The one number that shells and Docker make of it: 128 and the signal for a killed process.
    pub fn docker_code(&self) -> i64 {
        match (self.code, self.signal) {
            (Some(code), _) => i64::from(code),
            (None, Some(signal)) => 128 + i64::from(signal),
            (None, None) => 255,
        }
    }
}

/// What a held descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The end that the child's standard input is written to.
    Stdin,
    /// The end that its standard output is read from.
    Stdout,
    /// The end that its standard error is read from.
    Stderr,
    /// The master of its terminal.
    Terminal,
}

/// What the engine asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Beside it: plan, sync, three streams, the cgroup and the PID namespace if said, passed ones, held ones.
    Spawn {
        key: String,
        namespaces: u64,
        cgroup: bool,
        pid_namespace: bool,
        passed: u8,
        held: Vec<Role>,
    },
    /// Beside it: the descriptors to hold for a child from now on.
    Hold {
        key: String,
        roles: Vec<Role>,
    },
    Unhold {
        key: String,
        role: Role,
    },
    List,
    Release {
        key: String,
    },
    Discard {
        key: String,
    },
    Ready,
}

/// What the supervisor answers (`to` is the request's id) and tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Beside it: the pidfd.
    Spawned {
        to: u64,
        pid: i32,
    },
    /// Beside it: the pidfd, then the held ones.
    Held {
        to: u64,
        key: String,
        pid: i32,
        exit: Option<ExitStatus>,
        roles: Vec<Role>,
    },
    Done {
        to: u64,
    },
    Failed {
        to: u64,
        errno: i32,
    },
    Exited {
        key: String,
        status: ExitStatus,
    },
}

pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    if bytes.len() > MAX_RECORD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the record is too long"));
    }
    Ok(bytes)
}

pub(crate) fn send(
    socket: BorrowedFd<'_>,
    record: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one record"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(record)], &mut ancillary, flags | SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// The next record and what came beside it. `None` at the end of the stream.
pub(crate) fn receive<T: for<'de> Deserialize<'de>>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut record = [0; MAX_RECORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slice = [IoSliceMut::new(&mut record)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut slice, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => continue,
            result => break result?,
        }
    };
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    let value = postcard::from_bytes(&record[..received.bytes])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((value, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_child_counts_as_128_and_its_signal() {
        let at = SystemTime::UNIX_EPOCH;
        assert_eq!(ExitStatus { code: None, signal: Some(9), at }.docker_code(), 137);
        assert_eq!(ExitStatus { code: Some(3), signal: None, at }.docker_code(), 3);
    }
}
