//! The VM under QEMU, as users start it.
#![cfg(test)]
