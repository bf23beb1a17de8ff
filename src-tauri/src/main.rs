//! The desktop app: a window and a menu bar item over the `host` crate. It decides nothing itself.
//!
//! ```text
//! main → app (opens host, wires all) → window · tray        what the user sees
//!                                    → commands/<noun>      what the user asks: one call of host each
//!                                    → news                 what host says: VM status, engine events
//! ```

mod app;
mod commands;
mod messages;
mod news;
mod shell;
mod tray;
mod window;

use std::process::ExitCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    match app::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sampan-app: {error:#}");
            ExitCode::FAILURE
        }
    }
}
