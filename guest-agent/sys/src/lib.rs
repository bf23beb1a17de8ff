//! Linux calls that neither `std` nor `rustix` offers safely, each as one thin safe function.
//!
//! This is the only crate of the guest that holds `unsafe`. A wrapper takes owned or borrowed file
//! descriptors, returns `io::Result`, and has no policy. What `rustix` does safely is not repeated here.
//!
//! | module | wrapper | call |
//! |---|---|---|
//! | [`process`] | [`process::clone`] | clone3 with namespaces, a pidfd and a cgroup |
//! | | [`process::fork`] | clone3 without flags, for programs of one thread |
//! | | [`process::execute`], [`process::execute_fd`] | execve, execveat of an open file |
//! | | [`process::exit_now`] | _exit, for a child that must not unwind into its parent's code |
//! | | [`process::close_from`], [`process::cloexec_from`] | close_range |
//! | | [`process::reap`] | waitid of any child, never blocking |
//! | | [`process::adopt_descriptor`] | takes over a descriptor inherited by number |
//! | | [`process::set_dumpable`], [`process::set_subreaper`], [`process::set_parent_death_signal`], [`process::set_name`] | prctl |
//! | | [`process::set_resource_limit`] | prlimit with raw resource numbers |
//! | [`namespace`] | [`namespace::join`], [`namespace::unshare`] | setns, unshare |
//! | [`mount`] | [`mount::set_attributes`] | mount_setattr |
//! | | [`mount::pivot_root_here`] | pivot_root(".", ".") and the detaching of the old root |
//! | [`credentials`] | [`credentials::set_groups`], [`credentials::set_user`], [`credentials::set_group`] | setgroups, setresuid, setresgid of the calling thread |
//! | | [`credentials::set_capabilities`], [`credentials::drop_bounding`], [`credentials::raise_ambient`], … | capset, prctl |
//! | [`seccomp`] | [`seccomp::load`] | seccomp(SECCOMP_SET_MODE_FILTER) |
//! | [`bpf`] | [`bpf::load_device_program`], [`bpf::attach_device_program`] | bpf, for the cgroup's device filter |
//! | [`signal`] | [`signal::block_all`], [`signal::reset`], [`signal::Descriptor`], [`signal::wait`] | rt_sigprocmask, sigaction, signalfd, sigwaitinfo |
//! | [`terminal`] | [`terminal::set_controlling`], [`terminal::peer`], [`terminal::set_size`], [`terminal::unlock`] | TIOCSCTTY, TIOCGPTPEER, TIOCSWINSZ, TIOCSPTLCK |
//! | [`socket`] | [`socket::unsent`] | SIOCOUTQ |
//! | [`netlink`] | see there | routes, links, nftables |
//! | [`interface`] | [`interface::bring_loopback_up`] | SIOCSIFFLAGS on `lo` |
#![expect(unsafe_code, reason = "this crate is where the guest's system calls live")]

pub mod bpf;
pub mod credentials;
pub mod interface;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod terminal;

use std::io;

/// Turns a system call's −1 into the calling thread's error.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
