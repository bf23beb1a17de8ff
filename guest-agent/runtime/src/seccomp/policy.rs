//! A policy resolved for one machine and one set of capabilities.

/// The machine: whose ABIs a filter judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86-64 with x32 and i386.
    X86_64,
    /// aarch64 with 32-bit ARM.
    Aarch64,
}

impl Arch {
    /// The architecture this program was built for.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

    /// As profiles name it in `includes` and `excludes`: Go's word.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// Its own ABI, then those of its companions.
    pub(super) fn abis(self) -> &'static [Abi] {
        match self {
            Arch::X86_64 => &[Abi::X86_64, Abi::X86, Abi::X32],
            Arch::Aarch64 => &[Abi::Aarch64, Abi::Arm],
        }
    }
}

/// A set of system call numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Abi {
    /// The kernel's word for it in `seccomp_data.arch` (AUDIT_ARCH_…).
    pub(super) fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }
}

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Log,
    /// Fails with this error number, at most 4095.
    Errno(u16),
    Trap,
    Trace(u16),
    KillThread,
    KillProcess,
}

impl Action {
    /// The program's return value (SECCOMP_RET_…).
    pub(super) fn code(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(number) => 0x0005_0000 | u32::from(number),
            Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }
}

/// How an argument is compared, as 64 unsigned bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// The bits of the mask have this value.
    Masked {
        mask: u64,
        value: u64,
    },
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) test: Test,
}

/// What becomes of some system calls when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// Everything a program is made from. Of a call's rules an unconditional one decides alone; of conditional ones
/// the first that holds does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) abis: Vec<Abi>,
    pub(super) default: Action,
    pub(super) rules: Vec<Rule>,
}
