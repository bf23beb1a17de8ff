//! `--init`: PID 1 of the container, which passes signals on to the program, reaps orphans and ends as the program does.

use sys::process::Ending;

/// Looks after `program` until it ends, and then ends with its code. Every signal has to be blocked.
pub(super) fn run(program: i32) -> ! {
    loop {
        let signal = sys::signal::wait().unwrap_or(libc::SIGCHLD);
        match signal {
            libc::SIGCHLD => {
                while let Ok(Some((pid, ending))) = sys::process::reap() {
                    if pid == program {
                        end(ending);
                    }
                }
            }
            // About this process's own use of the terminal or of memory, not the program's.
            libc::SIGTTIN | libc::SIGTTOU | libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => {}
            signal => {
                // It may have ended; SIGCHLD says so next.
                let _ = sys::signal::send(program, signal);
            }
        }
    }
}

fn end(ending: Ending) -> ! {
    // PID 1 of a namespace cannot be killed by its own signals, so a signal is told by its number, as shells do.
    sys::process::exit_now(match ending {
        Ending::Code(code) => code,
        Ending::Signal(signal) => 128 + signal,
    })
}
