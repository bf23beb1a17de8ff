//! Layers from end to end: hostile, odd and ordinary tars go in, and come out again as the same bytes.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use super::{Arrival, DIFF, Ingested, Promise, UnpackLimits, ingest, rebuild};
use crate::{Digest, ImageError, UnpackError};

struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(1_000_000);
        header
    }

    /// Names go into the header as they are: the builder would refuse hostile ones.
    fn raw(mut self, name: &[u8], link: &[u8], mut header: tar::Header, content: &[u8]) -> Tar {
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Tar {
        let header = Tar::header(tar::EntryType::Regular, 0o644, content.len() as u64);
        self.raw(name.as_bytes(), b"", header, content)
    }

    fn directory(self, name: &str, mode: u32) -> Tar {
        self.raw(name.as_bytes(), b"", Tar::header(tar::EntryType::Directory, mode, 0), b"")
    }

    fn link(self, kind: tar::EntryType, name: &str, target: &str) -> Tar {
        self.raw(name.as_bytes(), target.as_bytes(), Tar::header(kind, 0o777, 0), b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn unpack_with(
    blob: &[u8],
    directory: &Path,
    limits: UnpackLimits,
    promise: Promise,
) -> Result<Ingested, ImageError> {
    let (sink, arrivals) = tokio::sync::mpsc::channel(blob.len() / 7 + 2);
    for piece in blob.chunks(7.max(blob.len() / 50)) {
        sink.try_send(Arrival::Data(piece.to_vec().into())).unwrap();
    }
    sink.try_send(Arrival::End).unwrap();
    ingest(arrivals, directory, &limits, promise, &AtomicU64::new(0))
}

fn unpack(blob: &[u8], directory: &Path) -> Result<Ingested, ImageError> {
    unpack_with(blob, directory, UnpackLimits::default(), Promise::default())
}

/// Unpacks, and checks that the same bytes can be written again.
fn roundtrip(tar: &[u8], directory: &Path) -> Ingested {
    let found = unpack(tar, directory).unwrap();
    assert_eq!(found.diff_id, Digest::of(tar));
    let mut again = Vec::new();
    rebuild(directory, &mut again).unwrap();
    assert!(again == tar, "the tar was not rebuilt byte for byte");
    found
}

fn refused(tar: &[u8]) -> ImageError {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("layer");
    fs::create_dir(&inner).unwrap();
    let error = unpack(tar, &inner).unwrap_err();
    let names: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["layer"], "something was written outside");
    error
}

/// Making device nodes and trusted attributes needs root.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: unpacking whiteouts, owners and devices needs root");
    }
    root
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn an_ordinary_layer_keeps_modes_times_owners_and_links() {
    if !is_root() {
        return;
    }
    let mut owned = Tar::header(tar::EntryType::Regular, 0o4751, 3);
    owned.set_uid(1000);
    owned.set_gid(1001);
    let tar = Tar::new()
        .directory("./", 0o711)
        .directory("bin/", 0o1777)
        .raw(b"bin/su", b"", owned, b"abc")
        .link(tar::EntryType::Link, "bin/hard", "bin/su")
        .link(tar::EntryType::Symlink, "sh", "/bin/su")
        .file("implied/parents/file", b"x")
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    let found = roundtrip(&tar, directory.path());
    assert_eq!((found.contents.size, found.contents.entries), (4, 6));
    let root = directory.path().join(DIFF);
    let su = fs::metadata(root.join("bin/su")).unwrap();
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid(), su.nlink(), su.mtime()),
        (0o4751, 1000, 1001, 2, 1_000_000)
    );
    let bin = fs::metadata(root.join("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime()), (0o1777, 1_000_000));
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(fs::read_link(root.join("sh")).unwrap(), Path::new("/bin/su"));
    assert_eq!(fs::symlink_metadata(root.join("sh")).unwrap().mtime(), 1_000_000);
}

#[test]
fn names_that_lead_outside_are_refused() {
    for name in ["../evil", "a/../../evil", "/../evil", ".."] {
        let error = refused(&Tar::new().file(name, b"x").bytes());
        assert!(matches!(error, ImageError::Unpack(UnpackError::Escape { .. })), "{name}: {error}");
        assert!(
            error.sentence().starts_with("failed to register layer: invalid tar:"),
            "{}",
            error.sentence()
        );
    }
    let error = refused(&Tar::new().link(tar::EntryType::Link, "a", "../../../etc/passwd").bytes());
    assert!(matches!(error, ImageError::Unpack(UnpackError::Escape { .. })));
}

#[test]
fn links_of_the_layer_never_lead_outside() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), b"whole").unwrap();
    let target = outside.path().to_str().unwrap();
    let up = format!("../../../../../../../../..{target}");
    for target in [target, &up] {
        let swap = Tar::new().link(tar::EntryType::Symlink, "d", target);
        let through = swap.file("d/victim", b"broken").bytes();
        let _ = unpack(&through, tempfile::tempdir().unwrap().path());
        let hard = Tar::new()
            .link(tar::EntryType::Symlink, "d", target)
            .link(tar::EntryType::Link, "stolen", "d/victim")
            .bytes();
        let directory = tempfile::tempdir().unwrap();
        assert!(unpack(&hard, directory.path()).is_err());
        // A hard link to a link, then written through.
        let twice = Tar::new()
            .link(tar::EntryType::Symlink, "s", &format!("{target}/victim"))
            .link(tar::EntryType::Link, "h", "s")
            .file("h", b"broken")
            .bytes();
        unpack(&twice, tempfile::tempdir().unwrap().path()).unwrap();
    }
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"whole");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn an_absolute_link_to_a_directory_of_the_layer_is_followed_within_it() {
    let tar = Tar::new()
        .directory("usr/", 0o755)
        .directory("usr/lib/", 0o755)
        .link(tar::EntryType::Symlink, "lib", "/usr/lib")
        .file("lib/so", b"elf")
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    assert_eq!(fs::read(directory.path().join(DIFF).join("usr/lib/so")).unwrap(), b"elf");
}

