//! The arm64 image, emulated: the one that runs on a Mac, as far as it can be run here.
//!
//! Ignored by default, because its image takes minutes to build: `.make/test arm64` builds it and runs this.

use std::{fs, sync::Arc};

use harness::{Sandbox, Vm, require, settings};

#[test]
#[ignore = "needs the arm64 image: `.make/test arm64`"]
fn the_arm64_image_boots_and_runs_a_container() {
    require!(crate::available());
    require!(settings::program("qemu-system-aarch64").map(drop));
    let image = settings::vm_image_of("arm64");
    require!(image.as_ref().map(drop).map_err(Clone::clone));
    let Ok(image) = image else { return };
    let hello = fs::read(image.join("hello.tar")).expect("the image comes with its first container's");
    let vm = Vm::start_image(&Arc::new(Sandbox::new()), "vm", image);
    let server = vm.docker(["version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"]);
    assert_eq!(server.success().line(), "linux/arm64");
    vm.load(&hello);
    let said = vm.docker(["run", "--rm", "sampan/hello"]).success().stdout();
    assert!(said.contains("(aarch64)"), "{said}");
    // Counting them needs system calls whose names differ between the architectures' tables: none is forbidden.
    assert!(said.contains("processes  1 in this namespace"), "{said}");
    vm.stop();
}
