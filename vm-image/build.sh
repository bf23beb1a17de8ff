#!/bin/bash
# Builds the VM image of one architecture into vm-image/out/ARCH. See README.md for variables and for a Mac.
set -euo pipefail

arch=${1:-amd64}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
out=$here/out/$arch
cache=${SAMPAN_CACHE:-$root/target/vm-image}
mkdir -p "$cache"
source "$here/apt.sh"

fail() { echo "vm-image: $*" >&2; exit 1; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }
verified() { [ -f "$1" ] && [ "$(sha256 "$1")" = "$2" ]; }

case $arch in
  amd64) target=x86_64-unknown-linux-gnu ;;
  arm64) target=aarch64-unknown-linux-gnu ;;
  *) fail "unknown architecture '$arch': amd64 or arm64" ;;
esac

built=${CARGO_TARGET_DIR:-$root/target}/$target/release

# take_artefact FILE: the whole image as the Linux CI job made it, if its digest is the expected one.
take_artefact() {
  [ -n "${SAMPAN_VM_IMAGE_SHA256:-}" ] || fail "SAMPAN_VM_IMAGE needs SAMPAN_VM_IMAGE_SHA256, the digest to expect"
  [ -f "$1" ] || fail "there is no file '$1', which SAMPAN_VM_IMAGE names"
  verified "$1" "$SAMPAN_VM_IMAGE_SHA256" || fail "'$1' does not have the digest in SAMPAN_VM_IMAGE_SHA256"
  local fresh=$out.fresh
  rm -rf "$fresh"
  mkdir -p "$fresh"
  tar -xf "$1" -C "$fresh"
  # One of another architecture would only be found out by a VM that doesn't boot.
  grep -q "\"arch\": *\"$arch\"" "$fresh/manifest.json" 2>/dev/null || { rm -rf "$fresh"; fail "'$1' is no VM image for $arch"; }
  rm -rf "$out"
  mv "$fresh" "$out"
}

# fetch_kernel: sets `package` to the pinned kernel package, verified.
fetch_kernel() {
  local suite version path sum name source kind
  read -r _ suite version path sum < <(grep "^$arch " "$here/pins") || fail "no kernel is pinned for $arch"
  name=$(basename "$path")
  package=$cache/$name
  verified "$package" "$sum" && return
  for source in "${SAMPAN_KERNEL_PACKAGES:-}/$name" "${SAMPAN_KERNEL_PACKAGES:-}/${name//%2b/+}"; do
    if verified "$source" "$sum"; then package=$source; return; fi
  done
  case ${SAMPAN_KERNEL_PACKAGES:-} in
    http://*|https://*) curl -fsSL -o "$package.part" "$SAMPAN_KERNEL_PACKAGES/$path" ;;
    ?*) fail "no $name with the pinned digest in SAMPAN_KERNEL_PACKAGES ($SAMPAN_KERNEL_PACKAGES)" ;;
    *)
      command -v apt-get >/dev/null || fail "without apt, set SAMPAN_KERNEL_PACKAGES to a folder or mirror that has $name"
      case $suite in *-security) kind=security ;; *) kind=main ;; esac
      /usr/lib/apt/apt-helper -o APT::Sandbox::User="$(id -un)" download-file "$(mirror $kind)/$path" "$package.part" "SHA256:$sum" >/dev/null ||
        fail "cannot fetch Linux $version; if the mirror has a newer one only, run vm-image/update-pins"
      ;;
  esac
  verified "$package.part" "$sum" || fail "the fetched $name does not have the pinned digest"
  mv "$package.part" "$package"
}

# build_agent: sets `agent` to the static guest agent. SAMPAN_GUEST_AGENT names one that is built already.
build_agent() {
  agent=${SAMPAN_GUEST_AGENT:-}
  [ -z "$agent" ] || return 0
  # Static and not relocatable: a PID 1 has no use for either, and relocating costs memory and time at boot.
  local flags="-C target-feature=+crt-static -C relocation-model=static" extra=() cargo=(cargo)
  if ! rustc --print target-libdir --target "$target" 2>/dev/null | xargs test -d; then
    # No standard library for that target is installed: build it, which stable Rust does under this variable.
    local sysroot
    sysroot=$("$root/.make/std-source") || fail "the standard library for $target cannot be built"
    # Apart from the ordinary build: the variable would make cargo build much of that again.
    built=${CARGO_TARGET_DIR:-$root/target}/std-source/build/$target/release
    cargo=(env "RUSTC=$sysroot/bin/rustc" RUSTC_BOOTSTRAP=1 "CARGO_TARGET_DIR=${built%/*/*}" "$sysroot/bin/cargo")
    extra=(-Zbuild-std=std,panic_abort)
  fi
  case $arch-$(uname -s) in
    *-Darwin)
      [ -n "${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-}" ] ||
        fail "set CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER to a linker for Linux, such as zig cc"
      ;;
    arm64-Linux)
      if [ "$(uname -m)" != aarch64 ]; then
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
        command -v aarch64-linux-gnu-gcc >/dev/null || fail "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross are needed"
      fi
      ;;
  esac
  (cd "$root" && RUSTFLAGS=$flags "${cargo[@]}" build --quiet --release --target "$target" "${extra[@]}" \
    -p guest-agent -p hello-image --bin guest-agent --bin hello)
  agent=$built/guest-agent
}

# pack_hello: the first container's image, so that it needs no network.
pack_hello() {
  [ -f "$built/hello" ] || return 0
  cargo run --quiet --release -p hello-image --bin pack-hello -- "$built/hello" "$arch" "$out/hello.tar"
}

# make_seed: sets `seed` to an empty ext4 file system, the same bytes each time: fixed time, UUID and hash seed.
# Room is reserved for growing on line to 2 TiB; one inode per 32 KiB suits layers of many small files.
make_seed() {
  local mkfs id=5a3b9a50-da7a-4d15-8000-000000000001
  mkfs=$(PATH=$PATH:/usr/sbin:/sbin:/opt/homebrew/opt/e2fsprogs/sbin command -v mkfs.ext4) || fail "mkfs.ext4 is needed (e2fsprogs)"
  seed=$work/seed.img
  truncate -s 256M "$seed"
  # No configuration of the machine enters either.
  printf '[defaults]\nbase_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr\n[fs_types]\next4 = {\ninode_size = 256\n}\nsmall = {\ninode_size = 256\n}\n' >"$work/mke2fs.conf"
  MKE2FS_CONFIG=$work/mke2fs.conf E2FSPROGS_FAKE_TIME=1700000000 SOURCE_DATE_EPOCH=1700000000 \
    "$mkfs" -q -F -t ext4 -b 4096 -I 256 -i 32768 -m 0 -J size=64 -L sampan-data -U $id \
    -O has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize,^uninit_bg \
    -E "hash_seed=$id,resize=536870912,lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0" "$seed"
}

if [ -n "${SAMPAN_VM_IMAGE:-}" ]; then
  take_artefact "$SAMPAN_VM_IMAGE"
  exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch_kernel
build_agent
make_seed
mkdir -p "$out"
cd "$root"
cargo run --quiet --release -p vm-image -- --arch "$arch" --package "$package" --agent "$agent" \
  --modules "$here/modules" --seed "$seed" --out "$out"
pack_hello