#[test]
fn a_link_swapped_for_a_directory_is_not_followed_any_more() {
    let outside = tempfile::tempdir().unwrap();
    let tar = Tar::new()
        .directory("d/", 0o755)
        .file("d/a", b"1")
        .link(tar::EntryType::Symlink, "d", outside.path().to_str().unwrap())
        .directory("d/", 0o755)
        .file("d/a", b"2")
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    assert_eq!(fs::read(directory.path().join(DIFF).join("d/a")).unwrap(), b"2");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn later_entries_replace_earlier_ones_and_the_tar_is_still_rebuilt() {
    let tar = Tar::new()
        .file("f", b"first")
        .file("f", b"second")
        .directory("t/", 0o755)
        .file("t/inner", b"deep")
        .file("t", b"now a file")
        .file("f", b"third")
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    let root = directory.path().join(DIFF);
    assert_eq!(fs::read(root.join("f")).unwrap(), b"third");
    assert_eq!(fs::read(root.join("t")).unwrap(), b"now a file");
}

#[test]
fn whiteouts_become_overlays_own_in_any_order() {
    if !is_root() {
        return;
    }
    let tar = Tar::new()
        .file("a/.wh.gone", b"")
        .directory("a/", 0o755)
        .directory("opaque/", 0o755)
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"n")
        // What the layer itself has is not hidden by its own whiteout, before or after.
        .file(".wh.kept", b"")
        .file("kept", b"k")
        .file("kept2", b"k")
        .file(".wh.kept2", b"")
        .file(".wh.remade", b"")
        .directory("remade/", 0o755)
        .file(".wh..wh.plnk", b"aufs")
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    let root = directory.path().join(DIFF);
    let gone = fs::symlink_metadata(root.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(attribute(&root.join("opaque"), "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(fs::read(root.join("kept")).unwrap(), b"k");
    assert_eq!(fs::read(root.join("kept2")).unwrap(), b"k");
    assert_eq!(attribute(&root.join("remade"), "trusted.overlay.opaque").unwrap(), b"y");
    assert!(!root.join(".wh..wh.plnk").exists());
}

#[test]
fn whiteouts_of_dots_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let error = refused(&Tar::new().file(name, b"").bytes());
        assert!(matches!(error, ImageError::Unpack(UnpackError::Escape { .. })), "{name}: {error}");
    }
}

#[test]
fn attributes_are_kept_and_overlays_own_are_not_taken_from_a_layer() {
    if !is_root() {
        return;
    }
    // cap_net_raw+ep, as setcap writes it.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .file("ping", b"x")
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    let ping = directory.path().join(DIFF).join("ping");
    assert_eq!(attribute(&ping, "security.capability").unwrap(), capability);
    assert!(attribute(&ping, "trusted.overlay.redirect").is_none());
}

#[test]
fn sparse_and_zero_filled_files_take_no_space() {
    let mut zeros = vec![0; 8 << 20];
    zeros[5 << 20] = 1;
    let tar = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"holes"),
            ("GNU.sparse.realsize", b"1000000"),
        ])
        .file("GNUSparseFile.0/holes", &{
            let mut content = b"2\n0\n3\n999997\n3\n".to_vec();
            content.resize(512, 0);
            content.extend_from_slice(b"abcxyz");
            content
        })
        .pax(&[("GNU.sparse.map", b"4,2"), ("GNU.sparse.size", b"10")])
        .file("old", b"!!")
        .file("zeros", &zeros)
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    let root = directory.path().join(DIFF);
    let holes = fs::read(root.join("holes")).unwrap();
    assert_eq!((holes.len(), &holes[..3], &holes[999_997..]), (1_000_000, &b"abc"[..], &b"xyz"[..]));
    assert_eq!(fs::read(root.join("old")).unwrap(), b"\0\0\0\0!!\0\0\0\0");
    assert!(fs::read(root.join("zeros")).unwrap() == zeros);
    assert!(fs::metadata(root.join("zeros")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn a_sparse_map_that_lies_is_refused() {
    for map in ["4,2,5,1", "0,3", "9,2", "1"] {
        let tar = Tar::new()
            .pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"10")])
            .file("f", b"!!")
            .bytes();
        assert!(matches!(refused(&tar), ImageError::Unpack(UnpackError::Header(_))), "{map}");
    }
}

