//! Whether a guest really runs with KVM here.
//!
//! A `/dev/kvm` that opens proves nothing: under some nested hypervisors guests hang or never start. So a boot sector
//! of ten bytes is run, whose only work is to tell QEMU to exit. The answer holds until this host reboots.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child::{Child, Program};

/// A guest with KVM says so in a fraction of this.
const PATIENCE: Duration = Duration::from_secs(3);

/// `mov dx, 0xf4; mov al, 0x10; out dx, al; hlt; jmp $-1`: the debug exit device turns 0x10 into status 33.
const CODE: [u8; 9] = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd];
const STATUS: i32 = 33;

/// Runs the probe, or remembers what it said since this host booted. Scratch files go to `dir`.
pub(super) async fn works(qemu: &Path, setpriv: Option<PathBuf>, dir: &Path) -> bool {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return false;
    }
    if !cfg!(target_arch = "x86_64") {
        return true;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let memory = dir.join("kvm-probe");
    if let Ok(known) = std::fs::read_to_string(&memory)
        && let Some(answer) = known.strip_prefix(boot.trim())
    {
        return answer.trim() == "works";
    }
    let answer = probe(qemu, setpriv, dir).await;
    let word = if answer { "works" } else { "fails" };
    // Forgetting the answer costs a few seconds at the next start, no more.
    let _ = std::fs::write(memory, format!("{} {word}\n", boot.trim()));
    answer
}

async fn probe(qemu: &Path, setpriv: Option<PathBuf>, dir: &Path) -> bool {
    let disk = dir.join("kvm-probe.img");
    if std::fs::write(&disk, boot_sector()).is_err() {
        return false;
    }
    let drive = format!("file={},format=raw,if=ide", disk.display().to_string().replace(',', ",,"));
    let arguments =
        ["-accel", "kvm", "-cpu", "host", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none"];
    let mut arguments: Vec<_> = arguments.into_iter().map(Into::into).collect();
    arguments.extend(
        ["-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive"].map(Into::into),
    );
    arguments.push(drive.into());
    let output = dir.join("kvm-probe.log");
    let program =
        Program { file: qemu.to_owned(), arguments, output: output.clone(), setpriv, death_signal: "KILL" };
    let ran = async { Some(Child::spawn(program).await.ok()?.wait().await.code() == Some(STATUS)) };
    let answer = tokio::time::timeout(PATIENCE, ran).await.ok().flatten().unwrap_or(false);
    let _ = std::fs::remove_file(disk);
    let _ = std::fs::remove_file(output);
    answer
}

fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same boot sector under software emulation: proves that the probe can say yes.
    #[tokio::test]
    async fn the_boot_sector_makes_qemu_exit_with_its_status() {
        let qemu = Path::new("/usr/bin/qemu-system-x86_64");
        if !qemu.exists() {
            eprintln!("SKIPPED: no qemu-system-x86_64 on this machine");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        std::fs::write(&disk, boot_sector()).unwrap();
        let status = tokio::process::Command::new(qemu)
            .args([
                "-accel",
                "tcg",
                "-m",
                "32",
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive"])
            .arg(format!("file={},format=raw,if=ide", disk.display()))
            .kill_on_drop(true)
            .status()
            .await
            .unwrap();
        assert_eq!(status.code(), Some(STATUS));
    }
}
