//! The machine's own limit for a container start: a C program that does no more than the kernel needs.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, ensure};
use harness::{Output, Sandbox};

use crate::report::Times;

const SOURCE: &str = include_str!("limit.c");

/// Builds the program and takes its times in a sandbox.
pub(crate) fn run(turns: usize) -> anyhow::Result<Times> {
    let sandbox = Sandbox::new();
    let (source, program, lower) =
        (sandbox.path("limit.c"), sandbox.path("limit"), sandbox.path("lower/bin"));
    fs::write(&source, SOURCE)?;
    fs::create_dir_all(&lower)?;
    fs::create_dir(sandbox.path("root"))?;
    fs::copy("/bin/busybox", lower.join("busybox")).context("the package busybox-static is needed")?;
    let built = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(&source).status()?;
    ensure!(built.success(), "the C compiler cannot build the limit's program");
    let output = Output::of(sandbox.command(&program).arg(turns.to_string()).arg(sandbox.folder()));
    let mut times = Times::default();
    for line in output.success().stdout().lines() {
        times.add(Duration::from_nanos(line.parse()?));
    }
    Ok(times)
}
