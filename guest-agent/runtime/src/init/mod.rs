//! The program `container-init`.

pub(crate) mod overlay;
pub(crate) mod wire;

use std::process::ExitCode;

/// Entry of the re-executed binary.
pub fn container_init_main() -> ExitCode {
    ExitCode::from(127)
}
