//! Assembles the VM image: a kernel in the form that its loader wants, and one initramfs.
//!
//! It is given files (a kernel package, the guest agent) and gives files; fetching and compiling are
//! `build.sh`'s work. The same input gives the same bytes: nothing of the machine, the user or the time enters.

mod archive;
mod cpio;
mod elf;
mod kernel;
mod manifest;
mod modules;
mod package;
mod seed;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

/// Assembles kernel and initramfs for one architecture.
#[derive(Parser)]
struct Arguments {
    /// `amd64` or `arm64`.
    #[arg(long)]
    arch: kernel::Architecture,
    /// The kernel package.
    #[arg(long)]
    package: PathBuf,
    /// The statically linked guest agent.
    #[arg(long)]
    agent: PathBuf,
    /// The list of modules.
    #[arg(long)]
    modules: PathBuf,
    /// The empty file system for a blank data disk, as `mkfs.ext4` made it.
    #[arg(long)]
    seed: PathBuf,
    /// Where the image goes.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vm-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read `{}`", path.display()));
    let package = read(&arguments.package)?;
    let agent = read(&arguments.agent)?;
    let listing = read(&arguments.modules)?;
    let seed = fs::File::open(&arguments.seed)
        .with_context(|| format!("cannot read `{}`", arguments.seed.display()))?;

    let unpacked = package::unpack(&package)?;
    let kernel = kernel::for_loader(arguments.arch, &unpacked.vmlinuz)?;
    let wanted = modules::parse_list(std::str::from_utf8(&listing)?)?;
    let modules = modules::choose(&wanted, &unpacked)?;
    let seed = seed::from_image(&seed)?;
    let initramfs = archive::initramfs(&agent, &modules, &seed)?;

    fs::create_dir_all(&arguments.out)?;
    let write = |name: &str, bytes: &[u8]| {
        let path = arguments.out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
    };
    let kernel_name = arguments.arch.kernel_file();
    write(kernel_name, &kernel)?;
    write("initramfs.img", &initramfs)?;
    let manifest = manifest::Manifest {
        arch: arguments.arch.to_string(),
        kernel: unpacked.release,
        inputs: vec![
            manifest::entry("kernel package", &package),
            manifest::entry("guest-agent", &agent),
            manifest::entry("modules", &listing),
        ],
        outputs: vec![manifest::entry(kernel_name, &kernel), manifest::entry("initramfs.img", &initramfs)],
    };
    write("manifest.json", manifest.to_json()?.as_bytes())?;
    print!("{manifest}");
    Ok(())
}
