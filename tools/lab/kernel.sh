#!/bin/bash
# Prints the directory of Debian's Linux for user space; downloads and unpacks it where it is absent.
#
#   tools/lab/kernel.sh
#
# The package is never installed: it is unpacked below the user's cache, outside of any checkout, so
# that several share it and cleaning up one does not fetch it again.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/keyns/lab
unpacked=$cache/user-mode-linux
if [ -x "$unpacked/usr/bin/linux.uml" ]; then
    echo "$unpacked"
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "error: $unpacked is not there, and only Debian and its kin have the package user-mode-linux" >&2
    exit 1
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/new.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 0755 "$work"
cd "$work"
# The list of packages may be missing, or older than what the mirror has.
download() { apt-get download -qq -o APT::Sandbox::User=root user-mode-linux; }
if ! download 2>/dev/null >&2; then
    apt-get update -qq >&2
    download >&2
fi
dpkg -x ./*.deb unpacked
# By rename, so that what is there is whole. Where another run was faster, its copy is as good.
mv -T unpacked "$unpacked" 2>/dev/null || [ -x "$unpacked/usr/bin/linux.uml" ]
echo "$unpacked"
