//! What leaves for registries and what they are asked: push, logins, distribution, and registries that hang.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Engine, Output, Registry, Sandbox, fixtures, require};
use hello_image::{Entry, digest};

/// `sailor` with the password `anchor`, as htpasswd writes it.
const PASSWORDS: &str = "sailor:$2b$05$abcdefghijklmnopqrstuu7vDnq9RZnLX.d2c2WnMtyjw9yIpG07m\n";

fn available() -> Result<(), String> {
    crate::available()?;
    Registry::available()
}

fn engine_and_registry() -> (Engine, Registry) {
    let sandbox = Arc::new(Sandbox::new());
    let registry = Registry::start(&sandbox);
    let engine = Engine::start_in(sandbox, &[]);
    engine.load(&fixtures::busybox());
    (engine, registry)
}

/// A registry that lets nobody in without a name and password.
fn closed_registry(sandbox: &Arc<Sandbox>) -> Registry {
    let file = sandbox.path("htpasswd");
    std::fs::write(&file, PASSWORDS).unwrap();
    let config = format!("auth:\n  htpasswd:\n    realm: deck\n    path: {}\n", file.display());
    Registry::start_on(sandbox, 5001, &config)
}

/// The digest that a push printed.
fn pushed_digest(output: &str) -> String {
    let line = output.lines().find(|line| line.contains("digest: sha256:")).expect(output);
    line.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned()
}

#[test]
fn a_pushed_image_comes_back_the_same_and_is_not_sent_twice() {
    require!(available());
    let (engine, registry) = engine_and_registry();
    let reference = registry.reference("fleet/busybox:1");
    let id = engine.inspect("busybox")["Id"].clone();
    let _ = engine.docker(["tag", "busybox", &reference]).success();
    let first = engine.docker(["push", &reference]).success().stdout();
    assert!(first.contains("The push refers to repository [127.0.0.1:5000/fleet/busybox]"), "{first}");
    assert!(first.contains(": Pushed"), "{first}");
    let again = engine.docker(["push", &reference]).success().stdout();
    assert!(again.contains(": Layer already exists"), "{again}");
    assert_eq!(pushed_digest(&first), pushed_digest(&again));
    let by_digest = format!("{}@{}", registry.reference("fleet/busybox"), pushed_digest(&first));
    let _ = engine.docker(["rmi", &reference, "busybox"]).success();
    let _ = engine.docker(["pull", &by_digest]).success();
    assert_eq!(engine.inspect(&by_digest)["Id"], id);
    assert_eq!(engine.docker(["run", "--rm", &by_digest, "echo", "back"]).success().stdout(), "back\n");
}

#[test]
fn a_pulled_image_is_mounted_into_another_repository_under_the_same_digest() {
    require!(available());
    let (engine, registry) = engine_and_registry();
    let image = fixtures::busybox_image().layer(&[Entry::File("more", 0o644, b"more")]).unwrap();
    let original = registry.push("from/here", "1", &image);
    let (from, to) = (registry.reference("from/here:1"), registry.reference("to/there:2"));
    let _ = engine.docker(["pull", &from]).success();
    let _ = engine.docker(["tag", &from, &to]).success();
    let push = engine.docker(["push", &to]).success().stdout();
    assert_eq!(push.matches("Mounted from from/here").count(), 2, "{push}");
    assert_eq!(pushed_digest(&push), original);
}

#[test]
fn a_committed_image_with_several_layers_is_pushed_in_chunks() {
    require!(available());
    let (engine, registry) = engine_and_registry();
    let make = "head -c 20000000 /dev/urandom > /big; echo small > /small";
    let _ = engine.docker(["run", "--name", "made", "busybox", "sh", "-c", make]).success();
    let _ = engine.docker(["commit", "made", "made:1"]).success();
    let reference = registry.reference("made:1");
    let _ = engine.docker(["tag", "made:1", &reference]).success();
    let wanted = engine.docker(["run", "--rm", "made:1", "md5sum", "/big", "/small"]).success().stdout();
    let _ = engine.docker(["push", &reference]).success();
    let _ = engine.docker(["rm", "made"]).success();
    let _ = engine.docker(["rmi", "made:1", &reference]).success();
    let got = engine.docker(["run", "--rm", &reference, "md5sum", "/big", "/small"]).success().stdout();
    assert_eq!(got, wanted);
}

#[test]
fn what_is_not_there_cannot_be_pushed() {
    require!(available());
    let (engine, registry) = engine_and_registry();
    let missing = engine.docker(["push", &registry.reference("nothing:1")]).exits(1).stderr();
    assert!(
        missing.contains("An image does not exist locally with the tag: 127.0.0.1:5000/nothing"),
        "{missing}"
    );
    let reference = registry.reference("fleet/busybox:1");
    let _ = engine.docker(["tag", "busybox", &reference]).success();
    let tag = engine.docker(["push", &registry.reference("fleet/busybox:2")]).exits(1).stderr();
    assert!(tag.contains("tag does not exist: 127.0.0.1:5000/fleet/busybox:2"), "{tag}");
    let _ = engine.docker(["tag", "busybox", "127.0.0.1:9/x"]).success();
    let refused = engine.docker(["push", "127.0.0.1:9/x"]).exits(1).stderr();
    assert!(refused.contains("connection refused"), "{refused}");
}

