//! Removing by docker's rules.

use image::{ImageError, ImageId, InUse, LoadEvent, Removed};
use serde_json::json;

use crate::fixture::{Built, GZIP, Home, built, layer, tar};

fn image() -> Built {
    built("amd64", vec![layer(&[("base", b"shared")], GZIP), layer(&[("top", b"own")], GZIP)])
}

async fn home_with(image: &Built, tags: &[&str]) -> Home {
    let home = Home::new();
    add(&home, image, tags).await;
    home
}

async fn add(home: &Home, image: &Built, tags: &[&str]) {
    let names: Vec<String> = (0..image.layers.len()).map(|at| format!("{at}.tar")).collect();
    let list = json!([{"Config": "c.json", "RepoTags": tags, "Layers": names}]).to_string();
    let mut files: Vec<(&str, &[u8])> = vec![("c.json", &image.config), ("manifest.json", list.as_bytes())];
    files
        .extend(names.iter().map(String::as_str).zip(image.layers.iter().map(|layer| layer.blob.as_slice())));
    let mut events = home.store.load(std::io::Cursor::new(tar(&files)), None);
    loop {
        match events.recv().await.unwrap() {
            LoadEvent::Done => return,
            LoadEvent::Error(error) => panic!("{}", error.sentence()),
            _ => {}
        }
    }
}

fn free(_: &ImageId) -> InUse {
    InUse::No
}

fn stopped(_: &ImageId) -> InUse {
    InUse::Stopped { container: "c".repeat(64) }
}

fn running(_: &ImageId) -> InUse {
    InUse::Running { container: "c".repeat(64) }
}

fn message(outcome: Result<Vec<Removed>, ImageError>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), image::ErrorKind::Conflict);
    error.sentence()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_goes_alone_while_others_remain_and_the_last_takes_the_image() {
    let image = image();
    let home = home_with(&image, &["app:1", "app:2"]).await;
    let removed = home.store.remove("app:1", false, false, &free).unwrap();
    assert_eq!(removed, [Removed::Untagged("app:1".into())]);
    let removed = home.store.remove("app:2", false, false, &free).unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("app:2".into()), Removed::Deleted(image.id())]);
    // Two layers by their chain ids, the topmost first.
    assert_eq!(removed.len(), 4);
    assert_eq!(removed[3], Removed::Deleted(image::Digest::of(&image.layers[0].tar).to_string()));
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_with_names_in_two_repositories_needs_force() {
    let image = image();
    let home = home_with(&image, &["app:1", "other:1"]).await;
    let short = &image.id()[7..19];
    assert_eq!(
        message(home.store.remove(short, false, false, &free)),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    home.store.remove(short, true, false, &free).unwrap();
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_is_kept_unless_forced_and_a_running_one_always() {
    let image = image();
    let home = home_with(&image, &["app:1"]).await;
    let (short, container) = (&image.id()[7..19], "c".repeat(12));
    assert_eq!(
        message(home.store.remove("app:1", false, false, &stopped)),
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - \
             container {container} is using its referenced image {short}"
        )
    );
    assert_eq!(
        message(home.store.remove(short, false, false, &stopped)),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {container}"
        )
    );
    assert_eq!(
        message(home.store.remove(short, true, false, &running)),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {container}"
        )
    );
    assert_eq!(home.store.get("app:1").unwrap().repo_tags, ["app:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_a_forced_removal_stay_while_a_lease_holds_them() {
    let home = home_with(&image(), &["app:1"]).await;
    let id = home.store.get("app:1").unwrap().id;
    let lease = home.store.hold(&id).unwrap();
    home.store.remove("app:1", true, false, &stopped).unwrap();
    assert!(home.store.list().is_empty() && home.store.get("app:1").is_err());
    assert_eq!(std::fs::read(home.store.lower_dirs(&id).unwrap()[0].join("top")).unwrap(), b"own");
    drop(lease);
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_layers_stay_with_the_image_that_still_has_them() {
    let (one, mut layers) = (image(), image().layers);
    layers[1] = layer(&[("top", b"different")], GZIP);
    let home = home_with(&one, &["one"]).await;
    add(&home, &built("amd64", layers), &["two"]).await;
    assert_eq!(home.names("layers").len(), 3);
    home.store.remove("one", false, false, &free).unwrap();
    assert_eq!(home.names("layers").len(), 2);
    let dirs = home.store.lower_dirs(&home.store.get("two").unwrap().id).unwrap();
    assert_eq!(std::fs::read(dirs[1].join("base")).unwrap(), b"shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_takes_what_has_no_tag_and_on_request_what_is_unused() {
    let home = home_with(&image(), &["app:1"]).await;
    add(&home, &built("amd64", vec![layer(&[("x", b"dangling")], GZIP)]), &[]).await;
    let pruned = home.store.prune(true, &|_| true, &free).unwrap();
    assert_eq!((pruned.space_reclaimed, home.store.list().len()), (8, 1));
    assert!(home.store.prune(false, &|_| true, &stopped).unwrap().removed.is_empty());
    let pruned = home.store.prune(false, &|_| true, &free).unwrap();
    assert_eq!(pruned.space_reclaimed, 6 + 3);
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_two_ids_is_ambiguous_and_nonsense_is_not_found() {
    let home = home_with(&image(), &["app:1"]).await;
    assert_eq!(home.store.get("nope").unwrap_err().sentence(), "No such image: nope:latest");
    assert_eq!(home.store.get("UPPER").unwrap_err().kind(), image::ErrorKind::InvalidParameter);
    let missing = format!("sha256:{}", "0".repeat(64));
    assert_eq!(home.store.get(&missing).unwrap_err().sentence(), format!("No such image: {missing}"));
}
