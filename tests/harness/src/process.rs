//! Running programs, and waiting for what they bring about.

use std::{
    fmt,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What a finished program left: its exit status and its two outputs.
pub struct Output {
    line: String,
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// Runs the command to its end.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let line = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{line}: {error}"));
        Self { line, status: output.status, stdout: output.stdout, stderr: output.stderr }
    }

    /// Runs the command to its end with the bytes as its standard input.
    #[must_use]
    pub fn with_input(command: &mut Command, input: &[u8]) -> Self {
        let line = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_vec();
        // A program that ends before it has read everything is no error of the test's.
        let writer = thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("{line}: {error}"));
        let _ = writer.join();
        Self { line, status: output.status, stdout: output.stdout, stderr: output.stderr }
    }

    /// Fails the test unless the program ended well.
    #[track_caller]
    #[must_use]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Fails the test unless the program ended with this exit code.
    #[track_caller]
    #[must_use]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// The exit code; none when a signal ended the program.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The standard output as text.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The standard output's first line without its end, for ids and the like.
    #[must_use]
    pub fn line(&self) -> String {
        self.stdout().lines().next().unwrap_or_default().to_owned()
    }

    /// The standard error as text.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The standard output as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}\n{}\nstdout: {}\nstderr: {}", self.line, self.status, self.stdout(), self.stderr())
    }
}

/// How long [`eventually`] waits: far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until the answer is there, and fails the test when it doesn't come.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        thread::park_timeout(Duration::from_millis(10));
    }
}
