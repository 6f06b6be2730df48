#!/bin/sh
# Builds the personality `keyctl` as one small static file and puts it into a directory.
#
#   keyctl-ns/build-keyctl.sh [DIRECTORY]          default: target/keyns-bin
#
# `keyctl-ns` behaves the same when it is called as `keyctl`. But scripts call keyctl hundreds of
# times, and most calls are one system call: what they cost is the start of the program. For why it
# is musl, and what the linker is told, see keyns-upcall/build.sh.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/target/keyns-bin}
cd "$root"
machine=$(rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')
musl=$machine-unknown-linux-musl
gnu=$machine-unknown-linux-gnu

have() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]; }
if ! have "$musl" && command -v rustup >/dev/null; then
    rustup target add "$musl" >&2 || true
fi
if have "$musl"; then target=$musl; else target=$gnu; fi

cargo rustc --quiet --locked -p keyctl-ns --no-default-features --bin keyctl --profile upcall \
    --target "$target" -- \
    -C target-feature=+crt-static -C relocation-model=static \
    -C link-arg=-Wl,-z,noseparate-code,-z,norelro
built=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/$target/upcall/keyctl
mkdir -p "$out"
# By rename, so that a program that is running stays what it is.
cp "$built" "$out/.keyctl.new"
chmod 0755 "$out/.keyctl.new"
mv "$out/.keyctl.new" "$out/keyctl"
