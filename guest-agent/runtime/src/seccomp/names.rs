//! System call numbers by name, for every ABI that a filter judges.

use std::collections::HashMap;
use std::sync::OnceLock;

use syscalls::{aarch64, arm, x86, x86_64};

use super::policy::Abi;

/// x32 calls are x86-64 calls with this bit set…
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// …but those whose arguments hold pointers in memory have numbers of their own, in this order from 512 on.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Calls of 32-bit ARM outside its table (ARM_NR_…), and profiles' other name for one inside it.
const ARM_OWN: [(&str, u32); 5] = [
    ("breakpoint", 0x000f_0001),
    ("cacheflush", 0x000f_0002),
    ("set_tls", 0x000f_0005),
    ("arm_sync_file_range", 341),
    ("sync_file_range2", 341),
];

/// 64-bit ARM's call 79 is `newfstatat` in the kernel's table and in every profile, as on x86-64: each stat is this call.
const AARCH64_OWN: (&str, u32) = ("newfstatat", 79);

type Table = HashMap<&'static str, u32>;

/// The number of a call; `None` when the ABI has none of this name.
pub(super) fn number(abi: Abi, name: &str) -> Option<u32> {
    table(abi).get(name).copied()
}

fn table(abi: Abi) -> &'static Table {
    // Constant data in the form that look-ups need; made once, as filters are made at each start.
    static TABLES: OnceLock<[Table; 5]> = OnceLock::new();
    let [x86_64, x86, x32, aarch64, arm] = TABLES.get_or_init(|| {
        let x86_64: Table = x86_64::Sysno::iter().map(|call| (call.name(), call.id() as u32)).collect();
        let x86 = x86::Sysno::iter().map(|call| (call.name(), call.id() as u32)).collect();
        let mut aarch64: Table = aarch64::Sysno::iter().map(|call| (call.name(), call.id() as u32)).collect();
        aarch64.extend([AARCH64_OWN]);
        let mut arm: Table = arm::Sysno::iter().map(|call| (call.name(), call.id() as u32)).collect();
        arm.extend(ARM_OWN);
        let mut x32: Table = x86_64.iter().map(|(name, number)| (*name, number | X32_BIT)).collect();
        x32.extend(X32_OWN.iter().zip(512..).map(|(name, number)| (*name, number | X32_BIT)));
        [x86_64, x86, x32, aarch64, arm]
    });
    match abi {
        Abi::X86_64 => x86_64,
        Abi::X86 => x86,
        Abi::X32 => x32,
        Abi::Aarch64 => aarch64,
        Abi::Arm => arm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that differs between the tables would silently forbid the call on one of them.
    #[test]
    fn what_64_bit_arm_has_bears_the_names_of_x86_64() {
        let known = table(Abi::X86_64);
        let strange: Vec<_> = table(Abi::Aarch64)
            .iter()
            .filter(|(name, _)| !known.contains_key(*name))
            // Its own name beside the common one; and calls of 32-bit machines, which no 64-bit one has.
            .filter(|(name, _)| **name != "fstatat" && !name.ends_with("64"))
            .collect();
        assert!(strange.is_empty(), "{strange:?}");
    }

    #[test]
    fn numbers_are_those_of_the_kernels_tables() {
        assert_eq!(number(Abi::X86_64, "clone3"), Some(435));
        assert_eq!(number(Abi::X86, "socketcall"), Some(102));
        assert_eq!(number(Abi::Aarch64, "openat"), Some(56));
        assert_eq!(number(Abi::Aarch64, "open"), None);
        assert_eq!(number(Abi::Aarch64, "newfstatat"), Some(79));
        assert_eq!(number(Abi::Arm, "set_tls"), Some(0xf0005));
        assert_eq!(number(Abi::X32, "read"), Some(X32_BIT));
        assert_eq!(number(Abi::X32, "pwritev2"), Some(X32_BIT | 547));
    }
}
