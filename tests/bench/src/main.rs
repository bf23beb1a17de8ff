//! The benchmarks: Sampan beside its peers and beside the machine's own limits, in one run.
//!
//! `make bench` runs all; `cargo run --release -p bench -- cycle boot` only those named. Absolute
//! times depend on the machine and its mood, so what counts are the ratios, taken turn by turn.

mod boot;
mod crowd;
mod cycle;
mod http;
mod images;
mod limit;
mod memory;
mod peer;
mod report;
mod verbs;

use anyhow::{Context, bail};
use report::Report;

type Run = fn(&mut Report) -> anyhow::Result<()>;

/// Every benchmark, by the name that it is asked for.
const ALL: [(&str, Run); 6] = [
    ("cycle", cycle::run),
    ("verbs", verbs::run),
    ("images", images::run),
    ("crowd", crowd::run),
    ("memory", memory::run),
    ("boot", boot::run),
];

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| ALL.iter().all(|(known, _)| name != known)) {
        let known: Vec<&str> = ALL.iter().map(|(known, _)| *known).collect();
        bail!("no benchmark is called `{unknown}`: there are {}", known.join(", "));
    }
    let mut report = Report::default();
    for (name, run) in ALL {
        if wanted.is_empty() || wanted.iter().any(|other| other == name) {
            run(&mut report).with_context(|| format!("the benchmark `{name}`"))?;
        }
    }
    print!("{report}");
    Ok(())
}
