//! From a policy to instructions of classic BPF (seccomp(2), `linux/filter.h`).

use std::collections::BTreeMap;

use super::SeccompError;
use super::names::{self, X32_BIT};
use super::policy::{Abi, Action, Condition, Policy, Test};

/// The kernel's limit (BPF_MAXINSNS).
const LIMIT: usize = 4096;

/// Load a word of `seccomp_data`; keep bits; jump if equal, greater, at least; jump always; return.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// Offsets in `seccomp_data`. Arguments are little-endian on every architecture of ours: low word first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `struct sock_filter`. Jumps are relative to the next instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) operand: u32,
}

impl Instruction {
    fn plain(code: u16, operand: u32) -> Instruction {
        Instruction { code, yes: 0, no: 0, operand }
    }

    fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.code.to_ne_bytes();
        let [e, f, g, h] = self.operand.to_ne_bytes();
        [a, b, self.yes, self.no, e, f, g, h]
    }
}

/// What becomes of one number, or of a range of them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Always(Action),
    /// The first whose conditions all hold; else the default.
    Depends(Vec<(Vec<Condition>, Action)>),
}

/// The whole program.
pub(super) fn assemble(policy: &Policy) -> Result<Vec<u8>, SeccompError> {
    let mut program = vec![Instruction::plain(LOAD, ARCH)];
    for abi in policy.abis.iter().filter(|abi| **abi != Abi::X32) {
        let mut block = vec![Instruction::plain(LOAD, NUMBER)];
        if *abi == Abi::X86_64 {
            block.extend(x32_block(policy));
        }
        block.extend(search(&ranges(policy, *abi), policy.default));
        skip_unless(&mut program, EQUAL, abi.audit(), block);
    }
    program.push(Instruction::plain(RETURN, Action::KillThread.code()));
    if program.len() > LIMIT {
        return Err(SeccompError::TooLong { instructions: program.len() });
    }
    Ok(program.into_iter().flat_map(Instruction::to_bytes).collect())
}

/// x32 shares x86-64's word in `arch` and is told by its numbers.
fn x32_block(policy: &Policy) -> Vec<Instruction> {
    let block = if policy.abis.contains(&Abi::X32) {
        search(&ranges(policy, Abi::X32), policy.default)
    } else {
        vec![Instruction::plain(RETURN, Action::KillThread.code())]
    };
    let mut instructions = Vec::new();
    skip_unless(&mut instructions, AT_LEAST, X32_BIT, block);
    instructions
}

/// Appends `block`, to be run when the comparison holds and jumped over when not. The block never falls through.
fn skip_unless(program: &mut Vec<Instruction>, code: u16, operand: u32, block: Vec<Instruction>) {
    // A conditional jump reaches 255 instructions, an unconditional one any.
    program.push(Instruction { code, yes: 1, no: 0, operand });
    program.push(Instruction::plain(JUMP, block.len() as u32));
    program.extend(block);
}

/// The outcome of every number: each entry holds from its number up to the next entry's.
fn ranges(policy: &Policy, abi: Abi) -> Vec<(u32, Outcome)> {
    let mut calls: BTreeMap<u32, Outcome> = BTreeMap::new();
    let mut newest = None;
    for rule in &policy.rules {
        for number in rule.names.iter().filter_map(|name| names::number(abi, name)) {
            // ARM's private calls are far above its table and say nothing of how new the policy is.
            if number & !X32_BIT < 0xf0000 {
                newest = newest.max(Some(number));
            }
            let outcome = calls.entry(number).or_insert_with(|| Outcome::Depends(Vec::new()));
            match outcome {
                Outcome::Always(_) => {}
                Outcome::Depends(_) if rule.conditions.is_empty() => *outcome = Outcome::Always(rule.action),
                Outcome::Depends(cases) => cases.push((rule.conditions.clone(), rule.action)),
            }
        }
    }
    let default = Outcome::Always(policy.default);
    let unknown = match (policy.default, newest) {
        (Action::Allow | Action::Log, _) | (_, None) => default.clone(),
        _ => Outcome::Always(Action::Errno(libc::ENOSYS as u16)),
    };
    let first = if abi == Abi::X32 { X32_BIT } else { 0 };
    let mut ranges = vec![(first, default.clone())];
    for (number, outcome) in calls {
        ranges.push((number, outcome));
        let after = if newest.is_none_or(|newest| number < newest) { &default } else { &unknown };
        ranges.push((number + 1, after.clone()));
    }
    merge(ranges)
}

/// Drops empty ranges and joins neighbours with the same outcome.
fn merge(ranges: Vec<(u32, Outcome)>) -> Vec<(u32, Outcome)> {
    let mut merged: Vec<(u32, Outcome)> = Vec::new();
    for (start, outcome) in ranges {
        if merged.last().is_some_and(|(previous, _)| *previous == start) {
            merged.pop();
        }
        if merged.last().is_none_or(|(_, previous)| *previous != outcome) {
            merged.push((start, outcome));
        }
    }
    merged
}

