//! create + start + wait + remove of `busybox true` over the API: ours and dockerd's, turn by turn.

use std::{path::Path, time::Instant};

use anyhow::Context;
use harness::{Engine, fixtures};
use serde_json::Value;

use crate::{
    http::Client,
    limit,
    peer::Dockerd,
    report::{Report, Times},
};

/// Enough for a steady median; dockerd takes some 200 ms a turn.
const TURNS: usize = 50;

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let engine = Engine::start();
    engine.load(&fixtures::busybox());
    let peer = Dockerd::start()?;
    peer.load(&fixtures::busybox());
    let (engine_socket, peer_socket) = (engine.socket(), peer.socket());
    let (mut ours, mut theirs, mut bridge) = (Times::default(), Times::default(), Times::default());
    for socket in [&engine_socket, &peer_socket] {
        (0..3).try_for_each(|_| cycle(socket, "none").map(drop))?;
    }
    for _ in 0..TURNS {
        ours.add(cycle(&engine_socket, "none")?);
        bridge.add(cycle(&engine_socket, "bridge")?);
        theirs.add(cycle(&peer_socket, "none")?);
    }
    report.compare("create+start+wait+remove, no network", &ours, "dockerd", &theirs);
    report.compare("the same beside the kernel's part alone", &ours, "C program", &limit::run(TURNS)?);
    report.compare("the same: bridge beside no network", &bridge, "ours, none", &ours);
    Ok(())
}

fn cycle(socket: &Path, network: &str) -> anyhow::Result<std::time::Duration> {
    let mut client = Client::connect(socket)?;
    let body = format!(r#"{{"Image":"busybox","Cmd":["true"],"HostConfig":{{"NetworkMode":"{network}"}}}}"#);
    let began = Instant::now();
    let created: Value = serde_json::from_str(&client.call("POST", "/v1.41/containers/create", &body)?)?;
    let id = created["Id"].as_str().context("create answers no id")?;
    client.call("POST", &format!("/v1.41/containers/{id}/start"), "")?;
    client.call("POST", &format!("/v1.41/containers/{id}/wait"), "")?;
    client.call("DELETE", &format!("/v1.41/containers/{id}"), "")?;
    Ok(began.elapsed())
}
