//! Docker's default policy as a table of ours: what everybody may call, and what a capability adds.
//!
//! Everything else fails with `EPERM`. Left out for everybody are calls that reach beyond the container or widen the
//! kernel's surface (keyrings, `userfaultfd`, `io_uring`, module loading and the like).

use super::policy::{Action, Arch, Condition, Policy, Rule, Test};
use crate::capabilities::CapSet;

/// Files and directories, by path and by descriptor.
const FILES: &str = "\
    _llseek access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 \
    dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat \
    fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr \
    fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat \
    get_thread_area getcwd getdents getdents64 getxattr getxattrat inotify_add_watch inotify_init \
    inotify_init1 inotify_rm_watch ioctl landlock_create_ruleset lchown lchown32 lgetxattr link linkat \
    listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 memfd_create \
    memfd_secret mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pidfd_open \
    pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv \
    removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 set_thread_area \
    setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat \
    utimensat_time64 utimes vmsplice write writev";

/// Waiting: polls, event descriptors, timers and asynchronous input and output.
const EVENTS: &str = "\
    _newselect alarm clock_nanosleep clock_nanosleep_time64 epoll_create epoll_create1 epoll_ctl \
    epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getitimer \
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit nanosleep \
    pause poll ppoll ppoll_time64 pselect6 pselect6_time64 select setitimer signalfd signalfd4 \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64";

/// Memory.
const MEMORY: &str = "\
    brk madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap \
    mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease \
    remap_file_pages";

/// Sockets.
const SOCKETS: &str = "\
    accept accept4 bind connect getpeername getsockname getsockopt listen mq_timedsend \
    mq_timedsend_time64 recv recvfrom recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto \
    setsockopt shutdown socketcall socketpair";

/// Pipes, System V and POSIX objects shared between processes, futexes.
const IPC: &str = "\
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list ipc mq_getsetattr \
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_unlink msgctl msgget msgrcv msgsnd pipe \
    pipe2 semctl semget semop semtimedop semtimedop_time64 set_robust_list shmat shmctl shmdt shmget";

/// Signals.
const SIGNALS: &str = "\
    kill pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask \
    sigreturn tgkill tkill";

/// Users, groups, capabilities, sessions.
const IDENTITY: &str = "\
    capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid \
    getpgrp getresgid getresgid32 getresuid getresuid32 getsid getuid getuid32 setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setregid setregid32 setresgid \
    setresgid32 setresuid setresuid32 setreuid setreuid32 setsid setuid setuid32";

/// Priorities, processors and limits.
const SCHEDULING: &str = "\
    getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 rseq sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield setpriority setrlimit ugetrlimit";

/// Clocks.
const TIME: &str = "\
    adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 gettimeofday time times";

/// Processes and threads, and what they ask about the system.
const PROCESSES: &str = "\
    execve execveat exit exit_group fork getpid getppid getrandom gettid landlock_add_rule \
    landlock_restrict_self prctl restart_syscall seccomp set_tid_address sysinfo uname uretprobe vfork \
    wait4 waitid waitpid";

/// What a capability adds.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog \
         umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// What an architecture adds.
const X86_64: &str = "arch_prctl modify_ldt";
const ARM: &str = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// Tracing within the container's own process namespace; harmless since Linux 4.8, and every kernel that has what
/// the engine needs is newer.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

/// Socket families that no container may use: the kernel's cryptography, and the way to the VM's host.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Execution domains that do not weaken address space randomisation: Linux, UNAME26 and SHORT_INODE forms, and
/// the query.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The flags of `clone` that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The policy for a process whose bounding set is `capabilities`.
pub(super) fn policy(capabilities: CapSet, arch: Arch) -> Policy {
    let everybody = [
        FILES,
        EVENTS,
        MEMORY,
        SOCKETS,
        IPC,
        SIGNALS,
        IDENTITY,
        SCHEDULING,
        TIME,
        PROCESSES,
        TRACING,
        match arch {
            Arch::X86_64 => X86_64,
            Arch::Aarch64 => ARM,
        },
    ];
    let mut rules: Vec<Rule> = everybody.iter().map(|names| allow(names)).collect();
    rules.push(allow_if("socket", Test::Less(AF_ALG)));
    rules.push(allow_if("socket", Test::Equal(AF_ALG + 1)));
    rules.push(allow_if("socket", Test::Greater(AF_VSOCK)));
    rules.extend(PERSONALITIES.map(|domain| allow_if("personality", Test::Equal(domain))));
    let added = BY_CAPABILITY.iter().filter(|(name, _)| capabilities.has(name));
    rules.extend(added.map(|(_, names)| allow(names)));
    if !capabilities.has("CAP_SYS_ADMIN") {
        rules.push(allow_if("clone", Test::Masked { mask: NEW_NAMESPACES, value: 0 }));
        // Its flags are in memory, where a filter cannot look; the C library falls back to `clone`.
        let action = Action::Errno(libc::ENOSYS as u16);
        rules.push(Rule { action, ..allow("clone3") });
    }
    Policy { abis: arch.abis().to_vec(), default: Action::Errno(libc::EPERM as u16), rules }
}

fn allow(names: &str) -> Rule {
    let names = names.split_ascii_whitespace().map(str::to_owned).collect();
    Rule { names, conditions: Vec::new(), action: Action::Allow }
}

fn allow_if(name: &str, test: Test) -> Rule {
    Rule { conditions: vec![Condition { argument: 0, test }], ..allow(name) }
}
