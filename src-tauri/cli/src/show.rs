//! What the VM is and says, for people and for programs.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use host::model::{Stage, VmState, VmStatus};
use host::settings::Settings;
use tokio::io::AsyncReadExt as _;

/// Between two looks at a console that is followed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `sampan status`
pub(crate) async fn status(settings: Settings, json: bool) -> anyhow::Result<ExitCode> {
    let status = match host::owner_status(&settings).await? {
        Some(status) => status,
        None => {
            let hypervisor = crate::hypervisor(&settings)?;
            host::stopped_status(settings, hypervisor)
        }
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", describe(&status, SystemTime::now()));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(status: &VmStatus, now: SystemTime) -> String {
    let mut lines = vec![("VM", state(status, now))];
    let hypervisor = format!("{:?}", status.hypervisor).to_lowercase();
    let accelerator = status.accelerator.as_ref().map(|name| format!(" with {name}")).unwrap_or_default();
    lines.push(("Hypervisor", format!("{hypervisor}{accelerator}")));
    lines.push(("Resources", format!("{} processors, {} MiB of memory", status.cpus, status.memory_mib)));
    if let Some(disk) = &status.disk {
        let sizes = format!("{} used of {}", binary(disk.used), binary(disk.size));
        lines.push(("Data disk", format!("{sizes}, {}", disk.path.display())));
    }
    lines.push(("Docker", format!("unix://{}", status.socket.display())));
    lines.push(("Console", status.console.display().to_string()));
    if !status.stages.is_empty() {
        let took = |report: &host::model::StageReport| {
            format!("{} {}", stage(report.stage), seconds(Duration::from_millis(report.took_ms)))
        };
        lines.push(("Last start", status.stages.iter().map(took).collect::<Vec<_>>().join(", ")));
    }
    if status.failed_boots + status.restarts > 0 {
        let counts =
            format!("{} boots failed, {} restarts after a crash", status.failed_boots, status.restarts);
        lines.push(("Troubles", counts));
    }
    lines.extend(status.warnings.iter().map(|warning| ("Warning", warning.clone())));
    lines.iter().map(|(name, text)| format!("{name:<12} {text}\n")).collect()
}

fn state(status: &VmStatus, now: SystemTime) -> String {
    let since = UNIX_EPOCH + Duration::from_millis(u64::try_from(status.since_ms).unwrap_or_default());
    let time = now.duration_since(since).unwrap_or_default();
    match &status.vm {
        VmState::Stopped => "stopped".to_owned(),
        VmState::Starting { stage: now, attempt: 1 } => format!("starting: {}", stage(*now)),
        VmState::Starting { stage: now, attempt } => format!("starting, try {attempt}: {}", stage(*now)),
        VmState::Running => format!("running for {}", largest_unit(time)),
        VmState::Stopping => "stopping".to_owned(),
        VmState::Restarting { delay_ms, cause } => {
            format!("restarting in {}: {cause}", seconds(Duration::from_millis(*delay_ms)))
        }
        VmState::Failed { cause } => format!("failed: {cause}"),
    }
}

/// What a stage does, in few words.
pub(crate) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Prepare => "files and disk",
        Stage::Boot => "kernel",
        Stage::Agent => "guest agent",
        Stage::Engine => "engine",
    }
}

/// `1.25 s`
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn largest_unit(time: Duration) -> String {
    let all = time.as_secs();
    let (count, unit) = match all {
        0..60 => (all, "second"),
        60..3600 => (all / 60, "minute"),
        3600..86_400 => (all / 3600, "hour"),
        _ => (all / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn binary(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// `sampan logs`
pub(crate) async fn logs(settings: &Settings, follow: bool, tail: Option<usize>) -> anyhow::Result<ExitCode> {
    let path = settings.paths.console();
    let mut file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !follow => {
            eprintln!("there is no console yet: the VM was never started");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).await?;
    print_bytes(last_lines(&bytes, tail))?;
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        bytes.clear();
        if file.read_to_end(&mut bytes).await? > 0 {
            print_bytes(&bytes)?;
        } else if let (Ok(open), Ok(now)) = (file.metadata().await, tokio::fs::metadata(&path).await)
            && open.ino() != now.ino()
        {
            // A new start has set the old console aside.
            file = tokio::fs::File::open(&path).await?;
        }
    }
}

fn last_lines(bytes: &[u8], count: Option<usize>) -> &[u8] {
    let Some(count) = count else { return bytes };
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut newlines =
        body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match count {
        0 => &[],
        _ => &bytes[newlines.nth(count - 1).unwrap_or(0)..],
    }
}

fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever read has enough (`sampan logs | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_lines() {
        assert_eq!(last_lines(b"a\nb\nc\n", Some(2)), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", Some(1)), b"c");
        assert_eq!(last_lines(b"a\n", Some(5)), b"a\n");
        assert_eq!(last_lines(b"a\n", Some(0)), b"");
        assert_eq!(last_lines(b"a\nb\n", None), b"a\nb\n");
    }

    #[test]
    fn bytes_have_three_figures_at_most() {
        assert_eq!(["512 B", "1.50 KiB", "64.0 GiB"].map(str::to_owned), [512, 1536, 64 << 30].map(binary));
    }

    #[test]
    fn time_is_the_largest_whole_unit() {
        assert_eq!(largest_unit(Duration::from_secs(1)), "1 second");
        assert_eq!(largest_unit(Duration::from_secs(119)), "1 minute");
        assert_eq!(largest_unit(Duration::from_secs(7200)), "2 hours");
    }
}
