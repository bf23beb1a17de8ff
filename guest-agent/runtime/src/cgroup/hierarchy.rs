//! Where the version 2 hierarchy is, and which of its controllers our containers get.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The controllers that Docker's limits are made of.
const WANTED: [&str; 5] = ["cpu", "memory", "pids", "io", "cpuset"];

/// The directory below which every container of this engine has its cgroup.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    pub(crate) parent: PathBuf,
    pub(crate) controllers: Vec<String>,
}

impl Hierarchy {
    /// Finds the mounted hierarchy and makes `parent` in it. `None` where there is no hierarchy.
    pub(crate) fn set_up(parent: &str) -> io::Result<Option<Hierarchy>> {
        match mount_point(&fs::read_to_string("/proc/self/mountinfo")?) {
            Some(mount) => Hierarchy::set_up_in(mount, parent).map(Some),
            None => Ok(None),
        }
    }

    fn set_up_in(mount: PathBuf, parent: &str) -> io::Result<Hierarchy> {
        let available = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        let wanted: Vec<&str> = available.split_whitespace().filter(|name| WANTED.contains(name)).collect();
        let mut directory = mount.clone();
        enable(&directory, &wanted);
        for component in Path::new(parent.trim_matches('/')).components() {
            directory.push(component);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => enable(&directory, &wanted),
            }
        }
        // What a cgroup below `parent` will have, whoever enabled it.
        let enabled = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
        let controllers = enabled.split_whitespace().map(str::to_owned).collect();
        Ok(Hierarchy { mount, parent: directory, controllers })
    }

    pub(crate) fn cgroup_path(&self, id: &str) -> PathBuf {
        self.parent.join(id)
    }
}

/// Enables what can be enabled, one by one: a controller that is refused must not take the others with it.
fn enable(directory: &Path, controllers: &[&str]) {
    let file = directory.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    for controller in controllers {
        if enabled.split_whitespace().any(|name| name == *controller) {
            continue;
        }
        if let Err(error) = fs::write(&file, format!("+{controller}")) {
            tracing::warn!(%controller, directory = %directory.display(), %error, "a cgroup controller cannot be enabled");
        }
    }
}

/// The first mount of type `cgroup2` in the text of `/proc/self/mountinfo`.
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        // The optional fields end with a dash (proc_pid_mountinfo(5)).
        let (head, tail) = line.split_once(" - ")?;
        let (kind, _) = tail.split_once(' ')?;
        (kind == "cgroup2").then(|| PathBuf::from(unescape(head.split(' ').nth(4).unwrap_or_default())))
    })
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_beside_version_1() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:9 - cgroup cgroup rw,devices\n\
             41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mountinfo), Some(PathBuf::from("/sys/fs/cgroup/uni fied")));
        assert_eq!(mount_point("36 31 0:33 / /sys/fs/cgroup rw - cgroup cgroup rw\n"), None);
    }

    #[test]
    fn what_cannot_be_enabled_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cgroup.controllers"), "cpu hugetlb memory\n").unwrap();
        let hierarchy = Hierarchy::set_up_in(directory.path().to_owned(), "a/b").unwrap();
        assert_eq!(hierarchy.parent, directory.path().join("a/b"));
        // A plain file keeps only what was written last, as a kernel would that refused the first one.
        assert_eq!(hierarchy.controllers, ["+memory"]);
    }
}
