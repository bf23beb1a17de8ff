//! Takes what is needed out of a Debian kernel package: the kernel, and its modules as they are.
//!
//! A package is an `ar` archive whose member `data.tar.xz` holds the files. Reading it here spares a Mac `dpkg`;
//! decompressing is left to the `xz` program.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, bail};

/// A kernel package's content, as far as it is of use.
pub(crate) struct Package {
    /// What `uname -r` will say.
    pub(crate) release: String,
    /// The kernel as packaged.
    pub(crate) vmlinuz: Vec<u8>,
    /// Compressed modules by name, with `_` for `-`.
    pub(crate) modules: BTreeMap<String, Vec<u8>>,
    /// The names of what is built into the kernel.
    pub(crate) built_in: Vec<String>,
}

/// Reads a kernel package.
pub(crate) fn unpack(package: &[u8]) -> anyhow::Result<Package> {
    let data = member(package, "data.tar.xz").context("not a kernel package")?;
    let files = xz(data)?;
    let mut found = Package {
        release: String::new(),
        vmlinuz: Vec::new(),
        modules: BTreeMap::new(),
        built_in: Vec::new(),
    };
    for entry in tar::Archive::new(files.as_slice()).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let Some(file) = path.rsplit('/').next() else { continue };
        let mut read = || -> anyhow::Result<Vec<u8>> {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            Ok(content)
        };
        if let Some(release) = file.strip_prefix("vmlinuz-") {
            found.release = release.to_owned();
            found.vmlinuz = read()?;
        } else if let Some(name) = file.strip_suffix(".ko.xz") {
            found.modules.insert(name.replace('-', "_"), read()?);
        } else if file == "modules.builtin" {
            found.built_in = String::from_utf8(read()?)?
                .lines()
                .filter_map(|line| line.rsplit('/').next()?.strip_suffix(".ko"))
                .map(|name| name.replace('-', "_"))
                .collect();
        }
    }
    if found.vmlinuz.is_empty() || found.modules.is_empty() {
        bail!("the package holds no kernel");
    }
    Ok(found)
}

/// Finds one member of an `ar` archive.
fn member<'a>(archive: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut rest = archive.strip_prefix(b"!<arch>\n")?;
    while rest.len() >= 60 {
        let (header, tail) = rest.split_at(60);
        let name = std::str::from_utf8(&header[..16]).ok()?.trim_end().trim_end_matches('/');
        let size: usize = std::str::from_utf8(&header[48..58]).ok()?.trim_end().parse().ok()?;
        let content = tail.get(..size)?;
        if name == wanted {
            return Some(content);
        }
        rest = tail.get(size.next_multiple_of(2)..)?;
    }
    None
}

/// Decompresses with the `xz` program.
pub(crate) fn xz(compressed: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the program `xz` is needed (Debian: xz-utils, a Mac: `brew install xz`)")?;
    let mut input = child.stdin.take().context("xz has no input")?;
    let output = thread::scope(|scope| {
        let feeding = scope.spawn(move || input.write_all(compressed));
        let output = child.wait_with_output();
        // A broken pipe shows in the exit status, with xz's own words on standard error.
        let _ = feeding.join();
        output
    })?;
    if !output.status.success() {
        bail!("xz failed: {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_behind_one_of_odd_size() {
        let mut archive = b"!<arch>\n".to_vec();
        for (name, content) in [("debian-binary", &b"2.0"[..]), ("data.tar.xz", b"content")] {
            archive.extend_from_slice(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len())
                    .as_bytes(),
            );
            archive.extend_from_slice(content);
            if content.len() % 2 == 1 {
                archive.push(b'\n');
            }
        }
        assert_eq!(member(&archive, "data.tar.xz"), Some(&b"content"[..]));
        assert_eq!(member(&archive, "control.tar.xz"), None);
        assert_eq!(member(&archive[..70], "data.tar.xz"), None);
    }
}
