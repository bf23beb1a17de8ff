//! Binds, named and anonymous volumes, temporary file systems.

use std::fs;

use harness::require;

use crate::engine_with_busybox;

#[test]
fn a_bind_shows_the_hosts_folder_and_can_be_read_only() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let folder = engine.sandbox().path("shared");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("in"), "from outside").unwrap();
    let bind = format!("{}:/srv", folder.display());
    let read = engine.docker([
        "run",
        "--rm",
        "--volume",
        &bind,
        "busybox",
        "sh",
        "-c",
        "cat /srv/in; echo x > /srv/out",
    ]);
    assert_eq!(read.success().stdout(), "from outside");
    assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), "x\n");
    let read_only = format!("{bind}:ro");
    let refused =
        engine.docker(["run", "--rm", "--volume", &read_only, "busybox", "touch", "/srv/y"]).exits(1);
    assert!(refused.stderr().contains("Read-only file system"), "{refused}");
}

#[test]
fn a_named_volume_keeps_data_and_starts_with_the_images_content() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let first = [
        "run",
        "--rm",
        "--volume",
        "data:/var/www",
        "busybox",
        "sh",
        "-c",
        "cat /var/www/index.html; echo kept > /var/www/k",
    ];
    assert_eq!(engine.docker(first).success().stdout(), "ahoy\n");
    let second = ["run", "--rm", "--volume", "data:/d", "busybox", "cat", "/d/k"];
    assert_eq!(engine.docker(second).success().stdout(), "kept\n");
    assert_eq!(engine.docker(["volume", "ls", "--quiet"]).success().stdout(), "data\n");
    let _ = engine.docker(["volume", "rm", "data"]).success();
}

#[test]
fn a_tmpfs_is_empty_and_bounded() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let full = engine.docker([
        "run",
        "--rm",
        "--tmpfs",
        "/t:size=64k",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/t/f",
        "bs=1k",
        "count=100",
    ]);
    assert!(full.exits(1).stderr().contains("No space left on device"));
}

#[test]
fn the_local_driver_mounts_what_its_options_say_while_somebody_uses_it() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("file"), "of the machine").unwrap();
    let create = |name: &str, options: &[&str]| {
        let options = options.iter().flat_map(|option| ["--opt", option]);
        engine.docker(["volume", "create"].into_iter().chain(options).chain([name]))
    };
    let _ = create("memory", &["type=tmpfs", "device=tmpfs", "o=size=64k,uid=1000"]).success();
    let device = format!("device={}", here.path().display());
    let _ = create("bound", &["type=none", &device, "o=bind"]).success();
    let incomplete = create("wrong", &["type=tmpfs"]).exits(1).stderr();
    assert!(incomplete.contains("missing required option: \"device\""), "{incomplete}");
    let unknown = create("wrong", &["colour=red"]).exits(1).stderr();
    assert!(unknown.contains("invalid option: \"colour\""), "{unknown}");
    let script = "stat -c %u /m; echo kept > /m/file; cat /b/file; sleep 1000";
    let run =
        ["run", "--detach", "--name", "one", "--volume", "memory:/m", "--volume", "bound:/b", "busybox"];
    let _ = engine.docker(run.into_iter().chain(["sh", "-c", script])).success();
    harness::eventually("it has read the machine's file", || {
        (engine.docker(["logs", "one"]).stdout() == "1000\nof the machine").then_some(())
    });
    // A second user shares the mount; it stays while the first one runs, and over the engine's death.
    let other = || engine.docker(["run", "--rm", "--volume", "memory:/m", "busybox", "cat", "/m/file"]);
    assert_eq!(other().success().stdout(), "kept\n");
    engine.kill_engine();
    assert_eq!(other().success().stdout(), "kept\n");
    let _ = engine.docker(["rm", "--force", "one"]).success();
    assert_ne!(other().code(), Some(0), "a tmpfs is gone with its last user");
    let nowhere = ["type=none", "device=/no/such/directory", "o=bind"];
    let _ = create("lost", &nowhere).success();
    let lost = engine.docker(["run", "--rm", "--volume", "lost:/l", "busybox", "true"]).stderr();
    assert!(lost.contains("failed to mount local volume"), "{lost}");
    let options = engine.docker(["volume", "inspect", "--format", "{{.Options.o}}", "bound"]).success();
    assert_eq!(options.line(), "bind");
}

#[test]
fn a_subpath_of_a_volume_and_nocopy() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let fill = ["run", "--rm", "--volume", "data:/d", "busybox", "sh", "-c"];
    let script = "mkdir -p /d/sub; echo below > /d/sub/file; ln -s /etc /d/out";
    let _ = engine.docker(fill.into_iter().chain([script])).success();
    let mount = "type=volume,source=data,target=/s,volume-subpath=sub";
    let read = engine.docker(["run", "--rm", "--mount", mount, "busybox", "cat", "/s/file"]);
    assert_eq!(read.success().stdout(), "below\n");
    let climbing = "type=volume,source=data,target=/s,volume-subpath=out";
    assert_ne!(engine.docker(["run", "--rm", "--mount", climbing, "busybox", "ls", "/s"]).code(), Some(0));
    let nocopy = ["run", "--rm", "--volume", "fresh:/var/www:nocopy", "busybox", "ls", "/var/www"];
    assert_eq!(engine.docker(nocopy).success().stdout(), "");
}

#[test]
fn an_image_is_mounted_read_only_whole_or_in_part() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let layer = hello_image::layer(&[
        hello_image::Entry::Directory("data", 0o755),
        hello_image::Entry::File("data/file", 0o644, b"of the image\n"),
    ]);
    let image = hello_image::Image::new().raw_layer(layer.unwrap());
    engine.load(&image.archive(&["data:1"]).unwrap());
    let mount = "type=image,source=data:1,target=/i";
    let run = ["run", "--name", "box", "--mount", mount, "busybox", "sh", "-c"];
    let script = "cat /i/data/file; touch /i/new 2>/dev/null || echo sealed";
    let read = engine.docker(run.into_iter().chain([script])).success();
    assert_eq!(read.stdout(), "of the image\nsealed\n");
    let part = "type=image,source=data:1,target=/i,image-subpath=data";
    let read = engine.docker(["run", "--rm", "--mount", part, "busybox", "cat", "/i/file"]).success();
    assert_eq!(read.stdout(), "of the image\n");
    let shown = engine.inspect("box")["Mounts"][0].clone();
    assert_eq!((&shown["Type"], &shown["RW"]), (&"image".into(), &false.into()));
    let copied = engine.docker(["cp", "box:/i/data/file", "-"]).success();
    assert!(copied.stdout().contains("of the image"));
    let missing = "type=image,source=nothing:1,target=/i";
    let refused = engine.docker(["create", "--mount", missing, "busybox"]).exits(1).stderr();
    assert!(refused.contains("No such image: nothing:1"), "{refused}");
}
