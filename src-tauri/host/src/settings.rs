//! What the user may choose, and the one place that reads the environment.
//!
//! A value comes from the command line, else from the environment, else from `settings.json`, else it is the default.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::model::{Failure, FailureKind, HypervisorKind};
use crate::paths::Paths;

/// What executes the guest's instructions under QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM where a guest really runs with it, else software.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// The settings as the user sees them, kept in `settings.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", default)]
pub struct Preferences {
    /// Which hypervisor; none for this system's best.
    pub hypervisor: Option<HypervisorKind>,
    /// QEMU's accelerator.
    pub accelerator: Accelerator,
    /// Processors of the VM; none for half of the host's, at least two.
    pub cpus: Option<u32>,
    /// Memory of the VM in MiB; none for a quarter of the host's, between 1 and 8 GiB.
    pub memory_mib: Option<u32>,
    /// Size of the data disk in GiB. It is sparse: it takes what is used.
    pub disk_gib: u32,
    /// Make the Docker context `sampan` the current one when the user has chosen no other.
    pub use_context: bool,
    /// Start the VM when the app opens.
    pub start_at_launch: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Preferences {
            hypervisor: None,
            accelerator: Accelerator::Auto,
            cpus: None,
            memory_mib: None,
            disk_gib: 64,
            use_context: true,
            start_at_launch: true,
        }
    }
}

/// Everything that a [`crate::Sampan`] is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the user chose.
    pub preferences: Preferences,
    /// Where things are kept.
    pub paths: Paths,
    /// Directory of the VM image for this architecture, with its `manifest.json`.
    pub image_dir: Option<PathBuf>,
    /// The guest agent for `native`.
    pub guest_agent: Option<PathBuf>,
    /// Directories in which programs are looked for before `PATH`.
    pub tools: Vec<PathBuf>,
    /// Docker's own configuration directory.
    pub docker_config: PathBuf,
    /// Whether the Docker context may be written: only for the one home whose socket it names.
    pub writes_context: bool,
    /// `PATH`, for look-ups and child processes.
    pub search_path: OsString,
}

/// The environment variables that Sampan reads, and nothing else reads any.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `SAMPAN_HOME`: instead of `~/.sampan`.
    pub sampan_home: Option<PathBuf>,
    /// `SAMPAN_HYPERVISOR`: `apple`, `qemu` or `native`.
    pub hypervisor: Option<String>,
    /// `SAMPAN_ACCEL`: `kvm`, `tcg` or `auto`.
    pub accelerator: Option<String>,
    /// `SAMPAN_IMAGE`: directory of the VM image.
    pub image: Option<PathBuf>,
    /// `SAMPAN_GUEST_AGENT`: the guest agent for `native`.
    pub guest_agent: Option<PathBuf>,
    /// `SAMPAN_TOOLS`: directories of programs, separated as in `PATH`.
    pub tools: Option<OsString>,
    /// `DOCKER_CONFIG`: instead of `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `PATH`.
    pub path: Option<OsString>,
}

impl Environment {
    /// Reads this process's environment.
    pub fn read() -> Environment {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| path(name).map(|value| value.to_string_lossy().into_owned());
        Environment {
            sampan_home: path("SAMPAN_HOME").map(PathBuf::from),
            hypervisor: text("SAMPAN_HYPERVISOR"),
            accelerator: text("SAMPAN_ACCEL"),
            image: path("SAMPAN_IMAGE").map(PathBuf::from),
            guest_agent: path("SAMPAN_GUEST_AGENT").map(PathBuf::from),
            tools: path("SAMPAN_TOOLS"),
            docker_config: path("DOCKER_CONFIG").map(PathBuf::from),
            home: path("HOME").map(PathBuf::from),
            path: path("PATH"),
        }
    }
}

impl Settings {
    /// Settings from the environment and the settings file below the home that it names.
    pub fn load(environment: &Environment) -> Result<Settings, Failure> {
        let home = environment.home.clone().unwrap_or_else(|| PathBuf::from("/"));
        let paths = Paths::new(environment.sampan_home.clone().unwrap_or_else(|| home.join(".sampan")));
        let mut preferences = read_preferences(&paths)?;
        if let Some(name) = &environment.hypervisor {
            preferences.hypervisor = Some(word("SAMPAN_HYPERVISOR", name, "apple, qemu or native")?);
        }
        if let Some(name) = &environment.accelerator {
            preferences.accelerator = word("SAMPAN_ACCEL", name, "kvm, tcg or auto")?;
        }
        let mut tools: Vec<PathBuf> =
            environment.tools.as_ref().map(|list| std::env::split_paths(list).collect()).unwrap_or_default();
        tools.extend(beside_program());
        Ok(Settings {
            preferences,
            paths,
            image_dir: environment.image.clone(),
            guest_agent: environment.guest_agent.clone(),
            tools,
            writes_context: environment.sampan_home.is_none() || environment.docker_config.is_some(),
            docker_config: environment.docker_config.clone().unwrap_or_else(|| home.join(".docker")),
            search_path: environment.path.clone().unwrap_or_default(),
        })
    }

