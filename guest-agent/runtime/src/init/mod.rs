//! The program `container-init`: what runs between clone and the container's own program.
//!
//! The supervisor executes this very binary again, with a plan in a memfd and a socket to the engine. It is born in the
//! container's namespaces and cgroup, has one thread, builds the container around itself from the inside, gives up its
//! rights and executes the program. What goes wrong is said over the socket; its end without a word of failure means
//! that the program runs.
//!
//! The order matters: everything of the host is opened before the root changes, everything of the container is
//! resolved inside of the root, and whatever a malicious image could profit from is done after the rights are gone.

mod devices;
pub(crate) mod filesystems;
pub(crate) mod inside;
pub(crate) mod overlay;
mod program;
mod reaper;
pub(crate) mod rootfs;
mod terminal;
mod user;
pub(crate) mod wire;

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use supervisor::{FIRST_PASSED_FD, PLAN_FD, SYNC_FD};

use crate::error::{During, Failure, LaunchError};
use wire::{InitPlan, LaunchTask, ProgramPlan, Task, Word};

/// What happens next to a failed start.
type Step<T> = Result<T, Failure>;

/// Entry of the binary when its first argument is `container-init`. Call it first thing in `main`: it relies on the
/// descriptors that the supervisor has left under fixed numbers, and on being the only thread.
pub fn container_init_main() -> ExitCode {
    let (plan, sync) =
        match (sys::process::adopt_descriptor(PLAN_FD), sys::process::adopt_descriptor(SYNC_FD)) {
            (Ok(plan), Ok(sync)) => (plan, sync),
            // Somebody called it by hand: there is nobody to tell.
            _ => return ExitCode::from(125),
        };
    let (during, failure) = match read_plan(&plan) {
        Ok(InitPlan { task: Task::Launch(task), program }) => {
            drop(plan);
            let Err(failure) = launch(*task, &program, &sync);
            (During::Create, failure)
        }
        Ok(InitPlan { task: Task::Exec { namespaces }, program }) => {
            drop(plan);
            let Err(failure) = exec(namespaces, &program, &sync);
            (During::Exec, failure)
        }
        Err(error) => (During::Create, Failure::step("reading the plan")(error)),
    };
    let code = LaunchError { during, failure: failure.clone() }.exit_code();
    // Without the engine there is nobody to tell.
    let _ = wire::say(sync.as_fd(), &Word::Failed(failure), None);
    ExitCode::from(u8::try_from(code).unwrap_or(125))
}

fn read_plan(memfd: &OwnedFd) -> io::Result<InitPlan> {
    // A container process of the same user must not look into this one.
    sys::process::set_dumpable(false)?;
    let size = rustix::fs::fstat(memfd)?.st_size as usize;
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match rustix::io::pread(memfd, &mut bytes[filled..], filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    postcard::from_bytes(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn launch(task: LaunchTask, program: &ProgramPlan, sync: &OwnedFd) -> Step<Infallible> {
    new_session()?;
    set_oom_score(program.oom_score_adj)?;
    for (number, kind) in (FIRST_PASSED_FD..).zip(&task.joins) {
        let namespace =
            sys::process::adopt_descriptor(number).map_err(Failure::step("taking over a namespace"))?;
        sys::namespace::join(namespace.as_fd(), *kind).map_err(Failure::step("joining a namespace"))?;
    }
    if task.private_cgroup {
        sys::namespace::unshare(libc::CLONE_NEWCGROUP as u64)
            .map_err(Failure::step("making a cgroup namespace"))?;
    }
    if task.private_net {
        sys::interface::bring_loopback_up().map_err(Failure::step("bringing loopback up"))?;
    }
    if task.private_uts {
        set_names(&task)?;
    }
    let built = rootfs::build(&task)?;
    let terminal = match program.terminal {
        None => None,
        Some(size) => {
            let terminal = match &built.terminals {
                Some(terminals) => terminal::open(terminals.as_fd(), size, sync.as_fd())?,
                None => terminal::open_in(built.root.as_fd(), size, sync.as_fd())?,
            };
            rootfs::bind_console(built.root.as_fd(), terminal.as_fd())?;
            Some(terminal)
        }
    };
    let root = rootfs::enter(built, &task, &program.cwd)?;
    program::run(program, root, terminal, sync, task.init)
}

fn exec(namespaces: u64, program: &ProgramPlan, sync: &OwnedFd) -> Step<Infallible> {
    new_session()?;
    set_oom_score(program.oom_score_adj)?;
    let container = sys::process::adopt_descriptor(FIRST_PASSED_FD)
        .map_err(Failure::step("taking over the container"))?;
    sys::namespace::join(container.as_fd(), namespaces).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => Failure::NotRunning,
        _ => Failure::step("joining the container's namespaces")(error),
    })?;
    drop(container);
    let root = open_root()?;
    let terminal = match program.terminal {
        None => None,
        Some(size) => Some(terminal::open_in(root.as_fd(), size, sync.as_fd())?),
    };
    program::run(program, root, terminal, sync, false)
}

fn open_root() -> Step<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty())
        .map_err(|error| Failure::step("opening the root directory")(error.into()))
}

fn new_session() -> Step<()> {
    rustix::process::setsid().map_err(|error| Failure::step("starting a session")(error.into()))?;
    Ok(())
}

/// Done while /proc is still the host's.
fn set_oom_score(score: Option<i32>) -> Step<()> {
    let Some(score) = score else { return Ok(()) };
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
        .map_err(Failure::step("writing oom_score_adj"))
}

fn set_names(task: &LaunchTask) -> Step<()> {
    if !task.hostname.is_empty() {
        rustix::system::sethostname(task.hostname.as_bytes())
            .map_err(|error| Failure::step("sethostname")(error.into()))?;
    }
    if !task.domainname.is_empty() {
        rustix::system::setdomainname(task.domainname.as_bytes())
            .map_err(|error| Failure::step("setdomainname")(error.into()))?;
    }
    Ok(())
}

/// Done before parts of /proc are covered.
fn set_sysctls(proc: BorrowedFd<'_>, sysctls: &[(String, String)]) -> Step<()> {
    for (name, value) in sysctls {
        let path = sysctl_path(name);
        let written = inside::open_exactly(proc, &format!("sys/{path}"), OFlags::WRONLY)
            .and_then(|file| Ok(rustix::io::write(&file, value.as_bytes())?));
        written.map_err(Failure::step(format!("open sysctl {name} file /proc/sys/{path}")))?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward` is `net/ipv4/ip_forward`. With slashes first, dots are part of a name, as in sysctl(8).
fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']).map(|place| name.as_bytes()[place]) {
        Some(b'.') => name
            .chars()
            .map(|letter| {
                if letter == '.' {
                    '/'
                } else if letter == '/' {
                    '.'
                } else {
                    letter
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysctl_is_named_with_dots_or_slashes() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/100.rp_filter"), "net/ipv4/conf/eth0.100/rp_filter");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.100/rp_filter"), "net/ipv4/conf/eth0.100/rp_filter");
    }
}
