//! What the engine tells container-init, and what it hears back.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::capabilities::CapSets;
use crate::error::Failure;
use crate::plan::{Device, Mount, Rlimit, Rootfs, UserSpec};

/// The whole plan, a postcard record in a memfd.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InitPlan {
    pub(crate) task: Task,
    pub(crate) program: ProgramPlan,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Launch(Box<LaunchTask>),
    /// The first passed descriptor is the pidfd of the container's first process.
    Exec {
        /// The namespaces to join.
        namespaces: u64,
    },
}

/// What makes a container around the program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LaunchTask {
    /// The kind of each passed descriptor, a namespace to join.
    pub(crate) joins: Vec<u64>,
    pub(crate) private_cgroup: bool,
    pub(crate) private_net: bool,
    pub(crate) private_uts: bool,
    pub(crate) private_ipc: bool,
    pub(crate) rootfs: Rootfs,
    pub(crate) readonly_rootfs: bool,
    /// Device nodes on the root file system do nothing: for a kernel that cannot filter devices.
    pub(crate) no_device_nodes: bool,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) devices: Vec<Device>,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) shm_size: u64,
    pub(crate) init: bool,
    pub(crate) privileged: bool,
}

/// The program, and what it may do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProgramPlan {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: UserSpec,
    pub(crate) capabilities: CapSets,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: Option<Vec<u8>>,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i32>,
    /// Columns and rows.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// What container-init says over its socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Beside it: the master of the terminal. It goes on when it gets a byte back.
    Terminal,
    /// Everything is set up; the end of the stream means that the program runs.
    Executing,
    /// It did not work.
    Failed(Failure),
}

const MAX_WORD: usize = 8192;

pub(crate) fn say(socket: BorrowedFd<'_>, word: &Word, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let record = postcard::to_stdvec(word).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&record)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next word; `None` at the end of the stream.
pub(crate) fn hear(socket: BorrowedFd<'_>) -> io::Result<Option<(Word, Option<OwnedFd>)>> {
    let mut record = [0; MAX_WORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slice = [IoSliceMut::new(&mut record)];
        match rustix::net::recvmsg(socket, &mut slice, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            // What a peer that was killed with unread data leaves behind.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            result => break result?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let fd = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .next();
    let word = postcard::from_bytes(&record[..received.bytes])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((word, fd)))
}
