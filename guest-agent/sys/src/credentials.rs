//! Users, groups and capabilities of the calling thread.
//!
//! The calls are the kernel's own, which act on one thread. Meant for programs of one thread.

use std::io;

use crate::check;

/// Replaces the supplementary groups.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `groups.len()` numbers from a slice that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// Sets real, effective and saved group.
pub fn set_group(group: u32) -> io::Result<()> {
    // SAFETY: setresgid takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, group, group, group) })?;
    Ok(())
}

/// Sets real, effective and saved user.
pub fn set_user(user: u32) -> io::Result<()> {
    // SAFETY: setresuid takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) })?;
    Ok(())
}

/// Keeps the permitted capabilities over the next change from root to another user.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    // SAFETY: PR_SET_KEEPCAPS takes a plain number.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) }.into())?;
    Ok(())
}

/// Sets the three capability sets that capset(2) knows; bit N stands for capability N.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let half = |shift: u32| Half {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let mut header = Header { version: VERSION_3, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: version 3 means one header and two data records of these layouts (capset(2)), all of which
    // outlive the call; the kernel may write to the header, which is mutable.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

/// Whether the kernel knows this capability, and then whether it is in the bounding set.
pub fn bounding_has(capability: u32) -> Option<bool> {
    // SAFETY: PR_CAPBSET_READ takes a plain number.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), 0, 0, 0) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Takes a capability out of the bounding set, for good.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: PR_CAPBSET_DROP takes a plain number.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }.into())?;
    Ok(())
}

/// Adds a capability, which must be permitted and inheritable, to the ambient set.
pub fn raise_ambient(capability: u32) -> io::Result<()> {
    ambient(libc::PR_CAP_AMBIENT_RAISE, capability)
}

/// Empties the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)
}

fn ambient(operation: libc::c_int, capability: u32) -> io::Result<()> {
    let (operation, capability, unused) =
        (operation as libc::c_ulong, libc::c_ulong::from(capability), 0 as libc::c_ulong);
    // SAFETY: PR_CAP_AMBIENT takes plain numbers; the unused arguments are zero as it demands.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, operation, capability, unused, unused) }.into())?;
    Ok(())
}
