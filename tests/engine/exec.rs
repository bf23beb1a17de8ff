//! Programs executed in a running container.

use harness::{Output, require};

use crate::engine_with_busybox;

#[test]
fn exec_joins_the_container_and_passes_the_exit_code_on() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine
        .docker(["run", "--detach", "--name", "box", "--hostname", "boat", "busybox", "sleep", "1000"])
        .success();
    let joined =
        engine.docker(["exec", "box", "sh", "-c", "hostname; cat /proc/1/comm; exit 5"]).exits(5).stdout();
    assert_eq!(joined, "boat\nsleep\n");
    let missing = engine.docker(["exec", "box", "no-such-program"]).exits(127);
    assert!(format!("{missing}").contains("executable file not found in $PATH"), "{missing}");
}

#[test]
fn exec_takes_user_environment_directory_and_input() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sleep", "1000"]).success();
    let arguments = [
        "exec",
        "--user",
        "1000",
        "--env",
        "A=b",
        "--workdir",
        "/tmp",
        "box",
        "sh",
        "-c",
        "id -u; echo $A; pwd",
    ];
    assert_eq!(engine.docker(arguments).success().stdout(), "1000\nb\n/tmp\n");
    let mut wc = engine.docker_command(["exec", "--interactive", "box", "wc", "-c"]);
    assert_eq!(Output::with_input(&mut wc, &[b'x'; 300_000]).success().line().trim(), "300000");
}

#[test]
fn exec_in_a_stopped_container_is_refused() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let id = engine.docker(["create", "busybox"]).success().line();
    let refused = engine.docker(["exec", &id, "true"]).stderr();
    assert!(refused.contains("is not running"), "{refused}");
}
