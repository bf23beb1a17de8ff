//! A VM that loses its power keeps what it had said was done.

use harness::{eventually, require};

#[test]
fn images_and_stopped_containers_are_there_after_a_power_loss() {
    require!(crate::available());
    let vm = crate::vm_with_busybox();
    let _ = vm.docker(["create", "--name", "kept", "busybox", "echo", "kept"]).success();
    let _ = vm
        .docker(["run", "--detach", "--name", "ran", "--restart", "always", "busybox", "sleep", "1000"])
        .success();
    // What has been answered is on the disk some tens of milliseconds later: this takes a second.
    let _ = vm.docker(["run", "--rm", "busybox", "sleep", "1"]).success();
    vm.cut_power();
    vm.boot();
    assert_eq!(vm.docker(["start", "--attach", "kept"]).success().stdout(), "kept\n");
    eventually("the restart policy holds", || (vm.inspect("ran")["State"]["Running"] == true).then_some(()));
    assert_eq!(vm.docker(["images", "--quiet"]).success().stdout().lines().count(), 1);
}
