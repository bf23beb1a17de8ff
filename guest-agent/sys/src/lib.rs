//! Every Linux system call and netlink socket that std and rustix lack, as thin safe wrappers without policy.
#![expect(unsafe_code, reason = "this crate is the guest's one door to raw system calls")]

pub mod netlink;
