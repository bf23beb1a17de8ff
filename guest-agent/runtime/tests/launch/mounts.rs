//! A container's files: its root, its mounts, and that they lead nowhere else.

use std::fs;
use std::os::unix::fs::symlink;

use runtime::{Mount, MountKind, TmpfsOptions};

use crate::cases::Case;
use crate::lab::{Lab, read};

pub(crate) const ALL: &[Case] = &[
    ("binds_and_tmpfs_are_mounted", binds_and_tmpfs_are_mounted),
    ("links_in_the_image_lead_nowhere_outside", links_in_the_image_lead_nowhere_outside),
    ("a_subpath_stays_in_its_volume", a_subpath_stays_in_its_volume),
    ("a_missing_source_is_named", a_missing_source_is_named),
    ("proc_cannot_be_a_link", proc_cannot_be_a_link),
    ("mounting_into_proc_is_refused", mounting_into_proc_is_refused),
    ("a_stopped_root_can_be_read", a_stopped_root_can_be_read),
    ("many_layers_are_stacked", many_layers_are_stacked),
    ("paths_of_layers_may_be_long", paths_of_layers_may_be_long),
    ("nothing_mounted_reaches_the_host", nothing_mounted_reaches_the_host),
];

fn binds_and_tmpfs_are_mounted(lab: &Lab) {
    let volume = lab.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "from the host\n").unwrap();
    let mount = |kind, target: &str, readonly| Mount { kind, target: target.into(), readonly };
    let mut plan = lab.sh(
        "cat /data/deep/file /one; echo back > /data/deep/back; touch /ro/x; grep ' /cache ' /proc/self/mounts; \
         stat -c %a /cache /var/plain",
    );
    plan.mounts = vec![
        // The inner one is listed first, and has to be mounted last.
        mount(MountKind::Tmpfs(TmpfsOptions::parse("size=4096k,mode=700").unwrap()), "/cache", false),
        mount(MountKind::bind(&volume), "/data/deep", false),
        mount(MountKind::Tmpfs(TmpfsOptions::default()), "/data", false),
        mount(MountKind::Tmpfs(TmpfsOptions::default()), "/var/plain", false),
        mount(MountKind::bind(&volume), "/ro", true),
        mount(MountKind::bind(volume.join("file")), "/one", true),
    ];
    let output = lab.run(plan);
    assert!(
        output.stdout.starts_with("from the host\nfrom the host\ntmpfs /cache tmpfs rw,nosuid,nodev,noexec,"),
        "{output:?}"
    );
    assert!(output.stdout.contains("size=4096k,mode=700"), "{output:?}");
    assert!(output.stdout.ends_with("700\n1777\n"), "{output:?}");
    assert!(output.stderr.contains("/ro/x: Read-only file system"), "{output:?}");
    assert_eq!(fs::read_to_string(volume.join("back")).unwrap(), "back\n");
}

fn links_in_the_image_lead_nowhere_outside(lab: &Lab) {
    let volume = lab.path("prize");
    fs::create_dir(&volume).unwrap();
    let trap = lab.path("trap");
    fs::create_dir(&trap).unwrap();
    let mut plan = lab.sh("ls /data/");
    // The target of the mount is a link to a directory of the host, by its absolute path and by `..`.
    symlink(&trap, plan.rootfs.upper.join("data")).unwrap();
    fs::write(volume.join("inside"), "").unwrap();
    plan.mounts = vec![Mount { kind: MountKind::bind(&volume), target: "/data/".into(), readonly: false }];
    assert_eq!(lab.run(plan).stdout, "inside\n");
    let mut plan = lab.sh("ls /data/here");
    symlink("../../../../../../../..", plan.rootfs.upper.join("data")).unwrap();
    plan.mounts =
        vec![Mount { kind: MountKind::bind(&volume), target: "/data/here".into(), readonly: false }];
    assert_eq!(lab.run(plan).stdout, "inside\n");
    assert_eq!(fs::read_dir(&trap).unwrap().count(), 0);
    assert!(!std::path::Path::new("/here").exists());
}

