//! Copies in and out, diffs, exports and commits.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use harness::{Engine, Output, require};

use crate::engine_with_busybox;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn put(engine: &Engine, query: &str, archive: &[u8]) -> Output {
    let file = folder();
    fs::write(file.path().join("tar"), archive).unwrap();
    let data = format!("@{}", text(&file.path().join("tar")));
    let arguments = [
        "--request",
        "PUT",
        "--header",
        "Content-Type: application/x-tar",
        "--data-binary",
        &data,
        "--write-out",
        "%{http_code}",
    ];
    engine.api(query, &arguments)
}

fn tar(entries: &[hello_image::Entry<'_>]) -> Vec<u8> {
    hello_image::layer(entries).unwrap()
}

#[test]
fn files_and_folders_are_copied_both_ways_whether_it_runs_or_not() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let here = folder();
    fs::create_dir_all(here.path().join("tree/deep")).unwrap();
    fs::write(here.path().join("tree/deep/file"), "content").unwrap();
    fs::set_permissions(here.path().join("tree/deep/file"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("deep/file", here.path().join("tree/link")).unwrap();
    let _ = engine.docker(["create", "--name", "still", "busybox"]).success();
    let _ = engine.docker(["run", "--detach", "--name", "runs", "busybox", "sleep", "1000"]).success();
    for name in ["still", "runs"] {
        let tree = text(&here.path().join("tree"));
        let _ = engine.docker(["cp", &tree, &format!("{name}:/home")]).success();
        let back = here.path().join(name);
        let _ = engine.docker(["cp", &format!("{name}:/home/tree"), &text(&back)]).success();
        assert_eq!(fs::read_to_string(back.join("link")).unwrap(), "content", "{name}");
        assert_eq!(fs::metadata(back.join("deep/file")).unwrap().mode() & 0o777, 0o640);
        let content = back.join("only");
        let _ = engine.docker(["cp", &format!("{name}:/home/tree/deep/."), &text(&content)]).success();
        assert!(content.join("file").is_file());
        let followed = back.join("followed");
        let from = format!("{name}:/home/tree/link");
        let _ = engine.docker(["cp", "--follow-link", &from, &text(&followed)]).success();
        assert!(followed.symlink_metadata().unwrap().is_file());
        let missing = engine.docker(["cp", &format!("{name}:/nothing"), "-"]).exits(1).stderr();
        assert!(missing.contains("Could not find the file /nothing in container"), "{missing}");
    }
    let inside = engine.docker(["exec", "runs", "cat", "/home/tree/deep/file"]).success();
    assert_eq!(inside.stdout(), "content");
    let root = engine.docker(["cp", "runs:/var/", "-"]).success();
    assert!(root.stdout().contains("var/www/index.html"));
    let _ = engine.docker(["rm", "--force", "runs", "still"]).success();
}

#[test]
fn volumes_are_seen_where_they_are_mounted() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let here = folder();
    fs::write(here.path().join("file"), "in the volume").unwrap();
    let volume = ["create", "--name", "box", "--volume", "data:/data", "--volume", "locked:/locked:ro"];
    let _ = engine.docker(volume.into_iter().chain(["busybox", "cat", "/data/file"])).success();
    let file = text(&here.path().join("file"));
    let _ = engine.docker(["cp", &file, "box:/data/file"]).success();
    assert_eq!(engine.docker(["start", "--attach", "box"]).success().stdout(), "in the volume");
    let in_volume = engine.docker(["volume", "inspect", "--format", "{{.Mountpoint}}", "data"]).success();
    assert!(Path::new(&in_volume.line()).join("file").is_file());
    let refused = engine.docker(["cp", &file, "box:/locked/file"]).exits(1).stderr();
    assert!(refused.contains("mounted volume is marked read-only"), "{refused}");
    let _ = engine.docker(["create", "--name", "sealed", "--read-only", "busybox"]).success();
    let refused = engine.docker(["cp", &file, "sealed:/file"]).exits(1).stderr();
    assert!(refused.contains("container rootfs is marked read-only"), "{refused}");
}

#[test]
fn the_stat_header_is_go_s_and_extraction_can_refuse_to_replace() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["create", "--name", "box", "busybox"]).success();
    let head = engine.api("/containers/box/archive?path=/bin/sh", &["--head"]).success().stdout();
    let header = head
        .lines()
        .find_map(|line| line.strip_prefix("X-Docker-Container-Path-Stat: "))
        .unwrap_or_else(|| panic!("{head}"));
    let mut base64 = std::process::Command::new("base64");
    let decoded = Output::with_input(base64.arg("--decode"), header.trim().as_bytes()).success().json();
    assert_eq!((&decoded["name"], &decoded["linkTarget"]), (&"sh".into(), &"/bin/busybox".into()));
    assert_eq!(decoded["mode"].as_u64().unwrap() >> 27, 1);
    let file_over_folder = tar(&[hello_image::Entry::File("www", 0o644, b"x")]);
    let query = "/containers/box/archive?path=/var&noOverwriteDirNonDir=1";
    let refused = put(&engine, query, &file_over_folder).stdout();
    assert!(refused.contains("cannot overwrite directory") && refused.ends_with("400"), "{refused}");
    let taken = put(&engine, "/containers/box/archive?path=/var", &file_over_folder).stdout();
    assert_eq!(taken, "200");
    let nowhere = put(&engine, "/containers/box/archive?path=/nowhere", &file_over_folder).stdout();
    assert!(nowhere.ends_with("404"), "{nowhere}");
    let no_folder = put(&engine, "/containers/box/archive?path=/etc/passwd", &file_over_folder).stdout();
    assert!(no_folder.contains("extraction point is not a directory"), "{no_folder}");
    let unnamed = engine.api("/containers/box/archive", &[]).stdout();
    assert!(unnamed.contains("'path' cannot be empty"), "{unnamed}");
}

