//! Networks that users make: their addresses, their members, their end, and what is refused of them.

use harness::{Engine, Output, eventually, require};
use serde_json::Value;

use crate::{engine_with_busybox, run_web};

/// Starts a container that stays.
fn stay(engine: &Engine, options: &[&str]) {
    let run = [&["run", "--detach"][..], options, &["busybox", "sleep", "1000"][..]].concat();
    let _ = engine.docker(run).success();
}

/// Runs a shell command in a container.
fn shell(engine: &Engine, container: &str, command: &str) -> Output {
    engine.docker(["exec", container, "sh", "-c", command])
}

fn network(engine: &Engine, name: &str) -> Value {
    engine.docker(["network", "inspect", name]).success().json()[0].take()
}

#[test]
fn a_network_is_made_listed_filtered_inspected_and_removed() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let create = ["network", "create", "--label", "crew=one", "--subnet", "10.7.0.0/16", "--ip-range"];
    let rest = ["10.7.5.0/24", "--gateway", "10.7.0.9", "--aux-address", "printer=10.7.5.1", "back"];
    let id = engine.docker([&create[..], &rest[..]].concat()).success().line().to_owned();
    let seen = network(&engine, "back");
    assert_eq!(seen["Id"], id.as_str());
    assert_eq!(seen["Driver"], "bridge");
    assert_eq!(seen["Labels"]["crew"], "one");
    let config = &seen["IPAM"]["Config"][0];
    assert_eq!((&config["Subnet"], &config["Gateway"]), (&"10.7.0.0/16".into(), &"10.7.0.9".into()));
    assert_eq!(
        (&config["IPRange"], &config["AuxiliaryAddresses"]["printer"]),
        (&"10.7.5.0/24".into(), &"10.7.5.1".into())
    );
    stay(&engine, &["--name", "one", "--network", &id[..12]]);
    let member = &network(&engine, "back")["Containers"];
    let member = member.as_object().unwrap().values().next().unwrap().clone();
    // The range's first address and the printer's are nobody's.
    assert_eq!((&member["Name"], &member["IPv4Address"]), (&"one".into(), &"10.7.5.0/16".into()));
    for filter in ["name=bac", "label=crew=one", "type=custom", "driver=bridge", "dangling=false"] {
        let listed =
            engine.docker(["network", "ls", "--format", "{{.Name}}", "--filter", filter]).success().stdout();
        assert!(listed.lines().any(|line| line == "back"), "{filter}: {listed}");
    }
    let dangling = engine.docker(["network", "ls", "-q", "--filter", "dangling=true"]).success().stdout();
    assert_eq!(dangling, "");
    let busy = engine.docker(["network", "rm", "back"]).exits(1).stderr();
    assert!(
        busy.contains("error while removing network: network back has active endpoints (name:\"one\" id:"),
        "{busy}"
    );
    let _ = engine.docker(["rm", "--force", "one"]).success();
    let _ = engine.docker(["network", "rm", "back"]).success();
    let gone = engine.docker(["network", "inspect", "back"]).exits(1).stderr();
    assert!(gone.contains("network back not found"), "{gone}");
}

#[test]
fn what_cannot_be_meant_is_refused_in_dockerds_words() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "--subnet", "10.7.0.0/16", "back"]).success();
    let _ = engine.docker(["network", "create", "pooled"]).success();
    let refused = |arguments: &[&str], words: &str| {
        let said = engine.docker(arguments);
        assert_ne!(said.code(), Some(0), "{arguments:?}");
        assert!(said.stderr().contains(words), "{arguments:?}: {}", said.stderr());
    };
    refused(&["network", "create", "back"], "network with name back already exists");
    refused(&["network", "create", "host"], "operation is not permitted on predefined host network");
    refused(
        &["network", "create", "--subnet", "10.7.4.0/24", "other"],
        "invalid pool request: Pool overlaps with other one on this address space",
    );
    refused(&["network", "create", "--driver", "weave", "other"], "plugin \"weave\" not found");
    refused(&["network", "rm", "bridge"], "bridge is a pre-defined network and cannot be removed");
    refused(&["network", "rm", "nowhere"], "network nowhere not found");
    refused(&["run", "--network", "nowhere", "busybox"], "network nowhere not found");
    refused(
        &["run", "--network", "pooled", "--ip", "172.18.0.9", "busybox"],
        "user specified IP address is supported only when connecting to networks with user configured subnets",
    );
    refused(
        &["run", "--ip", "172.17.0.9", "busybox"],
        "user specified IP address is supported on user defined networks only",
    );
    refused(
        &["run", "--network", "back", "--ip", "10.8.0.9", "busybox"],
        "no configured subnet or ip-range contain the IP address 10.8.0.9",
    );
    stay(&engine, &["--name", "one", "--network", "back", "--ip", "10.7.0.77"]);
    refused(&["run", "--network", "back", "--ip", "10.7.0.77", "busybox"], "Address already in use");
    refused(&["network", "connect", "back", "one"], "endpoint with name one already exists in network back");
    refused(&["network", "disconnect", "pooled", "one"], "is not connected to network pooled");
    stay(&engine, &["--name", "hosted", "--network", "host"]);
    refused(&["network", "connect", "back", "hosted"], "container cannot be disconnected from host network");
    stay(&engine, &["--name", "lonely", "--network", "none"]);
    refused(&["network", "connect", "back", "lonely"], "with one of the networks in private (none) mode");
    let left = engine.docker(["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"]).success();
    assert_eq!(left.stdout().lines().collect::<Vec<_>>(), ["back", "pooled"]);
}

