//! The language of the integration tests: a sandbox, an engine or a VM in it, a registry, a client.
//!
//! ```no_run
//! let engine = harness::Engine::start();
//! engine.load(&harness::fixtures::busybox());
//! assert_eq!(engine.docker(["run", "--rm", "busybox", "echo", "hello"]).stdout(), "hello\n");
//! ```
//!
//! Nothing here is a mock: the engine is the built program, the client is the real `docker` command,
//! the registry is Debian's. Each test has its own network and mount namespaces, data root and
//! sockets, so tests run side by side and what they made goes with their [`Sandbox`].

pub mod engine;
pub mod fixtures;
pub mod process;
pub mod registry;
pub mod sandbox;
pub mod settings;
pub mod vm;

pub use engine::Engine;
pub use process::{Output, eventually};
pub use registry::Registry;
pub use sandbox::Sandbox;
pub use vm::Vm;

/// Returns from the test, loudly, when the machine lacks something that it needs.
///
/// Under `make test` (which has installed everything) a lack is a failure instead.
#[macro_export]
macro_rules! require {
    ($requirement:expr) => {
        if let Err(lack) = $requirement {
            assert!(!$crate::settings::require_all(), "this machine should have everything: {lack}");
            println!("SKIPPED: {lack}");
            return;
        }
    };
}
