//! The benchmarks: Sampan beside its peers and beside the machine's own limits, in one run.
//!
//! `make bench` runs all; `cargo run --release -p bench -- cycle boot` only those named. Absolute
//! times depend on the machine and its mood, so what counts are the ratios, taken turn by turn.

mod boot;
mod cycle;
mod http;
mod images;
mod memory;
mod peer;
mod report;

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) =
        wanted.iter().find(|name| !["cycle", "images", "memory", "boot"].contains(&name.as_str()))
    {
        bail!("no benchmark is called `{unknown}`: there are cycle, images, memory and boot");
    }
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|other| other == name);
    let mut report = report::Report::default();
    if asked("cycle") {
        cycle::run(&mut report)?;
    }
    if asked("images") {
        images::run(&mut report)?;
    }
    if asked("memory") {
        memory::run(&mut report)?;
    }
    if asked("boot") {
        boot::run(&mut report)?;
    }
    print!("{report}");
    Ok(())
}
