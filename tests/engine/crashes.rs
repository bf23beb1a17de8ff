//! The power goes at any moment of a pull, load or removal: afterwards an image is there as a whole or not at all, and
//! nothing is left of what wasn't finished.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::{Engine, Registry, Sandbox, eventually, fixtures, require};
use hello_image::{Entry, Image};

/// Enough to hit every stage on most runs of the suite; each costs two starts of the engine.
const ROUNDS: u64 = 6;

/// Moments that differ from run to run; the seed is printed so that a failure can be told apart from bad luck.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Six layers that take a while, none like another.
fn large_image() -> Image {
    let mut chance = Chance(88_172_645_463_325_252);
    (0..5).fold(fixtures::busybox_image(), |image, number| {
        let noise: Vec<u8> = (0..3_000_000).map(|_| chance.below(256) as u8).collect();
        let small: Vec<String> = (0..200).map(|file| format!("{number}/{file}")).collect();
        let name = format!("noise-{number}");
        let directory = number.to_string();
        let mut entries = vec![Entry::File(&name, 0o644, &noise), Entry::Directory(&directory, 0o755)];
        entries.extend(small.iter().map(|file| Entry::File(file, 0o644, b"small")));
        image.layer(&entries).unwrap()
    })
}

fn names_in(engine: &Engine, folder: &str) -> BTreeSet<String> {
    let folder = engine.data_root().join("images").join(folder);
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// What the engine shows and what lies on the disk are the same, and all of it can be read.
fn assert_consistent(engine: &Engine) {
    let listed = engine.docker(["images", "--all", "--quiet", "--no-trunc"]).success().stdout();
    let images: BTreeSet<&str> = listed.lines().collect();
    let mut layers = BTreeSet::new();
    for image in &images {
        for layer in engine.inspect(image)["RootFS"]["Layers"].as_array().unwrap() {
            layers.insert(layer.as_str().unwrap().trim_start_matches("sha256:").to_owned());
        }
        // Saving reads every byte and compares it with its digest.
        let saved = engine.docker_command(["save", image]).stdout(Stdio::null()).status().unwrap();
        assert!(saved.success(), "{image} cannot be saved");
    }
    assert_eq!(names_in(engine, "layers"), layers);
    assert_eq!(names_in(engine, "ingest"), BTreeSet::new());
    let blobs = names_in(engine, "blobs/sha256");
    assert!(images.iter().all(|image| blobs.contains(image.trim_start_matches("sha256:"))), "{blobs:?}");
    assert_eq!(blobs.is_empty(), images.is_empty(), "{blobs:?}");
    eventually("the trash is emptied", || names_in(engine, "trash").is_empty().then_some(()));
}

/// Lets a command run for a moment, then ends the engine under it.
fn cut_short(engine: &mut Engine, mut command: Child, after: Duration, power: bool) {
    let began = Instant::now();
    while began.elapsed() < after && command.try_wait().unwrap().is_none() {
        thread::park_timeout(Duration::from_millis(1));
    }
    if power {
        engine.cut_power();
        engine.boot();
    } else {
        engine.kill_engine();
    }
    let _ = command.kill();
    let _ = command.wait();
}

#[test]
fn an_interrupted_pull_load_or_removal_leaves_the_store_whole() {
    require!(crate::available());
    require!(Registry::available());
    let sandbox = Arc::new(Sandbox::new());
    let registry = Registry::start(&sandbox);
    let image = large_image();
    registry.push("large", "1", &image);
    let archive = sandbox.path("large.tar");
    std::fs::write(&archive, image.archive(&["loaded:1"]).unwrap()).unwrap();
    let mut engine = Engine::start_in(sandbox, &[]);
    let reference = registry.reference("large:1");
    let archive = archive.to_str().unwrap();
    let mut chance = Chance::new();
    let start = |engine: &Engine, arguments: &[&str]| {
        let mut command = engine.docker_command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for round in 0..ROUNDS {
        let power = round % 3 != 0;
        let bring: &[&str] =
            if round % 2 == 0 { &["pull", &reference] } else { &["load", "--input", archive] };
        let running = start(&engine, bring);
        cut_short(&mut engine, running, Duration::from_millis(20 + chance.below(900)), power);
        assert_consistent(&engine);
        let _ = engine.docker(bring).success();
        let remove: &[&str] = if round % 4 < 2 {
            &["rmi", "--force", &reference, "loaded:1"]
        } else {
            &["image", "prune", "--all", "--force"]
        };
        let running = start(&engine, remove);
        cut_short(&mut engine, running, Duration::from_millis(chance.below(60)), power);
        assert_consistent(&engine);
        let _ = engine.docker(["image", "prune", "--all", "--force"]).success();
        assert_consistent(&engine);
        assert_eq!(names_in(&engine, "layers"), BTreeSet::new());
    }
}