#[test]
fn members_find_each_other_by_every_name_and_strangers_do_not() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "back"]).success();
    let _ = engine.docker(["network", "create", "front"]).success();
    stay(&engine, &["--name", "db", "--network", "back", "--network-alias", "store", "--hostname", "ship"]);
    stay(&engine, &["--name", "db2", "--network", "back", "--network-alias", "store"]);
    stay(&engine, &["--name", "web", "--network", "back", "--link", "db:base"]);
    stay(&engine, &["--name", "other", "--network", "front"]);
    let id = engine.inspect("db")["Id"].as_str().unwrap()[..12].to_owned();
    for name in ["db", "DB", "store", "ship", "db.back", "base", &id] {
        let answer = shell(&engine, "web", &format!("nslookup -type=a {name}")).success().stdout();
        assert!(answer.contains("172.18.0.2"), "{name}: {answer}");
    }
    let both = shell(&engine, "web", "nslookup -type=a store").success().stdout();
    assert!(both.contains("172.18.0.3"), "{both}");
    let reverse = shell(&engine, "web", "nslookup 172.18.0.2").success().stdout();
    assert!(reverse.contains("name = db.back"), "{reverse}");
    assert_ne!(shell(&engine, "other", "nslookup -type=a db").code(), Some(0));
    assert_ne!(shell(&engine, "db", "nslookup -type=a base").code(), Some(0), "a link is its owner's alone");
    let names = engine.inspect("db")["NetworkSettings"]["Networks"]["back"]["DNSNames"].clone();
    assert_eq!(names, serde_json::json!(["db", "store", id, "ship"]));
    let _ = engine.docker(["rename", "db", "base1"]).success();
    let _ = shell(&engine, "web", "nslookup -type=a base1").success();
    assert_ne!(shell(&engine, "web", "nslookup -type=a db").code(), Some(0));
    let _ = engine.docker(["rm", "--force", "base1"]).success();
    let rest = shell(&engine, "web", "nslookup -type=a store").success().stdout();
    assert!(!rest.contains("172.18.0.2"), "{rest}");
}

#[test]
fn the_name_server_comes_back_with_the_engine() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "back"]).success();
    stay(&engine, &["--name", "db", "--network", "back"]);
    stay(&engine, &["--name", "web", "--network", "back"]);
    engine.kill_engine();
    let answer = shell(&engine, "web", "nslookup -type=a db").success().stdout();
    assert!(answer.contains("172.18.0.2"), "{answer}");
    stay(&engine, &["--name", "late", "--network", "back"]);
    let _ = shell(&engine, "web", "nslookup -type=a late").success();
    assert_eq!(network(&engine, "back")["Containers"].as_object().unwrap().len(), 3);
}

