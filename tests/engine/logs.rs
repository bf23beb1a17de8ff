//! What a container wrote, read back and followed.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use harness::require;

use crate::engine_with_busybox;

#[test]
fn both_streams_come_back_in_order_and_apart() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "echo one; echo two >&2; echo three; printf end";
    let id = engine.docker(["run", "--detach", "busybox", "sh", "-c", script]).success().line();
    let _ = engine.docker(["wait", &id]).success();
    let logs = engine.docker(["logs", &id]).success();
    assert_eq!((logs.stdout().as_str(), logs.stderr().as_str()), ("one\nthree\nend", "two\n"));
}

#[test]
fn the_tail_and_timestamps_are_what_was_asked() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let id =
        engine.docker(["run", "--detach", "busybox", "sh", "-c", "echo one; printf end"]).success().line();
    let _ = engine.docker(["wait", &id]).success();
    assert_eq!(engine.docker(["logs", "--tail", "1", &id]).success().stdout(), "end");
    let stamped = engine.docker(["logs", "--timestamps", "--tail", "1", &id]).success().stdout();
    assert!(stamped.ends_with("Z end"), "{stamped}");
}

#[test]
fn a_line_of_a_megabyte_comes_back_whole() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo";
    let id = engine.docker(["run", "--detach", "busybox", "sh", "-c", script]).success().line();
    let _ = engine.docker(["wait", &id]).success();
    let logs = engine.docker(["logs", &id]).success().stdout();
    assert_eq!((logs.len(), logs.ends_with("x\n")), (1_000_001, true));
}

#[test]
fn a_follower_reads_what_comes_and_ends_with_the_container() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "echo first; read line; echo $line";
    let _ = engine
        .docker(["run", "--detach", "--interactive", "--name", "box", "busybox", "sh", "-c", script])
        .success();
    let mut follower =
        engine.docker_command(["logs", "--follow", "box"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let _ = harness::Output::with_input(&mut engine.docker_command(["attach", "box"]), b"second\n").success();
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    assert!(lines.next().is_none());
    assert!(follower.wait().unwrap().success());
}
