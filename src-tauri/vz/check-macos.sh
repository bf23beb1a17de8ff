#!/usr/bin/env bash
# Proves on Linux what can be proved of the macOS-only code, for aarch64-apple-darwin:
#
#   1. it type-checks, with the standard library built from source (`host`, `vz`, the command; with `--app` the window too),
#   2. the check bites: a deliberate type error in macOS-only code is found,
#   3. it links: `vz`'s example becomes a Mach-O executable, with zig as the linker.
#
# The frameworks' stubs are our own, so 3 proves Mach-O output and no more: not that a symbol exists on a Mac.
# On a Mac 1 and 3 are an ordinary build, which is all that is done there.
#
# Everything lands under target/macos and is made once. Variables:
#   RUST_SRC_LIBRARY   the standard library's source: a folder that holds `std`, or a .tar.gz of `library/`.
#                      Default: Debian's package `rust-src`, of the very version of the compiler.
#   CARGO_TARGET_DIR   as cargo knows it
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/macos
triple=aarch64-apple-darwin
packages=(-p host -p vz -p sampan)
for argument in "$@"; do
    case $argument in
    --app) packages+=(-p sampan-app) ;;
    *) echo "usage: check-macos.sh [--app]" >&2; exit 2 ;;
    esac
done

say() { printf '\033[1mcheck-macos\033[0m  %s\n' "$*"; }
fail() { printf 'check-macos: %s\n' "$*" >&2; exit 1; }

if [ "$(uname -s)" = Darwin ]; then
    say "on a Mac: an ordinary build"
    exec cargo build --target "$triple" "${packages[@]}" --example boot
fi

release=$(rustc --version | cut -d' ' -f2)

# Debian's package of the standard library's source, pinned: one that differs by a point release doesn't build.
suite=trixie-backports
package_version=1.95.0+dfsg1-2~bpo13+1
package_sha256=7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b

# Fetches the package with an apt configuration of our own; the machine's stays as it is. The mirror is the machine's.
fetch_library() {
    command -v apt-get >/dev/null || fail "set RUST_SRC_LIBRARY: there is no apt here to fetch the standard library's source with"
    [ "$release" = "${package_version%%+*}" ] || fail "the pinned rust-src is ${package_version%%+*}, the compiler $release: set RUST_SRC_LIBRARY"
    local apt=$work/apt mirror
    mirror=$(apt-get indextargets --format '$(SITE)' | grep -m1 -E '/debian/?$' || true)
    [ -n "$mirror" ] || fail "apt here knows no Debian mirror: set RUST_SRC_LIBRARY"
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,empty}
    : >"$apt/status"
    echo "deb $mirror $suite main" >"$apt/sources.list"
    local options=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/empty"
                   -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Dir::State::status="$apt/status"
                   -o APT::Sandbox::User=root -o APT::Architecture=amd64 -o APT::Get::List-Cleanup=false)
    apt-get "${options[@]}" update -qq
    local offered
    offered=$(apt-cache "${options[@]}" madison rust-src | cut -d'|' -f2 | tr -d ' ' | paste -sd' ')
    (cd "$apt" && apt-get "${options[@]}" download -qq "rust-src=$package_version") ||
        fail "$suite has no rust-src $package_version any more (it has: ${offered:-none}): set RUST_SRC_LIBRARY"
    local file=("$apt"/rust-src_*.deb)
    echo "$package_sha256  ${file[0]}" | sha256sum --check --quiet || fail "rust-src is not the pinned package"
    mkdir -p "$work/package"
    dpkg-deb --fsys-tarfile "${file[0]}" | tar -x -C "$work/package"
    library=$work/package/usr/src/rustc-$release/library
    [ -d "$library/std" ] || fail "the package holds no standard library"
}

# The toolchain with the standard library's source in it. Copied, so that the installed one stays as it is.
prepare_sysroot() {
    sysroot=$work/sysroot-$release
    [ -e "$sysroot/.complete" ] && return
    say "preparing a toolchain with the standard library's source (once)"
    rm -rf "$sysroot"
    mkdir -p "$work"
    cp -a --reflink=auto "$(rustc --print sysroot)" "$sysroot"
    local destination=$sysroot/lib/rustlib/src/rust
    rm -rf "$destination/library"
    mkdir -p "$destination"
    local library=${RUST_SRC_LIBRARY:-}
    [ -n "$library" ] || fetch_library
    if [ -d "$library" ]; then
        [ -d "$library/std" ] || fail "\`$library\` holds no \`std\`"
        cp -aL "$library" "$destination/library"
    else
        mkdir -p "$work/unpacked"
        tar -xzf "$library" -C "$work/unpacked"
        [ -d "$work/unpacked/library/std" ] || fail "\`$library\` holds no \`library/std\`"
        mv "$work/unpacked/library" "$destination/library"
    fi
    # Cargo builds the standard library with the versions that its lock file names.
    [ -e "$destination/library/Cargo.lock" ] || fail "the standard library's source has no Cargo.lock"
    touch "$sysroot/.complete"
}

# zig and cargo-zigbuild, as Python packages in an environment of their own.
prepare_zig() {
    zig=$work/zig
    [ -e "$zig/.complete" ] && return
    say "fetching zig and cargo-zigbuild (once)"
    rm -rf "$zig"
    python3 -m venv "$zig"
    "$zig/bin/pip" install --quiet --disable-pip-version-check ziglang==0.15.2 cargo-zigbuild==0.22.1
    touch "$zig/.complete"
}

# Builds for the Mac. The bootstrap variable lets cargo build the standard library with a stable compiler; it stays
# out of the ordinary build, where it would let nightly features through.
on_mac_target() {
    local verb=$1
    shift
    RUSTC="$sysroot/bin/rustc" RUSTDOC="$sysroot/bin/rustdoc" RUSTC_BOOTSTRAP=1 CC_aarch64_apple_darwin=clang \
        CARGO_TARGET_DIR="$work/build" "$sysroot/bin/cargo" "$verb" -Zbuild-std --target "$triple" "$@"
}

command -v clang >/dev/null || fail "clang is missing (Debian: apt install clang)"
prepare_sysroot

say "type-checking ${packages[*]} for $triple"
on_mac_target check --quiet "${packages[@]}" --examples

say "checking that a type error is found"
if errors=$(on_mac_target check --quiet -p vz --features deliberate-type-error 2>&1); then
    fail "a deliberate type error in macOS-only code went unnoticed"
fi
grep -q 'error\[E0308\]' <<<"$errors" || fail "the deliberate error failed otherwise than by E0308:
$errors"

prepare_zig
say "linking vz's example"
PATH="$zig/bin:$PATH" on_mac_target zigbuild --quiet -p vz --example boot
binary=$work/build/$triple/debug/examples/boot
magic=$(od -An -tx4 -N8 "$binary" | tr -s ' ')
[ "$magic" = " feedfacf 0100000c" ] || fail "\`$binary\` is no Mach-O executable for arm64 (it begins with$magic)"
say "done: type-checked, the check bites, and $(basename "$binary") is a Mach-O arm64 executable of $(stat -c %s "$binary") bytes"
