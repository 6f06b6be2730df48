#!/bin/bash
# Prints the directory of a Debian package; downloads and unpacks it where it is absent.
#
#   tools/lab/fetch.sh [PACKAGE]                       default: user-mode-linux
#
# In the directory are `package.deb` and what it holds, `files`. It lies below the user's cache,
# outside of any checkout, so that several share it and cleaning up one does not fetch it again.
# Nothing is ever installed.
set -euo pipefail

package=${1:-user-mode-linux}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/keyns/lab
unpacked=$cache/$package
if [ -d "$unpacked/files" ]; then
    echo "$unpacked"
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "error: $unpacked is not there, and only Debian and its kin have the package $package" >&2
    exit 1
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 0755 "$work"
cd "$work"
# The list of packages may be missing, or older than what the mirror has.
download() { apt-get download -qq -o APT::Sandbox::User=root "$package"; }
if ! download 2>/dev/null >&2; then
    apt-get update -qq >&2
    download >&2
fi
mkdir new
mv ./*.deb new/package.deb
dpkg -x new/package.deb new/files
# By rename, so that what is there is whole. Where another run was faster, its copy is as good.
mv -T new "$unpacked" 2>/dev/null || [ -d "$unpacked/files" ]
echo "$unpacked"
