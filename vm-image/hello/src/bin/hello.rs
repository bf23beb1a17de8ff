//! The first container's program: says where it runs, and what to try next.
//!
//! It is the only file of its image, so it links statically and needs nothing of a distribution.

use std::fs;

fn main() {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "Linux".into());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    println!("Hello from a container in Sampan.");
    println!();
    println!("  container  {}", host.trim());
    println!("  kernel     Linux {} ({})", kernel.trim(), std::env::consts::ARCH);
    println!("  processes  {} in this namespace", processes());
    println!();
    println!("The engine unpacked this image, made the container's namespaces and root file system,");
    println!("and ran this program as its process 1.");
}

/// How many processes this one can see: 1, when the namespace is its own.
fn processes() -> usize {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .count()
}
