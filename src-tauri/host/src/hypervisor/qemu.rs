//! QEMU on Linux, with vsock through the vhost-user daemon `vhost-device-vsock`.
//!
//! ```text
//!   vsock        host ──▶ guest: connect here, say "CONNECT port", read "OK …"
//!   vsock_PORT   guest ──▶ host: listen here
//!   vhost        between QEMU and the daemon          qmp   the power button, the cause of death
//! ```
//!
//! All sockets stand in the machine's own directory, so any number of machines run side by side. The daemon
//! belongs to its machine: when one ends, so does the other.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use super::child::{Child, Program, socket_appears};
use super::qmp::Qmp;
use super::{BoxFuture, BoxStream, Exit, Hypervisor, Incoming, Vm, VmSpec, kvm};
use crate::model::{Failure, FailureKind, HypervisorKind};
use crate::settings::{Accelerator, Settings};
use crate::vm::Architecture;
use crate::vm::assets::{DATA_DISK_SERIAL, Image};

/// The emulator of an architecture.
fn emulator_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "qemu-system-x86_64",
        Architecture::Arm64 => "qemu-system-aarch64",
    }
}

/// The program that gives a QEMU guest its vsock.
const VSOCK_DAEMON: &str = "vhost-device-vsock";

/// QEMU's name of the vsock device.
const VSOCK_DEVICE: &str = "vsock0";

/// How long QEMU and the daemon may take to make their sockets.
const PATIENCE: Duration = Duration::from_secs(10);

/// Guest connections that wait to be taken, per port.
const BACKLOG: usize = 128;

/// Starts machines with QEMU.
pub struct Qemu {
    architecture: Architecture,
    emulator: Option<PathBuf>,
    vsock_daemon: Option<PathBuf>,
    setpriv: Option<PathBuf>,
    choice: Accelerator,
    chosen: tokio::sync::OnceCell<&'static str>,
}

impl Qemu {
    /// QEMU as the settings say, for the architecture that their image is for; its programs are looked up now.
    pub fn new(settings: &Settings) -> Qemu {
        // An image that can't be read is reported when it is opened.
        let architecture = Image::architecture_of(&settings.image_dir()).unwrap_or(Architecture::HOST);
        Qemu {
            architecture,
            emulator: settings.find_program(emulator_name(architecture)),
            vsock_daemon: settings.find_program(VSOCK_DAEMON),
            setpriv: settings.find_program("setpriv"),
            choice: settings.preferences.accelerator,
            chosen: tokio::sync::OnceCell::new(),
        }
    }

    fn programs(&self) -> Result<(PathBuf, PathBuf), Failure> {
        let missing = |name: &str, how: &str| {
            let message = format!("`{name}`, which runs the VM on Linux, is not installed: {how}");
            Failure::new(FailureKind::MissingDependency, message)
        };
        let emulator = self.emulator.clone().ok_or_else(|| {
            missing(emulator_name(self.architecture), "install QEMU (Debian: apt install qemu-system)")
        })?;
        let daemon = self.vsock_daemon.clone();
        let daemon = daemon.ok_or_else(|| {
            missing(VSOCK_DAEMON, "run `cargo install vhost-device-vsock`, or `make run`, which does")
        })?;
        Ok((emulator, daemon))
    }

