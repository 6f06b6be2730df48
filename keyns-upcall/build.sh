#!/bin/sh
# Builds keyns-upcall as one static file without interpreter and puts it into a directory.
#
#   keyns-upcall/build.sh [DIRECTORY]          default: target/keyns-bin
#
# The kernel starts this program for every key request of the host, so its start-up counts.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
exec "$root/tools/small-static.sh" keyns-upcall keyns-upcall "${1:-$root/target/keyns-bin}"
