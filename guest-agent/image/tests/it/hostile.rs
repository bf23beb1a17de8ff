//! Pulls from registries that break off, lie, hang, ask for credentials, or send elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use image::{Credentials, Digest};

use crate::fixture::{Built, GZIP, Home, built, layer, noise, small};
use crate::server::{Reply, Server};

fn large() -> Built {
    built("amd64", vec![layer(&[("noise", &noise(300_000))], GZIP)])
}

fn blob_of(image: &Built) -> String {
    Digest::of(&image.layers[0].blob).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on_where_it_was() {
    let image = large();
    let (blob, content) = (blob_of(&image), image.layers[0].blob.clone());
    let server = Server::of(image.clone(), move |request, _| {
        let reply = Reply { cut: Some(100_000), ..Reply::ranged(request, &content) };
        (request.path.ends_with(&blob) && request.from() < 200_000).then_some(reply)
    })
    .await;
    let home = Home::new();
    home.pull(&server.reference()).await.1.unwrap();
    let ranges: Vec<_> = server
        .requests
        .lock()
        .unwrap()
        .iter()
        .filter_map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_stays_truncated_fails_and_leaves_nothing() {
    let image = large();
    let (blob, content) = (blob_of(&image), image.layers[0].blob.clone());
    let server = Server::of(image, move |request, _| {
        let cut = 100_000_usize.saturating_sub(request.from());
        request.path.ends_with(&blob).then(|| Reply { cut: Some(cut), ..Reply::ranged(request, &content) })
    })
    .await;
    let home = Home::new();
    let error = home.pull(&server.reference()).await.1.unwrap_err();
    assert!(error.contains("/blobs/sha256:"), "{error}");
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_another_digest_fails_and_leaves_nothing() {
    let image = small(b"right");
    let blob = blob_of(&image);
    // As long as the right one, and a layer too, but not that layer.
    let other = small(b"wrong").layers[0].blob.clone();
    let length = image.layers[0].blob.len();
    let server = Server::of(image, move |request, _| {
        let mut other = other.clone();
        other.resize(length, 0);
        request.path.ends_with(&blob).then(|| Reply::new(200, &other))
    })
    .await;
    let home = Home::new();
    let error = home.pull(&server.reference()).await.1.unwrap_err();
    assert!(error.starts_with("layer verification failed for digest sha256:"), "{error}");
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_the_manifest_says_are_not_taken() {
    let image = small(b"x");
    let (blob, mut content) = (blob_of(&image), image.layers[0].blob.clone());
    content.extend_from_slice(&[0; 1000]);
    let server =
        Server::of(image, move |request, _| request.path.ends_with(&blob).then(|| Reply::new(200, &content)))
            .await;
    let home = Home::new();
    let error = home.pull(&server.reference()).await.1.unwrap_err();
    assert!(error.contains("more than the"), "{error}");
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_gives_a_clear_error_in_time() {
    let image = large();
    let blob = blob_of(&image);
    for hangs_in in ["/manifests/", blob.as_str()] {
        let (part, content) = (hangs_in.to_owned(), image.layers[0].blob.clone());
        let server = Server::of(image.clone(), move |request, _| {
            request.path.contains(&part).then(|| Reply {
                hang: Some(1000_usize.saturating_sub(request.from())),
                ..Reply::ranged(request, &content)
            })
        })
        .await;
        let home = Home::new();
        let error = home
            .pull_with(&server.reference(), |request| {
                request.registries.read_timeout = Duration::from_millis(300);
            })
            .await
            .1
            .unwrap_err();
        assert!(error.contains("registry did not answer for 1 s"), "{hangs_in}: {error}");
        home.assert_empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_is_fetched_with_credentials_and_again_when_it_expires() {
    let image = small(b"secret");
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&issued);
    let server = Server::of(image, move |request, address| {
        if request.path.starts_with("/token") {
            // me:pass
            let known = request.header("authorization") == Some("Basic bWU6cGFzcw==");
            let wanted =
                request.path.contains("scope=repository%3Aapp%3Apull") && request.path.contains("service=s");
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            return Some(if known && wanted {
                Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":300}}"#).as_bytes())
            } else {
                Reply::new(401, br#"{"details":"incorrect username or password"}"#)
            });
        }
        // The first token is good for the manifest only.
        let token = request.header("authorization").unwrap_or_default();
        let good = token == "Bearer t2" || (token == "Bearer t1" && request.path.contains("/manifests/"));
        (!good).then(|| {
            let challenge =
                format!(r#"Bearer realm="http://{address}/token",service="s",scope="repository:app:pull""#);
            Reply::new(401, b"").with("WWW-Authenticate", challenge)
        })
    })
    .await;
    let home = Home::new();
    let credentials = |password: &str| {
        Some(Credentials { username: "me".into(), password: password.into(), ..Credentials::default() })
    };
    let error =
        home.pull_with(&server.reference(), |request| request.auth = credentials("no")).await.1.unwrap_err();
    assert_eq!(error, "unauthorized: incorrect username or password");
    issued.store(0, Ordering::SeqCst);
    home.pull_with(&server.reference(), |request| request.auth = credentials("pass")).await.1.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_access_and_missing_credentials_read_as_dockerds() {
    let denied = Server::start(|request, address| {
        if request.path.starts_with("/token") {
            return Reply::new(200, br#"{"token":"anonymous"}"#);
        }
        let error =
            if request.header("authorization").is_some() { r#",error="insufficient_scope""# } else { "" };
        Reply::new(401, b"")
            .with("WWW-Authenticate", format!(r#"Bearer realm="http://{address}/token"{error}"#))
    })
    .await;
    let home = Home::new();
    let error = home.pull(&denied.reference()).await.1.unwrap_err();
    let name = format!("{}/app", denied.address);
    assert_eq!(
        error,
        format!(
            "pull access denied for {name}, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied"
        )
    );
    let basic =
        Server::start(|_, _| Reply::new(401, b"").with("WWW-Authenticate", r#"Basic realm="r""#)).await;
    let error = home.pull(&basic.reference()).await.1.unwrap_err();
    assert_eq!(error, "unauthorized: no basic auth credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_and_passing_failures_are_waited_out() {
    let tries = AtomicUsize::new(0);
    let server = Server::of(small(b"x"), move |request, _| {
        let first = request.path.contains("/manifests/").then(|| tries.fetch_add(1, Ordering::SeqCst))?;
        match first {
            0 => Some(Reply::new(429, b"").with("Retry-After", "0")),
            1 => Some(Reply::new(503, b"")),
            _ => None,
        }
    })
    .await;
    Home::new().pull(&server.reference()).await.1.unwrap();
    let never = Server::start(|_, _| {
        Reply::new(429, br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
    })
    .await;
    let error = Home::new().pull(&never.reference()).await.1.unwrap_err();
    assert_eq!(error, "toomanyrequests: slow down");
    assert_eq!(never.asked_for("/manifests/"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_without_the_credentials() {
    let image = small(b"elsewhere");
    let content = image.layers[0].blob.clone();
    let storage = Server::start(move |request, _| Reply::ranged(request, &content)).await;
    let (blob, target) = (blob_of(&image), storage.address);
    let server = Server::of(image, move |request, _| {
        if request.header("authorization") != Some("Basic bWU6cGFzcw==") {
            return Some(Reply::new(401, b"").with("WWW-Authenticate", "Basic realm=r"));
        }
        let location = format!("http://{target}/signed?x=y");
        request.path.ends_with(&blob).then(|| Reply::new(307, b"").with("Location", location))
    })
    .await;
    let home = Home::new();
    let credentials =
        Credentials { username: "me".into(), password: "pass".into(), ..Credentials::default() };
    home.pull_with(&server.reference(), |request| request.auth = Some(credentials)).await.1.unwrap();
    let requests = storage.requests.lock().unwrap();
    assert_eq!((requests.len(), requests[0].header("authorization")), (1, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_download_a_layer_once() {
    let image = large();
    let blob = blob_of(&image);
    let server = Server::of(image, |_, _| None).await;
    let home = Home::new();
    let reference = server.reference();
    let pulls = futures_util::future::join_all((0..4).map(|_| home.pull(&reference))).await;
    assert!(pulls.iter().all(|(_, outcome)| outcome.is_ok()), "{pulls:?}");
    assert_eq!(server.asked_for(&blob), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_nobody_waits_for_is_given_up_and_leaves_nothing() {
    let image = large();
    let (blob, content) = (blob_of(&image), image.layers[0].blob.clone());
    let server = Server::of(image, move |request, _| {
        request.path.ends_with(&blob).then(|| Reply { hang: Some(50_000), ..Reply::new(200, &content) })
    })
    .await;
    let home = Home::new();
    {
        let reference = server.reference();
        let pull = home.pull(&reference);
        tokio::pin!(pull);
        while server.asked_for("/blobs/") < 2 {
            let _ = tokio::time::timeout(Duration::from_millis(5), &mut pull).await;
        }
    }
    home.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_registry_is_asked_through_its_mirror() {
    let server = Server::of(small(b"mirrored"), |_, _| None).await;
    let home = Home::new();
    let mirror = format!("http://{}/", server.address);
    let (_, pulled) = home.pull_with("busybox", |request| request.registries.mirrors = vec![mirror]).await;
    assert_eq!(pulled.unwrap().reference.to_string(), "docker.io/library/busybox:latest");
    assert_eq!(server.asked_for("/v2/library/busybox/manifests/latest"), 1);
    assert_eq!(home.store.get("busybox").unwrap().repo_tags, ["busybox:latest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wild_manifests_are_refused() {
    let endless = br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":1}]}"#;
    for (manifest, message) in [
        (vec![b' '; 5 << 20], "more than 4194304 bytes"),
        (b"{".to_vec(), "invalid manifest"),
        (br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(), "schema 1 is not supported"),
        ([b"[".repeat(100_000)].concat(), "invalid manifest"),
        (endless.to_vec(), "manifest verification failed"),
    ] {
        let server = Server::start(move |_, _| Reply::new(200, &manifest)).await;
        let home = Home::new();
        let error = home.pull(&server.reference()).await.1.unwrap_err();
        assert!(error.contains(message), "{message}: {error}");
        home.assert_empty();
    }
}
