//! bollard, the client that Rust programs use.

use bollard::{
    Docker,
    container::LogOutput,
    exec::{CreateExecOptions, StartExecResults},
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StatsOptionsBuilder, WaitContainerOptions,
    },
};
use futures_util::{StreamExt, TryStreamExt};
use harness::{Engine, require};

#[tokio::test]
async fn bollard_works_a_session_through() {
    require!(Engine::with_busybox_available());
    let engine = Engine::with_busybox();
    let docker =
        Docker::connect_with_unix(engine.socket().to_str().unwrap(), 60, bollard::API_DEFAULT_VERSION)
            .unwrap()
            .negotiate_version()
            .await
            .unwrap();
    assert_eq!(docker.ping().await.unwrap(), "OK");
    assert!(docker.inspect_image("busybox").await.unwrap().id.is_some());

    let script = "echo ready; exec sleep 1000";
    let body = ContainerCreateBody {
        image: Some("busybox".into()),
        cmd: Some(["sh", "-c", script].map(String::from).to_vec()),
        labels: Some([("crew".into(), "one".into())].into()),
        host_config: Some(HostConfig { memory: Some(64 << 20), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptionsBuilder::new().name("rust").build();
    let id = docker.create_container(Some(named), body).await.unwrap().id;
    docker.start_container("rust", None).await.unwrap();

    let logs = LogsOptionsBuilder::new().stdout(true).follow(true).build();
    let first = docker.logs("rust", Some(logs)).next().await.unwrap().unwrap();
    assert_eq!(first, LogOutput::StdOut { message: "ready\n".into() });
    let labelled = [("label".to_owned(), vec!["crew=one".to_owned()])].into();
    let list = ListContainersOptionsBuilder::new().filters(&labelled).build();
    let listed = docker.list_containers(Some(list)).await.unwrap();
    assert_eq!(listed[0].id.as_deref(), Some(&*id));
    let once = StatsOptionsBuilder::new().stream(false).build();
    let sample = docker.stats("rust", Some(once)).next().await.unwrap().unwrap();
    assert_eq!(sample.id.as_deref(), Some(&*id));

    assert_eq!(run(&docker, "echo out; echo err >&2; exit 4").await, ("out\n".into(), "err\n".into(), 4));

    let mut ended = docker.wait_container("rust", None::<WaitContainerOptions>);
    docker.kill_container("rust", None).await.unwrap();
    let answer = ended.next().await.unwrap();
    // bollard reports an exit code other than zero as an error that carries it.
    let code = match answer {
        Ok(response) => response.status_code,
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(code, 137);
    let remove = RemoveContainerOptionsBuilder::new().v(true).build();
    docker.remove_container("rust", Some(remove)).await.unwrap();
    match docker.inspect_container("rust", None).await {
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, message }) => {
            assert_eq!(message, "No such container: rust");
        }
        other => panic!("{other:?}"),
    }
}

/// Runs a shell command in the container; returns what it wrote and its exit code.
async fn run(docker: &Docker, script: &str) -> (String, String, i64) {
    let command = CreateExecOptions {
        cmd: Some(vec!["sh", "-c", script]),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec("rust", command).await.unwrap().id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await.unwrap() else {
        panic!("the exec was detached");
    };
    let (mut out, mut err) = (String::new(), String::new());
    for chunk in output.try_collect::<Vec<_>>().await.unwrap() {
        match chunk {
            LogOutput::StdOut { message } => out.push_str(&String::from_utf8_lossy(&message)),
            LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
            other => panic!("{other:?}"),
        }
    }
    (out, err, docker.inspect_exec(&exec).await.unwrap().exit_code.unwrap())
}
