#!/bin/bash
# Makes sure that what the build needs beyond a Rust toolchain is there; on Debian and its kin,
# installs what is missing.
#
#   tools/requirements.sh [kernel [qemu]]              kernel: what building a kernel needs
#                                                      qemu: and building one for PCs, and a PC for it
set -euo pipefail

if [ "${1:-}" != kernel ] && ! command -v cargo >/dev/null; then
    echo "error: no Rust toolchain (cargo 1.90 or newer, rustc, clippy, rustfmt); rustup has one" >&2
    exit 1
fi

# A linker, and the libc that static programs are linked with.
missing=()
command -v cc >/dev/null || missing+=(gcc)
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
# unshare and flock; mountpoint.
command -v unshare >/dev/null || missing+=(util-linux)
# Compresses the Debian package.
command -v xz >/dev/null || missing+=(xz-utils)
# Drives the dashboard in tests.
command -v tmux >/dev/null || missing+=(tmux)
# Looks for faults in the manual pages.
command -v groff >/dev/null || missing+=(groff-base)
# A bus for tests, what decides on it, and clients of three kinds.
command -v dbus-daemon >/dev/null || missing+=(dbus-daemon)
[ -e /lib/systemd/system/dbus.socket ] || missing+=(dbus)
[ -e /usr/lib/polkit-1/polkitd ] || missing+=(polkitd)
[ -x /lib/systemd/systemd ] || missing+=(systemd)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
command -v gdbus >/dev/null || missing+=(libglib2.0-bin)
[ -e /usr/lib/python3/dist-packages/jeepney ] || missing+=(python3-jeepney)
if [ "${1:-}" = kernel ]; then
    for program in make flex bison bc patch perl git sparse; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    # With which the kernel's own scripts look for licences.
    [ -e /usr/lib/python3/dist-packages/ply ] || missing+=(python3-ply)
    [ -e /usr/lib/python3/dist-packages/git ] || missing+=(python3-git)
    # What looks through what is compiled for x86-64.
    [ -e /usr/include/libelf.h ] || missing+=(libelf-dev)
fi
if [ "${2:-}" = qemu ]; then
    command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "error: these are missing, and I cannot install them: ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