    async fn accelerator_for(&self, emulator: &Path, scratch: &Path) -> Result<&'static str, Failure> {
        let foreign = self.architecture != Architecture::HOST;
        if self.choice == Accelerator::Tcg || foreign && self.choice == Accelerator::Auto {
            return Ok("tcg");
        }
        if foreign {
            let message = format!(
                "KVM cannot run {} guests on this machine: set the accelerator to `auto` or `tcg`",
                self.architecture
            );
            return Err(Failure::new(FailureKind::MissingDependency, message));
        }
        let probe = || async {
            if kvm::works(emulator, self.setpriv.clone(), scratch).await { "kvm" } else { "tcg" }
        };
        let found = *self.chosen.get_or_init(probe).await;
        if self.choice == Accelerator::Kvm && found != "kvm" {
            let message = "KVM does not run guests on this machine: set the accelerator to `auto` or `tcg`";
            return Err(Failure::new(FailureKind::MissingDependency, message));
        }
        Ok(found)
    }

    async fn power_on(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, Failure> {
        let (emulator, daemon) = self.programs()?;
        let sockets = Sockets::new(&spec.run_dir)?;
        let scratch = spec.run_dir.parent().unwrap_or(&spec.run_dir).to_owned();
        let accelerator = self.accelerator_for(&emulator, &scratch).await?;
        let log = spec.run_dir.join("qemu.log");
        let program = |file, arguments| {
            let setpriv = self.setpriv.clone();
            Program { file, arguments, output: log.clone(), setpriv, death_signal: "KILL" }
        };
        let failed = |name: &str, error: io::Error| {
            let failure = Failure::new(FailureKind::BootFailed, format!("`{name}` did not start: {error}"));
            failure.with_details(std::fs::read_to_string(&log).unwrap_or_default())
        };
        let vsock = Child::spawn(program(daemon, sockets.daemon_arguments())).await;
        let vsock = vsock.map_err(|error| failed(VSOCK_DAEMON, error))?;
        socket_appears(&sockets.vhost, &vsock, PATIENCE)
            .await
            .map_err(|error| failed(VSOCK_DAEMON, error))?;
        let arguments = arguments(&spec, &sockets, self.architecture, accelerator);
        let powered_on = async {
            let qemu = Child::spawn(program(emulator, arguments)).await?;
            socket_appears(&sockets.qmp, &qemu, PATIENCE).await?;
            let qmp = Qmp::connect(&sockets.qmp).await?;
            Ok((qemu, qmp))
        };
        let (qemu, qmp) =
            powered_on.await.map_err(|error| failed(emulator_name(self.architecture), error))?;
        let (report, exited) = watch::channel(None);
        let vm = Arc::new(Machine { sockets, qemu, vsock, qmp, exited });
        tokio::spawn(watch_over(vm.qemu.clone(), Arc::downgrade(&vm), log, report));
        Ok(vm)
    }
}

impl Hypervisor for Qemu {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Qemu
    }

    fn accelerator(&self) -> Option<String> {
        match self.choice {
            Accelerator::Tcg => Some("tcg".to_owned()),
            _ if self.architecture != Architecture::HOST => Some("tcg".to_owned()),
            _ => self.chosen.get().map(|&name| name.to_owned()),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        self.programs().map(drop)
    }

    fn console_device(&self) -> &'static str {
        match self.architecture {
            Architecture::Amd64 => "ttyS0",
            Architecture::Arm64 => "ttyAMA0",
        }
    }

    fn start(&self, spec: VmSpec) -> BoxFuture<'_, Result<Arc<dyn Vm>, Failure>> {
        Box::pin(self.power_on(spec))
    }
}

/// Reports the machine's end with its cause, and takes the daemon with it.
async fn watch_over(
    qemu: Child,
    vm: std::sync::Weak<Machine>,
    log: PathBuf,
    report: watch::Sender<Option<Exit>>,
) {
    let status = qemu.wait().await;
    let reason = vm.upgrade().and_then(|vm| {
        let _ = vm.vsock.signal(Signal::KILL);
        vm.qmp.reason()
    });
    let exit = match reason.as_deref() {
        Some("guest-shutdown" | "host-qmp-quit" | "host-qmp-system-reset") if status.success() => {
            Exit::PoweredOff
        }
        Some("guest-reset" | "guest-panic") => {
            Exit::Crashed("the guest's kernel panicked or rebooted".to_owned())
        }
        _ => {
            let words = std::fs::read_to_string(log).unwrap_or_default();
            let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            Exit::Crashed(format!("QEMU ended with {status}: {last}"))
        }
    };
    report.send_replace(Some(exit));
}

/// Where one machine's sockets are.
struct Sockets {
    vsock: PathBuf,
    vhost: PathBuf,
    qmp: PathBuf,
    cid: u64,
}

impl Sockets {
    fn new(dir: &Path) -> Result<Sockets, Failure> {
        let system = |error| Failure::system(format!("cannot make `{}`", dir.display()), error);
        std::fs::create_dir_all(dir).map_err(system)?;
        let sockets = Sockets {
            vsock: dir.join("vsock"),
            vhost: dir.join("vhost"),
            qmp: dir.join("qmp"),
            // The owner of a machine has one machine, so its process id makes the CID unique on this host.
            cid: 0x1000 + u64::from(std::process::id()),
        };
        super::check_socket_path(&dir.join("vsock_65535"))?;
        for file in std::fs::read_dir(dir).map_err(system)?.flatten() {
            let _ = std::fs::remove_file(file.path());
        }
        Ok(sockets)
    }

    fn port(&self, port: u32) -> PathBuf {
        let mut name = self.vsock.clone().into_os_string();
        name.push(format!("_{port}"));
        name.into()
    }

    fn daemon_arguments(&self) -> Vec<OsString> {
        let vm = format!(
            "guest-cid={},socket={},uds-path={}",
            self.cid,
            self.vhost.display(),
            self.vsock.display()
        );
        vec!["--vm".into(), vm.into()]
    }
}

