//! Power-on to an answering API, beside the same QEMU and kernel with an init that does nothing.
//!
//! The do-nothing init is the hello program: the first thing that it does is to print. What lies
//! between the two is ours: unpacking the initramfs, modules, the disk, the engine, the first sign
//! of life through docker.sock, and the `sampan` command itself.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use harness::{Vm, fixtures, settings};
use host::{
    hypervisor::{Hypervisor, VmSpec, qemu::Qemu},
    settings::{Environment, Settings},
    vm::Architecture,
};

use crate::report::{Report, Times};

/// A boot takes seconds under software emulation.
const TURNS: usize = 5;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let vm = Vm::start();
    vm.load(&fixtures::busybox());
    vm.stop();
    let folder = tempfile::Builder::new().prefix("sampan-bench-").tempdir()?;
    let (mut nothing, mut api, mut first) = (Times::default(), Times::default(), Times::default());
    let runtime = tokio::runtime::Runtime::new()?;
    for turn in 0..TURNS {
        nothing.add(runtime.block_on(do_nothing(&folder.path().join(turn.to_string())))?);
        let began = Instant::now();
        vm.boot();
        api.add(began.elapsed());
        let _ = vm.docker(["run", "--rm", "busybox", "true"]).success();
        first.add(began.elapsed());
        vm.stop();
    }
    report.compare("`sampan start` to an answering API", &api, "do-nothing init", &nothing);
    report.compare("to the end of a first `docker run`", &first, "do-nothing init", &nothing);
    Ok(())
}

/// Boots our kernel with the do-nothing init and returns the time to its first word.
async fn do_nothing(home: &Path) -> anyhow::Result<Duration> {
    fs::create_dir_all(home)?;
    let environment = Environment {
        sampan_home: Some(home.to_owned()),
        tools: Some(settings::root().join("target/tools/bin").into()),
        // A look for KVM would be counted, which the VM beside it has behind it.
        accelerator: Some("tcg".to_owned()),
        path: Some("/usr/local/bin:/usr/bin:/bin".into()),
        ..Environment::default()
    };
    let chosen = Settings::load(&environment)?;
    let image_dir = settings::vm_image().map_err(anyhow::Error::msg)?;
    let program = settings::target().join("x86_64-unknown-linux-gnu/release/hello");
    let program = fs::read(&program).with_context(|| format!("`{}` is not built", program.display()))?;
    let initramfs = home.join("initramfs.img");
    fs::write(&initramfs, cpio(&program))?;
    let data_disk = home.join("data.img");
    fs::File::create(&data_disk)?.set_len(1 << 30)?;
    let console = home.join("console");
    let spec = VmSpec {
        cpus: chosen.cpus(),
        memory_mib: chosen.memory_mib(),
        kernel: image_dir.join("vmlinux"),
        initramfs,
        command_line: Architecture::HOST.command_line("ttyS0"),
        data_disk,
        console: console.clone(),
        run_dir: home.join("run"),
    };
    let began = Instant::now();
    let vm = Qemu::new(&chosen).start(spec).await?;
    while !fs::read(&console).is_ok_and(|text| text.windows(5).any(|word| word == b"Hello")) {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "the do-nothing init didn't start");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = began.elapsed();
    vm.kill().await;
    Ok(took)
}

/// An initramfs whose only file is `/init` (the kernel's buffer-format.rst, "newc").
fn cpio(program: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, content) in [("init", 0o100_755, program), ("TRAILER!!!", 0, &[][..])] {
        let fields = [1, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        archive.extend_from_slice(b"070701");
        fields.iter().for_each(|field| archive.extend_from_slice(format!("{field:08x}").as_bytes()));
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}
