//! The default bridge: addresses, names, the way out, published ports.

use harness::{eventually, require};

use crate::{engine_with_busybox, run_web};

#[test]
fn a_container_has_an_address_and_its_name_in_hosts() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let run = engine.docker([
        "run",
        "--rm",
        "--hostname",
        "boat",
        "busybox",
        "sh",
        "-c",
        "ip -4 addr show eth0; cat /etc/hosts; ip route",
    ]);
    let output = run.success().stdout();
    assert!(output.contains("inet 172.17.0.2/16"), "{output}");
    assert!(output.contains("172.17.0.2\tboat"), "{output}");
    assert!(output.contains("default via 172.17.0.1 dev eth0"), "{output}");
}

#[test]
fn containers_reach_each_other_and_the_host() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine
        .docker(["run", "--detach", "--name", "web", "busybox", "httpd", "-f", "-h", "/var/www"])
        .success();
    let address = engine.inspect("web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    let url = format!("http://{address}/");
    eventually("the server answers", || {
        let page = engine.docker(["run", "--rm", "busybox", "wget", "-q", "-O", "-", &url]);
        (page.stdout() == "ahoy\n").then_some(())
    });
    assert_eq!(engine.sandbox().curl([&url]).success().stdout(), "ahoy\n");
}

#[test]
fn a_published_port_answers_on_the_host_until_the_container_stops() {
    require!(crate::available());
    let engine = engine_with_busybox();
    run_web(&engine);
    let sandbox = engine.sandbox();
    eventually("the page comes", || {
        (sandbox.curl(["http://127.0.0.1:8080/"]).stdout() == "ahoy\n").then_some(())
    });
    assert_eq!(engine.docker(["port", "web"]).success().line(), "80/tcp -> 0.0.0.0:8080");
    let busy = engine.docker(["run", "--publish", "8080:80", "busybox", "true"]).exits(125).stderr();
    assert!(busy.contains("port is already allocated"), "{busy}");
    let _ = engine.docker(["stop", "--time", "0", "web"]).success();
    assert_ne!(sandbox.curl(["http://127.0.0.1:8080/"]).code(), Some(0));
}

#[test]
fn none_has_loopback_only_and_host_sees_the_hosts_links() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let none = engine
        .docker(["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"])
        .success()
        .stdout();
    assert_eq!(none, "lo\n");
    let _ = engine.docker(["run", "--rm", "busybox", "true"]).success();
    let host =
        engine.docker(["run", "--rm", "--network", "host", "busybox", "ls", "/sys/class/net"]).success();
    assert_eq!(host.stdout(), "lo\nsampan0\n");
}

#[test]
fn nothing_of_the_network_is_left_after_the_engine() {
    require!(crate::available());
    let mut engine = engine_with_busybox();
    let _ = engine.docker(["run", "--detach", "--publish", "81:80", "busybox", "sleep", "1000"]).success();
    engine.stop();
    let tables =
        harness::Output::of(engine.sandbox().command("nft").args(["list", "tables"])).success().stdout();
    assert_eq!(tables, "");
    let links = harness::Output::of(engine.sandbox().command("ip").args(["-j", "link"])).success().json();
    let veths: Vec<_> =
        links.as_array().unwrap().iter().filter(|link| link["link_index"].is_number()).collect();
    assert!(veths.is_empty(), "{veths:?}");
}
