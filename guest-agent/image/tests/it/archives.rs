//! Images out of archives and into them.

use image::{LoadEvent, Store};
use serde_json::json;

use crate::fixture::{Built, GZIP, Home, PLAIN, built, layer, tar};

async fn load(store: &Store, archive: Vec<u8>) -> Result<Vec<String>, String> {
    let mut events = store.load(std::io::Cursor::new(archive), None);
    let mut lines = Vec::new();
    loop {
        match events.recv().await.expect("a load ends with Done or Error") {
            LoadEvent::Done => return Ok(lines),
            LoadEvent::Error(error) => return Err(error.sentence()),
            event => lines.extend(event.line()),
        }
    }
}

async fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut pieces = store.save(&names).unwrap();
    let mut archive = Vec::new();
    while let Some(piece) = pieces.recv().await {
        archive.extend_from_slice(&piece.unwrap());
    }
    archive
}

fn docker_archive(image: &Built, tags: &[&str]) -> Vec<u8> {
    let names: Vec<String> = (0..image.layers.len()).map(|at| format!("l{at}/layer.tar")).collect();
    let list = json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]).to_string();
    let mut files: Vec<(&str, &[u8])> =
        vec![("config.json", &image.config), ("manifest.json", list.as_bytes())];
    files
        .extend(names.iter().map(String::as_str).zip(image.layers.iter().map(|layer| layer.blob.as_slice())));
    tar(&files)
}

fn two_layers() -> Built {
    built("amd64", vec![layer(&[("a", b"one"), ("dir/x", b"y")], PLAIN), layer(&[("b", b"two")], GZIP)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_archive_is_loaded_whatever_its_compression() {
    let image = two_layers();
    let archive = docker_archive(&image, &["app:1", "other/name:x"]);
    let zstd = zstd::encode_all(archive.as_slice(), 1).unwrap();
    for archive in [archive, zstd] {
        let home = Home::new();
        let lines = load(&home.store, archive).await.unwrap();
        assert_eq!(lines, ["Loaded image: app:1\n", "Loaded image: other/name:x\n"]);
        let found = home.store.get("app:1").unwrap();
        assert_eq!((found.id.to_string(), found.layers.len()), (image.id(), 2));
        assert_eq!(home.store.list().len(), 1);
        let dirs = home.store.lower_dirs(&found.id).unwrap();
        assert_eq!(std::fs::read(dirs[1].join("dir/x")).unwrap(), b"y");
        assert_eq!(found.history()[2].created_by, "ADD a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_loads_elsewhere_as_the_same_image() {
    let image = two_layers();
    let home = Home::new();
    load(&home.store, docker_archive(&image, &["app:1"])).await.unwrap();
    home.store.tag("app:1", &"app:2".parse().unwrap()).unwrap();
    let archive = save(&home.store, &["app:1", "app:2"]).await;
    let again = save(&home.store, &["app:1", "app:2"]).await;
    assert!(archive == again, "saving is not reproducible");
    let other = Home::new();
    let lines = load(&other.store, archive.clone()).await.unwrap();
    assert_eq!(lines, ["Loaded image: app:1\n", "Loaded image: app:2\n"]);
    assert_eq!(other.store.get("app:2").unwrap().id.to_string(), image.id());
    // The same archive without docker's list is an OCI layout.
    let mut files = Vec::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        if name != "manifest.json" && entry.header().entry_type().is_file() {
            files.push((name, content));
        }
    }
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let layout = Home::new();
    let lines = load(&layout.store, tar(&files)).await.unwrap();
    assert_eq!(lines, ["Loaded image: app:1\n", "Loaded image: app:2\n"]);
    assert!(layout.store.get("app:1").unwrap().manifest.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_name_is_loaded_by_its_id() {
    let image = two_layers();
    let home = Home::new();
    let lines = load(&home.store, docker_archive(&image, &[])).await.unwrap();
    assert_eq!(lines, [format!("Loaded image ID: {}\n", image.id())]);
    assert!(home.store.list()[0].is_dangling());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_archives_are_refused_and_leave_nothing() {
    let mut image = two_layers();
    image.layers[1] = layer(&[("b", b"forged")], GZIP);
    let forged = docker_archive(&image, &["app:1"]);
    let whole = docker_archive(&two_layers(), &["app:1"]);
    let home = Home::new();
    for (archive, message) in [
        (forged, "layer verification failed for digest"),
        (whole[..whole.len() / 2].to_vec(), ""),
        (tar(&[("a", b"{}")]), "neither manifest.json nor index.json"),
        (b"not an archive at all".to_vec(), "invalid image archive"),
        (Vec::new(), "neither manifest.json nor index.json"),
        (tar(&[("manifest.json", br#"[{"Config":"x","Layers":[]}]"#)]), "`x` is missing"),
        (
            tar(&[(
                "blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000",
                &tar(&[("a", b"b")]),
            )]),
            "layer verification failed",
        ),
    ] {
        let error = load(&home.store, archive).await.unwrap_err();
        assert!(error.contains(message), "{message}: {error}");
        home.assert_empty();
    }
}
