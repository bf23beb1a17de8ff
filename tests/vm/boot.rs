//! Start, status, stop; the guest's own look at itself; two VMs at once.

use std::time::{Duration, Instant};

use harness::{Vm, require};

#[test]
fn a_vm_starts_tells_its_state_and_stops_within_two_seconds() {
    require!(crate::available());
    let vm = crate::vm_with_busybox();
    assert_eq!(vm.status()["vm"]["state"], "running", "{}", vm.status());
    let info = vm.docker(["info", "--format", "{{json .}}"]).success().json();
    assert_eq!(info["Warnings"].as_array().map_or(0, Vec::len), 0, "every limit can be enforced: {info}");
    let _ = vm
        .docker(["run", "--detach", "busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"])
        .success();
    let began = Instant::now();
    vm.stop();
    // Software emulation is several times slower than a Mac; the goal is 2 s on one.
    assert!(began.elapsed() < Duration::from_secs(6), "stopping took {:?}", began.elapsed());
    assert_eq!(vm.status()["vm"]["state"], "stopped");
}

#[test]
fn two_vms_run_side_by_side() {
    require!(crate::available());
    let (one, other) = (crate::vm_with_busybox(), Vm::start());
    assert_eq!(one.docker(["images", "--quiet"]).success().stdout().lines().count(), 1);
    assert_eq!(other.docker(["images", "--quiet"]).success().stdout(), "");
    other.stop();
    assert_eq!(one.docker(["run", "--rm", "busybox", "echo", "on"]).success().stdout(), "on\n");
}
