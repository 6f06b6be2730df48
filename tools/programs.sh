#!/bin/bash
# Builds all programs into one directory.
#
#   tools/programs.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
release=${CARGO_TARGET_DIR:-target}/release

cargo build --release --locked -p keynsd --bin keynsd -p keyctl-ns --bin keyctl-ns

# These go into containers: static, so that they load nothing there, and start sooner.
static=(keynsd:keyns-stage keynsd:keyns-monitor keynsd:keyns-shelter keyns-probe:keyns-probe)
for program in "${static[@]}"; do
    cargo rustc --release --locked -p "${program%:*}" --bin "${program#*:}" -- \
        -C target-feature=+crt-static
done

mkdir -p "$out"
for program in keynsd keyctl-ns "${static[@]#*:}"; do
    # By rename, so that a program that is running stays what it is.
    cp "$release/$program" "$out/.$program.new"
    mv "$out/.$program.new" "$out/$program"
done
keyns-upcall/build.sh "$out"
