//! Processor architectures: what of a VM differs between them.
//!
//! The image says which one it is for. Under QEMU it may be another than the host's, which is then emulated.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A processor architecture, in Docker's and Debian's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// This host's.
    pub const HOST: Architecture =
        if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::Amd64 };

    /// The kernel's command line for a console device.
    ///
    /// A panic reboots at once, which ends the machine, so that a crash is seen when it happens. The rest spares
    /// the boot what no virtual machine has: a mouse port, serial ports, timer checks, self-tests of ciphers.
    pub fn command_line(self, console: &str) -> String {
        let common =
            "quiet loglevel=4 panic=-1 random.trust_cpu=on cryptomgr.notests rcupdate.rcu_expedited=1";
        let machine = match self {
            Architecture::Amd64 => {
                " no_timer_check i8042.noaux=1 i8042.nomux=1 i8042.nopnp=1 i8042.dumbkbd=1 8250.nr_uarts=1"
            }
            Architecture::Arm64 => "",
        };
        format!("console={console} {common}{machine}")
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        })
    }
}
