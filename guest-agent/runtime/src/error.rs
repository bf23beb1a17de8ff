//! Why something did not start, in the words that clients look for.
//!
//! The `docker` command tells exit codes 125, 126 and 127 apart by phrases of the message, so the wording is runc's.
//! Here alone a message holds its source's text: it is one line that travels over the API as a whole.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A launch or exec that failed; [`fmt::Display`] gives the line for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchError {
    /// What was being done.
    pub during: During,
    /// What went wrong.
    pub failure: Failure,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum During {
    /// A container was to be started.
    Create,
    /// A process was to be started in a running container.
    Exec,
}

/// What went wrong. Sent by container-init to the engine as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// A bare name that is nowhere in `$PATH`.
    ExecutableNotFound {
        /// It.
        name: String,
    },
    /// A path with a slash at which nothing is.
    NoSuchFile {
        /// It.
        path: String,
        /// Why not: ENOENT, ENOTDIR, ELOOP …
        errno: i32,
    },
    /// It is there but is a directory or lacks the permission bit.
    NotExecutable {
        /// It.
        path: String,
        /// EACCES or EISDIR.
        errno: i32,
    },
    /// The kernel refused to execute it: ENOEXEC for another architecture, ENOENT for a missing interpreter …
    Execute {
        /// It.
        path: String,
        /// Why.
        errno: i32,
    },
    /// The user or group is not known in the container.
    NoSuchUser {
        /// dockerd's sentence.
        message: String,
    },
    /// The working directory cannot be entered.
    WorkingDirectory {
        /// It.
        path: String,
        /// Why.
        errno: i32,
    },
    /// The working directory lies outside of the container's root.
    WorkingDirectoryOutside,
    /// A mount failed.
    Mount {
        /// What was to be mounted.
        source: String,
        /// Where.
        target: String,
        /// Why.
        errno: i32,
    },
    /// Another step failed.
    Step {
        /// What was being done.
        what: String,
        /// Why.
        errno: i32,
    },
    /// The container is not running (any more).
    NotRunning,
    /// container-init ended without a word.
    Died,
    /// The plan makes no sense.
    InvalidPlan {
        /// What about it.
        message: String,
    },
    /// The container's cgroup cannot be set up.
    Cgroup {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        errno: i32,
    },
}

impl LaunchError {
    /// What a shell would return for it: 127 when there is nothing to execute, 126 when it cannot be
    /// executed, 125 (Docker's own) otherwise.
    pub fn exit_code(&self) -> i64 {
        match &self.failure {
            Failure::ExecutableNotFound { .. } | Failure::NoSuchFile { .. } => 127,
            Failure::Execute { errno: libc::ENOENT, .. } => 127,
            Failure::NotExecutable { .. } | Failure::Execute { .. } => 126,
            // The docker command decides by the words "no such file or directory" and "permission denied".
            Failure::WorkingDirectory { errno: libc::ENOENT, .. } => 127,
            Failure::WorkingDirectory { errno: libc::EACCES, .. } => 126,
            _ => 125,
        }
    }

    /// Whether the request, not the machine, is at fault (HTTP 400 rather than 500).
    pub fn is_callers_fault(&self) -> bool {
        !matches!(self.failure, Failure::Died | Failure::Cgroup { .. } | Failure::Step { .. })
    }
}

impl std::error::Error for LaunchError {}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match (self.during, &self.failure) {
            // dockerd looks users up itself, before it asks its runtime.
            (_, Failure::NoSuchUser { message }) => return f.write_str(message),
            (During::Create, Failure::InvalidPlan { .. } | Failure::Cgroup { .. }) => {
                "OCI runtime create failed: runc create failed: "
            }
            (During::Create, _) => {
                "OCI runtime create failed: runc create failed: unable to start container process: error during container init: "
            }
            (During::Exec, _) => "OCI runtime exec failed: exec failed: unable to start container process: ",
        };
        write!(f, "{prefix}{}: unknown", self.failure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::ExecutableNotFound { name } => {
                write!(f, "exec: {name:?}: executable file not found in $PATH")
            }
            Failure::NoSuchFile { path, errno } => write!(f, "exec: {path:?}: stat {path}: {}", text(*errno)),
            Failure::NotExecutable { path, errno } => write!(f, "exec: {path:?}: {}", text(*errno)),
            Failure::Execute { path, errno } => write!(f, "exec {path}: {}", text(*errno)),
            Failure::NoSuchUser { message } | Failure::InvalidPlan { message } => f.write_str(message),
            Failure::WorkingDirectory { path, errno } => {
                write!(f, "chdir to cwd ({path:?}) set in config.json failed: {}", text(*errno))
            }
            Failure::WorkingDirectoryOutside => f.write_str(
                "current working directory is outside of container mount namespace root -- possible container breakout detected",
            ),
            Failure::Mount { source, target, errno } => {
                write!(f, "error mounting {source:?} to rootfs at {target:?}: {}", text(*errno))
            }
            Failure::Step { what, errno } => write!(f, "{what}: {}", text(*errno)),
            Failure::NotRunning => f.write_str("container is not running"),
            Failure::Died => f.write_str("container init ended without a word"),
            Failure::Cgroup { path, errno } => {
                write!(f, "unable to apply cgroup configuration: {}: {}", path.display(), text(*errno))
            }
        }
    }
}

impl Failure {
    /// The failure of a step, with what the system said.
    pub(crate) fn step(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::Step { what: what.into(), errno: number(&error) }
    }

    pub(crate) fn mount(
        source: impl fmt::Display,
        target: impl fmt::Display,
    ) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::Mount {
            source: source.to_string(),
            target: target.to_string(),
            errno: number(&error),
        }
    }
}

/// The error's number. Errors made up by libraries count as EIO.
pub(crate) fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// What an error number means, spelt as Go spells it, since clients look for Go's words.
fn text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(failure: Failure) -> LaunchError {
        LaunchError { during: During::Create, failure }
    }

    #[test]
    fn a_missing_program_is_127_in_runcs_words() {
        let error = create(Failure::ExecutableNotFound { name: "foo".to_owned() });
        assert_eq!(error.exit_code(), 127);
        assert_eq!(
            error.to_string(),
            "OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"foo\": executable file not found in $PATH: unknown"
        );
    }

    #[test]
    fn a_program_without_permission_is_126() {
        let error = create(Failure::NotExecutable { path: "/etc/passwd".to_owned(), errno: libc::EACCES });
        assert_eq!(error.exit_code(), 126);
        assert!(error.to_string().contains("exec: \"/etc/passwd\": permission denied"));
    }

    #[test]
    fn a_program_for_another_machine_says_exec_format_error() {
        let error = create(Failure::Execute { path: "/hello".to_owned(), errno: libc::ENOEXEC });
        assert_eq!(error.exit_code(), 126);
        assert!(error.to_string().contains("exec /hello: exec format error"));
    }

    #[test]
    fn an_unknown_user_is_dockerds_sentence_alone() {
        let message = "unable to find user joe: no matching entries in passwd file".to_owned();
        assert_eq!(create(Failure::NoSuchUser { message: message.clone() }).to_string(), message);
    }
}