fn a_subpath_stays_in_its_volume(lab: &Lab) {
    let volume = lab.path("subpaths");
    fs::create_dir_all(volume.join("deep/down")).unwrap();
    fs::write(volume.join("deep/down/file"), "found\n").unwrap();
    symlink("/etc", volume.join("out")).unwrap();
    let plan = |subpath: &str| {
        let mut plan = lab.plan(&["cat", "/data/file"]);
        let kind = MountKind::Bind {
            source: volume.clone(),
            subpath: Some(subpath.into()),
            recursive: true,
            propagation: runtime::Propagation::Private,
            readonly_top_only: false,
        };
        plan.mounts = vec![Mount { kind, target: "/data".into(), readonly: false }];
        plan
    };
    assert_eq!(lab.run(plan("deep/down")).stdout, "found\n");
    for outside in ["out", "..", "deep/../../.."] {
        assert!(lab.refuse(plan(outside)).to_string().contains("cross-device link"));
    }
}

fn a_missing_source_is_named(lab: &Lab) {
    let mut plan = lab.plan(&["true"]);
    plan.mounts = vec![Mount { kind: MountKind::bind("/no/such"), target: "/data".into(), readonly: false }];
    let error = lab.refuse(plan).to_string();
    assert!(
        error.contains("error mounting \"/no/such\" to rootfs at \"/data\": no such file or directory"),
        "{error}"
    );
}

fn proc_cannot_be_a_link(lab: &Lab) {
    let plan = lab.plan(&["true"]);
    symlink("tmp", plan.rootfs.upper.join("proc")).unwrap();
    assert!(lab.refuse(plan).to_string().contains("error mounting \"proc\" to rootfs at \"/proc\""));
}

fn mounting_into_proc_is_refused(lab: &Lab) {
    let mut plan = lab.plan(&["true"]);
    symlink("proc/sys", plan.rootfs.upper.join("innocent")).unwrap();
    plan.mounts =
        vec![Mount { kind: MountKind::bind(lab.path("")), target: "/innocent".into(), readonly: false }];
    assert!(lab.refuse(plan).to_string().contains("operation not permitted"));
}

fn a_stopped_root_can_be_read(lab: &Lab) {
    let plan = lab.sh("echo kept > /file");
    let rootfs = plan.rootfs.clone();
    lab.run(plan);
    let root = lab.runtime.mount_rootfs(&rootfs).unwrap();
    let file =
        rustix::fs::openat(&root, "file", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(read(file), "kept\n");
    rustix::fs::statat(&root, "bin/busybox", rustix::fs::AtFlags::empty()).unwrap();
}

fn many_layers_are_stacked(lab: &Lab) {
    let mut plan = lab.sh("cat /top; ls /layers | wc -l");
    for number in 0..200 {
        let layer = lab.path(&format!("a-rather-long-name-for-a-layer-as-digests-are-long-too-{number}"));
        fs::create_dir_all(layer.join("layers")).unwrap();
        fs::write(layer.join(format!("layers/{number}")), "").unwrap();
        fs::write(layer.join("top"), format!("{number}\n")).unwrap();
        plan.rootfs.lowers.insert(0, layer);
    }
    assert_eq!(lab.run(plan).stdout, "199\n200\n");
}

fn paths_of_layers_may_be_long(lab: &Lab) {
    let long = lab.path(&"long-name/".repeat(40));
    let mut plan = lab.sh("cat /found; echo kept > /file");
    for name in ["upper", "work", "layer"] {
        fs::create_dir_all(long.join(name)).unwrap();
    }
    fs::write(long.join("layer/found"), "found\n").unwrap();
    plan.rootfs.lowers.push(long.join("layer"));
    (plan.rootfs.upper, plan.rootfs.work) = (long.join("upper"), long.join("work"));
    assert_eq!(lab.run(plan).stdout, "found\n");
    assert_eq!(fs::read_to_string(long.join("upper/file")).unwrap(), "kept\n");
}

fn nothing_mounted_reaches_the_host(lab: &Lab) {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container = lab.idle();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    // And the container keeps nothing of the host's.
    let mounts = lab.exec(&container, &["cat", "/proc/self/mounts"]).stdout;
    assert!(!mounts.contains("/dev/vda") && !mounts.contains("/mnt/"), "{mounts}");
    lab.end(&container);
}
