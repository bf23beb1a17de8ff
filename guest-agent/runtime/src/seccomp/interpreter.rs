//! Runs a filter as the kernel would, for tests.

use super::bpf::Instruction;

/// One system call, as the kernel shows it to a filter (struct seccomp_data).
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) arch: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("load at {offset}"),
        }
    }
}

pub(super) fn decode(filter: &[u8]) -> Vec<Instruction> {
    let (instructions, rest) = filter.as_chunks::<8>();
    assert!(rest.is_empty());
    instructions
        .iter()
        .map(|bytes| Instruction {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            yes: bytes[2],
            no: bytes[3],
            operand: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect()
}

/// The filter's verdict and how many instructions it took.
pub(super) fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at, mut steps) = (0_u32, 0_usize, 0);
    loop {
        let instruction = program[at];
        at += 1;
        steps += 1;
        let operand = instruction.operand;
        let holds = match instruction.code {
            0x20 => {
                accumulator = call.word(operand);
                continue;
            }
            0x54 => {
                accumulator &= operand;
                continue;
            }
            0x05 => {
                at += operand as usize;
                continue;
            }
            0x06 => return (operand, steps),
            0x15 => accumulator == operand,
            0x25 => accumulator > operand,
            0x35 => accumulator >= operand,
            code => panic!("instruction {code:#x}"),
        };
        at += usize::from(if holds { instruction.yes } else { instruction.no });
    }
}