#[test]
fn a_copy_never_leaves_the_container_whatever_its_links_say() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let here = folder();
    let outside = text(here.path());
    fs::write(here.path().join("secret"), "secret").unwrap();
    fs::write(here.path().join("file"), "planted").unwrap();
    let script = format!("ln -s {outside} /out; ln -s ../../../../../..{outside} /up; sleep 1000");
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sh", "-c", &script]).success();
    harness::eventually("the links are there", || {
        (engine.docker(["exec", "box", "readlink", "/up"]).code() == Some(0)).then_some(())
    });
    for stopped in [false, true] {
        if stopped {
            let _ = engine.docker(["kill", "box"]).success();
        }
        for link in ["out", "up"] {
            assert_ne!(engine.docker(["cp", &format!("box:/{link}/secret"), "-"]).code(), Some(0));
            let planted = text(&here.path().join("file"));
            let _ = engine.docker(["cp", &planted, &format!("box:/{link}/planted")]);
            assert!(!here.path().join("planted").exists(), "{link}");
        }
        // An archive that first makes a link and then writes through it stays inside too.
        let through = tar(&[
            hello_image::Entry::Symlink("link", &outside),
            hello_image::Entry::File("link/planted", 0o644, b"planted"),
        ]);
        let _ = put(&engine, "/containers/box/archive?path=/tmp", &through);
        assert!(!here.path().join("planted").exists());
    }
    let mut climbing = tar(&[hello_image::Entry::File("XX/XX/planted", 0o644, b"planted")]);
    climbing[..13].copy_from_slice(b"../../planted");
    crate::hostile::repair_checksum(&mut climbing[..512]);
    let refused = put(&engine, "/containers/box/archive?path=/tmp", &climbing).stdout();
    assert!(refused.ends_with("400"), "{refused}");
}

#[test]
fn a_copy_runs_nothing_of_the_container() {
    require!(crate::available());
    let engine = engine_with_busybox();
    // Every program and library that a careless helper would run or load leaves a mark when it is run.
    let script = "mkdir -p /lib /lib64 /usr/lib /lib/x86_64-linux-gnu
        printf '#!/bin/busybox sh\\necho run >> /mark\\n' > /trap
        /bin/busybox chmod 755 /trap
        for name in tar docker-tar gzip unpigz ls cat; do /bin/busybox rm -f /bin/$name; /bin/busybox cp /trap /bin/$name; done
        for name in libnss_files.so.2 libc.so.6 libnss_dns.so.2; do /bin/busybox cp /trap /lib/x86_64-linux-gnu/$name; done
        echo ready; exec /bin/busybox sleep 1000";
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sh", "-c", script]).success();
    harness::eventually("the traps are set", || {
        engine.docker(["logs", "box"]).stdout().contains("ready").then_some(())
    });
    let here = folder();
    fs::write(here.path().join("file"), "x").unwrap();
    let _ = engine.docker(["cp", &text(&here.path().join("file")), "box:/tmp/file"]).success();
    let _ = engine.docker(["cp", "box:/etc", &text(here.path())]).success();
    let _ = engine.docker(["export", "--output", &text(&here.path().join("tar")), "box"]).success();
    assert_ne!(engine.docker(["cp", "box:/mark", "-"]).code(), Some(0), "something of the container ran");
    let _ = engine.docker(["rm", "--force", "box"]).success();
}