#[test]
fn networks_survive_a_power_loss_and_a_clean_stop() {
    require!(crate::available());
    let mut engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "--label", "kept=yes", "back"]).success();
    stay(&engine, &["--name", "db", "--network", "back"]);
    let before = network(&engine, "back");
    engine.cut_power();
    engine.boot();
    let after = network(&engine, "back");
    assert_eq!(
        (&after["Id"], &after["IPAM"], &after["Labels"]),
        (&before["Id"], &before["IPAM"], &before["Labels"])
    );
    assert_eq!(after["Containers"], serde_json::json!({}));
    let _ = engine.docker(["start", "db"]).success();
    assert_eq!(engine.inspect("db")["NetworkSettings"]["Networks"]["back"]["IPAddress"], "172.18.0.2");
    engine.stop();
    engine.boot();
    assert_eq!(network(&engine, "back")["Id"], before["Id"]);
    let _ = engine.docker(["rm", "db"]).success();
    let _ = engine.docker(["network", "rm", "back"]).success();
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "back"]).success();
    stay(&engine, &["--name", "db", "--network", "back"]);
    stay(&engine, &["--name", "web"]);
    assert_ne!(shell(&engine, "web", "nslookup -type=a db").code(), Some(0));
    let _ = engine.docker(["network", "connect", "--alias", "site", "back", "web"]).success();
    let _ = shell(&engine, "web", "nslookup -type=a db && ping -c 1 -W 5 db").success();
    let _ = shell(&engine, "db", "nslookup -type=a site").success();
    let hosts = shell(&engine, "web", "cat /etc/hosts").success().stdout();
    assert!(hosts.contains("172.18.0.3\t"), "{hosts}");
    let routes = shell(&engine, "web", "ip route").success().stdout();
    assert!(routes.contains("default via 172.18.0.1 dev eth1"), "back sorts before bridge: {routes}");
    let networks = engine.inspect("web")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), ["back", "bridge"]);
    let _ = engine.docker(["network", "disconnect", "back", "web"]).success();
    assert_eq!(shell(&engine, "web", "ls /sys/class/net").success().stdout(), "eth0\nlo\n");
    let routes = shell(&engine, "web", "ip route").success().stdout();
    assert!(routes.contains("default via 172.17.0.1 dev eth0"), "{routes}");
    let hosts = shell(&engine, "web", "cat /etc/hosts").success().stdout();
    assert!(!hosts.contains("172.18.0.3\t"), "{hosts}");
    assert_ne!(shell(&engine, "db", "nslookup -type=a site").code(), Some(0));
    let _ = engine.docker(["network", "disconnect", "bridge", "web"]).success();
    assert_eq!(shell(&engine, "web", "ls /sys/class/net").success().stdout(), "lo\n");
    assert_eq!(shell(&engine, "web", "ip route").success().stdout(), "");
}

#[test]
fn a_stopped_containers_networks_are_joined_at_its_start() {
    require!(crate::available());
    let engine = engine_with_busybox();
    for name in ["alpha", "beta"] {
        let _ = engine.docker(["network", "create", name]).success();
    }
    let create = ["create", "--name", "web", "--network", "name=alpha,mac-address=02:00:00:00:00:09"];
    let more = ["--network", "name=beta,gw-priority=1", "busybox", "sleep", "1000"];
    let _ = engine.docker([&create[..], &more[..]].concat()).success();
    let _ = engine.docker(["network", "connect", "bridge", "web"]).success();
    let _ = engine.docker(["start", "web"]).success();
    let links = shell(&engine, "web", "ls /sys/class/net").success().stdout();
    assert_eq!(links, "eth0\neth1\neth2\nlo\n");
    let routes = shell(&engine, "web", "ip route").success().stdout();
    assert!(routes.contains("default via 172.19.0.1"), "{routes}");
    let networks = engine.inspect("web")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks["alpha"]["MacAddress"], "02:00:00:00:00:09");
    assert_eq!(
        shell(&engine, "web", "cat /sys/class/net/eth0/address").success().stdout(),
        "02:00:00:00:00:09\n"
    );
    let _ = engine.docker(["network", "disconnect", "beta", "web"]).success();
    let routes = shell(&engine, "web", "ip route").success().stdout();
    assert!(routes.contains("default via 172.18.0.1 dev eth0"), "{routes}");
}

#[test]
fn events_tell_of_networks_and_their_members() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "back"]).success();
    let _ = engine.docker(["run", "--rm", "--network", "back", "busybox", "true"]).success();
    let _ = engine.docker(["network", "rm", "back"]).success();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let until = (now + 1).to_string();
    let format = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}";
    let filter = ["--filter", "type=network", "--format", format];
    let events = engine.docker([&["events", "--since", "0", "--until", &until][..], &filter[..]].concat());
    let told = events.success().stdout();
    assert_eq!(
        told,
        "create back bridge\nconnect back bridge\ndisconnect back bridge\ndestroy back bridge\n"
    );
}

#[test]
fn prune_takes_what_nobody_uses() {
    require!(crate::available());
    let engine = engine_with_busybox();
    for name in ["used", "idle", "marked"] {
        let label = format!("name={name}");
        let _ = engine.docker(["network", "create", "--label", &label, name]).success();
    }
    let _ = engine.docker(["create", "--name", "web", "--network", "used", "busybox"]).success();
    let pruned =
        engine.docker(["network", "prune", "--force", "--filter", "label!=name=marked"]).success().stdout();
    assert!(pruned.contains("idle") && !pruned.contains("used") && !pruned.contains("marked"), "{pruned}");
}

