//! Kernel modules: in groups at boot, and by name when the kernel asks.
//!
//! The image holds an index made at build time: modules in loading order with their dependencies, and the names
//! that the kernel uses for them. The kernel runs `/sbin/modprobe`, a link to this program, whenever it misses
//! one. So nothing has to wait for the background loading to be over: whoever needs a module first gets it.
//! Modules that no boot needs are compressed one by one, so that the boot doesn't unpack them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use rustix::io::Errno;

/// The index in the image.
pub(crate) const INDEX: &str = "/lib/modules/index";
const FOLDER: &str = "/lib/modules";

/// When a module is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Before the API answers.
    Boot,
    /// Right after.
    Late,
    /// When the kernel asks.
    Demand,
}

/// The image's index.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    order: Vec<(Group, String)>,
    dependencies: BTreeMap<String, Vec<String>>,
    aliases: Vec<(String, String)>,
}

impl Modules {
    /// Reads the index.
    pub(crate) fn read() -> io::Result<Modules> {
        Ok(Modules::parse(&fs::read_to_string(INDEX)?))
    }

    fn parse(text: &str) -> Modules {
        let mut modules = Modules::default();
        for line in text.lines() {
            let mut words = line.split(' ').map(str::to_owned);
            let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
            let group = match kind.as_str() {
                "boot" => Group::Boot,
                "late" => Group::Late,
                "demand" => Group::Demand,
                "alias" => {
                    modules.aliases.extend(words.next().map(|module| (plain(&name), module)));
                    continue;
                }
                _ => continue,
            };
            modules.dependencies.insert(name.clone(), words.collect());
            modules.order.push((group, name));
        }
        modules
    }

    /// Loads a group in its order. What fails is logged, and the rest goes on.
    pub(crate) fn load_group(&self, group: Group) {
        self.order.iter().filter(|(of, _)| *of == group).for_each(|(_, name)| load_or_log(name));
    }

    /// Loads one module with its dependencies.
    pub(crate) fn load(&self, name: &str) {
        self.resolve(name).into_iter().for_each(load_or_log);
    }

    /// What a name stands for: modules with their dependencies before them, each once.
    fn resolve(&self, wanted: &str) -> Vec<&str> {
        let wanted = plain(wanted);
        let named = self.dependencies.get_key_value(&wanted).map(|(name, _)| name.as_str());
        let by_alias = self.aliases.iter().filter(|(pattern, _)| matches(pattern, &wanted));
        let roots: Vec<&str> = if let Some(name) = named {
            vec![name]
        } else {
            by_alias.map(|(_, name)| name.as_str()).collect()
        };
        let mut order = Vec::new();
        for root in roots {
            self.visit(root, &mut order);
        }
        order
    }

    fn visit<'a>(&'a self, name: &'a str, order: &mut Vec<&'a str>) {
        if order.contains(&name) {
            return;
        }
        // The index was made without circles; what it does not list is built into the kernel.
        if let Some(dependencies) = self.dependencies.get(name) {
            for dependency in dependencies {
                self.visit(dependency, order);
            }
            order.push(name);
        }
    }
}

fn load_or_log(name: &str) {
    if let Err(error) = load(name) {
        tracing::error!(%error, "cannot load the kernel module `{name}`");
    }
}

/// Loads one module whose dependencies are there. To find it there already is no error.
fn load(name: &str) -> io::Result<()> {
    let plain = Path::new(FOLDER).join(name).with_extension("ko");
    let packed = plain.with_extension("ko.zst");
    let (path, loaded) = match (File::open(&plain), File::open(&packed)) {
        (Ok(file), _) => (plain, rustix::system::finit_module(&file, c"", 0)),
        (_, Ok(file)) => {
            let mut module = Vec::new();
            zstd::Decoder::new(file)?.read_to_end(&mut module)?;
            (packed, rustix::system::init_module(&module, c""))
        }
        (_, Err(_)) if Path::new("/sys/module").join(name).exists() => return Ok(()),
        (Err(error), _) => return Err(error),
    };
    match loaded {
        Ok(()) | Err(Errno::EXIST) => {
            // It is in the kernel now: the copy in the root, which is memory, can go.
            let _ = fs::remove_file(&path);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Was this program started as `modprobe`?
pub(crate) fn is_modprobe(program: &OsString) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "modprobe")
}

/// What the kernel runs when it misses a module: `modprobe -q -- NAME`.
pub(crate) fn modprobe(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Ok(modules) = Modules::read() else { return ExitCode::FAILURE };
    let mut found = false;
    for name in
        arguments.filter_map(|argument| argument.into_string().ok()).filter(|name| !name.starts_with('-'))
    {
        for module in modules.resolve(&name) {
            found = load(module).is_ok();
        }
    }
    if found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Module names are written with `-` or `_` alike.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Matches a name against a pattern with `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            matches(&pattern[1..], name)
                || name.chars().next().is_some_and(|first| matches(pattern, &name[first.len_utf8()..]))
        }
        (Some(wanted), Some(given)) if wanted == '?' || wanted == given => {
            matches(&pattern[wanted.len_utf8()..], &name[given.len_utf8()..])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "boot vsock\nlate llc\nlate stp llc\nlate bridge stp llc\ndemand loop\n\
                         alias rtnl-link-bridge bridge\nalias char-major-10-* loop\n";

    #[test]
    fn a_name_brings_its_dependencies_first() {
        let modules = Modules::parse(INDEX);
        assert_eq!(modules.resolve("bridge"), ["llc", "stp", "bridge"]);
        assert_eq!(modules.resolve("rtnl-link-bridge"), ["llc", "stp", "bridge"]);
        assert_eq!(modules.resolve("rtnl_link_bridge"), ["llc", "stp", "bridge"]);
        assert!(modules.resolve("unknown").is_empty());
    }

    #[test]
    fn patterns_match_as_the_kernel_writes_them() {
        let modules = Modules::parse(INDEX);
        assert_eq!(modules.resolve("char-major-10-237"), ["loop"]);
        assert!(modules.resolve("char-major-11-237").is_empty());
        assert!(matches("a?c*", "abc") && !matches("a?c", "ac"));
    }

    #[test]
    fn groups_keep_the_order_of_the_index() {
        let modules = Modules::parse(INDEX);
        let late: Vec<&str> = modules
            .order
            .iter()
            .filter(|(group, _)| *group == Group::Late)
            .map(|(_, name)| name.as_str())
            .collect();
        assert_eq!(late, ["llc", "stp", "bridge"]);
    }
}
