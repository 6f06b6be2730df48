#!/bin/bash
# Holds the engine for kernels with container objects to the tests of the one for stock kernels.
#
#   tools/conformance.sh KERNEL [SUITE…]
#
# Boots KERNEL, a Linux for user space with container objects (see lab.sh), once for each suite and
# runs the suite's tests on it with `--engine patched`, by the same command line and the same sockets.
# What a test expects differently there follows from a row of `keyctl-ns features` and from nothing
# else. The programs must be built (`make programs`).
#
# Exit status: 0 when every test of every suite passed.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 1 ] || { echo "usage: tools/conformance.sh KERNEL [SUITE…]" >&2; exit 2; }
kernel=$1
shift
suites=("$@")
[ $# -gt 0 ] || suites=(engine_containers life keys_service upcalls container_objects key_lists parked_containers)
# Takes its time, which one processor in user space does not have, on any engine.
skip=(--skip a_flood_is_cut_off_while_the_host_is_served)

export KEYNS_BIN_DIR=${KEYNS_BIN_DIR:-$PWD/target/keyns-bin}
export KEYNS_ENGINE=patched
# Of the host's take-over; there nothing is taken over.
unset KEYNS_TAKEN_OVER

cargo build --quiet --locked -p keyns-tests --bins
takeover=$PWD/${CARGO_TARGET_DIR:-target}/debug/with-takeover
failed=()
for suite in "${suites[@]}"; do
    # Of the programs that cargo names, the suite itself.
    program=$(cargo test --quiet --locked -p keyns-tests --test "$suite" --no-run \
        --message-format=json |
        sed -n '/"kind":\["test"\][^}]*"name":"'"$suite"'"/s/.*"executable":"\([^"]*\)".*/\1/p')
    [ -x "$program" ] || { echo "error: cargo builds no suite $suite" >&2; exit 2; }
    echo "== $suite"
    tools/lab.sh --kernel "$kernel" --timeout 600 -- \
        "$takeover" "$KEYNS_BIN_DIR" "$program" --test-threads 1 "${skip[@]}" || failed+=("$suite")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "error: not as on a stock kernel: ${failed[*]}" >&2
    exit 1
fi
