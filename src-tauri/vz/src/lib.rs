//! Apple's hypervisor: [`host::hypervisor::Hypervisor`] by Virtualization.framework. Empty on other systems.
//!
//! Thin on purpose: no decision is taken here that a test on Linux could cover. Every object of the framework
//! that belongs to a machine is used on that machine's own serial queue ([`confined`]), delegates and completion
//! handlers turn into channels within this crate, and streams leave it as file descriptors.
//!
//! The program needs the entitlement `com.apple.security.virtualization` (see `entitlements.plist`).

#![cfg_attr(
    target_os = "macos",
    expect(unsafe_code, reason = "Objective-C calls are unsafe; this crate exists to hold them")
)]

#[cfg(target_os = "macos")]
mod configuration;
#[cfg(target_os = "macos")]
mod confined;
#[cfg(target_os = "macos")]
mod delegates;
#[cfg(target_os = "macos")]
mod machine;

#[cfg(target_os = "macos")]
pub use machine::Apple;