#[test]
fn diff_tells_what_was_added_changed_and_deleted() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "echo x >> /etc/passwd; mkdir /new; echo y > /new/file; rm /var/www/index.html";
    let _ = engine.docker(["run", "--name", "box", "busybox", "sh", "-c", script]).success();
    let told = engine.docker(["diff", "box"]).success().stdout();
    assert_eq!(
        told,
        "C /etc\nC /etc/passwd\nA /new\nA /new/file\nC /var\nC /var/www\nD /var/www/index.html\n"
    );
    let _ = engine.docker(["run", "--name", "idle", "busybox", "true"]).success();
    assert_eq!(engine.docker(["diff", "idle"]).success().stdout(), "");
}

#[test]
fn an_export_is_the_root_without_volumes() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "echo mine > /file; echo not > /data/file; echo up; sleep 1000";
    let run = ["run", "--detach", "--name", "box", "--volume", "data:/data", "busybox", "sh", "-c", script];
    let _ = engine.docker(run).success();
    harness::eventually("it has written", || {
        engine.docker(["logs", "box"]).stdout().contains("up").then_some(())
    });
    let here = folder();
    let tar = text(&here.path().join("tar"));
    let names = || {
        let _ = engine.docker(["export", "--output", &tar, "box"]).success();
        Output::of(std::process::Command::new("tar").args(["--list", "--file", &tar])).success().stdout()
    };
    let running = names();
    let _ = engine.docker(["kill", "box"]).success();
    let stopped = names();
    for names in [running, stopped] {
        let has = |name: &str| names.lines().any(|line| line == name);
        assert!(has("file") && has("bin/busybox") && has("data/"), "{names}");
        assert!(!has("data/file") && !names.contains("proc/1/"), "{names}");
    }
}

#[test]
fn a_commit_is_an_image_of_files_and_config() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "echo made > /made; rm /var/www/index.html; sleep 1000";
    let run = ["run", "--detach", "--name", "box", "--env", "OWN=1", "busybox", "sh", "-c", script];
    let _ = engine.docker(run).success();
    harness::eventually("it has written", || {
        (engine.docker(["exec", "box", "test", "!", "-e", "/var/www/index.html"]).code() == Some(0))
            .then_some(())
    });
    let commit = [
        "commit",
        "--author",
        "me",
        "--message",
        "why",
        "--change",
        "ENV ADDED=\"two words\"",
        "--change",
        "CMD [\"cat\", \"/made\"]",
        "--change",
        "LABEL kind=committed",
        "box",
        "mine:1",
    ];
    let id = engine.docker(commit).success().line();
    let image = engine.inspect("mine:1");
    assert_eq!((&image["Id"], &image["Author"]), (&id.into(), &"me".into()));
    assert_eq!(image["Comment"], "why");
    assert_eq!(image["Config"]["Labels"]["kind"], "committed");
    let env = image["Config"]["Env"].to_string();
    assert!(env.contains("OWN=1") && env.contains("ADDED=two words"), "{env}");
    assert_eq!(engine.docker(["run", "--rm", "mine:1"]).success().stdout(), "made\n");
    let gone = engine.docker(["run", "--rm", "mine:1", "ls", "/var/www"]).success().stdout();
    assert_eq!(gone, "");
    assert_eq!(engine.inspect("box")["State"]["Status"], "running", "it runs again after the commit");
    let refused = engine.docker(["commit", "--change", "RUN x", "box"]).exits(1).stderr();
    assert!(refused.contains("RUN is not a valid change command"), "{refused}");
    let dangling = engine.docker(["commit", "--pause=false", "box"]).success().line();
    assert!(dangling.starts_with("sha256:"), "{dangling}");
    let _ = engine.docker(["rm", "--force", "box"]).success();
}
