#!/bin/bash
# Builds all programs into one directory.
#
#   tools/programs.sh DIRECTORY
#
# All are static: the helpers go into containers and must load nothing there, and one kind of build
# for all compiles every crate once.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
host=$(rustc -vV | sed -n 's/^host: //p')
programs=(keynsd keyctl-ns keyns-tui keyns-stage keyns-monitor keyns-shelter keyns-probe)

# With --target, so that the flag is not for procedural macros too, which cannot be static.
RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static" cargo build --release --locked \
    --target "$host" -p keynsd -p keyctl-ns -p keyns-tui -p keyns-probe "${programs[@]/#/--bin=}"

mkdir -p "$out"
for program in "${programs[@]}"; do
    # By rename, so that a program that is running stays what it is.
    cp "${CARGO_TARGET_DIR:-target}/$host/release/$program" "$out/.$program.new"
    mv "$out/.$program.new" "$out/$program"
done
for program in keyns-upcall keyns-request-key; do
    tools/light.sh "$program" "$program" "$out"
done
tools/light.sh keyctl-ns keyctl "$out" --no-default-features
