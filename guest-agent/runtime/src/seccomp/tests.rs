//! Filters judged by what they say about calls, not by how they are built.

use super::interpreter::{Call, decode, run};
use super::names;
use super::policy::Abi;
use super::*;
use crate::capabilities::CapSet;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0000 | 38;
const KILL: u32 = 0;

fn with(names: &[&str]) -> CapSets {
    let mut set = crate::capabilities::default_set();
    names.iter().for_each(|name| set.insert(name.parse().unwrap()));
    CapSets::uniform(set)
}

fn verdict(filter: &[u8], abi: Abi, name: &str, arguments: &[u64]) -> u32 {
    let number = names::number(abi, name).unwrap_or_else(|| panic!("{name}"));
    by_number(filter, abi, number, arguments)
}

fn by_number(filter: &[u8], abi: Abi, number: u32, arguments: &[u64]) -> u32 {
    let mut call = Call { number, arch: abi.audit(), arguments: [0; 6] };
    call.arguments[..arguments.len()].copy_from_slice(arguments);
    run(&decode(filter), &call).0
}

fn profile(rules: &str) -> Vec<u8> {
    let json = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rules}]}}"#);
    compile_for(&json, &with(&[]), Arch::X86_64).unwrap()
}

#[test]
fn ordinary_programs_may_do_ordinary_things_on_every_abi() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let filter = default_filter(&with(&[]), arch);
        for abi in arch.abis() {
            for name in ["read", "write", "execve", "mmap", "futex", "exit_group", "openat", "clone", "statx"]
            {
                if let Some(number) = names::number(*abi, name) {
                    assert_eq!(by_number(&filter, *abi, number, &[]), ALLOW, "{name} {abi:?}");
                }
            }
        }
    }
}

#[test]
fn calls_beyond_the_container_are_refused() {
    let filter = default_filter(&with(&[]), Arch::X86_64);
    for name in [
        "mount",
        "setns",
        "bpf",
        "keyctl",
        "add_key",
        "userfaultfd",
        "io_uring_setup",
        "kexec_load",
        "reboot",
    ] {
        for abi in [Abi::X86_64, Abi::X86] {
            assert_eq!(verdict(&filter, abi, name, &[]), EPERM, "{name}");
        }
    }
    assert_eq!(verdict(&filter, Abi::X86_64, "open_by_handle_at", &[]), EPERM);
}

#[test]
fn a_capability_brings_its_calls() {
    for (capability, name) in [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_BPF", "bpf"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_NICE", "set_mempolicy_home_node"),
    ] {
        let filter = default_filter(&with(&[capability]), Arch::X86_64);
        assert_eq!(verdict(&filter, Abi::X86_64, name, &[]), ALLOW, "{name}");
    }
}

#[test]
fn namespaces_need_the_capability_and_clone3_sends_the_library_to_clone() {
    let plain = default_filter(&with(&[]), Arch::X86_64);
    assert_eq!(verdict(&plain, Abi::X86_64, "clone3", &[]), ENOSYS);
    assert_eq!(verdict(&plain, Abi::X86_64, "clone", &[0x0011_0000 | 17]), ALLOW);
    for bit in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(verdict(&plain, Abi::X86_64, "clone", &[bit | 17]), EPERM, "{bit:#x}");
    }
    let admin = default_filter(&with(&["SYS_ADMIN"]), Arch::X86_64);
    assert_eq!(verdict(&admin, Abi::X86_64, "clone", &[0x1000_0000]), ALLOW);
}

#[test]
fn sockets_of_two_families_are_refused() {
    let filter = default_filter(&with(&[]), Arch::X86_64);
    for (family, expected) in
        [(1, ALLOW), (2, ALLOW), (37, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW)]
    {
        assert_eq!(verdict(&filter, Abi::X86_64, "socket", &[family]), expected, "{family}");
    }
    assert_eq!(verdict(&filter, Abi::X86_64, "socket", &[1 << 32 | 38]), ALLOW, "compared as 64 bits");
}

#[test]
fn only_harmless_personalities_pass() {
    let filter = default_filter(&with(&[]), Arch::Aarch64);
    for domain in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert_eq!(verdict(&filter, Abi::Aarch64, "personality", &[domain]), ALLOW);
    }
    assert_eq!(verdict(&filter, Abi::Aarch64, "personality", &[0x004_0000]), EPERM, "ADDR_NO_RANDOMIZE");
}

#[test]
fn calls_newer_than_the_policy_answer_that_they_do_not_exist() {
    let filter = default_filter(&with(&[]), Arch::X86_64);
    assert_eq!(by_number(&filter, Abi::X86_64, 600, &[]), ENOSYS);
    assert_eq!(by_number(&filter, Abi::X86, 600, &[]), ENOSYS);
    let all = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let filter = compile_for(all, &with(&[]), Arch::X86_64).unwrap();
    assert_eq!(by_number(&filter, Abi::X86_64, 600, &[]), ALLOW);
}

