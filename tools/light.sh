#!/bin/sh
# Builds one of the programs that the kernel starts as a static file without interpreter, and puts
# it into a directory.
#
#   tools/light.sh PACKAGE [DIRECTORY]          default: target/keyns-bin
#
# The kernel starts them for every key request of the host, so their start-up counts. With musl that
# is a tenth of a millisecond; a static glibc takes up to 0.3 ms more in a virtual machine, because
# it executes CPUID some fifty times, which traps. musl's target comes with rustup; where it cannot
# be had, glibc serves as well, only slower.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
package=$1
out=${2:-$root/target/keyns-bin}
cd "$root"
machine=$(rustc -vV | sed -n 's/^host: \([^-]*\)-.*/\1/p')
musl=$machine-unknown-linux-musl
gnu=$machine-unknown-linux-gnu

have() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]; }
if ! have "$musl" && command -v rustup >/dev/null; then
    rustup target add "$musl" >&2 || true
fi
if have "$musl"; then target=$musl; else target=$gnu; fi

# Two segments instead of four, and none that is made read-only later: each costs a mapping and a
# page fault per start. Nothing is relocated in a static program, so that there is little to protect.
cargo rustc --quiet --locked -p "$package" --bin "$package" --profile upcall --target "$target" -- \
    -C target-feature=+crt-static -C relocation-model=static \
    -C link-arg=-Wl,-z,noseparate-code,-z,norelro
built=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/$target/upcall/$package
mkdir -p "$out"
# By rename, so that a program that is running or bound elsewhere stays what it is.
cp "$built" "$out/.$package.new"
chmod 0755 "$out/.$package.new"
mv "$out/.$package.new" "$out/$package"
