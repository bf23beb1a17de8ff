//! Which modules go into the image, and the index that tells the guest agent their order and their other names.
//!
//! The index is a text file, one module per line: `GROUP NAME DEPENDENCY…`, a dependency always on a line before;
//! then `alias PATTERN NAME` lines, for what the kernel may ask for by a name of its own (`fs-overlay`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, bail};

use crate::elf;
use crate::package::{self, Package};

const GROUPS: [&str; 3] = ["boot", "late", "demand"];

/// Names that only a device manager would ask for: there is none in the VM.
const DEVICE_ALIASES: [&str; 9] =
    ["virtio:", "pci:", "acpi", "of:", "input:", "usb:", "devname:", "platform:", "cpu:"];

/// A module of the list: its group and name.
pub(crate) type Wanted = (String, String);

/// The modules chosen, ready for the archive.
pub(crate) struct Chosen {
    /// File content by name: `NAME.ko` for those of the group `boot`, `NAME.ko.zst` for all others. The kernel unpacks
    /// the whole archive before the first program runs, so what isn't needed by then is packed by itself.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The index's text.
    pub(crate) index: String,
}

/// Reads the list of modules.
pub(crate) fn parse_list(text: &str) -> anyhow::Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (group, names) = line.split_once(':').with_context(|| format!("no group in `{line}`"))?;
        if !GROUPS.contains(&group) {
            bail!("unknown group `{group}` in the list of modules");
        }
        for name in names.split_whitespace() {
            wanted.push((group.to_owned(), name.replace('-', "_")));
        }
    }
    wanted.sort_by_key(|(group, _)| GROUPS.iter().position(|known| known == group));
    Ok(wanted)
}

/// Takes the wanted modules, and what they depend on, out of the package.
pub(crate) fn choose(wanted: &[Wanted], package: &Package) -> anyhow::Result<Chosen> {
    let mut files = BTreeMap::new();
    let mut infos = BTreeMap::new();
    let mut queue: Vec<String> = wanted.iter().map(|(_, name)| name.clone()).collect();
    while let Some(name) = queue.pop() {
        if files.contains_key(&name) || package.built_in.contains(&name) {
            continue;
        }
        let compressed =
            package.modules.get(&name).with_context(|| format!("the kernel has no module `{name}`"))?;
        let module = elf::slim(package::xz(compressed)?).with_context(|| format!("module `{name}`"))?;
        let info = elf::module_info(&module).with_context(|| format!("module `{name}`"))?;
        queue.extend(dependencies(&info));
        files.insert(name.clone(), module);
        infos.insert(name, info);
    }
    let graph = infos.iter().map(|(name, info)| (name.clone(), dependencies(info))).collect();
    let mut index = String::new();
    let mut packed = BTreeMap::new();
    for (group, name) in in_order(wanted, &graph)? {
        let module = files.remove(&name).with_context(|| format!("module `{name}` is listed twice"))?;
        if group == "boot" {
            packed.insert(format!("{name}.ko"), module);
        } else {
            packed.insert(format!("{name}.ko.zst"), zstd::encode_all(module.as_slice(), 19)?);
        }
        writeln!(index, "{}", [&[group, name.clone()], graph[&name].as_slice()].concat().join(" "))?;
    }
    for (name, info) in &infos {
        for alias in aliases(info) {
            writeln!(index, "alias {alias} {name}")?;
        }
    }
    Ok(Chosen { files: packed, index })
}

fn dependencies(info: &[(String, String)]) -> Vec<String> {
    info.iter()
        .filter(|(key, _)| key == "depends")
        .flat_map(|(_, names)| names.split(','))
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn aliases(info: &[(String, String)]) -> BTreeSet<&str> {
    info.iter()
        .filter(|(key, alias)| {
            key == "alias" && !DEVICE_ALIASES.iter().any(|device| alias.starts_with(device))
        })
        .map(|(_, alias)| alias.as_str())
        .collect()
}

/// Every module once, in the order wanted but behind what it depends on, in the first group that needs it.
fn in_order(wanted: &[Wanted], graph: &BTreeMap<String, Vec<String>>) -> anyhow::Result<Vec<Wanted>> {
    fn visit(
        name: &str,
        group: &str,
        graph: &BTreeMap<String, Vec<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
        order: &mut Vec<Wanted>,
    ) -> anyhow::Result<()> {
        let Some(dependencies) = graph.get(name) else {
            return Ok(()); // It is built into this kernel.
        };
        if path.iter().any(|above| above == name) {
            bail!("module `{name}` depends on itself");
        }
        if done.contains(name) {
            return Ok(());
        }
        path.push(name.to_owned());
        for dependency in dependencies {
            visit(dependency, group, graph, path, done, order)?;
        }
        path.pop();
        done.insert(name.to_owned());
        order.push((group.to_owned(), name.to_owned()));
        Ok(())
    }
    let mut order = Vec::new();
    let mut done = BTreeSet::new();
    for (group, name) in wanted {
        visit(name, group, graph, &mut Vec::new(), &mut done, &mut order)?;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        edges.iter().map(|(name, needs)| ((*name).to_owned(), owned(needs))).collect()
    }

    #[test]
    fn a_list_keeps_its_order_within_groups_and_boot_comes_first() {
        let wanted = parse_list("# comment\nlate: b-x a\nboot: c\nlate: d\n").unwrap();
        let names: Vec<&str> = wanted.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["c", "b_x", "a", "d"]);
        assert!(parse_list("never: a").is_err());
    }

    #[test]
    fn a_dependency_comes_once_and_before_its_dependents() {
        let graph = graph(&[("bridge", &["stp", "llc"]), ("stp", &["llc"]), ("llc", &[]), ("veth", &[])]);
        let wanted = parse_list("boot: veth\nlate: bridge llc builtin").unwrap();
        let order = in_order(&wanted, &graph).unwrap();
        let text: Vec<String> = order.iter().map(|(group, name)| format!("{group} {name}")).collect();
        assert_eq!(text, ["boot veth", "late llc", "late stp", "late bridge"]);
    }

    #[test]
    fn a_circle_is_an_error_and_not_an_endless_loop() {
        let graph = graph(&[("a", &["b"]), ("b", &["a"])]);
        assert!(in_order(&parse_list("boot: a").unwrap(), &graph).is_err());
    }

    #[test]
    fn names_for_devices_are_left_out() {
        let info: Vec<(String, String)> =
            [("alias", "fs-overlay"), ("alias", "virtio:d00000013v*"), ("depends", "x")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        assert_eq!(aliases(&info).into_iter().collect::<Vec<_>>(), ["fs-overlay"]);
    }
}
