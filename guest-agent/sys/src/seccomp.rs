//! Loading system call filters.

use std::io;

use crate::check;

/// One instruction of a classic BPF program, `struct sock_filter`, in the machine's byte order.
const INSTRUCTION: usize = 8;

/// Puts a filter, the bytes of an array of `struct sock_filter`, on the calling thread and what it executes.
///
/// Needs `CAP_SYS_ADMIN` or no_new_privs. The filter cannot be taken off again.
pub fn load(program: &[u8]) -> io::Result<()> {
    let count = program.len() / INSTRUCTION;
    if count == 0 || !program.len().is_multiple_of(INSTRUCTION) || count > usize::from(u16::MAX) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog { len: count as libc::c_ushort, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: `program` names `count` instructions of a vector that outlives the call; the kernel copies and
    // verifies them and writes to neither.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })?;
    Ok(())
}

/// Whether the kernel filters system calls at all.
pub fn supported() -> bool {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: SECCOMP_GET_ACTION_AVAIL reads one u32 that outlives the call, and changes nothing.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_instruction_is_refused() {
        assert_eq!(load(&[0; 12]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(load(&[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
