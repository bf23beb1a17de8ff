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
# Everything lands under target/macos and is made once; the standard library's source is `.make/std-source`'s work,
# whose variables hold here too.
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
sysroot=$(.make/std-source)

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
