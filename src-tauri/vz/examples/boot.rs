//! Boots a kernel and an initramfs with Apple's hypervisor and waits for its end: the smallest program with `vz` in it.
//!
//! `boot KERNEL INITRAMFS DATA_DISK CONSOLE_LOG`

#[cfg(target_os = "macos")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use host::hypervisor::{Hypervisor as _, VmSpec};
    let arguments: Vec<std::path::PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let [kernel, initramfs, data_disk, console] = arguments.as_slice() else {
        return Err("usage: boot KERNEL INITRAMFS DATA_DISK CONSOLE_LOG".into());
    };
    let apple = vz::Apple::new();
    apple.check()?;
    let spec = VmSpec {
        cpus: 2,
        memory_mib: 1024,
        kernel: kernel.clone(),
        initramfs: initramfs.clone(),
        command_line: host::vm::Architecture::HOST.command_line(apple.console_device()),
        data_disk: data_disk.clone(),
        console: console.clone(),
        run_dir: std::env::temp_dir(),
    };
    let vm = apple.start(spec).await?;
    let exit = vm.exited().wait_for(Option::is_some).await?.clone();
    println!("{exit:?}");
    Ok(())
}

#[cfg(not(target_os = "macos"))]
fn main() {
    eprintln!("this example needs a Mac");
}
