//! A network and a mount namespace of a test's own.
//!
//! A holder process keeps the two alive; whatever runs in the sandbox enters them by `nsenter`.
//! When the sandbox is dropped, the holder ends, and links, rules and mounts go with it.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Output, settings};

/// A place for one test; see the module.
pub struct Sandbox {
    holder: Child,
    folder: tempfile::TempDir,
}

impl Sandbox {
    /// Makes a sandbox with a loopback interface and an empty folder.
    ///
    /// # Panics
    /// When namespaces cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("unshare answers");
        assert_eq!(line, "ready\n", "the sandbox's namespaces were not made");
        let folder = tempfile::Builder::new().prefix("sampan-test-").tempdir().expect("a temporary folder");
        Self { holder, folder }
    }

    /// What a sandbox needs of the machine.
    ///
    /// # Errors
    /// When the tests don't run as root or a program is missing.
    pub fn available() -> Result<(), String> {
        settings::root_user()?;
        for name in ["unshare", "nsenter", "ip"] {
            settings::program(name)?;
        }
        Ok(())
    }

    /// The sandbox's folder, removed with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the sandbox's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that will run in the sandbox's namespaces; its process is the program's own.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.id();
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(format!("--mount=/proc/{pid}/ns/mnt"));
        command.arg("--").arg(program);
        command
    }

    /// Runs curl in the sandbox, quietly, failing on HTTP errors.
    #[must_use]
    pub fn curl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        Output::of(
            self.command("curl").args(["--silent", "--show-error", "--max-time", "60"]).args(arguments),
        )
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The end of its input ends `cat`, and with it the namespaces.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_has_a_loopback_interface_and_nothing_else() {
        crate::require!(Sandbox::available());
        let sandbox = Sandbox::new();
        let links = Output::of(sandbox.command("ip").args(["-j", "link"])).success().json();
        let names: Vec<_> = links.as_array().unwrap().iter().map(|link| link["ifname"].clone()).collect();
        assert_eq!(names, ["lo"]);
    }
}
