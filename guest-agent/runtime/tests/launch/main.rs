//! Real containers, made from a static busybox in a temporary directory, by a real supervisor.
//!
//! This program is everything by turns: called plainly it is the supervisor, which starts it again as the engine (which
//! runs the tests), and for each container as container-init. Needs root; says SKIPPED loudly otherwise.
#![expect(clippy::unwrap_used, reason = "a test without the harness is a test all the same")]

mod cases;
mod lab;
mod measure;
mod mounts;
mod recovery;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use supervisor::{EngineCommand, ExitReason};

use lab::Lab;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[1..] {
        ["container-init"] => runtime::container_init_main(),
        // The arguments end with `--supervisor-fd N`.
        ["engine", result, filters @ .., _, fd] => engine(Path::new(result), filters, fd),
        ["crashing-engine", directory, _, fd] => recovery::crashing_engine(Path::new(directory), fd),
        ["stopping-engine", directory, _, fd] => recovery::stopping_engine(Path::new(directory), fd),
        ["failing-engine", ..] => ExitCode::from(3),
        ["supervise", engine, directory] => supervise(vec![engine.into(), directory.into()]),
        filters => supervise_tests(filters),
    }
}

fn supervise(args: Vec<OsString>) -> ExitCode {
    let program = std::env::current_exe().expect("a program has a path");
    let command = EngineCommand { program, args, stop_timeout: Duration::from_secs(5) };
    match supervisor::run(command, ()) {
        Ok(ExitReason::Finished) => ExitCode::SUCCESS,
        Ok(reason) => {
            eprintln!("the engine ended: {reason:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the supervisor failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise_tests(filters: &[&str]) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: launching containers needs root");
        return ExitCode::SUCCESS;
    }
    if !Path::new("/bin/busybox").exists() {
        println!("SKIPPED: launching containers needs /bin/busybox (package busybox-static)");
        return ExitCode::SUCCESS;
    }
    let result: PathBuf = tempfile::NamedTempFile::new().expect("a temporary file").path().to_owned();
    let mut args: Vec<OsString> = vec!["engine".into(), result.clone().into()];
    args.extend(filters.iter().filter(|filter| !filter.starts_with('-')).map(Into::into));
    let ended = supervise(args);
    let passed = std::fs::read_to_string(&result).is_ok_and(|result| result == "passed");
    // It may be missing when the engine was killed.
    let _ = std::fs::remove_file(&result);
    if passed { ended } else { ExitCode::FAILURE }
}

fn engine(result: &Path, filters: &[&str], fd: &str) -> ExitCode {
    let lab = Lab::open(fd);
    if filters == ["measure"] {
        measure::run(&lab);
        lab.close();
        say(result, "passed");
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    let mut count = 0;
    for (name, case) in cases::ALL.iter().chain(mounts::ALL).chain(recovery::ALL) {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        count += 1;
        let passed = catch_unwind(AssertUnwindSafe(|| case(&lab))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    println!("\n{count} tests, {} failed {failed:?}", failed.len());
    lab.close();
    std::fs::write(result, if failed.is_empty() { "passed" } else { "failed" })
        .expect("the result is written");
    // The verdict is in the file: ending well tells the supervisor not to try again.
    ExitCode::SUCCESS
}

fn say(result: &Path, verdict: &str) {
    std::fs::write(result, verdict).expect("the result is written");
}
