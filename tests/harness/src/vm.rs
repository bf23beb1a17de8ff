//! A VM as users start it: by the `sampan` command.
pub struct Vm;