    /// Writes the preferences to `settings.json`, whole or not at all.
    pub fn save(&self) -> Result<(), Failure> {
        let path = self.paths.settings();
        let text = serde_json::to_string_pretty(&self.preferences)
            .map_err(|error| Failure::system("cannot write the settings", error))?;
        let write = || {
            std::fs::create_dir_all(self.paths.home())?;
            let fresh = path.with_extension("json.new");
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, &path)
        };
        write().map_err(|error| Failure::system(format!("cannot write `{}`", path.display()), error))
    }

    /// The hypervisor to use: the chosen one, else this system's best.
    pub fn hypervisor(&self) -> HypervisorKind {
        let default = if cfg!(target_os = "macos") { HypervisorKind::Apple } else { HypervisorKind::Qemu };
        self.preferences.hypervisor.unwrap_or(default)
    }

    /// Where the VM image is: as told, in the app's bundle, or in the source tree that this program was built in.
    pub fn image_dir(&self) -> PathBuf {
        if let Some(dir) = &self.image_dir {
            return dir.clone();
        }
        let relative = PathBuf::from("vm-image/out").join(crate::vm::Architecture::HOST.to_string());
        let packed = |dir: &PathBuf| {
            let bundle = dir.parent().map(|contents| contents.join("Resources/vm-image"));
            let tree = dir.parent().and_then(Path::parent).map(|tree| tree.join(&relative));
            [bundle, tree].into_iter().flatten().find(|dir| dir.join("manifest.json").exists())
        };
        program_dir().as_ref().and_then(packed).unwrap_or(relative)
    }

    /// The guest agent for `native`: as told, or as the source tree that this program was built in made it.
    pub fn guest_agent(&self) -> Option<PathBuf> {
        const TARGET: &str = if cfg!(target_arch = "aarch64") {
            "aarch64-unknown-linux-gnu"
        } else {
            "x86_64-unknown-linux-gnu"
        };
        let built = || Some(program_dir()?.parent()?.join(TARGET).join("release/guest-agent"));
        let told = self.guest_agent.clone();
        told.or_else(|| built().filter(|file| is_executable(file)))
            .or_else(|| self.find_program("guest-agent"))
    }

    /// Processors of the VM.
    pub fn cpus(&self) -> u32 {
        let host =
            std::thread::available_parallelism().map_or(2, |count| u32::try_from(count.get()).unwrap_or(2));
        self.preferences.cpus.unwrap_or_else(|| (host / 2).max(2)).max(1)
    }

    /// Memory of the VM in MiB.
    pub fn memory_mib(&self) -> u32 {
        self.preferences.memory_mib.unwrap_or_else(|| (host_memory_mib() / 4).clamp(1024, 8192)).max(256)
    }

    /// The first executable file of that name in the tool directories or `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::split_paths(&self.search_path);
        self.tools.iter().cloned().chain(path).map(|dir| dir.join(name)).find(|file| is_executable(file))
    }
}

/// Programs that were built or packed beside ours: the directory of this program, and `tools/bin` of the build
/// directory that it stands in (`target/debug/sampan` finds `target/tools/bin`).
fn beside_program() -> Vec<PathBuf> {
    let Some(dir) = program_dir() else { return Vec::new() };
    let tools = dir.parent().map(|build| build.join("tools/bin"));
    std::iter::once(dir).chain(tools).collect()
}

/// The directory of this program.
fn program_dir() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.canonicalize().ok()?.parent()?.to_owned())
}

/// Whether it is a file that may be executed.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn read_preferences(paths: &Paths) -> Result<Preferences, Failure> {
    let file = paths.settings();
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::system(format!("the settings in `{}` cannot be read", file.display()), error)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Preferences::default()),
        Err(error) => Err(Failure::system(format!("cannot read `{}`", file.display()), error)),
    }
}

/// A word of an enum, as serde spells it.
fn word<T: serde::de::DeserializeOwned>(variable: &str, value: &str, choices: &str) -> Result<T, Failure> {
    serde_json::from_value(serde_json::Value::String(value.to_owned())).map_err(|_| {
        Failure::new(FailureKind::System, format!("{variable} is `{value}`: it may be {choices}"))
    })
}

/// Memory of this host, or a cautious guess.
fn host_memory_mib() -> u32 {
    const GUESS: u32 = 8192;
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return GUESS };
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(GUESS, |kib: u64| u32::try_from(kib / 1024).unwrap_or(GUESS))
}
