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

#[test]
fn logs_rotate_and_a_follower_gets_every_line_once() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    for driver in ["json-file", "local"] {
        let options = ["--log-driver", driver, "--log-opt", "max-size=100k", "--log-opt", "max-file=3"];
        let create = ["create", "--name", driver].into_iter().chain(options);
        let _ = engine.docker(create.chain(["busybox", "sh", "-c", script])).success();
        let mut follow = engine
            .docker_command(["logs", "--follow", driver])
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker starts");
        let _ = engine.docker(["start", driver]).success();
        // The follower may have come before the start, when there was nothing to follow yet.
        let lines: Vec<String> =
            BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
        let _ = follow.wait();
        let _ = engine.docker(["wait", driver]).success();
        if !lines.is_empty() {
            let first: usize = lines[0].strip_prefix("line ").unwrap().parse().unwrap();
            let expected: Vec<String> = (first..20_000).map(|number| format!("line {number}")).collect();
            assert!(lines == expected, "{} lines of {}", lines.len(), expected.len());
        }
        let kept = engine.docker(["logs", driver]).success().stdout();
        let kept: Vec<&str> = kept.lines().collect();
        assert!(
            kept.len() > 2000 && kept.len() < 8000 && kept.last() == Some(&"line 19999"),
            "{}",
            kept.len()
        );
        let tail = engine.docker(["logs", "--tail", "2000", driver]).success().stdout();
        assert_eq!(tail.lines().collect::<Vec<_>>(), kept[kept.len() - 2000..]);
    }
    let id = engine.inspect("json-file")["Id"].as_str().unwrap().to_owned();
    let directory = engine.data_root().join("containers").join(&id);
    let files = |end: &str| directory.join(format!("{id}-json.log{end}"));
    assert!(files("").is_file() && files(".1").is_file() && files(".2").is_file() && !files(".3").exists());
}

#[test]
fn lines_are_marked_with_labels_env_and_tag() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let run = ["run", "--name", "box", "--label", "team=red", "--env", "PORT=80", "--env", "OTHER=1"];
    let options = ["--log-opt", "labels=team", "--log-opt", "env-regex=^PO", "--log-opt", "tag={{.Name}}"];
    let _ = engine.docker(run.into_iter().chain(options).chain(["busybox", "echo", "line"])).success();
    let details = engine.docker(["logs", "--details", "box"]).success().stdout();
    assert_eq!(details, "PORT=80,tag=box,team=red line\n");
}

#[test]
fn drivers_and_options_that_are_not_there_are_refused_and_none_keeps_nothing() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let unknown = engine.docker(["create", "--log-driver", "fluentd", "busybox"]).exits(1).stderr();
    assert!(unknown.contains("no log driver named 'fluentd' is registered"), "{unknown}");
    let option = engine.docker(["create", "--log-opt", "colour=red", "busybox"]).exits(1).stderr();
    assert!(option.contains("unknown log opt 'colour' for json-file log driver"), "{option}");
    let none = ["run", "--name", "none", "--log-driver", "none", "busybox", "echo", "seen"];
    assert_eq!(engine.docker(none).success().stdout(), "seen\n");
    let refused = engine.docker(["logs", "none"]).exits(1).stderr();
    assert!(refused.contains("configured logging driver does not support reading"), "{refused}");
}
