#!/bin/bash
# All checks and all tests. As root: the tests make containers and keys of the running kernel.
#
# /sbin/request-key is taken over once for the whole run, by `with-takeover`, which gives it back
# however the run ends. Nothing is installed while it is taken over.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
: "${KEYNS_BIN_DIR:?is set by make test}"

if [ "$(id -u)" -ne 0 ]; then
    echo "error: the tests work on keys and containers of the running kernel; run them as root" >&2
    exit 1
fi

step() { printf '\n== %s\n' "$*" >&2; }

step "what is needed"
tools/requirements.sh
# Before anything is taken over: nothing is installed meanwhile.
tools/requirements.sh kernel
for package in user-mode-linux keyutils libkeyutils1; do
    tools/lab/fetch.sh "$package" >/dev/null
done
tools/lab/python.sh >/dev/null

step "format and lints"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings

step "the kernel of kernel/"
kernel=$(cargo xtask kernel build | tail -n 1)

step "programs and tests"
tools/programs.sh "$KEYNS_BIN_DIR"
cargo test --workspace --locked --no-run

step "what tests compare with"
"$target/debug/stock-keyutils"

step "tests, with /sbin/request-key taken over"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$target/debug/with-takeover" "$KEYNS_BIN_DIR" \
    cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log" || status=$?

step "tests of containers and keys, with the engine “patched” on the kernel of kernel/"
tools/conformance.sh "$kernel" 2>&1 |
    tee -a "$log" || status=$?

# Every test program prints a line of its own; this is their sum.
awk '
    /^test result: / {
        for (i = 2; i <= NF; i++) {
            if ($i ~ /^passed/) passed += $(i - 1)
            if ($i ~ /^failed/) failed += $(i - 1)
            if ($i ~ /^ignored/) skipped += $(i - 1)
        }
    }
    END { printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped }
' "$log"
exit "$status"
