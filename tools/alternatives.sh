#!/bin/bash
# Has the keyctl of keyns called as keyctl, and undoes it.
#
#   tools/alternatives.sh install|remove|status [DESTDIR [PREFIX]]
#
# The name belongs to the package keyutils, which has a real file there and not an alternative to
# choose. So the file is diverted, as dpkg calls it: dpkg keeps the package's own under another name,
# keyctl.distrib, also when the package is upgraded, installed or removed meanwhile. At every instant
# there is a keyctl where there was one before, and after an interruption the same command, or its
# opposite, goes on from there. `make install` does not do this; somebody has to ask for it.
#
# /sbin/request-key is none of this: only `keynsd upcall install` ever takes it over.
set -euo pipefail
action=${1-}
root=${2-}
prefix=${3-/usr/local}
program=$prefix/libexec/keyns/keyctl
names=(/bin/keyctl /usr/bin/keyctl)

refuse() {
    echo "error: $1" >&2
    echo "  cause: $2" >&2
    if [ $# -gt 2 ]; then echo "  hint: $3" >&2; fi
    exit 1
}

divert() { dpkg-divert --quiet ${root:+--root "$root"} --local --no-rename "$@"; }
# Who diverts a path: empty, LOCAL, or the name of a package.
diverter() { dpkg-divert ${root:+--root "$root"} --listpackage "$1"; }
truename() { dpkg-divert ${root:+--root "$root"} --truename "$1"; }
is_packaged() { dpkg-query --admindir="$root/var/lib/dpkg" -S "$1" >/dev/null 2>&1; }
is_diverted() { [ "$(diverter "$1")" = LOCAL ] && [ "$(truename "$1")" = "$1.distrib" ]; }
is_ours() { [ -L "$root$1" ] && [ "$(readlink "$root$1")" = "$program" ]; }
exists() { [ -e "$root$1" ] || [ -L "$root$1" ]; }

# The names to divert: those the package has, or will have. Debian had it in /bin and moved it to
# /usr/bin, which are one directory; dpkg goes by the name that it knows.
places() {
    local name found=()
    for name in "${names[@]}"; do
        if is_packaged "$name"; then found+=("$name"); fi
    done
    if [ ${#found[@]} -eq 0 ]; then
        for name in "${names[@]}"; do
            if [ -d "$root${name%/*}" ]; then found+=("$name"); fi
        done
    fi
    printf '%s\n' "${found[@]}"
}

install_name() {
    local name=$1
    if is_diverted "$name" && is_ours "$name"; then return; fi
    case $(diverter "$name") in
        '' | LOCAL) ;;
        *) refuse "cannot divert $name" "the package $(diverter "$name") diverts it already" ;;
    esac
    if [ "$(diverter "$name")" = LOCAL ] && ! is_diverted "$name"; then
        refuse "cannot divert $name" "it is diverted to $(truename "$name") already" \
            "undo that first: dpkg-divert --remove $name"
    fi
    if exists "$name" && ! is_ours "$name"; then
        if exists "$name.distrib" && ! [ "$root$name" -ef "$root$name.distrib" ]; then
            refuse "cannot divert $name" "there is another $name.distrib"
        fi
        # One file with two names, so that there is no instant without it.
        if ! exists "$name.distrib"; then ln "$root$name" "$root$name.distrib"; fi
    fi
    divert --divert "$name.distrib" --add "$name"
    ln -sf "$program" "$root$name.keyns-new"
    mv -fT "$root$name.keyns-new" "$root$name"
}

remove_name() {
    local name=$1
    rm -f "$root$name.keyns-new"
    if ! is_diverted "$name"; then
        # An installation that ended before the diversion.
        if exists "$name.distrib" && [ "$root$name" -ef "$root$name.distrib" ]; then
            rm "$root$name.distrib"
        fi
        return 0
    fi
    if exists "$name.distrib"; then
        if [ "$root$name" -ef "$root$name.distrib" ]; then
            rm "$root$name.distrib"
        elif is_ours "$name" || ! exists "$name"; then
            mv -fT "$root$name.distrib" "$root$name"
        else
            refuse "cannot give $name back" "what is there now is neither keyns nor the original" \
                "move it away; the original is $name.distrib"
        fi
    elif is_ours "$name"; then
        rm "$root$name"
    fi
    divert --divert "$name.distrib" --remove "$name"
}

# Whoever removes the program must not leave a name that leads nowhere.
may_uninstall() {
    local name
    for name in "${names[@]}"; do
        if is_ours "$name"; then
            refuse "cannot remove keyns" "$name is the keyctl of keyns" \
                "run first: make uninstall-alternatives"
        fi
    done
}

status() {
    local name
    for name in "${names[@]}"; do
        if is_ours "$name"; then
            echo "$name is $program; the original is $(exists "$name.distrib" && echo "$name.distrib" || echo none)"
        elif exists "$name"; then
            echo "$name is not of keyns"
        else
            echo "$name does not exist"
        fi
    done
}

case $action in
    may-uninstall) may_uninstall; exit ;;
    install | remove | status) ;;
    *)
        echo "usage: tools/alternatives.sh install|remove|status [DESTDIR [PREFIX]]" >&2
        exit 2
        ;;
esac
if ! command -v dpkg-divert >/dev/null; then
    refuse "cannot change which program is keyctl" "there is no dpkg here to tell about it" \
        "put a link into a directory that comes first in PATH: ln -s $program /usr/local/bin/keyctl"
fi
if [ "$action" = status ]; then
    status
    exit
fi
if [ "$(id -u)" -ne 0 ]; then
    refuse "cannot change which program is keyctl" "only root may" "run it as root"
fi
if [ "$action" = install ]; then
    if ! [ -x "$root$program" ]; then
        refuse "cannot install keyctl" "$root$program is not there" "run first: make install"
    fi
    while IFS= read -r name; do install_name "$name"; done < <(places)
else
    for name in "${names[@]}"; do remove_name "$name"; done
fi
status
