//! `guest-agent`: the first process of the VM, and the engine for a machine without one.
//!
//! One program with several entrances, because the VM's image holds no other:
//!
//! | started as | is |
//! |---|---|
//! | `container-init` | a container's first program, until it executes the container's own |
//! | `modprobe` | what the kernel runs when it misses a module, in the VM |
//! | process 1 of the VM | [`init`], then the supervisor |
//! | `serve …` | the supervisor, on any Linux machine |
//! | `engine …` | the engine, which only the supervisor starts |

mod certs;
mod compose;
mod config_file;
mod fabric;
mod init;
mod listen;
mod options;
mod resolver;
mod serve;
mod tls;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    if init::modules::is_modprobe(&program) {
        return init::modules::modprobe(arguments);
    }
    let arguments: Vec<OsString> = arguments.collect();
    let verb = arguments.first().and_then(|verb| verb.to_str()).unwrap_or_default();
    match verb {
        "container-init" => runtime::container_init_main(),
        _ if init::is_first_process() => init::main(arguments),
        "serve" => serve::main(&arguments[1..]),
        "engine" => compose::main(&arguments[1..]),
        "--version" | "-v" | "version" => {
            println!("guest-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: guest-agent serve [OPTION]…\nSee 'guest-agent serve --help'.");
            ExitCode::FAILURE
        }
    }
}
