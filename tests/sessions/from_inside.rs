//! A client inside a container, over the bound socket: what Ryuk, LocalStack and many CI runners do.

use harness::{Engine, require, settings};

#[test]
fn a_container_with_the_socket_reaps_its_siblings_by_label() {
    require!(Engine::with_busybox_available());
    let engine = Engine::with_busybox();
    for name in ["one", "two"] {
        let label = format!("session={name}");
        let sleeper = ["run", "--detach", "--name", name, "--label", &label, "busybox", "sleep", "1000"];
        let _ = engine.docker(sleeper).success();
    }
    let client = settings::program("docker").unwrap();
    let client = format!("{}:/bin/docker:ro", client.display());
    // Debian's own client is linked dynamically, and busybox has no libraries.
    let libraries = ["/lib:/lib:ro", "/lib64:/lib64:ro"];
    // Whatever host path the client's context names, this destination means the engine's own socket.
    let socket = "/somewhere/else/docker.sock:/var/run/docker.sock";
    let reap = "docker rm --force --volumes $(docker ps --all --quiet --filter label=session=one)";
    let volumes = [socket, &*client].into_iter().chain(libraries).flat_map(|volume| ["--volume", volume]);
    let reaper = ["run", "--rm"].into_iter().chain(volumes).chain(["busybox", "sh", "-c", reap]);
    let _ = engine.docker(reaper).success();
    let left = engine.docker(["ps", "--all", "--format", "{{.Names}}"]).success().stdout();
    assert_eq!(left, "two\n");
}
