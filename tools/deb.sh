#!/bin/bash
# Makes the Debian package, of what `make install` installs.
#
#   tools/deb.sh PROGRAMS [OPTION OF CARGO DEB]...
#
# PROGRAMS is the directory of the built programs. The package is target/debian/keyns_*.deb; its path is
# printed last. cargo-deb, of this one version, is installed below the user's cache where it is absent.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$1
shift
version=3.8.0
tools=${XDG_CACHE_HOME:-$HOME/.cache}/keyns/tools
if ! [ "$("$tools/bin/cargo-deb" --version 2>/dev/null)" = "$version" ]; then
    # Without liblzma, for which there is a program.
    cargo install --quiet --locked --no-default-features --root "$tools" --version "$version" cargo-deb
fi

# The list of what belongs into it is that of `make install` alone. The manifest names this directory.
root=target/debian-root
rm -rf "$root"
make -s install DESTDIR="$PWD/$root" PREFIX=/usr STRIP=--strip KEYNS_BIN_DIR="$programs" SYSTEMD=252
"$tools/bin/cargo-deb" deb -p keynsd --no-build --no-strip "$@"
