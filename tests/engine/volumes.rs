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
