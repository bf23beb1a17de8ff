//! Who runs the program: names looked up in the container's own files.
//!
//! The rules, down to the order and the sentences, are those of dockerd.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::{Step, inside};
use crate::error::Failure;
use crate::plan::UserSpec;

/// A user as the kernel knows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups; the primary one is among them.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// More is no list of users but an attack on our memory.
const LONGEST_FILE: u64 = 16 << 20;
const HIGHEST_ID: u32 = i32::MAX as u32;

/// Looks it up in `root`.
pub(super) fn resolve(root: BorrowedFd<'_>, spec: &UserSpec) -> Step<User> {
    let passwd = read(root, "/etc/passwd").map_err(Failure::step("reading /etc/passwd"))?;
    let group = read(root, "/etc/group").map_err(Failure::step("reading /etc/group"))?;
    resolve_in(&passwd, &group, spec)
}

/// A regular file's text; empty when it is missing.
fn read(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    // Without waiting: a pipe in its place must not hold us up.
    let file = match inside::open(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Ok(String::new());
        }
        result => result?,
    };
    let status = rustix::fs::fstat(file.as_fd())?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut bytes = Vec::new();
    let length = File::from(file).take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if length as u64 > LONGEST_FILE {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { return None };
        let home = rest.get(1).copied().unwrap_or_default();
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, gid, rest @ ..] = fields.as_slice() else { return None };
        Some(Group { name, gid: gid.parse().ok()?, members: rest.first().copied().unwrap_or_default() })
    })
}

fn resolve_in(passwd: &str, group: &str, spec: &UserSpec) -> Step<User> {
    let (user_part, group_part) = match spec.user.split_once(':') {
        Some((user, group)) => (user, group),
        None => (spec.user.as_str(), ""),
    };
    let number = parse_id(user_part)?;
    let wanted = if user_part.is_empty() { Some(0) } else { number };
    let account = accounts(passwd)
        .find(|account| (!user_part.is_empty() && account.name == user_part) || wanted == Some(account.uid));
    let (uid, mut gid, home) = match (&account, wanted) {
        (Some(account), _) => (account.uid, account.gid, account.home),
        (None, Some(uid)) => (uid, 0, ""),
        (None, None) => {
            let message = format!("unable to find user {user_part}: no matching entries in passwd file");
            return Err(Failure::NoSuchUser { message });
        }
    };
    let mut supplementary = Vec::new();
    if !group_part.is_empty() {
        gid = find_group(group, group_part)?.ok_or_else(|| Failure::NoSuchUser {
            message: format!("unable to find group {group_part}: no matching entries in group file"),
        })?;
    } else if let Some(account) = &account {
        supplementary.extend(
            groups(group)
                .filter(|group| group.members.split(',').any(|member| member == account.name))
                .map(|group| group.gid),
        );
    }
    for name in &spec.groups {
        let found = find_group(group, name)?
            .ok_or_else(|| Failure::NoSuchUser { message: format!("Unable to find group {name}") })?;
        supplementary.push(found);
    }
    let mut all = vec![gid];
    for gid in supplementary {
        if !all.contains(&gid) {
            all.push(gid);
        }
    }
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    Ok(User { uid, gid, groups: all, home })
}

fn find_group(group: &str, wanted: &str) -> Step<Option<u32>> {
    let number = parse_id(wanted)?;
    let found = groups(group).find(|group| group.name == wanted || number == Some(group.gid));
    Ok(found.map(|group| group.gid).or(number))
}

/// `None` when it is a name.
fn parse_id(text: &str) -> Step<Option<u32>> {
    match text.parse::<i64>() {
        Err(_) => Ok(None),
        Ok(id) => match u32::try_from(id) {
            Ok(id) if id <= HIGHEST_ID => Ok(Some(id)),
            _ => {
                Err(Failure::NoSuchUser { message: format!("uids and gids must be in range 0-{HIGHEST_ID}") })
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nwww:x:33:34:www:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:www,root\nstaff:x:50:www\n";

    fn resolve(user: &str, groups: &[&str]) -> Step<User> {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        resolve_in(PASSWD, GROUP, &UserSpec { user: user.to_owned(), groups })
    }

    fn message(result: Step<User>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn nobody_said_is_root_with_its_groups() {
        let root = User { uid: 0, gid: 0, groups: vec![0, 29], home: "/root".to_owned() };
        assert_eq!(resolve("", &[]).unwrap(), root);
    }

    #[test]
    fn a_name_brings_its_group_home_and_memberships() {
        let www = User { uid: 33, gid: 34, groups: vec![34, 29, 50], home: "/var/www".to_owned() };
        assert_eq!(resolve("www", &[]).unwrap(), www);
        assert_eq!(resolve("33", &[]).unwrap(), www);
    }

    #[test]
    fn a_group_said_replaces_the_memberships() {
        let user = resolve("www:staff", &["7"]).unwrap();
        assert_eq!((user.gid, user.groups), (50, vec![50, 7]));
    }

    #[test]
    fn a_number_needs_no_entry() {
        let user = resolve("1234:99", &[]).unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (1234, 99, "/"));
    }

    #[test]
    fn unknown_names_are_refused_in_dockerds_words() {
        assert_eq!(
            message(resolve("joe", &[])),
            "unable to find user joe: no matching entries in passwd file"
        );
        assert_eq!(
            message(resolve("www:x", &[])),
            "unable to find group x: no matching entries in group file"
        );
        assert_eq!(message(resolve("", &["x"])), "Unable to find group x");
        assert_eq!(message(resolve("-1", &[])), "uids and gids must be in range 0-2147483647");
    }
}
