//! The first container: proof that all of it works, and where to go from there.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use host::Sampan;
use host::docker::Client;
use host::docker::types::{ContainerConfig, CreateContainer, LogOptions, LogStream};

use crate::show;

/// Loads the archive, runs one container of its image, and prints what to do next.
pub(crate) async fn run(sampan: &Sampan, archive: &Path) -> anyhow::Result<()> {
    let docker = sampan.docker();
    let began = Instant::now();
    let image =
        load(&docker, archive).await.with_context(|| format!("cannot load `{}`", archive.display()))?;
    println!("loaded {image} in {}", show::seconds(began.elapsed()));

    let began = Instant::now();
    let config = ContainerConfig { image: image.clone(), ..ContainerConfig::default() };
    let create = CreateContainer { config, ..CreateContainer::default() };
    let id = docker.create_container(None, &create).await.context("cannot create a container")?.id;
    let result = run_to_end(&docker, &id).await;
    let ran = began.elapsed();
    docker.remove_container(&id, true, true).await.context("cannot remove the container")?;
    let code = result.with_context(|| format!("cannot run {image}"))?;
    anyhow::ensure!(code == 0, "the container ended with status {code}");
    println!("ran it and removed it in {}", show::seconds(ran));

    let socket = sampan.settings().paths.docker_socket();
    println!("\nGo on with:");
    println!("  docker --host unix://{} run --rm {image}", socket.display());
    println!("  sampan status");
    println!("  sampan stop");
    Ok(())
}

/// Loads an archive and returns the name of its image, or its id.
async fn load(docker: &Client, archive: &Path) -> anyhow::Result<String> {
    let mut progress = docker.load_image(archive).await?;
    let mut name = None;
    while let Some(line) = progress.next().await {
        let text = line?.stream.unwrap_or_default();
        let found = text
            .trim()
            .strip_prefix("Loaded image: ")
            .or_else(|| text.trim().strip_prefix("Loaded image ID: "));
        name = name.or(found.map(str::to_owned));
    }
    name.context("it holds no image")
}

/// Starts a container, waits for its end and prints what it wrote.
async fn run_to_end(docker: &Client, id: &str) -> anyhow::Result<i64> {
    docker.start_container(id).await?;
    let code = docker.wait_container(id).await?.status_code;
    let mut logs = docker.container_logs(id, &LogOptions::default()).await?;
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        match chunk.stream {
            LogStream::Stdout => print!("{}", chunk.text),
            LogStream::Stderr => eprint!("{}", chunk.text),
        }
    }
    std::io::stdout().flush()?;
    Ok(code)
}
