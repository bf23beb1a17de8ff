//! What the engine and its supervisor hold at rest, and what an idle container adds.

use std::fs;

use anyhow::Context;
use harness::{Engine, fixtures};

use crate::report::Report;

/// Enough to even out page-sized steps.
const CONTAINERS: u64 = 20;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let engine = Engine::start();
    engine.load(&fixtures::busybox());
    let rest = total(&engine)?;
    for _ in 0..CONTAINERS {
        let _ =
            engine.docker(["run", "--detach", "--network", "none", "busybox", "sleep", "10000"]).success();
    }
    let busy = total(&engine)?;
    report.figure("memory at rest, engine and supervisor (PSS)", &format!("{:.1} MB", rest as f64 / 1e3));
    let each = busy.saturating_sub(rest) / CONTAINERS;
    report.figure("memory per idle container, engine's side", &format!("{each} kB"));
    Ok(())
}

/// Engine's and supervisor's proportional set size in kB (proc(5), smaps_rollup).
pub(crate) fn total(engine: &Engine) -> anyhow::Result<u64> {
    let engine_pid = engine.engine_pid().context("the engine has no process")?;
    Ok(pss(engine.supervisor_pid())? + pss(engine_pid)?)
}

fn pss(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|value| value.parse().ok())
        .context("smaps_rollup has no Pss line")
}
