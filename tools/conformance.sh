#!/bin/bash
# Holds the engine for kernels with container objects to the tests of the one for stock kernels.
#
#   tools/conformance.sh KERNEL [SUITE[:TESTS]…]
#
# Boots KERNEL, a Linux for user space with container objects (see lab.sh), once for each suite and
# runs the suite's tests, or those whose names contain TESTS, on it with `--engine patched`, by the
# same command line and the same sockets. What a test expects differently there follows from a row of
# `keyctl-ns features` and from nothing else. The programs must be built (`make programs`).
#
# As many suites run at once as there are processors, since such a kernel has one; what each prints
# comes in one piece when it has ended.
#
# Exit status: 0 when every test of every suite passed.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 1 ] || { echo "usage: tools/conformance.sh KERNEL [SUITE[:TESTS]…]" >&2; exit 2; }
kernel=$1
shift
suites=("$@")
# The long ones first.
[ $# -gt 0 ] || suites=(upcalls engine_containers bad_input life keys_service container_keyring
    canary crowd container_objects key_lists parked_containers refusals authority)
# Two figures that one processor in user space is too slow for, with any engine.
skip=(--skip a_flood_is_cut_off_while_the_host_is_served
    --skip looking_after_a_thousand_grants_costs_little)

export KEYNS_BIN_DIR=${KEYNS_BIN_DIR:-$PWD/target/keyns-bin}
export KEYNS_ENGINE=patched
# Of the host's take-over; there nothing is taken over.
unset KEYNS_TAKEN_OVER

cargo build --quiet --locked -p keyns-tests --bins
takeover=$PWD/${CARGO_TARGET_DIR:-target}/debug/with-takeover
printed=$(mktemp -d)
trap 'rm -rf "$printed"' EXIT

# The program that cargo names as the suite itself.
program_of() {
    cargo test --quiet --locked -p keyns-tests --test "$1" --no-run --message-format=json |
        sed -n '/"kind":\["test"\][^}]*"name":"'"$1"'"/s/.*"executable":"\([^"]*\)".*/\1/p'
}

# NAME PROGRAM TESTS
hold() {
    echo "== $1"
    tools/lab.sh --kernel "$kernel" --timeout 600 -- \
        "$takeover" "$KEYNS_BIN_DIR" "$2" --test-threads 1 "${skip[@]}" "$3"
}

running=()
failed=()
# Of the one that was started first: others that have ended meanwhile wait for it.
collect() {
    local suite=${running[0]#*:} number=${running[0]%%:*}
    local status=0
    wait "$number" || status=$?
    running=("${running[@]:1}")
    cat "$printed/$number.$suite" 2>/dev/null || true
    # A filter that nothing matches is no success.
    if [ "$status" -ne 0 ] || ! grep -Eq '^test result: ok\. [1-9]' "$printed/$number.$suite"; then
        failed+=("$suite")
    fi
}
trap 'kill $(jobs -p) 2>/dev/null; exit 1' INT TERM

for suite in "${suites[@]}"; do
    name=${suite%%:*}
    tests=${suite:${#name}}
    program=$(program_of "$name")
    [ -x "$program" ] || { echo "error: cargo builds no suite $name" >&2; exit 2; }
    [ ${#running[@]} -lt "$(nproc)" ] || collect
    (hold "$suite" "$program" "${tests#:}" >"$printed/$BASHPID.$suite" 2>&1) &
    running+=("$!:$suite")
done
while [ ${#running[@]} -gt 0 ]; do collect; done
if [ ${#failed[@]} -gt 0 ]; then
    echo "error: not as on a stock kernel: ${failed[*]}" >&2
    exit 1
fi
