//! The virtual machine's life.