#[test]
fn long_and_non_utf8_names_are_kept() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let tar = Tar::new().pax(&[("path", long.as_bytes())]).file("short", b"l");
    let header = Tar::header(tar::EntryType::Regular, 0o644, 1);
    let tar = tar.raw(b"caf\xe9", b"", header, b"e").bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    let root = directory.path().join(DIFF);
    assert_eq!(fs::read(root.join(long)).unwrap(), b"l");
    assert_eq!(fs::read(root.join(std::ffi::OsStr::from_bytes(b"caf\xe9"))).unwrap(), b"e");
}

#[test]
fn fifos_and_devices_are_made_and_devices_can_be_refused() {
    if !is_root() {
        return;
    }
    let mut null = Tar::header(tar::EntryType::Char, 0o666, 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    let tar = Tar::new()
        .raw(b"fifo", b"", Tar::header(tar::EntryType::Fifo, 0o600, 0), b"")
        .raw(b"null", b"", null, b"")
        .bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    let root = directory.path().join(DIFF);
    assert!(fs::symlink_metadata(root.join("fifo")).unwrap().file_type().is_fifo());
    let null = fs::symlink_metadata(root.join("null")).unwrap();
    assert_eq!((null.rdev(), null.mode() & 0o777), (rustix::fs::makedev(1, 3), 0o666));
    let strict = UnpackLimits { devices: false, ..UnpackLimits::default() };
    let error =
        unpack_with(&tar, tempfile::tempdir().unwrap().path(), strict, Promise::default()).unwrap_err();
    assert!(matches!(error, ImageError::Unpack(UnpackError::DeviceRefused { .. })));
}

#[test]
fn a_hard_link_may_come_before_its_target_and_must_have_one() {
    let tar = Tar::new().link(tar::EntryType::Link, "a", "b").file("b", b"late").bytes();
    let directory = tempfile::tempdir().unwrap();
    roundtrip(&tar, directory.path());
    assert_eq!(fs::read(directory.path().join(DIFF).join("a")).unwrap(), b"late");
    let error = refused(&Tar::new().link(tar::EntryType::Link, "a", "nowhere").bytes());
    assert!(matches!(error, ImageError::Unpack(UnpackError::Entry { .. })));
}

#[test]
fn bombs_are_stopped_by_bytes_and_by_entries() {
    let zeros = vec![0; 4 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&Tar::new().file("zeros", &zeros).bytes()).unwrap();
    let bomb = gzip.finish().unwrap();
    let small = UnpackLimits { bytes: 1 << 20, ..UnpackLimits::default() };
    let error =
        unpack_with(&bomb, tempfile::tempdir().unwrap().path(), small, Promise::default()).unwrap_err();
    assert!(matches!(error, ImageError::Unpack(UnpackError::TooLarge { unit: "bytes", .. })), "{error}");
    // A sparse file claims its size without sending it.
    let vast = Tar::new()
        .pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9000000000000000")])
        .file("vast", b"x")
        .bytes();
    assert!(matches!(refused(&vast), ImageError::Unpack(UnpackError::TooLarge { unit: "bytes", .. })));
    let few = UnpackLimits { entries: 2, ..UnpackLimits::default() };
    let many = Tar::new().file("a", b"").file("b", b"").file("c", b"").bytes();
    let error = unpack_with(&many, tempfile::tempdir().unwrap().path(), few, Promise::default()).unwrap_err();
    assert!(matches!(error, ImageError::Unpack(UnpackError::TooLarge { unit: "entries", .. })));
}

#[test]
fn too_little_free_space_is_said_so() {
    let full = UnpackLimits { reserve: u64::MAX / 2, ..UnpackLimits::default() };
    let tar = Tar::new().file("a", b"x").bytes();
    let error = unpack_with(&tar, tempfile::tempdir().unwrap().path(), full, Promise::default()).unwrap_err();
    assert_eq!(error.sentence(), "failed to register layer: no space left on device");
}

#[test]
fn every_compression_gives_the_same_layer_and_both_digests() {
    let tar = Tar::new().file("a", &b"content ".repeat(10_000)).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
    for blob in [&tar, &gzip, &zstd] {
        let promise = Promise { blob: Some(Digest::of(blob)), diff_id: Some(Digest::of(&tar)) };
        let directory = tempfile::tempdir().unwrap();
        let found = unpack_with(blob, directory.path(), UnpackLimits::default(), promise).unwrap();
        assert_eq!((found.blob_size, found.tar_size), (blob.len() as u64, tar.len() as u64));
        let wrong = Promise { blob: Some(Digest::of(b"other")), ..promise };
        let error = unpack_with(blob, tempfile::tempdir().unwrap().path(), UnpackLimits::default(), wrong);
        assert!(matches!(error, Err(ImageError::DigestMismatch { what: "layer", .. })));
        let wrong = Promise { diff_id: Some(Digest::of(b"other")), ..promise };
        let error = unpack_with(blob, tempfile::tempdir().unwrap().path(), UnpackLimits::default(), wrong);
        assert!(matches!(error, Err(ImageError::DigestMismatch { what: "diff id", .. })));
    }
}

#[test]
fn truncated_broken_and_foreign_streams_are_refused() {
    let tar = Tar::new().file("a", &[7; 5000]).bytes();
    assert!(matches!(refused(&tar[..3000]), ImageError::Unpack(UnpackError::Truncated)));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(matches!(refused(&gzip[..gzip.len() - 9]), ImageError::Unpack(UnpackError::Decompress(_))));
    assert!(refused(b"\xfd7zXZ\0rest").to_string().contains("xz are not supported"));
    let unknown = Tar::new().raw(b"x", b"", Tar::header(tar::EntryType::new(b'Q'), 0, 0), b"").bytes();
    assert!(matches!(refused(&unknown), ImageError::Unpack(UnpackError::UnknownType { .. })));
}
