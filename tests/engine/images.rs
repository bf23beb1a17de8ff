//! Images pulled, loaded, listed, inspected and removed.

use std::sync::Arc;

use harness::{Engine, Registry, Sandbox, fixtures, require};
use hello_image::{Entry, Image};

fn pulling() -> Result<(), String> {
    crate::available()?;
    Registry::available()
}

fn engine_and_registry() -> (Engine, Registry) {
    let sandbox = Arc::new(Sandbox::new());
    let registry = Registry::start(&sandbox);
    (Engine::start_in(sandbox, &[]), registry)
}

#[test]
fn a_pulled_image_runs_and_is_known_by_tag_and_digest() {
    require!(pulling());
    let (engine, registry) = engine_and_registry();
    let digest = registry.push("tools/busybox", "1", &fixtures::busybox_image());
    let reference = registry.reference("tools/busybox:1");
    let pull = engine.docker(["pull", &reference]).success().stdout();
    assert!(pull.contains(&format!("Digest: {digest}")), "{pull}");
    assert!(pull.contains("Status: Downloaded newer image for"), "{pull}");
    assert_eq!(engine.docker(["run", "--rm", &reference, "echo", "pulled"]).success().stdout(), "pulled\n");
    let again = engine.docker(["pull", &reference]).success().stdout();
    assert!(again.contains("Image is up to date"), "{again}");
    let by_digest = format!("{}@{digest}", registry.reference("tools/busybox"));
    assert_eq!(engine.inspect(&by_digest)["RepoDigests"][0], by_digest);
}

#[test]
fn of_several_platforms_the_machines_own_is_pulled() {
    require!(pulling());
    let (engine, registry) = engine_and_registry();
    let wrong = Image::new().architecture("arm64").layer(&[Entry::File("wrong", 0o644, b"")]).unwrap();
    registry.push_list("multi", "1", &[("arm64", &wrong), ("amd64", &fixtures::busybox_image())]);
    let reference = registry.reference("multi:1");
    let _ = engine.docker(["pull", &reference]).success();
    assert_eq!(engine.inspect(&reference)["Architecture"], "amd64");
    assert_eq!(engine.docker(["run", "--rm", &reference, "echo", "native"]).success().stdout(), "native\n");
}

#[test]
fn missing_repositories_and_tags_are_told_apart_from_trouble() {
    require!(pulling());
    let (engine, registry) = engine_and_registry();
    registry.push("there", "1", &fixtures::busybox_image());
    let tag = engine.docker(["pull", &registry.reference("there:2")]).exits(1).stderr();
    assert!(tag.contains("not found") && tag.contains("manifest unknown"), "{tag}");
    let nobody = engine.docker(["pull", "127.0.0.1:9/x"]).exits(1).stderr();
    assert!(nobody.contains("connection refused"), "{nobody}");
    let invalid = engine.docker(["pull", "Not/A/Reference"]).stderr();
    assert!(invalid.contains("invalid reference format"), "{invalid}");
}

#[test]
fn a_shared_layer_is_fetched_once() {
    require!(pulling());
    let (engine, registry) = engine_and_registry();
    let base = fixtures::busybox_image();
    let derived = fixtures::busybox_image().layer(&[Entry::File("extra", 0o644, b"more")]).unwrap();
    registry.push("base", "1", &base);
    registry.push("derived", "1", &derived);
    let _ = engine.docker(["pull", &registry.reference("base:1")]).success();
    let second = engine.docker(["pull", &registry.reference("derived:1")]).success().stdout();
    assert!(second.contains("Already exists"), "{second}");
}

#[test]
fn tags_and_images_are_removed_by_dockers_rules() {
    require!(crate::available());
    let engine = crate::engine_with_busybox();
    let _ = engine.docker(["tag", "busybox", "other:tag"]).success();
    let untagged = engine.docker(["rmi", "other:tag"]).success().stdout();
    assert_eq!(untagged, "Untagged: other:tag\n");
    let _ = engine.docker(["create", "--name", "user", "busybox"]).success();
    let used = engine.docker(["rmi", "busybox"]).stderr();
    assert!(used.contains("conflict: unable to remove repository reference \"busybox\""), "{used}");
    let _ = engine.docker(["rm", "user"]).success();
    let removed = engine.docker(["rmi", "busybox"]).success().stdout();
    assert!(
        removed.contains("Untagged: busybox:latest") && removed.contains("Deleted: sha256:"),
        "{removed}"
    );
    assert_eq!(engine.docker(["images", "--quiet"]).success().stdout(), "");
}

#[test]
fn whiteouts_hide_what_lower_layers_hold() {
    require!(crate::available());
    let engine = Engine::start();
    let image = fixtures::busybox_image()
        .layer(&[
            Entry::Directory("d", 0o755),
            Entry::File("d/a", 0o644, b"a"),
            Entry::File("gone", 0o644, b"g"),
        ])
        .and_then(|image| {
            image.layer(&[
                Entry::File(".wh.gone", 0, b""),
                Entry::File("d/.wh..wh..opq", 0, b""),
                Entry::File("d/b", 0o644, b"b"),
            ])
        })
        .unwrap();
    engine.load(&image.archive(&["white:out"]).unwrap());
    let listing = engine.docker(["run", "--rm", "white:out", "sh", "-c", "ls /d; ls /gone"]);
    assert_eq!(listing.stdout(), "b\n");
    assert!(listing.stderr().contains("No such file"));
}

#[test]
fn an_image_survives_save_and_load() {
    require!(crate::available());
    let engine = crate::engine_with_busybox();
    let id = engine.inspect("busybox")["Id"].clone();
    let file = engine.sandbox().path("saved.tar");
    let _ = engine.docker(["save", "--output", file.to_str().unwrap(), "busybox"]).success();
    let _ = engine.docker(["rmi", "busybox"]).success();
    let loaded = engine.docker(["load", "--input", file.to_str().unwrap()]).success().stdout();
    assert!(loaded.contains("Loaded image: busybox:latest"), "{loaded}");
    assert_eq!(engine.inspect("busybox")["Id"], id);
    assert_eq!(engine.docker(["run", "--rm", "busybox", "echo", "back"]).success().stdout(), "back\n");
}
