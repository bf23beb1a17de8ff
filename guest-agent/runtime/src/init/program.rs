//! The last steps: streams, working directory, rights, and the program itself.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Access, AtFlags, FileType, Gid, Uid};
use sys::process::Cloned;

use super::user::{self, User};
use super::wire::{self, ProgramPlan, Word};
use super::{Step, reaper, terminal};
use crate::capabilities::CapSets;
use crate::error::{Failure, number};
use crate::plan::Rlimit;

/// Executes the program. `root` is the container's root directory, which is this process's root too.
pub(super) fn run(
    plan: &ProgramPlan,
    root: OwnedFd,
    terminal: Option<OwnedFd>,
    sync: &OwnedFd,
    with_reaper: bool,
) -> Step<Infallible> {
    let user = user::resolve(root.as_fd(), &plan.user)?;
    drop(root);
    if let Some(terminal) = &terminal {
        terminal::take(terminal).map_err(Failure::step("setting up the terminal"))?;
    }
    drop(terminal);
    give_streams(&user).map_err(Failure::step("giving the streams to the user"))?;
    set_limits(&plan.rlimits)?;
    let entered = enter_directory(&plan.cwd);
    if entered.is_err() && user.uid == 0 {
        entered?;
        return Err(Failure::Died);
    }
    become_user(&user, &plan.capabilities).map_err(Failure::step("changing the user"))?;
    if entered.is_err() {
        // Root may be locked out of a directory that the user may enter.
        enter_directory(&plan.cwd)?;
    }
    check_directory()?;

    let environment = environment(plan, &user);
    let path = find_program(&plan.args[0], &environment)?;
    let arguments = c_strings(&plan.args)?;
    let environment = c_strings(&environment)?;

    if with_reaper {
        start_below_reaper(plan)?;
    }
    // From here on the filter may forbid to speak, so the engine is told first.
    wire::say(sync.as_fd(), &Word::Executing, None).map_err(Failure::step("telling the engine"))?;
    sys::process::cloexec_from(3).map_err(Failure::step("closing descriptors"))?;
    sys::signal::reset().map_err(Failure::step("resetting signals"))?;
    give_up_rights(plan)?;
    let c_path = c_string(&path)?;
    let Err(error) = sys::process::execute(&c_path, &arguments, &environment);
    Err(Failure::Execute { path, errno: number(&error) })
}

/// Splits in two: the calling process goes on as the program, its parent, PID 1, stays behind as the reaper.
fn start_below_reaper(plan: &ProgramPlan) -> Step<()> {
    let failed = || Failure::step("starting the program below init");
    sys::signal::block_all().map_err(failed())?;
    match sys::process::fork().map_err(failed())? {
        Cloned::Child => {
            let foreground = || {
                rustix::process::setpgid(None, None)?;
                if plan.terminal.is_some() {
                    let group = rustix::process::getpid().as_raw_nonzero().get();
                    sys::terminal::set_foreground(rustix::stdio::stdin(), group)?;
                }
                Ok(())
            };
            foreground().map_err(failed())
        }
        Cloned::Parent { pid, .. } => {
            // The program's output must end with the program, and the engine must see its execve.
            let quiet = give_up_rights(plan).and_then(|()| {
                sys::process::set_name(c"docker-init").map_err(failed())?;
                // For a container in the host's PID namespace, where it is not PID 1.
                sys::process::set_subreaper().map_err(failed())?;
                sys::process::close_from(0).map_err(failed())
            });
            match quiet {
                Ok(()) => reaper::run(pid),
                Err(_) => sys::process::exit_now(125),
            }
        }
    }
}

