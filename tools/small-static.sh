#!/bin/sh
# Builds one small static program without interpreter and puts it into a directory.
#
#   tools/small-static.sh PACKAGE PROGRAM DIRECTORY [OPTION OF CARGO]...
#
# For programs of which the start is most of what they cost. With musl that is a tenth of a
# millisecond; a static glibc takes up to 0.3 ms more in a virtual machine, because it executes CPUID
# some fifty times, which traps. musl's target comes with rustup; where it cannot be had, glibc serves
# as well, only slower.
set -eu
package=$1
program=$2
out=$3
shift 3
cd "$(dirname "$0")/.."
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
cargo rustc --quiet --locked -p "$package" --bin "$program" --profile upcall --target "$target" \
    "$@" -- \
    -C target-feature=+crt-static -C relocation-model=static \
    -C link-arg=-Wl,-z,noseparate-code,-z,norelro
built=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/$target/upcall/$program
mkdir -p "$out"
# By rename, so that a program that is running or bound elsewhere stays what it is.
cp "$built" "$out/.$program.new"
chmod 0755 "$out/.$program.new"
mv "$out/.$program.new" "$out/$program"
