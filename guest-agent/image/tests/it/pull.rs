//! Pulls from a real registry.

use serde_json::json;

use crate::fixture::{GZIP, Home, INDEX, MANIFEST, PLAIN, Registry, ZSTD, built, layer, open, small};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_found_by_every_name_pulled_again_and_removed() {
    let Some(registry) = Registry::start() else { return };
    let image = built(
        "amd64",
        vec![
            layer(&[("a", b"gzip"), ("both", b"low")], GZIP),
            layer(&[("b", b"zstd")], ZSTD),
            layer(&[("c", b"plain"), ("both", b"high")], PLAIN),
        ],
    );
    registry.push("app", "1", &image);
    let home = Home::new();
    let name = format!("{}/app:1", registry.address);
    let (lines, pulled) = home.pull(&name).await;
    let pulled = pulled.unwrap();
    assert_eq!(pulled.image.to_string(), image.id());
    assert_eq!((pulled.digest, pulled.newer), (image.digest(), true));
    assert_eq!(lines[0], "1: Pulling from app");
    let short = image::Digest::of(&image.layers[0].blob).short();
    let of_first: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&format!("{short}: "))).collect();
    assert_eq!(of_first, ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"]);
    assert_eq!(lines[lines.len() - 2], format!("Digest: {}", image.digest()));
    assert_eq!(lines[lines.len() - 1], format!("Status: Downloaded newer image for {name}"));

    let by_digest = format!("{}/app@{}", registry.address, image.digest());
    for query in
        [name.as_str(), &image.id(), &image.id()[7..], &image.id()[7..19], &image.id()[..20], &by_digest]
    {
        assert_eq!(home.store.get(query).unwrap().id, pulled.image, "{query}");
    }
    let found = home.store.get(&name).unwrap();
    assert_eq!(
        (found.repo_tags.as_slice(), found.repo_digests.as_slice()),
        (&[name.clone()][..], &[by_digest][..])
    );
    assert_eq!(found.size, 4 + 3 + 4 + 5 + 4);
    let dirs = home.store.lower_dirs(&found.id).unwrap();
    assert_eq!(std::fs::read(dirs[0].join("both")).unwrap(), b"high");
    assert_eq!(std::fs::read(dirs[2].join("a")).unwrap(), b"gzip");

    let (lines, pulled) = home.pull(&name).await;
    assert!(!pulled.unwrap().newer);
    assert!(lines.contains(&format!("{short}: Already exists")));
    assert_eq!(lines.last().unwrap(), &format!("Status: Image is up to date for {name}"));

    home.store.remove(&name, false, false, &|_| image::InUse::No).unwrap();
    home.assert_empty();
    let error = home.store.get(&name).unwrap_err().sentence();
    assert_eq!(error, format!("No such image: {name}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_image_of_an_index_is_pulled_and_a_missing_one_named() {
    let Some(registry) = Registry::start() else { return };
    let (amd64, arm64) = (small(b"amd64"), built("arm64", vec![layer(&[("a", b"arm64")], GZIP)]));
    registry.push("multi", "amd64", &amd64);
    registry.push("multi", "arm64", &arm64);
    let entry = |image: &crate::fixture::Built, architecture: &str| {
        json!({"mediaType": MANIFEST, "digest": image.digest(), "size": image.manifest.len(),
               "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&arm64, "arm64"), entry(&amd64, "amd64")]});
    let index = index.to_string().into_bytes();
    registry.push_manifest("multi", "latest", INDEX, &index);
    let home = Home::new();
    let name = format!("{}/multi", registry.address);
    for (platform, image) in [("linux/amd64", &amd64), ("linux/arm64/v8", &arm64)] {
        let (_, pulled) =
            home.pull_with(&name, |request| request.platform = Some(platform.parse().unwrap())).await;
        let pulled = pulled.unwrap();
        assert_eq!(pulled.image.to_string(), image.id());
        assert_eq!(pulled.digest, image::Digest::of(&index));
        assert_eq!(home.store.get(&name).unwrap().platform.to_string(), platform.trim_end_matches("/v8"));
    }
    let (_, failed) =
        home.pull_with(&name, |request| request.platform = Some("linux/s390x".parse().unwrap())).await;
    assert_eq!(failed.unwrap_err(), "no matching manifest for linux/s390x in the manifest list entries");
    let single = format!("{name}:arm64");
    let (_, failed) =
        home.pull_with(&single, |request| request.platform = Some("linux/amd64".parse().unwrap())).await;
    assert!(failed.unwrap_err().contains("does not match the specified platform (linux/amd64)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_tag_is_said_so_in_dockerds_words() {
    let Some(registry) = Registry::start() else { return };
    registry.push("app", "1", &small(b"x"));
    let home = Home::new();
    let name = format!("{}/app:nope", registry.address);
    let (_, failed) = home.pull(&name).await;
    assert_eq!(
        failed.unwrap_err(),
        format!("manifest for {name} not found: manifest unknown: manifest unknown")
    );
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opened_again_has_its_images_and_nothing_else() {
    let Some(registry) = Registry::start() else { return };
    let image = small(b"kept");
    registry.push("app", "1", &image);
    let Home { directory, store } = Home::new();
    let home = Home { directory, store };
    let name = format!("{}/app:1", registry.address);
    home.pull(&name).await.1.unwrap();
    let Home { directory, store } = home;
    drop(store);
    // What a power cut in the middle of a pull may leave.
    let root = directory.path().join("images");
    std::fs::create_dir_all(root.join("layers").join("0".repeat(64)).join("diff/deep")).unwrap();
    std::fs::create_dir_all(root.join("ingest/half/diff")).unwrap();
    std::fs::write(root.join("blobs/sha256").join("1".repeat(64)), b"x").unwrap();
    std::fs::create_dir(root.join("trash/old")).unwrap();
    let store = open(directory.path());
    let home = Home { directory, store };
    assert_eq!(home.store.get(&name).unwrap().id.to_string(), image.id());
    assert_eq!(home.names("layers").len(), 1);
    assert_eq!(home.names("blobs/sha256").len(), 2);
    assert!(home.names("ingest").is_empty());
    // An image that lost a layer can serve nobody, and says so by not being there.
    let Home { directory, store } = home;
    let lower = store.lower_dirs(&store.get(&name).unwrap().id).unwrap();
    drop(store);
    std::fs::remove_dir_all(lower[0].parent().unwrap()).unwrap();
    let store = open(directory.path());
    Home { directory, store }.assert_empty();
}
