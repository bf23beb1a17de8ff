//! The eBPF program that decides which devices a container may make, read and write.
//!
//! Version 2 has no device controller with files; a program attached to the cgroup is asked for every use. This one
//! is a list of permissions: whatever no entry allows is refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::bpf::Instruction;

use crate::plan::{Device, DeviceKind, DeviceRule};

/// A loaded program, to attach to any number of cgroups.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Loads the program for a container with these devices besides the standard ones.
    pub(crate) fn load(devices: &[Device], rules: &[DeviceRule]) -> io::Result<Program> {
        let own = devices.iter().map(|device| Entry {
            kind: Some(device.kind),
            major: Some(device.major),
            minor: Some(device.minor),
            access: access_bits(&device.access),
        });
        let more = rules.iter().map(|rule| Entry {
            kind: rule.kind,
            major: rule.major,
            minor: rule.minor,
            access: access_bits(&rule.access),
        });
        let entries: Vec<Entry> = STANDARD.into_iter().chain(own).chain(more).collect();
        Ok(Program(sys::bpf::load_device_program(&assemble(&entries))?))
    }

    pub(crate) fn attach(&self, cgroup: BorrowedFd<'_>) -> io::Result<()> {
        sys::bpf::attach_device_program(cgroup, self.0.as_fd())
    }
}

/// One permission; `None` is any.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: Option<DeviceKind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

// The kernel's numbers (linux/bpf.h).
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MAKE | READ | WRITE;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Docker's standard permissions: any node may be made, and those be used that every container has.
const STANDARD: [Entry; 11] = [
    Entry { kind: Some(DeviceKind::Character), major: None, minor: None, access: MAKE },
    Entry { kind: Some(DeviceKind::Block), major: None, minor: None, access: MAKE },
    character(1, Some(3)), // null
    character(1, Some(5)), // zero
    character(1, Some(7)), // full
    character(1, Some(8)), // random
    character(1, Some(9)), // urandom
    character(5, Some(0)), // tty
    character(5, Some(1)), // console
    character(5, Some(2)), // ptmx
    character(136, None),  // pts/*
];

const fn character(major: u32, minor: Option<u32>) -> Entry {
    Entry { kind: Some(DeviceKind::Character), major: Some(major), minor, access: ALL }
}

fn access_bits(access: &str) -> u32 {
    access.chars().fold(0, |bits, letter| {
        bits | match letter {
            'm' => MAKE,
            'r' => READ,
            'w' => WRITE,
            _ => 0,
        }
    })
}

/// Registers: 1 the question, 2 its kind, 3 the access wanted, 4 and 5 the numbers, 0 the answer, 6 for reckoning.
fn assemble(entries: &[Entry]) -> Vec<Instruction> {
    let mut program =
        vec![load(2, 0), alu(AND, 2, 0xffff), load(3, 0), alu(SHIFT_RIGHT, 3, 16), load(4, 4), load(5, 8)];
    for entry in entries {
        let mut tests = Vec::new();
        if let Some(kind) = entry.kind {
            let kind = if kind == DeviceKind::Block { BLOCK } else { CHARACTER };
            tests.push(vec![jump_unless(2, kind)]);
        }
        if entry.access != ALL {
            // Refused when anything is wanted beyond what is allowed.
            tests.push(vec![move_register(6, 3), alu(AND, 6, ALL & !entry.access), jump_unless(6, 0)]);
        }
        if let Some(major) = entry.major {
            tests.push(vec![jump_unless(4, major)]);
        }
        if let Some(minor) = entry.minor {
            tests.push(vec![jump_unless(5, minor)]);
        }
        let mut block: Vec<Instruction> = tests.concat();
        block.extend([alu(MOVE, 0, 1), EXIT]);
        let length = block.len();
        for (place, instruction) in block.iter_mut().enumerate() {
            if instruction.code == JUMP_NOT_EQUAL {
                instruction.offset = (length - place - 1) as i16;
            }
        }
        program.extend(block);
    }
    program.extend([alu(MOVE, 0, 0), EXIT]);
    program
}

// Operations on 32 bits (linux/bpf_common.h, linux/bpf.h).
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const JUMP_NOT_EQUAL: u8 = 0x56;
const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };

fn load(register: u8, offset: i16) -> Instruction {
    Instruction { code: LOAD_WORD, registers: register | 1 << 4, offset, immediate: 0 }
}

fn alu(code: u8, register: u8, value: u32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate: value as i32 }
}

fn move_register(to: u8, from: u8) -> Instruction {
    Instruction { code: MOVE_REGISTER, registers: to | from << 4, offset: 0, immediate: 0 }
}

fn jump_unless(register: u8, value: u32) -> Instruction {
    Instruction { code: JUMP_NOT_EQUAL, registers: register, offset: 0, immediate: value as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would, on one question.
    fn allows(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let question = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 8];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let value = immediate as u32;
            at += 1;
            match code {
                LOAD_WORD => registers[to] = question[offset as usize / 4],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                JUMP_NOT_EQUAL if registers[to] != value => at += offset as usize,
                JUMP_NOT_EQUAL => {}
                _ => return registers[0] == 1,
            }
        }
    }

    #[test]
    fn the_disk_may_be_made_but_not_read() {
        let program = assemble(&STANDARD);
        assert!(allows(&program, BLOCK, MAKE, 254, 0));
        assert!(!allows(&program, BLOCK, READ, 254, 0));
        assert!(!allows(&program, BLOCK, MAKE | READ, 254, 0));
        assert!(!allows(&program, CHARACTER, READ, 1, 1));
    }

    #[test]
    fn the_standard_nodes_and_any_terminal_may_be_used() {
        let program = assemble(&STANDARD);
        assert!(allows(&program, CHARACTER, ALL, 1, 3));
        assert!(allows(&program, CHARACTER, READ | WRITE, 136, 77));
    }

    #[test]
    fn a_device_given_for_reading_is_not_written() {
        let entry =
            Entry { kind: Some(DeviceKind::Block), major: Some(8), minor: Some(1), access: access_bits("r") };
        let program = assemble(&[entry]);
        assert!(allows(&program, BLOCK, READ, 8, 1));
        assert!(!allows(&program, BLOCK, READ | WRITE, 8, 1));
        assert!(!allows(&program, BLOCK, READ, 8, 2));
        assert!(!allows(&program, CHARACTER, READ, 8, 1));
    }
}
