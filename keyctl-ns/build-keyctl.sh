#!/bin/sh
# Builds the personality `keyctl` as one small static file and puts it into a directory.
#
#   keyctl-ns/build-keyctl.sh [DIRECTORY]          default: target/keyns-bin
#
# `keyctl-ns` behaves the same when it is called as `keyctl`. But scripts call keyctl hundreds of
# times, and most calls are one system call: what they cost is the start of the program.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
exec "$root/tools/small-static.sh" keyctl-ns keyctl "${1:-$root/target/keyns-bin}" \
    --no-default-features