#[test]
fn networks_are_apart_and_an_internal_one_has_no_way_out() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "one"]).success();
    let _ = engine.docker(["network", "create", "two"]).success();
    let _ = engine.docker(["network", "create", "--internal", "shut"]).success();
    let quiet = ["network", "create", "--opt", "com.docker.network.bridge.enable_icc=false", "quiet"];
    let _ = engine.docker(quiet).success();
    for (name, network) in
        [("aa", "one"), ("bb", "one"), ("cc", "two"), ("dd", "shut"), ("ee", "quiet"), ("ff", "quiet")]
    {
        stay(&engine, &["--name", name, "--network", network]);
    }
    let address = |name: &str| {
        let networks = engine.inspect(name)["NetworkSettings"]["Networks"].clone();
        networks.as_object().unwrap().values().next().unwrap()["IPAddress"].as_str().unwrap().to_owned()
    };
    let reaches = |from: &str, to: &str| {
        shell(&engine, from, &format!("ping -c 1 -W 1 {}", address(to))).code() == Some(0)
    };
    assert!(reaches("aa", "bb"));
    assert!(!reaches("aa", "cc"));
    assert!(!reaches("ee", "ff"));
    assert_eq!(shell(&engine, "dd", "ip route").success().stdout().lines().count(), 1);
}

#[test]
fn ipv6_is_given_and_published_when_asked_for() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "--ipv6", "made-up"]).success();
    let _ = engine.docker(["network", "create", "--ipv6", "--subnet", "fd00:7::/64", "chosen"]).success();
    let subnets = network(&engine, "made-up")["IPAM"]["Config"].clone();
    assert!(subnets[1]["Subnet"].as_str().unwrap().starts_with("fd"), "{subnets}");
    stay(&engine, &["--name", "one", "--network", "chosen", "--ip6", "fd00:7::77"]);
    stay(&engine, &["--name", "two", "--network", "chosen"]);
    let _ = shell(&engine, "two", "ping -6 -c 1 -W 5 fd00:7::77").success();
    let answer = shell(&engine, "two", "nslookup -type=aaaa one").success().stdout();
    assert!(answer.contains("fd00:7::77"), "{answer}");
    let routes = shell(&engine, "two", "ip -6 route").success().stdout();
    assert!(routes.contains("default via fd00:7::1"), "{routes}");
}

#[test]
fn options_of_the_driver_and_of_endpoints_are_heeded() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let create = ["network", "create", "--opt", "com.docker.network.driver.mtu=1400"];
    let more = ["--opt", "com.docker.network.bridge.name=quay0"];
    let last = ["--opt", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "back"];
    let _ = engine.docker([&create[..], &more[..], &last[..]].concat()).success();
    let place = "name=back,driver-opt=com.docker.network.endpoint.ifname=sail0,\
                 \"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1\"";
    stay(&engine, &["--name", "web", "--network", place, "--publish", "8080:80"]);
    assert_eq!(shell(&engine, "web", "cat /sys/class/net/sail0/mtu").success().stdout(), "1400\n");
    assert_eq!(
        shell(&engine, "web", "cat /proc/sys/net/ipv4/conf/sail0/log_martians").success().stdout(),
        "1\n"
    );
    assert_eq!(engine.docker(["port", "web"]).success().line(), "80/tcp -> 127.0.0.1:8080");
    let links =
        Output::of(engine.sandbox().command("ip").args(["-j", "link", "show", "quay0"])).success().json();
    assert_eq!(links[0]["mtu"], 1400);
}

#[test]
fn legacy_links_give_names_and_variables() {
    require!(crate::available());
    let engine = engine_with_busybox();
    stay(&engine, &["--name", "db", "--expose", "5432", "--env", "USER=sailor"]);
    let run = ["run", "--rm", "--name", "web", "--link", "db:store", "busybox", "sh", "-c"];
    let said = engine.docker([&run[..], &["env; cat /etc/hosts"][..]].concat()).success().stdout();
    for line in [
        "STORE_PORT=tcp://172.17.0.2:5432",
        "STORE_PORT_5432_TCP_ADDR=172.17.0.2",
        "STORE_NAME=/web/store",
        "STORE_ENV_USER=sailor",
    ] {
        assert!(said.lines().any(|other| other == line), "{line}: {said}");
    }
    assert!(said.contains("172.17.0.2\tstore "), "{said}");
    let missing = engine.docker(["run", "--link", "nobody:x", "busybox"]).exits(125).stderr();
    assert!(missing.contains("could not get container for nobody"), "{missing}");
}

#[test]
fn a_published_port_follows_the_container_to_another_network() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["network", "create", "back"]).success();
    run_web(&engine);
    let page = || engine.sandbox().curl(["http://127.0.0.1:8080/"]).stdout();
    eventually("the page comes", || (page() == "ahoy\n").then_some(()));
    let _ = engine.docker(["network", "connect", "back", "web"]).success();
    let _ = engine.docker(["network", "disconnect", "bridge", "web"]).success();
    eventually("the page comes by the other network", || (page() == "ahoy\n").then_some(()));
    assert_eq!(engine.docker(["port", "web"]).success().line(), "80/tcp -> 0.0.0.0:8080");
}
