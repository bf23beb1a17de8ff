//! Version, info, ping, and requests that no engine should accept.

use harness::{Engine, require};

#[test]
fn ping_tells_the_api_version_in_its_headers() {
    require!(crate::available());
    let engine = Engine::start();
    let head = engine.api("/_ping", &["--head"]).success().stdout().to_lowercase();
    assert!(head.contains("api-version: 1.51"), "{head}");
    assert!(head.contains("ostype: linux"), "{head}");
    assert_eq!(engine.api("/v1.24/_ping", &[]).success().stdout(), "OK");
}

#[test]
fn the_docker_command_reads_version_and_info() {
    require!(crate::available());
    let engine = Engine::start();
    let version = engine.docker(["version", "--format", "{{json .Server}}"]).success().json();
    assert_eq!(version["ApiVersion"], "1.51");
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Os"], "linux");
    let info = engine.docker(["info", "--format", "{{json .}}"]).success().json();
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["CgroupVersion"], "2");
    assert_eq!(info["Containers"], 0);
    assert!(info["MemTotal"].as_u64().unwrap() > 0);
}

#[test]
fn versions_outside_the_window_are_refused_as_dockerd_refuses_them() {
    require!(crate::available());
    let engine = Engine::start();
    let old = engine.api("/v1.12/info", &["--write-out", "%{http_code}"]).stdout();
    assert!(old.contains("client version 1.12 is too old. Minimum supported API version is 1.24"), "{old}");
    assert!(old.ends_with("400"), "{old}");
    let new = engine.api("/v1.99/info", &["--write-out", "%{http_code}"]).stdout();
    assert!(new.contains("client version 1.99 is too new. Maximum supported API version is 1.51"), "{new}");
}

#[test]
fn unknown_paths_and_swarm_answer_as_an_engine_that_is_no_manager() {
    require!(crate::available());
    let engine = Engine::start();
    assert!(engine.api("/nowhere", &["--write-out", "%{http_code}"]).stdout().ends_with("404"));
    let swarm = engine.api("/services", &["--write-out", "%{http_code}"]).stdout();
    assert!(swarm.contains("This node is not a swarm manager") && swarm.ends_with("503"), "{swarm}");
}

#[test]
fn events_tell_the_life_of_a_container_in_dockers_order() {
    require!(crate::available());
    let engine = crate::engine_with_busybox();
    let _ = engine
        .docker(["run", "--name", "life", "--network", "none", "busybox", "sh", "-c", "exit 3"])
        .exits(3);
    let _ = engine.docker(["rm", "life"]).success();
    // The client sends whole seconds, so the next one is the first that has all of them behind it.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let window = ["events", "--since", "1", "--until", &(now + 1).to_string()].map(str::to_owned);
    let shape = ["--filter", "type=container", "--format", "{{.Action}}"].map(str::to_owned);
    let events = engine.docker(window.into_iter().chain(shape)).success().stdout();
    let actions: Vec<&str> = events.lines().collect();
    assert_eq!(actions, ["create", "attach", "start", "die", "destroy"], "{events}");
}

#[test]
fn two_engines_share_a_machine() {
    require!(crate::available());
    let (one, other) = (crate::engine_with_busybox(), Engine::start());
    assert_eq!(one.docker(["images", "--quiet"]).success().stdout().lines().count(), 1);
    assert_eq!(other.docker(["images", "--quiet"]).success().stdout(), "");
}
