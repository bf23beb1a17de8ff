//! Docker's profile format: JSON whose rules may depend on capabilities, architecture and kernel.

use std::collections::HashSet;

use serde::Deserialize;

use super::SeccompError;
use super::policy::{Abi, Action, Arch, Condition, Policy, Rule, Test};
use crate::capabilities::CapSet;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Companions>>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Companions {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// Reads a profile for a process whose bounding set is `capabilities`.
pub(super) fn read(json: &str, capabilities: CapSet, arch: Arch) -> Result<Policy, SeccompError> {
    let profile: Profile = serde_json::from_str(json).map_err(|source| SeccompError::Json { source })?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut rules = Vec::new();
    for entry in profile.syscalls.iter().flatten() {
        if applies(entry, capabilities, arch)? {
            add_rules(&mut rules, entry, default)?;
        }
    }
    Ok(Policy { abis: abis(&profile, arch), default, rules })
}

/// The ABIs that the profile names; the machine's own always. Others are not known here and not judged.
fn abis(profile: &Profile, arch: Arch) -> Vec<Abi> {
    let own = arch.abis()[0];
    let mut named: Vec<&str> = profile.architectures.iter().flatten().map(String::as_str).collect();
    for companions in profile.arch_map.iter().flatten() {
        if name(own) == companions.architecture {
            named.extend(companions.sub_architectures.iter().flatten().map(String::as_str));
        }
    }
    arch.abis().iter().copied().filter(|abi| *abi == own || named.contains(&name(*abi))).collect()
}

fn name(abi: Abi) -> &'static str {
    match abi {
        Abi::X86_64 => "SCMP_ARCH_X86_64",
        Abi::X86 => "SCMP_ARCH_X86",
        Abi::X32 => "SCMP_ARCH_X32",
        Abi::Aarch64 => "SCMP_ARCH_AARCH64",
        Abi::Arm => "SCMP_ARCH_ARM",
    }
}

fn applies(entry: &Entry, capabilities: CapSet, arch: Arch) -> Result<bool, SeccompError> {
    if let Some(filter) = &entry.includes {
        let wanted = filter.caps.as_deref().unwrap_or_default();
        let arches = filter.arches.as_deref().unwrap_or_default();
        if !wanted.iter().all(|name| capabilities.has(name))
            || !(arches.is_empty() || arches.iter().any(|name| name == arch.go_name()))
            || !filter.min_kernel.as_deref().map_or(Ok(true), kernel_is_at_least)?
        {
            return Ok(false);
        }
    }
    if let Some(filter) = &entry.excludes {
        let unwanted = filter.caps.as_deref().unwrap_or_default();
        let arches = filter.arches.as_deref().unwrap_or_default();
        let too_new = filter.min_kernel.as_deref().map_or(Ok(false), kernel_is_at_least)?;
        if unwanted.iter().any(|name| capabilities.has(name))
            || arches.iter().any(|name| name == arch.go_name())
            || too_new
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn add_rules(rules: &mut Vec<Rule>, entry: &Entry, default: Action) -> Result<(), SeccompError> {
    let names: Vec<String> = entry.names.iter().flatten().chain(&entry.name).cloned().collect();
    let action = action(&entry.action, entry.errno_ret)?;
    let mut conditions = Vec::new();
    for argument in entry.args.iter().flatten() {
        let syscall = || names.first().cloned().unwrap_or_default();
        if argument.index > 5 {
            return Err(SeccompError::NoSuchArgument { index: argument.index, syscall: syscall() });
        }
        conditions.push(Condition { argument: argument.index as u8, test: test(argument)? });
    }
    // A rule that says what the default says adds nothing, and must not shadow an earlier one.
    if action == default {
        return Ok(());
    }
    let arguments: HashSet<u8> = conditions.iter().map(|condition| condition.argument).collect();
    if arguments.len() < conditions.len() {
        // Several conditions on one argument are alternatives, in runc's reading of the format.
        for condition in conditions {
            rules.push(Rule { names: names.clone(), conditions: vec![condition], action });
        }
    } else {
        rules.push(Rule { names, conditions, action });
    }
    Ok(())
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, SeccompError> {
    // The kernel takes error numbers up to 4095 (MAX_ERRNO).
    let number = errno.unwrap_or(libc::EPERM as u16).min(4095);
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(number),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        _ => return Err(SeccompError::Unknown { what: "action", name: name.to_owned() }),
    })
}

fn test(argument: &Argument) -> Result<Test, SeccompError> {
    let value = argument.value;
    Ok(match argument.op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(value),
        "SCMP_CMP_NE" => Test::NotEqual(value),
        "SCMP_CMP_LT" => Test::Less(value),
        "SCMP_CMP_LE" => Test::LessOrEqual(value),
        "SCMP_CMP_GT" => Test::Greater(value),
        "SCMP_CMP_GE" => Test::GreaterOrEqual(value),
        "SCMP_CMP_MASKED_EQ" => Test::Masked { mask: value, value: argument.value_two },
        name => return Err(SeccompError::Unknown { what: "operator", name: name.to_owned() }),
    })
}

/// Whether the running kernel is `version` (major.minor) or newer.
fn kernel_is_at_least(version: &str) -> Result<bool, SeccompError> {
    let unknown = || SeccompError::Unknown { what: "kernel version", name: version.to_owned() };
    let wanted = major_and_minor(version).ok_or_else(unknown)?;
    let uname = rustix::system::uname();
    let running = uname.release().to_str().ok().and_then(major_and_minor);
    Ok(running.is_none_or(|running| running >= wanted))
}

fn major_and_minor(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
