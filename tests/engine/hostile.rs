//! Input that means harm: damaged blobs, escaping archives, registries that hang.

use std::{fs, io::Write, net::Shutdown, os::unix::net::UnixStream, sync::Arc};

use harness::{Engine, Output, Registry, Sandbox, fixtures, registry::gzip, require};
use hello_image::{Image, digest};

fn pulling() -> Result<(), String> {
    crate::available()?;
    Registry::available()
}

/// Nothing of a failed pull may be visible or take space.
fn assert_nothing_left(engine: &Engine) {
    assert_eq!(engine.docker(["images", "--all", "--quiet"]).success().stdout(), "");
    let left: Vec<_> = files_below(&engine.data_root())
        .into_iter()
        .filter(|path| {
            path.components().any(|part| part.as_os_str() == "layers" || part.as_os_str() == "ingest")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_layer_with_the_wrong_bytes_is_refused_and_leaves_nothing() {
    require!(pulling());
    let sandbox = Arc::new(Sandbox::new());
    let registry = Registry::start(&sandbox);
    let image = fixtures::busybox_image();
    registry.push("bad", "1", &image);
    let layer = registry.blob_file(&digest(&gzip(&image.layers()[0])));
    let other = gzip(&hello_image::layer(&[hello_image::Entry::File("evil", 0o755, b"evil")]).unwrap());
    fs::write(&layer, other).unwrap();
    let engine = Engine::start_in(sandbox, &[]);
    let refused = engine.docker(["pull", &registry.reference("bad:1")]).exits(1).stderr();
    assert!(!refused.trim().is_empty());
    assert_nothing_left(&engine);
}

#[test]
fn a_truncated_layer_is_refused_and_leaves_nothing() {
    require!(pulling());
    let sandbox = Arc::new(Sandbox::new());
    let registry = Registry::start(&sandbox);
    let image = fixtures::busybox_image();
    registry.push("short", "1", &image);
    let layer = registry.blob_file(&digest(&gzip(&image.layers()[0])));
    let whole = fs::read(&layer).unwrap();
    fs::write(&layer, &whole[..whole.len() / 2]).unwrap();
    let engine = Engine::start_in(sandbox, &[]);
    let refused = engine.docker(["pull", &registry.reference("short:1")]).exits(1).stderr();
    assert!(!refused.trim().is_empty());
    assert_nothing_left(&engine);
}

#[test]
fn an_archive_that_climbs_out_is_refused_and_writes_nothing_outside() {
    require!(crate::available());
    let engine = Engine::start();
    // The tar crate refuses to write such a name, so the header is patched by hand.
    let mut tar =
        hello_image::layer(&[hello_image::Entry::File("XX/XX/XX/XX/XX/XX/escaped", 0o644, b"out")]).unwrap();
    let name = b"../../../../../../escaped";
    tar[..name.len()].copy_from_slice(name);
    repair_checksum(&mut tar[..512]);
    let image = Image::new().raw_layer(tar).archive(&["climb:1"]).unwrap();
    let load = Output::with_input(&mut engine.docker_command(["load"]), &image);
    let escaped: Vec<_> = files_below(engine.sandbox().folder())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "escaped"))
        .filter(|path| !path.components().any(|part| part.as_os_str() == "layers"))
        .collect();
    assert!(escaped.is_empty(), "{escaped:?}\n{load}");
    assert_eq!(load.code(), Some(1), "{load}");
    assert_nothing_left(&engine);
}

/// The sum over the header with its own field as spaces (tar(5)).
pub(crate) fn repair_checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn a_body_that_is_no_json_is_a_bad_request() {
    require!(crate::available());
    let engine = Engine::start();
    let answer = engine.api(
        "/containers/create",
        &[
            "--data",
            "{\"Image\": ",
            "--header",
            "Content-Type: application/json",
            "--write-out",
            "%{http_code}",
        ],
    );
    assert!(answer.stdout().ends_with("400"), "{answer}");
    assert!(answer.stdout().contains("message"), "{answer}");
}

#[test]
fn a_giant_header_doesnt_disturb_the_engine() {
    require!(crate::available());
    let engine = Engine::start();
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    let _ = stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: ");
    for _ in 0..64 {
        if stream.write_all(&[b'a'; 65536]).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    assert_eq!(engine.api("/_ping", &[]).success().stdout(), "OK");
}

#[test]
fn no_file_descriptor_of_the_engine_reaches_a_container() {
    require!(crate::available());
    let engine = crate::engine_with_busybox();
    let listing = engine.docker(["run", "--rm", "busybox", "ls", "/proc/self/fd"]).success().stdout();
    // 3 is the directory that ls itself reads.
    assert_eq!(listing, "0\n1\n2\n3\n");
}

#[test]
fn a_working_directory_cannot_lead_out_of_the_container() {
    require!(crate::available());
    let engine = crate::engine_with_busybox();
    for fd in 3..12 {
        let path = format!("/proc/self/fd/{fd}");
        let run = engine.docker(["run", "--rm", "--workdir", &path, "busybox", "cat", "../../etc/hostname"]);
        assert_ne!(run.code(), Some(0), "{run}");
    }
}