#[test]
fn other_abis_kill() {
    let filter = default_filter(&with(&[]), Arch::X86_64);
    assert_eq!(by_number(&filter, Abi::Aarch64, 64, &[]), KILL);
    let native_only = profile(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#);
    assert_eq!(verdict(&native_only, Abi::X86_64, "read", &[]), ALLOW);
    assert_eq!(verdict(&native_only, Abi::X86, "read", &[]), KILL);
    assert_eq!(verdict(&native_only, Abi::X32, "read", &[]), KILL);
}

#[test]
fn every_operator_compares_64_unsigned_bits() {
    let edges =
        [0, 1, 7, 8, 9, 0xffff_ffff, 1 << 32, (1 << 32) | 7, (1 << 32) | 8, (1 << 32) | 9, 2 << 32, u64::MAX];
    for pivot in [8, (1 << 32) | 8, 0xffff_ffff] {
        type Operator = fn(u64, u64) -> bool;
        let operators: [(&str, Operator); 6] = [
            ("EQ", |a, b| a == b),
            ("NE", |a, b| a != b),
            ("LT", |a, b| a < b),
            ("LE", |a, b| a <= b),
            ("GT", |a, b| a > b),
            ("GE", |a, b| a >= b),
        ];
        for (operator, holds) in operators {
            let filter = profile(&format!(
                r#"{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                    "args": [{{"index": 3, "value": {pivot}, "op": "SCMP_CMP_{operator}"}}]}}"#
            ));
            for value in edges {
                let expected = if holds(value, pivot) { ALLOW } else { EPERM };
                assert_eq!(
                    verdict(&filter, Abi::X86_64, "ioctl", &[0, 0, 0, value]),
                    expected,
                    "{value:#x} {operator} {pivot:#x}"
                );
            }
        }
    }
    let masked = profile(
        r#"{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 1, "value": 17179869188, "valueTwo": 17179869184, "op": "SCMP_CMP_MASKED_EQ"}]}"#,
    );
    for (value, expected) in
        [(4 << 32, ALLOW), (4 << 32 | 4, EPERM), (4, EPERM), (7 << 32 | 3, ALLOW), (0, EPERM)]
    {
        assert_eq!(verdict(&masked, Abi::X86_64, "ioctl", &[0, value]), expected, "{value:#x}");
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold_and_on_one_any() {
    let both = profile(
        r#"{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_NE"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]}"#,
    );
    for (arguments, expected) in [([0, 2], ALLOW), ([1, 2], EPERM), ([0, 3], EPERM)] {
        assert_eq!(verdict(&both, Abi::X86_64, "ioctl", &arguments), expected, "{arguments:?}");
    }
    let either = profile(
        r#"{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]}"#,
    );
    for (value, expected) in [(1, ALLOW), (2, ALLOW), (3, EPERM)] {
        assert_eq!(verdict(&either, Abi::X86_64, "ioctl", &[0, value]), expected);
    }
}

#[test]
fn every_action_has_the_kernels_code() {
    for (action, expected) in [
        ("ALLOW", ALLOW),
        ("LOG", 0x7ffc_0000),
        ("TRAP", 0x3_0000),
        ("KILL", 0),
        ("KILL_THREAD", 0),
        ("KILL_PROCESS", 0x8000_0000),
        ("TRACE", 0x7ff0_0000 | 99),
        ("ERRNO", 0x5_0000 | 99),
    ] {
        let filter =
            profile(&format!(r#"{{"name": "ioctl", "action": "SCMP_ACT_{action}", "errnoRet": 99}}"#));
        assert_eq!(verdict(&filter, Abi::X86_64, "ioctl", &[]), expected, "{action}");
    }
}

#[test]
fn rules_depend_on_capability_architecture_and_kernel() {
    let filter = profile(
        r#"{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN"], "arches": ["amd64"]}},
           {"names": ["umount2"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}},
           {"names": ["swapon"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"]}},
           {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
           {"names": ["acct"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
           {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
           {"names": ["statx"], "action": "SCMP_ACT_ALLOW"}"#,
    );
    for (name, expected) in [
        ("mount", ALLOW),
        ("umount2", EPERM),
        ("swapon", EPERM),
        ("reboot", EPERM),
        ("acct", ALLOW),
        ("bpf", EPERM),
    ] {
        assert_eq!(verdict(&filter, Abi::X86_64, name, &[]), expected, "{name}");
    }
}

#[test]
fn a_broken_profile_is_named() {
    let message = |json: &str| compile(json, &with(&[])).unwrap_err().to_string();
    assert!(message("{").starts_with("decoding seccomp profile failed: EOF"));
    assert_eq!(
        message(r#"{"defaultAction": "SCMP_ACT_SING"}"#),
        "unknown action `SCMP_ACT_SING` in seccomp profile"
    );
    let entry = |args: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
        )
    };
    assert_eq!(
        message(&entry(r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#)),
        "seccomp profile names argument 6 of `read`, system calls have six"
    );
    assert_eq!(
        message(&entry(r#"{"index": 0, "value": 0, "op": "SCMP_CMP_ABOUT"}"#)),
        "unknown operator `SCMP_CMP_ABOUT` in seccomp profile"
    );
}

#[test]
fn the_default_filter_is_short_and_quick_for_every_set_of_capabilities() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for sets in [CapSets::uniform(CapSet::EMPTY), with(&[]), CapSets::uniform(CapSet::full())] {
            let filter = default_filter(&sets, arch);
            assert!(!filter.is_empty());
            let program = decode(&filter);
            assert!(program.len() < 2000, "{}", program.len());
            let slowest = (0..1000)
                .map(|number| {
                    run(&program, &Call { number, arch: arch.abis()[0].audit(), arguments: [0; 6] }).1
                })
                .max();
            assert!(slowest < Some(32), "{slowest:?}");
        }
    }
}
