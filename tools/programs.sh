#!/bin/bash
# Builds all programs into one directory.
#
#   tools/programs.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
release=${CARGO_TARGET_DIR:-target}/release

cargo build --release --locked -p keynsd --bin keynsd -p keyctl-ns --bin keyctl-ns

# The helpers go into containers: static, so that they load nothing there, and start sooner.
helpers=(keyns-stage keyns-monitor keyns-shelter)
for helper in "${helpers[@]}"; do
    cargo rustc --release --locked -p keynsd --bin "$helper" -- -C target-feature=+crt-static
done

mkdir -p "$out"
for program in keynsd keyctl-ns "${helpers[@]}"; do
    # By rename, so that a program that is running stays what it is.
    cp "$release/$program" "$out/.$program.new"
    mv "$out/.$program.new" "$out/$program"
done
keyns-upcall/build.sh "$out"