/// Programs open `/dev/stdout` anew, which asks for permission, so the streams have to be the user's own.
fn give_streams(user: &User) -> io::Result<()> {
    let streams: [BorrowedFd<'_>; 3] =
        [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let status = rustix::fs::fstat(stream)?;
        let kind = FileType::from_raw_mode(status.st_mode);
        let is_null = kind == FileType::CharacterDevice && status.st_rdev == rustix::fs::makedev(1, 3);
        if is_null || status.st_uid == user.uid {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), None::<Gid>) {
            // What cannot change hands keeps its owner.
            Err(rustix::io::Errno::PERM | rustix::io::Errno::ROFS | rustix::io::Errno::INVAL) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Files that the program may open when nothing else is said; what a service manager would allow dockerd.
const DEFAULT_OPEN_FILES: u64 = 1 << 20;

fn set_limits(limits: &[Rlimit]) -> Step<()> {
    let mut open_files = false;
    for Rlimit { name, soft, hard } in limits {
        let resource = resource_number(name)
            .ok_or_else(|| Failure::InvalidPlan { message: format!("invalid ulimit type: {name}") })?;
        open_files |= resource == libc::RLIMIT_NOFILE;
        sys::process::set_resource_limit(resource, *soft, *hard)
            .map_err(Failure::step(format!("error setting rlimit type {resource}")))?;
    }
    if !open_files {
        // The supervisor has raised its own, which is nothing for the program to inherit. Kernels that allow less keep it.
        let _ = sys::process::set_resource_limit(libc::RLIMIT_NOFILE, DEFAULT_OPEN_FILES, DEFAULT_OPEN_FILES);
    }
    Ok(())
}

fn resource_number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    Some(match upper.strip_prefix("RLIMIT_").unwrap_or(&upper) {
        "CPU" => libc::RLIMIT_CPU,
        "FSIZE" => libc::RLIMIT_FSIZE,
        "DATA" => libc::RLIMIT_DATA,
        "STACK" => libc::RLIMIT_STACK,
        "CORE" => libc::RLIMIT_CORE,
        "RSS" => libc::RLIMIT_RSS,
        "NPROC" => libc::RLIMIT_NPROC,
        "NOFILE" => libc::RLIMIT_NOFILE,
        "MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "AS" => libc::RLIMIT_AS,
        "LOCKS" => libc::RLIMIT_LOCKS,
        "SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "NICE" => libc::RLIMIT_NICE,
        "RTPRIO" => libc::RLIMIT_RTPRIO,
        "RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

fn enter_directory(cwd: &str) -> Step<()> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    rustix::process::chdir(cwd)
        .map_err(|error| Failure::WorkingDirectory { path: cwd.to_owned(), errno: error.raw_os_error() })
}

/// A path like `/proc/self/fd/7` could lead out through a descriptor of ours. There should be none; this makes sure.
fn check_directory() -> Step<()> {
    match rustix::process::getcwd(Vec::new()) {
        // The kernel writes "(unreachable)" before a path that does not begin at the root.
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Failure::WorkingDirectoryOutside),
    }
}

/// Changes the user and shrinks what any program can ever gain. All permitted capabilities are kept for the steps to come;
/// [`give_up_rights`] takes them.
fn become_user(user: &User, capabilities: &CapSets) -> io::Result<()> {
    use sys::credentials;
    for capability in 0..64 {
        if capabilities.bounding.0 & 1 << capability != 0 {
            continue;
        }
        match credentials::drop_bounding(capability) {
            // Beyond the last that the kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            result => result?,
        }
    }
    credentials::set_groups(&user.groups)?;
    credentials::set_group(user.gid)?;
    credentials::keep_capabilities(true)?;
    credentials::set_user(user.uid)?;
    credentials::keep_capabilities(false)
}

/// no_new_privs, the filter, and last the capabilities. Without no_new_privs the filter can only be loaded with
/// CAP_SYS_ADMIN, so it has to allow capset, prctl and execve, as every usable one does.
fn give_up_rights(plan: &ProgramPlan) -> Step<()> {
    if plan.no_new_privileges {
        sys::process::set_no_new_privileges().map_err(Failure::step("setting no_new_privs"))?;
    }
    let sets = &plan.capabilities;
    if plan.no_new_privileges {
        set_capabilities(sets)?;
    }
    if let Some(filter) = &plan.seccomp {
        if !plan.no_new_privileges {
            raise(1 << CAP_SYS_ADMIN | 1 << CAP_SETPCAP)?;
        }
        sys::seccomp::load(filter).map_err(Failure::step("loading the seccomp filter"))?;
    }
    if !plan.no_new_privileges {
        set_capabilities(sets)?;
    }
    Ok(())
}

const CAP_SETPCAP: u32 = 8;
const CAP_SYS_ADMIN: u32 = 21;

/// Switches on a capability that is still permitted: the change of user has switched all off.
fn raise(effective: u64) -> Step<()> {
    let permitted = permitted().map_err(Failure::step("reading the capabilities"))?;
    sys::credentials::set_capabilities(effective & permitted, permitted, 0)
        .map_err(Failure::step("setting the capabilities"))
}

fn permitted() -> io::Result<u64> {
    Ok(rustix::thread::capabilities(None)?.permitted.bits())
}

fn set_capabilities(sets: &CapSets) -> Step<()> {
    let apply = || -> io::Result<()> {
        // Asking for one that the engine itself lacks is no error, as little as it is for dockerd.
        let permitted = permitted()? & sets.permitted.0;
        let ambient = sets.ambient.0 & permitted;
        sys::credentials::set_capabilities(
            sets.effective.0 & permitted,
            permitted,
            sets.inheritable.0 | ambient,
        )?;
        sys::credentials::clear_ambient()?;
        for capability in (0..64).filter(|capability| ambient & 1 << capability != 0) {
            sys::credentials::raise_ambient(capability)?;
        }
        Ok(())
    };
    apply().map_err(Failure::step("setting the capabilities"))
}

/// The plan's, with `HOME` when it says none.
fn environment(plan: &ProgramPlan, user: &User) -> Vec<String> {
    let mut environment = plan.env.clone();
    if value(&environment, "HOME").is_none_or(str::is_empty) {
        environment.push(format!("HOME={}", user.home));
    }
    environment
}

fn value<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .rev()
        .find_map(|pair| pair.split_once('=').filter(|(found, _)| *found == name).map(|(_, value)| value))
}

/// Where the program is, looked for as the user and in the container's own `$PATH`.
fn find_program(name: &str, environment: &[String]) -> Step<String> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(errno @ (libc::EACCES | libc::EISDIR)) => {
                Err(Failure::NotExecutable { path: name.to_owned(), errno })
            }
            Err(errno) => Err(Failure::NoSuchFile { path: name.to_owned(), errno }),
        };
    }
    value(environment, "PATH")
        .unwrap_or_default()
        .split(':')
        .map(|directory| format!("{}/{name}", if directory.is_empty() { "." } else { directory }))
        .find(|path| !name.is_empty() && executable(path).is_ok())
        .ok_or_else(|| Failure::ExecutableNotFound { name: name.to_owned() })
}