/// Finds the range of the number in the accumulator by halving, and returns its outcome.
fn search(ranges: &[(u32, Outcome)], default: Action) -> Vec<Instruction> {
    match ranges {
        [] => vec![Instruction::plain(RETURN, default.code())],
        [(_, Outcome::Always(action))] => vec![Instruction::plain(RETURN, action.code())],
        [(_, Outcome::Depends(cases))] => decide(cases, default),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let (below, above) = (search(low, default), search(high, default));
            let operand = high[0].0;
            let mut block = Vec::with_capacity(below.len() + above.len() + 2);
            match u8::try_from(below.len()) {
                Ok(yes) => block.push(Instruction { code: AT_LEAST, yes, no: 0, operand }),
                Err(_) => {
                    block.push(Instruction { code: AT_LEAST, yes: 0, no: 1, operand });
                    block.push(Instruction::plain(JUMP, below.len() as u32));
                }
            }
            block.extend(below);
            block.extend(above);
            block
        }
    }
}

/// Tries the cases in order.
fn decide(cases: &[(Vec<Condition>, Action)], default: Action) -> Vec<Instruction> {
    let mut block = Vec::new();
    for (conditions, action) in cases {
        let mut steps: Vec<Step> = Vec::new();
        for condition in conditions {
            steps.extend(condition_steps(condition));
        }
        // A failed condition goes past this case's return.
        let end = steps.len() + 1;
        let mut position = 0;
        for condition in conditions {
            let length = condition_steps(condition).len();
            let pass = position + length;
            for (index, step) in steps[position..pass].iter().enumerate() {
                block.push(step.resolve(position + index, pass, end));
            }
            position = pass;
        }
        block.push(Instruction::plain(RETURN, action.code()));
    }
    block.push(Instruction::plain(RETURN, default.code()));
    block
}

/// Where a comparison leads.
#[derive(Debug, Clone, Copy)]
enum To {
    /// The next instruction.
    On,
    /// Behind the condition: it holds.
    Pass,
    /// Behind the case: it does not.
    Fail,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Load(u32),
    And(u32),
    Compare(u16, u32, To, To),
}

impl Step {
    /// `at` is this step's position, `pass` and `fail` those it may lead to. A case has at most one condition per
    /// argument, so 36 steps, far less than a jump reaches.
    fn resolve(self, at: usize, pass: usize, fail: usize) -> Instruction {
        let offset = |to: To| match to {
            To::On => 0,
            To::Pass => (pass - at - 1) as u8,
            To::Fail => (fail - at - 1) as u8,
        };
        match self {
            Step::Load(from) => Instruction::plain(LOAD, from),
            Step::And(mask) => Instruction::plain(AND, mask),
            Step::Compare(code, operand, yes, no) => {
                Instruction { code, yes: offset(yes), no: offset(no), operand }
            }
        }
    }
}

fn condition_steps(condition: &Condition) -> Vec<Step> {
    use To::{Fail, On, Pass};
    let low = Step::Load(ARGUMENTS + 8 * u32::from(condition.argument));
    let high = Step::Load(ARGUMENTS + 8 * u32::from(condition.argument) + 4);
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    // Order comparisons: the high words decide unless they are equal.
    let ordered = |value: u64, code: u16, yes: To, no: To, greater: To, less: To| {
        let (h, l) = halves(value);
        vec![
            high,
            Step::Compare(GREATER, h, greater, On),
            Step::Compare(EQUAL, h, On, less),
            low,
            Step::Compare(code, l, yes, no),
        ]
    };
    match condition.test {
        Test::Equal(value) => {
            let (h, l) = halves(value);
            vec![high, Step::Compare(EQUAL, h, On, Fail), low, Step::Compare(EQUAL, l, On, Fail)]
        }
        Test::NotEqual(value) => {
            let (h, l) = halves(value);
            vec![high, Step::Compare(EQUAL, h, On, Pass), low, Step::Compare(EQUAL, l, Fail, On)]
        }
        Test::Masked { mask, value } => {
            let ((mh, ml), (h, l)) = (halves(mask), halves(value));
            vec![
                high,
                Step::And(mh),
                Step::Compare(EQUAL, h, On, Fail),
                low,
                Step::And(ml),
                Step::Compare(EQUAL, l, On, Fail),
            ]
        }
        Test::Greater(value) => ordered(value, GREATER, On, Fail, Pass, Fail),
        Test::GreaterOrEqual(value) => ordered(value, AT_LEAST, On, Fail, Pass, Fail),
        Test::Less(value) => ordered(value, AT_LEAST, Fail, On, Fail, Pass),
        Test::LessOrEqual(value) => ordered(value, GREATER, Fail, On, Fail, Pass),
    }
}
