//! Single requests on a container that is there already: ours and dockerd's, turn by turn.

use std::{path::Path, time::Duration, time::Instant};

use anyhow::Context;
use harness::{Engine, fixtures};
use serde_json::Value;

use crate::{
    http::Client,
    peer::Dockerd,
    report::{Report, Times},
};

const TURNS: usize = 20;
/// Containers in the list.
const LISTED: usize = 100;

/// What is asked of each engine.
#[derive(Default)]
struct Taken {
    exec: Times,
    stop: Times,
    remove: Times,
    list: Times,
    ping: Times,
}

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let engine = Engine::start();
    let peer = Dockerd::start()?;
    engine.load(&fixtures::busybox());
    peer.load(&fixtures::busybox());
    let (engine_socket, peer_socket) = (engine.socket(), peer.socket());
    let (mut ours, mut theirs) = (Taken::default(), Taken::default());
    for _ in 0..TURNS {
        living(&engine_socket, &mut ours)?;
        living(&peer_socket, &mut theirs)?;
    }
    for socket in [&engine_socket, &peer_socket] {
        let mut client = Client::connect(socket)?;
        (0..LISTED).try_for_each(|_| create(&mut client, &["true"]).map(drop))?;
    }
    for _ in 0..TURNS {
        asking(&engine_socket, &mut ours)?;
        asking(&peer_socket, &mut theirs)?;
    }
    for (what, mine, other) in [
        ("exec `true`", &ours.exec, &theirs.exec),
        ("stop, signal handled", &ours.stop, &theirs.stop),
        ("remove, stopped", &ours.remove, &theirs.remove),
        ("list of 100 containers", &ours.list, &theirs.list),
        ("ping", &ours.ping, &theirs.ping),
    ] {
        report.compare(what, mine, "dockerd", other);
    }
    Ok(())
}

fn living(socket: &Path, taken: &mut Taken) -> anyhow::Result<()> {
    let mut client = Client::connect(socket)?;
    let program = "trap 'exit 0' TERM; echo up; while :; do sleep 1000 & wait; done";
    let id = create(&mut client, &["sh", "-c", program])?;
    client.call("POST", &format!("/v1.41/containers/{id}/start"), "")?;
    // Its trap is set once it has said so.
    let logs = format!("/v1.41/containers/{id}/logs?stdout=1");
    while !client.call("GET", &logs, "")?.contains("up") {
        std::thread::sleep(Duration::from_millis(2));
    }
    let exec = format!("/v1.41/containers/{id}/exec");
    let body = r#"{"Cmd":["true"],"AttachStdout":true,"AttachStderr":true}"#;
    let began = Instant::now();
    let created: Value = serde_json::from_str(&client.call("POST", &exec, body)?)?;
    let exec = created["Id"].as_str().context("exec answers no id")?;
    Client::connect(socket)?.until_closed("POST", &format!("/v1.41/exec/{exec}/start"), "{}")?;
    taken.exec.add(began.elapsed());
    time(&mut taken.stop, || client.call("POST", &format!("/v1.41/containers/{id}/stop"), ""))?;
    time(&mut taken.remove, || client.call("DELETE", &format!("/v1.41/containers/{id}"), ""))
}

fn asking(socket: &Path, taken: &mut Taken) -> anyhow::Result<()> {
    let mut client = Client::connect(socket)?;
    time(&mut taken.list, || client.call("GET", "/v1.41/containers/json?all=1", ""))?;
    time(&mut taken.ping, || client.call("GET", "/_ping", ""))
}

fn time(times: &mut Times, call: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let began = Instant::now();
    call()?;
    times.add(began.elapsed());
    Ok(())
}

/// Creates a container of busybox without a network and returns its id.
pub(crate) fn create(client: &mut Client, command: &[&str]) -> anyhow::Result<String> {
    let body =
        serde_json::json!({ "Image": "busybox", "Cmd": command, "HostConfig": { "NetworkMode": "none" } });
    let created: Value =
        serde_json::from_str(&client.call("POST", "/v1.41/containers/create", &body.to_string())?)?;
    Ok(created["Id"].as_str().context("create answers no id")?.to_owned())
}