fn executable(path: &str) -> Result<(), i32> {
    let status = rustix::fs::stat(path).map_err(rustix::io::Errno::raw_os_error)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(libc::EISDIR);
    }
    if status.st_mode & 0o111 == 0 {
        return Err(libc::EACCES);
    }
    rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(rustix::io::Errno::raw_os_error)
}

fn c_string(text: &str) -> Step<CString> {
    CString::new(text)
        .map_err(|_| Failure::InvalidPlan { message: format!("invalid argument: {text:?} holds a NUL") })
}

fn c_strings(texts: &[String]) -> Step<Vec<CString>> {
    texts.iter().map(|text| c_string(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[&str]) -> Vec<String> {
        pairs.iter().map(|pair| (*pair).to_owned()).collect()
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        assert_eq!(value(&environment(&["A=1", "B=x", "A=2"]), "A"), Some("2"));
        assert_eq!(value(&environment(&["A=1"]), "B"), None);
    }

    #[test]
    fn a_bare_name_is_looked_for_in_path_only() {
        let path = environment(&["PATH=/nonexistent:/bin"]);
        assert_eq!(find_program("sh", &path), Ok("/bin/sh".to_owned()));
        let missing = Failure::ExecutableNotFound { name: "no-such-program".to_owned() };
        assert_eq!(find_program("no-such-program", &path), Err(missing));
    }

    #[test]
    fn a_path_says_what_is_wrong_with_it() {
        let errno = |path| match find_program(path, &[]).unwrap_err() {
            Failure::NotExecutable { errno, .. } | Failure::NoSuchFile { errno, .. } => errno,
            other => panic!("{other:?}"),
        };
        assert_eq!(errno("/etc"), libc::EISDIR);
        assert_eq!(errno("/etc/passwd"), libc::EACCES);
        assert_eq!(errno("/no/such"), libc::ENOENT);
    }
}
