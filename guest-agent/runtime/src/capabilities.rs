//! Linux capabilities: their names, the set a container gets, and what `--cap-add` and `--cap-drop` change.
//!
//! Pure data: nothing here asks the kernel. [`CapSets`] is what container-init applies and what the seccomp
//! policy is chosen by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Every capability by its number (capabilities(7)).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What an ordinary container may do: Docker's fourteen.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Every capability that this code knows, by number.
    pub fn all() -> impl Iterator<Item = Capability> {
        (0..NAMES.len() as u8).map(Capability)
    }

    /// Its number, as `prctl(PR_CAPBSET_DROP)` takes it.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name with the `CAP_` prefix.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    fn bit(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is no capability; the wording is dockerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid capability: \"{0}\"")]
pub struct UnknownCapability(pub String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Accepts any case, with or without `CAP_`, as `--cap-add` does.
    fn from_str(text: &str) -> Result<Capability, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES
            .iter()
            .position(|name| &name["CAP_".len()..] == short)
            .map(|index| Capability(index as u8))
            .ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

/// A set of capabilities, as the kernel's bit mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapSet(pub u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);

    /// All of them.
    pub fn full() -> CapSet {
        Capability::all().collect()
    }

    /// Whether `capability` is in the set.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Whether the capability of this exact name (`CAP_…`) is in the set.
    pub fn has(self, name: &str) -> bool {
        name.parse().is_ok_and(|capability| self.contains(capability))
    }

    /// Puts one in.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= capability.bit();
    }

    /// Takes one out.
    pub fn remove(&mut self, capability: Capability) {
        self.0 &= !capability.bit();
    }

    /// The members by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<T: IntoIterator<Item = Capability>>(members: T) -> CapSet {
        CapSet(members.into_iter().fold(0, |mask, capability| mask | capability.bit()))
    }
}

/// The five sets of a process, as container-init applies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapSets {
    /// The ceiling: what no exec can exceed. The seccomp policy is chosen by this one.
    pub bounding: CapSet,
    /// What the process may switch on.
    pub permitted: CapSet,
    /// What is switched on.
    pub effective: CapSet,
    /// What exec hands on through inheritable file capabilities; Docker leaves it empty.
    pub inheritable: CapSet,
    /// What exec hands on to programs without file capabilities; Docker leaves it empty.
    pub ambient: CapSet,
}

impl CapSets {
    /// The sets for Docker's `CapAdd`, `CapDrop` and `Privileged`.
    ///
    /// `ALL` in `drop` starts from nothing, `ALL` in `add` from everything; names in the other list still count.
    pub fn from(add: &[String], drop: &[String], privileged: bool) -> Result<CapSets, UnknownCapability> {
        if privileged {
            return Ok(CapSets::uniform(CapSet::full()));
        }
        let (add_all, add) = parse(add)?;
        let (drop_all, drop) = parse(drop)?;
        let mut set = match (add_all, drop_all) {
            (true, _) => CapSet::full(),
            (false, true) => CapSet::EMPTY,
            (false, false) => default_set(),
        };
        if add_all {
            set.0 &= !drop.0;
        } else {
            set.0 = (set.0 & !drop.0) | add.0;
        }
        Ok(CapSets::uniform(set))
    }

    /// Bounding, permitted and effective are `set`; nothing is inherited.
    pub fn uniform(set: CapSet) -> CapSets {
        CapSets {
            bounding: set,
            permitted: set,
            effective: set,
            inheritable: CapSet::EMPTY,
            ambient: CapSet::EMPTY,
        }
    }
}

/// What a container gets that asks for nothing.
pub fn default_set() -> CapSet {
    DEFAULT.iter().filter_map(|name| name.parse::<Capability>().ok()).collect()
}

fn parse(names: &[String]) -> Result<(bool, CapSet), UnknownCapability> {
    let mut all = false;
    let mut set = CapSet::EMPTY;
    for name in names {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            set.insert(name.parse()?);
        }
    }
    Ok((all, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_taken_in_any_case_with_or_without_the_prefix() {
        for text in ["net_admin", "NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN"] {
            assert_eq!(text.parse::<Capability>().unwrap().number(), 12, "{text}");
        }
        assert_eq!(
            "NET_ADMINS".parse::<Capability>().unwrap_err().to_string(),
            "invalid capability: \"NET_ADMINS\""
        );
    }

    #[test]
    fn the_default_set_is_the_mask_that_dockerd_gives() {
        assert_eq!(default_set().0, 0xa804_25fb);
    }

    #[test]
    fn adding_and_dropping_change_the_default_set() {
        let sets = CapSets::from(&strings(&["SYS_TIME"]), &strings(&["chown"]), false).unwrap();
        assert!(sets.bounding.has("CAP_SYS_TIME"));
        assert!(!sets.effective.has("CAP_CHOWN"));
        assert_eq!(sets.inheritable, CapSet::EMPTY);
    }

    #[test]
    fn all_is_a_starting_point() {
        let only = CapSets::from(&strings(&["KILL"]), &strings(&["ALL"]), false).unwrap();
        assert_eq!(only.permitted.iter().map(Capability::name).collect::<Vec<_>>(), ["CAP_KILL"]);
        let but = CapSets::from(&strings(&["all"]), &strings(&["SYS_ADMIN"]), false).unwrap();
        assert_eq!(but.permitted.iter().count(), 40);
        assert!(!but.permitted.has("CAP_SYS_ADMIN"));
        assert_eq!(CapSets::from(&[], &[], true).unwrap().bounding, CapSet::full());
    }
}
