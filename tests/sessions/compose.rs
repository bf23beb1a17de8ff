//! docker compose: a project brought up, looked at, changed, scaled and taken down.

use std::{fs, os::unix::fs::symlink, path::Path};

use harness::{Engine, Output, eventually, require};
use serde_json::Value;

use crate::programs;

/// An engine with the project's file in its sandbox and compose as a plugin of the docker command.
struct Shop {
    engine: Engine,
    file: String,
}

impl Shop {
    fn new() -> Self {
        let engine = Engine::with_busybox();
        let plugins = engine.client_settings().join("cli-plugins");
        fs::create_dir(&plugins).unwrap();
        symlink(programs::compose().unwrap(), plugins.join("docker-compose")).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose/compose.yaml");
        let file = engine.sandbox().path("compose.yaml");
        fs::copy(source, &file).unwrap();
        Self { engine, file: file.to_str().unwrap().to_owned() }
    }

    fn compose<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        self.compose_with("open", arguments)
    }

    /// Runs compose with a value of the variable that the project's file reads.
    fn compose_with<'a>(&'a self, sign: &str, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        let all = ["compose", "--progress", "plain", "--file", &self.file].into_iter().chain(arguments);
        Output::of(self.engine.docker_command(all).env("SIGN", sign))
    }

    /// A container's id by its service.
    fn id(&self, service: &str) -> String {
        self.compose(["ps", "--all", "--quiet", service]).success().line()
    }

    fn up(&self) {
        let _ = self.compose(["up", "--detach"]).success();
    }
}

#[test]
fn a_project_comes_up_in_its_order_and_goes_down_without_a_trace() {
    require!(Engine::with_busybox_available());
    require!(programs::compose());
    let shop = Shop::new();
    shop.up();
    let listed =
        shop.compose(["ps", "--all", "--format", "{{.Service}} {{.State}} {{.Health}} {{.ExitCode}}"]);
    let mut states: Vec<String> = listed.success().stdout().lines().map(|l| l.trim().to_owned()).collect();
    states.sort_unstable();
    assert_eq!(states, ["counter running healthy 0", "customer running  0", "stock exited  0"]);
    eventually("the customer has bought", || {
        shop.compose(["logs", "customer"]).success().stdout().contains("apples").then_some(())
    });
    let page = shop.engine.sandbox().curl(["http://127.0.0.1:8080/"]).success().stdout();
    assert_eq!(page, "apples\n");
    let prices = shop.compose(["exec", "-T", "counter", "cat", "/prices"]).success().stdout();
    assert_eq!(prices, "apples 2\n");

    let _ = shop.compose(["down", "--volumes", "--timeout", "1"]).success();
    for list in [vec!["ps", "--all"], vec!["volume", "ls"]] {
        assert_eq!(shop.engine.docker(list.into_iter().chain(["--quiet"])).success().stdout(), "");
    }
    let networks = shop.engine.docker(["network", "ls", "--filter", "type=custom", "--quiet"]);
    assert_eq!(networks.success().stdout(), "");
}

#[test]
fn a_changed_service_is_replaced_and_an_unchanged_one_stays() {
    require!(Engine::with_busybox_available());
    require!(programs::compose());
    let shop = Shop::new();
    shop.up();
    let (counter, customer) = (shop.id("counter"), shop.id("customer"));
    shop.up();
    assert_eq!(shop.id("counter"), counter, "nothing had changed");
    let _ = shop.compose_with("closed", ["up", "--detach", "--no-deps", "counter"]).success();
    let replaced = shop.id("counter");
    assert_ne!(replaced, counter);
    assert_eq!(shop.id("customer"), customer);
    let sign = shop.compose(["exec", "-T", "counter", "sh", "-c", "echo $SIGN"]).success().line();
    assert_eq!(sign, "closed");
    assert_eq!(shop.engine.inspect(&replaced)["Name"], "/shop-counter-1", "the replacement took the name");
}

#[test]
fn a_project_is_scaled_restarted_paused_copied_from_and_run_once() {
    require!(Engine::with_busybox_available());
    require!(programs::compose());
    let shop = Shop::new();
    shop.up();
    let _ = shop.compose(["up", "--detach", "--no-recreate", "--scale", "customer=3"]).success();
    assert_eq!(shop.compose(["ps", "--quiet", "customer"]).success().stdout().lines().count(), 3);
    let once = ["run", "--rm", "--no-deps", "-T", "customer", "sh", "-c", "echo once; nslookup customer >&2"];
    assert_eq!(shop.compose(once).success().stdout(), "once\n");

    let started = |shop: &Shop| shop.engine.inspect(&shop.id("counter"))["State"]["StartedAt"].take();
    let before = started(&shop);
    let _ = shop.compose(["restart", "--no-deps", "counter"]).success();
    assert_ne!(started(&shop), before);
    let _ = shop.compose(["pause", "counter"]).success();
    assert_eq!(shop.engine.inspect(&shop.id("counter"))["State"]["Paused"], Value::Bool(true));
    let _ = shop.compose(["unpause", "counter"]).success();

    let copy = shop.engine.sandbox().path("copied.html");
    let _ = shop.compose(["cp", "counter:/goods/index.html", copy.to_str().unwrap()]).success();
    assert_eq!(fs::read_to_string(&copy).unwrap(), "apples\n");
    assert!(shop.compose(["top", "counter"]).success().stdout().contains("httpd"));
    assert_eq!(shop.compose(["port", "counter", "80"]).success().line(), "127.0.0.1:8080");
    assert!(shop.compose(["images"]).success().stdout().contains("busybox"));
    let _ = shop.compose(["stop", "--timeout", "1"]).success();
    let _ = shop.compose(["rm", "--force"]).success();
    assert_eq!(shop.compose(["ps", "--all", "--quiet"]).success().stdout(), "");
}

#[test]
fn a_service_that_never_gets_well_fails_the_start() {
    require!(Engine::with_busybox_available());
    require!(programs::compose());
    let shop = Shop::new();
    let text = fs::read_to_string(&shop.file).unwrap();
    let ill = text.replace("http://127.0.0.1/", "http://127.0.0.1/nowhere").replace("20s", "100ms");
    fs::write(&shop.file, ill).unwrap();
    let up = shop.compose(["up", "--detach"]).exits(1);
    assert!(up.stderr().contains("is unhealthy"), "{up}");
}