#[test]
fn all_tags_of_a_repository_are_pushed_at_once() {
    require!(available());
    let (engine, registry) = engine_and_registry();
    for tag in ["a", "b"] {
        let _ = engine.docker(["tag", "busybox", &registry.reference(&format!("many:{tag}"))]).success();
    }
    let push = engine.docker(["push", "--all-tags", &registry.reference("many")]).success().stdout();
    assert!(push.contains("a: digest: ") && push.contains("b: digest: "), "{push}");
}

#[test]
fn a_closed_registry_wants_a_login_and_takes_the_right_one() {
    require!(available());
    let sandbox = Arc::new(Sandbox::new());
    let registry = closed_registry(&sandbox);
    let engine = Engine::start_in(sandbox, &[]);
    engine.load(&fixtures::busybox());
    let reference = registry.reference("private:1");
    let _ = engine.docker(["tag", "busybox", &reference]).success();
    let stranger = engine.docker(["push", &reference]).exits(1).stderr();
    assert!(stranger.contains("no basic auth credentials"), "{stranger}");
    let log_in = |password: &str| {
        let host = "127.0.0.1:5001";
        let arguments = ["login", "--username", "sailor", "--password-stdin", host];
        Output::with_input(&mut engine.docker_command(arguments), password.as_bytes())
    };
    let wrong = log_in("kraken").exits(1).stderr();
    assert!(wrong.contains("401 Unauthorized"), "{wrong}");
    let right = log_in("anchor").success().stdout();
    assert!(right.contains("Login Succeeded"), "{right}");
    let _ = engine.docker(["push", &reference]).success();
    let _ = engine.docker(["rmi", &reference]).success();
    let _ = engine.docker(["pull", &reference]).success();
    let _ = engine.docker(["logout", "127.0.0.1:5001"]).success();
    let _ = engine.docker(["rmi", &reference]).success();
    let denied = engine.docker(["pull", &reference]).exits(1).stderr();
    assert!(denied.contains("no basic auth credentials"), "{denied}");
}

#[test]
fn a_registry_tells_what_a_reference_is_without_a_pull() {
    require!(available());
    let (engine, registry) = engine_and_registry();
    let image = fixtures::busybox_image();
    let list = registry.push_list("multi", "1", &[("arm64", &image), ("amd64", &image)]);
    let found = engine.api("/distribution/127.0.0.1:5000/multi:1/json", &["--fail"]).success().json();
    assert_eq!(found["Descriptor"]["digest"], list);
    let architectures: Vec<_> =
        found["Platforms"].as_array().unwrap().iter().map(|one| one["architecture"].clone()).collect();
    assert_eq!(architectures, ["arm64", "amd64"]);
    let missing = ["--write-out", "%{http_code}"];
    let missing = engine.api("/distribution/127.0.0.1:5000/multi:2/json", &missing).stdout();
    assert!(missing.ends_with("404") && missing.contains("not found"), "{missing}");
}

#[test]
fn an_archive_is_imported_from_the_body_and_from_an_address() {
    require!(available());
    let (engine, registry) = engine_and_registry();
    let tar = fixtures::busybox_image().layers()[0].clone();
    let arguments =
        ["import", "--change", "CMD [\"echo\", \"changed\"]", "--message", "by hand", "-", "imported:1"];
    let id = Output::with_input(&mut engine.docker_command(arguments), &tar).success().line();
    assert_eq!(engine.inspect("imported:1")["Id"], id);
    assert_eq!(engine.inspect("imported:1")["Comment"], "by hand");
    assert_eq!(engine.docker(["run", "--rm", "imported:1"]).success().stdout(), "changed\n");
    registry.put_blob("files", &tar);
    let address = format!("http://{}/blobs/{}", registry.reference("v2/files"), digest(&tar));
    let _ = engine.docker(["import", &address, "fetched:1"]).success();
    let run = engine.docker(["run", "--rm", "fetched:1", "/bin/echo", "fetched"]).success().stdout();
    assert_eq!(run, "fetched\n");
    let broken =
        Output::with_input(&mut engine.docker_command(["import", "-", "x"]), b"no tar at all, by far");
    assert_eq!(broken.code(), Some(1), "{broken}");
}

#[test]
fn a_search_without_an_index_says_who_does_not_answer() {
    require!(available());
    let (engine, _registry) = engine_and_registry();
    let offline = engine.docker(["search", "busybox"]).exits(1).stderr();
    assert!(offline.contains("https://index.docker.io/v1/search?q=busybox"), "{offline}");
    let limit = engine.docker(["search", "--limit", "101", "busybox"]).exits(1).stderr();
    assert!(limit.contains("limit 101 is outside the range of [1, 100]"), "{limit}");
}

#[test]
fn a_registry_that_hangs_is_given_up_with_its_name() {
    require!(available());
    let sandbox = Arc::new(Sandbox::new());
    // Takes one connection and never says a word.
    let mut silent = sandbox
        .command("/bin/busybox")
        .args(["nc", "-l", "-p", "5999"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let engine = Engine::start_in(Arc::clone(&sandbox), &[]);
    let began = Instant::now();
    let given_up = engine.docker(["pull", "127.0.0.1:5999/slow:1"]).exits(1).stderr();
    assert!(given_up.contains("127.0.0.1:5999") && given_up.contains("did not answer"), "{given_up}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(engine.docker(["images", "--quiet"]).success().stdout(), "");
    let _ = silent.kill();
    let _ = silent.wait();
}
