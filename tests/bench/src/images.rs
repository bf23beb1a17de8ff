//! Pull, load, save and remove of a 390 MB image in 6 layers: ours and dockerd's, turn by turn, from a registry on the
//! loopback interface; and beside the pull the work that nobody can leave out, spread over the cores.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use harness::{Engine, Registry, Sandbox, registry::gzip};
use hello_image::{Entry, Image};

use crate::{
    peer::Dockerd,
    report::{Report, Times},
};

/// Each turn takes dockerd half a minute.
const TURNS: usize = 3;
const LAYERS: usize = 6;
const LAYER: usize = 65_000_000;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let sandbox = Arc::new(Sandbox::new());
    let image = large_image()?;
    let registry = Registry::start(&sandbox);
    registry.push("large", "gzip", &image);
    registry.push_zstd("large", "zstd", &image);
    let archive = sandbox.path("large.tar");
    std::fs::write(&archive, image.archive(&["large:loaded"])?)?;
    let blobs = image.layers().iter().map(|tar| gzip(tar)).collect::<Vec<_>>();
    let engine = Engine::start_in(Arc::clone(&sandbox), &[]);
    let peer = Dockerd::start_in(&sandbox)?;
    let mut by_gzip = Times::default();
    for form in ["gzip", "zstd"] {
        let reference = registry.reference(&format!("large:{form}"));
        let (mut ours, mut theirs, mut limit) = (Times::default(), Times::default(), Times::default());
        for _ in 0..TURNS {
            ours.add(timed(&engine.socket(), &["pull", "--quiet", &reference])?);
            docker(&engine.socket(), &["rmi", &reference])?;
            if let Ok(time) = timed(&peer.socket(), &["pull", "--quiet", &reference]) {
                theirs.add(time);
                docker(&peer.socket(), &["rmi", &reference])?;
            }
            if form == "gzip" {
                limit.add(bare(&blobs, &sandbox.path("bare"))?);
            }
        }
        // Debian's dockerd reads no zstandard before version 23: then its best is what it takes for gzip.
        let (name, other) = match theirs.is_empty() {
            true => ("dockerd, gzip", &by_gzip),
            false => ("dockerd", &theirs),
        };
        report.compare(&format!("pull of 390 MB in 6 layers, {form}"), &ours, name, other);
        if form == "gzip" {
            by_gzip.clone_from(&theirs);
            report.compare("the same: sha256 + gunzip + untar by hand", &ours, "the work alone", &limit);
        }
    }
    archives(report, &engine, &peer, &archive)
}

fn archives(report: &mut Report, engine: &Engine, peer: &Dockerd, archive: &Path) -> anyhow::Result<()> {
    let archive = archive.to_str().context("a path in UTF-8")?;
    let mut times: [[Times; 2]; 3] = Default::default();
    for _ in 0..TURNS {
        for (whose, socket) in [engine.socket(), peer.socket()].iter().enumerate() {
            times[0][whose].add(timed(socket, &["load", "--quiet", "--input", archive])?);
            times[1][whose].add(timed(socket, &["save", "large:loaded"])?);
            times[2][whose].add(timed(socket, &["rmi", "large:loaded"])?);
        }
    }
    for (what, [ours, theirs]) in ["load", "save", "remove"].iter().zip(&times) {
        report.compare(&format!("{what} of that image"), ours, "dockerd", theirs);
    }
    Ok(())
}

/// Files of a Debian system's sizes: half of the bytes compress well, half do not at all.
fn large_image() -> anyhow::Result<Image> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut image = Image::new();
    for layer in 0..LAYERS {
        let mut files = Vec::new();
        let mut left = LAYER;
        while left > 0 {
            let size = (usize::try_from(random() % 64)? * usize::try_from(random() % 2048)? + 200).min(left);
            let text = random() % 2 == 0;
            let content: Vec<u8> = (0..size.div_ceil(8))
                .flat_map(|_| {
                    if text {
                        (random() & 0x0303_0303_0303_0303).to_le_bytes()
                    } else {
                        random().to_le_bytes()
                    }
                })
                .take(size)
                .collect();
            files.push((format!("{layer}/{}", files.len()), content));
            left -= size;
        }
        let mut entries: Vec<Entry<'_>> = vec![];
        let directory = layer.to_string();
        entries.push(Entry::Directory(&directory, 0o755));
        entries.extend(files.iter().map(|(name, content)| Entry::File(name, 0o644, content)));
        image = image.layer(&entries)?;
    }
    Ok(image)
}

fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", socket.display())).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn docker(socket: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let status = command(socket, arguments).status()?;
    ensure!(status.success(), "docker {} failed", arguments.join(" "));
    Ok(())
}

/// Runs the docker command and takes its time, with nothing of what ran before still to be written.
fn timed(socket: &Path, arguments: &[&str]) -> anyhow::Result<Duration> {
    rustix::fs::sync();
    let began = Instant::now();
    docker(socket, arguments)?;
    Ok(began.elapsed())
}

/// The work of a pull by the machine's own tools, one layer per core at a time.
fn bare(blobs: &[Vec<u8>], folder: &PathBuf) -> anyhow::Result<Duration> {
    rustix::fs::sync();
    let began = Instant::now();
    let cores = thread::available_parallelism()?.get();
    for (round, group) in blobs.chunks(cores).enumerate() {
        thread::scope(|scope| {
            let works: Vec<_> = group
                .iter()
                .enumerate()
                .map(|(place, blob)| {
                    let target = folder.join(format!("{round}-{place}"));
                    scope.spawn(move || by_hand(blob, &target))
                })
                .collect();
            works.into_iter().try_for_each(|work| work.join().unwrap_or_else(|_| Ok(())))
        })?;
    }
    rustix::fs::syncfs(File::open(folder)?)?;
    let time = began.elapsed();
    std::fs::remove_dir_all(folder)?;
    Ok(time)
}

fn by_hand(blob: &[u8], target: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(target)?;
    let pipeline = "gunzip --stdout | tar --extract --file - --directory \"$0\"";
    let mut unpacking =
        Command::new("sh").args(["-c", pipeline]).arg(target).stdin(Stdio::piped()).spawn()?;
    let mut hashing = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut to_tar, mut to_hash) =
        (unpacking.stdin.take().context("a pipe")?, hashing.stdin.take().context("a pipe")?);
    for piece in blob.chunks(256 * 1024) {
        to_tar.write_all(piece)?;
        to_hash.write_all(piece)?;
    }
    drop((to_tar, to_hash));
    let mut digest = String::new();
    hashing.stdout.take().context("a pipe")?.read_to_string(&mut digest)?;
    ensure!(unpacking.wait()?.success() && hashing.wait()?.success(), "the layer cannot be unpacked by hand");
    Ok(())
}