/// QEMU's option syntax ends a value at a comma; a comma in it is doubled.
fn value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The whole command line of QEMU for a machine.
fn arguments(
    spec: &VmSpec,
    sockets: &Sockets,
    architecture: Architecture,
    accelerator: &str,
) -> Vec<OsString> {
    let (machine, cpu) = match (architecture, accelerator) {
        (Architecture::Amd64, "kvm") => ("q35", "host"),
        (Architecture::Amd64, _) => ("q35", "max"),
        (Architecture::Arm64, "kvm") => ("virt,gic-version=host", "host"),
        // The signed pointers of newer ones are dear to emulate.
        (Architecture::Arm64, _) => ("virt,gic-version=3", "cortex-a76"),
    };
    let mut all: Vec<String> = Vec::new();
    let mut add = |name: &str, value: String| all.extend([format!("-{name}"), value]);
    add("machine", machine.to_owned());
    add("accel", accelerator.to_owned());
    add("cpu", cpu.to_owned());
    add("smp", spec.cpus.to_string());
    add("m", format!("{}M", spec.memory_mib));
    // The daemon maps the guest's memory, so it must be shared.
    add("object", format!("memory-backend-memfd,id=mem,size={}M,share=on", spec.memory_mib));
    add("numa", "node,memdev=mem".to_owned());
    add("kernel", value(&spec.kernel));
    add("initrd", value(&spec.initramfs));
    add("append", spec.command_line.clone());
    add("chardev", format!("socket,id=vsock,path={}", value(&sockets.vhost)));
    add("device", format!("vhost-user-vsock-pci,chardev=vsock,id={VSOCK_DEVICE}"));
    add("drive", format!("if=none,id=data,format=raw,discard=unmap,file={}", value(&spec.data_disk)));
    add("device", format!("virtio-blk-pci,drive=data,serial={DATA_DISK_SERIAL}"));
    add("device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on".to_owned());
    add("device", "virtio-rng-pci".to_owned());
    add("chardev", format!("file,id=console,append=on,path={}", value(&spec.console)));
    add("serial", "chardev:console".to_owned());
    add("qmp", format!("unix:{},server=on,wait=off", value(&sockets.qmp)));
    add("display", "none".to_owned());
    let flags = ["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned);
    all.into_iter().chain(flags).map(OsString::from).collect()
}

/// A machine that QEMU runs.
struct Machine {
    sockets: Sockets,
    qemu: Child,
    vsock: Child,
    qmp: Qmp,
    exited: watch::Receiver<Option<Exit>>,
}

impl Vm for Machine {
    fn connect(&self, port: u32) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let mut stream = UnixStream::connect(&self.sockets.vsock).await?;
            stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
            let mut answer = Vec::with_capacity(16);
            loop {
                // Byte by byte: what follows the line already belongs to the stream.
                match stream.read_u8().await {
                    Ok(b'\n') => break,
                    Ok(byte) if answer.len() < 64 => answer.push(byte),
                    Ok(_) => return Err(io::Error::from(io::ErrorKind::InvalidData)),
                    Err(_) => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                }
            }
            if !answer.starts_with(b"OK") {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            Ok(Box::new(stream) as BoxStream)
        })
    }

    /// The daemon's event loop ends for good when a connection comes after it was given the guest's memory and before
    /// it was given the queues. Both happen while the guest's driver starts, so nothing is tried before that is done.
    fn reachable(&self) -> BoxFuture<'_, ()> {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        Box::pin(async {
            loop {
                match self.qmp.driver_is_ready(VSOCK_DEVICE).await {
                    Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
                    Ok(true) => break,
                    Err(error) => {
                        tracing::debug!(%error, "QEMU does not tell whether the guest's vsock is there");
                        break;
                    }
                }
            }
            // The last of QEMU's messages may still be on its way to the daemon.
            tokio::time::sleep(LOOK_EVERY).await;
        })
    }

    fn listen(&self, port: u32) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            let listener = UnixListener::bind(self.sockets.port(port))?;
            let (sender, incoming) = mpsc::channel(BACKLOG);
            tokio::spawn(async move {
                loop {
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        () = sender.closed() => return,
                    };
                    match accepted {
                        Ok((stream, _)) => {
                            if sender.send(Box::new(stream) as BoxStream).await.is_err() {
                                return;
                            }
                        }
                        // No file descriptors left, most likely: others will be closed.
                        Err(error) => {
                            tracing::warn!(port, %error, "cannot take a connection of the guest");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
            });
            Ok(incoming)
        })
    }

    fn power_button(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.qmp.power_button())
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _ = self.qemu.signal(Signal::KILL);
            let _ = self.vsock.signal(Signal::KILL);
            self.qemu.wait().await;
            self.vsock.wait().await;
        })
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.exited.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VmSpec {
        VmSpec {
            cpus: 2,
            memory_mib: 1024,
            kernel: "/image/vmlinux".into(),
            initramfs: "/image/initramfs.img".into(),
            command_line: "console=ttyS0 quiet".into(),
            data_disk: "/home/a,b/data.img".into(),
            console: "/logs/console.log".into(),
            run_dir: "/run/vm".into(),
        }
    }

    /// QEMU on a machine that has none of its programs.
    fn nothing() -> Qemu {
        Qemu {
            architecture: Architecture::HOST,
            emulator: None,
            vsock_daemon: None,
            setpriv: None,
            choice: Accelerator::Tcg,
            chosen: tokio::sync::OnceCell::new(),
        }
    }

    fn sockets() -> Sockets {
        Sockets {
            vsock: "/run/vm/vsock".into(),
            vhost: "/run/vm/vhost".into(),
            qmp: "/run/vm/qmp".into(),
            cid: 77,
        }
    }

    fn amd64(accelerator: &str) -> Vec<OsString> {
        arguments(&spec(), &sockets(), Architecture::Amd64, accelerator)
    }

    fn follows(all: &[OsString], name: &str, value: &str) -> bool {
        all.windows(2).any(|pair| pair[0] == name && pair[1] == value)
    }

    #[test]
    fn the_memory_is_shared_with_the_vsock_daemon() {
        let all = amd64("tcg");
        assert!(follows(&all, "-object", "memory-backend-memfd,id=mem,size=1024M,share=on"), "{all:?}");
        assert!(follows(&all, "-numa", "node,memdev=mem"));
        assert!(follows(&all, "-chardev", "socket,id=vsock,path=/run/vm/vhost"));
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_value() {
        let all = amd64("tcg");
        assert!(
            follows(&all, "-drive", "if=none,id=data,format=raw,discard=unmap,file=/home/a,,b/data.img"),
            "{all:?}"
        );
    }

    #[test]
    fn the_host_processor_is_shown_only_with_kvm() {
        assert!(follows(&amd64("kvm"), "-cpu", "host"));
        assert!(follows(&amd64("tcg"), "-cpu", "max"));
    }

    #[test]
    fn an_arm64_machine_has_an_interrupt_controller_for_many_processors() {
        let all = arguments(&spec(), &sockets(), Architecture::Arm64, "tcg");
        assert!(follows(&all, "-machine", "virt,gic-version=3"), "{all:?}");
        assert!(follows(&all, "-cpu", "cortex-a76"));
    }

    #[tokio::test]
    async fn a_foreign_architecture_is_emulated_and_kvm_refused_for_it() {
        let foreign = match Architecture::HOST {
            Architecture::Amd64 => Architecture::Arm64,
            Architecture::Arm64 => Architecture::Amd64,
        };
        let chosen = |choice| async move {
            let qemu = Qemu { architecture: foreign, choice, ..nothing() };
            qemu.accelerator_for(Path::new("/bin/false"), Path::new("/nowhere")).await
        };
        assert_eq!(chosen(Accelerator::Auto).await, Ok("tcg"));
        let failure = chosen(Accelerator::Kvm).await.unwrap_err();
        assert!(failure.message.contains(&format!("{foreign} guests")), "{failure}");
    }

    #[test]
    fn a_reboot_ends_the_machine_and_no_default_device_is_there() {
        let all = amd64("tcg");
        for flag in ["-no-reboot", "-nodefaults", "-no-user-config"] {
            assert!(all.iter().any(|argument| argument == flag), "{flag}");
        }
    }

    #[test]
    fn the_daemon_is_told_cid_and_sockets() {
        let all = sockets().daemon_arguments();
        assert!(follows(&all, "--vm", "guest-cid=77,socket=/run/vm/vhost,uds-path=/run/vm/vsock"), "{all:?}");
        assert_eq!(sockets().port(2048), Path::new("/run/vm/vsock_2048"));
    }

    #[test]
    fn a_missing_program_is_named_with_the_remedy() {
        let qemu = Qemu { emulator: Some("/bin/true".into()), ..nothing() };
        let failure = qemu.check().unwrap_err();
        assert_eq!(failure.kind, FailureKind::MissingDependency);
        assert!(failure.message.contains("`cargo install vhost-device-vsock`"), "{failure}");
    }
}
