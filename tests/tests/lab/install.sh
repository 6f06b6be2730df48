#!/bin/bash
# The permanent installation, at the real paths and behind the real kernel, ended at every instant.
#
# Called with PATH leading to the programs and with the variables: DEBS, the packages of keyutils; and
# MACHINE, with or without. Prints what was done; the first thing that is not as it should be ends it.
# Only for the lab: it changes the packages of the machine.
set -euo pipefail
[ -e /run/lab/job ] || { echo "this is not the lab" >&2; exit 2; }

# A Debian of few packages: dpkg reads what is known of all of them at each call. One of those left owns
# the directories, which would otherwise go with the last package that has something in them.
perl -00 -ni -e 'print if /^Package: (base-files|libc6|libkeyutils1|keyutils)\n/' /var/lib/dpkg/status
# What the host has of either does not matter here.
for path in /sbin/request-key /usr/sbin/request-key; do
    dpkg-divert --quiet --package keyns --no-rename --remove "$path" 2>/dev/null || true
done
rm -f /sbin/request-key*
dpkg --no-triggers --force-depends --purge keyutils >/run/dpkg 2>&1

keyutils() {
    # Of the triggers one rebuilds an index of all manual pages.
    dpkg --no-triggers -i $DEBS >/run/dpkg 2>&1
    echo 'create user lab:* * /bin/keyctl instantiate %k %c %S' >>/etc/request-key.conf
}

fail() {
    echo "failed: $*"
    ls -la /sbin/request-key* /var/lib/keyns /run/keyns 2>&1
    dpkg-divert --list '*request-key*'
    exit 1
}
export -f fail

# A request of the host is answered as on the machine without keyns.
check() {
    local said
    said=$(keyns-probe request user "lab:$$:$RANDOM$RANDOM" hello 2>&1) || true
    if [ "$MACHINE" = with ]; then
        [[ $said == *' = 5 "hello"' ]] || fail "a request got: $said"
    else
        # The kernel gives one or the other if it finds no program.
        [[ $said == *' = -1 ENOKEY '* || $said == *' = -1 ENOENT '* ]] || fail "a request got: $said"
    fi
}
export -f check

as_before() {
    local found
    found=$(echo /sbin/request-key* /sbin/.request-key*)
    if [ "$MACHINE" = with ]; then
        [ "$found" = '/sbin/request-key /sbin/.request-key*' ] || fail "these are there: $found"
        cmp -s /sbin/request-key /run/original || fail "it is another program"
    else
        [ "$found" = '/sbin/request-key* /sbin/.request-key*' ] || fail "these are there: $found"
    fi
    [[ $(</var/lib/dpkg/diversions) != *request-key* ]] || fail "a diversion is left"
    if [ -e /var/lib/keyns ] || [ -e /run/keyns ]; then fail "a directory is left"; fi
}

# For dpkg too, but for the file with the rule.
as_packaged() {
    if dpkg --verify keyutils | grep -v request-key.conf; then fail "dpkg sees a difference"; fi
    [ -z "$(dpkg-divert --list '*request-key*')" ] || fail "dpkg knows a diversion"
}

installed() {
    [[ $(keynsd upcall status) == *'keyns-upcall is installed'* ]] || fail "it is not installed"
    cmp -s /sbin/request-key "$(command -v keyns-upcall)" || fail "another program is in place"
    check
}

quietly() { "$@" >/run/said 2>&1 || fail "$*: $(cat /run/said)"; }

export MACHINE
if [ "$MACHINE" = with ]; then
    keyutils
    cp /sbin/request-key /run/original
    as_packaged
fi
check
as_before
for command in install uninstall; do
    begin() { if [ "$command" = uninstall ]; then quietly keynsd upcall install; fi; }
    begin
    # Once to its end, with a request at each instant.
    quietly interrupt 0 check keynsd upcall "$command"
    stops=$(tail -n 1 /run/said)
    if [ "$command" = install ]; then installed; fi
    quietly keynsd upcall uninstall
    as_before
    for stop in $(seq "$stops"); do
        begin
        if interrupt "$stop" true keynsd upcall "$command" >/run/said; then
            fail "$command was not interrupted at $stop"
        fi
        check
        # Forward from every other interruption, back from all.
        if [ $((stop % 2)) -eq 1 ]; then
            quietly keynsd upcall install
            installed
        fi
        quietly keynsd upcall uninstall
        check
        as_before
    done
    echo "$command: $stops interruptions"
done

if [ "$MACHINE" = with ]; then as_packaged; fi

# Containers are served by the daemon meanwhile.
quietly keynsd upcall install
keynsd --transient 2>/run/log &
daemon=$!
until keyctl-ns container list >/run/said 2>&1; do sleep 0.1; done
quietly keyctl-ns container create web --root empty
quietly keyctl-ns intercept web user --reject EKEYREJECTED
inside=$(keyctl-ns container run web --program "$(command -v keyns-probe)" -- \
    keyns-probe request user lab:inside hello 2>&1) || true
[[ $inside == *EKEYREJECTED* ]] || fail "inside a request got: $inside"
check
kill "$daemon"
wait "$daemon"
echo "container: served"

if [ "$MACHINE" = without ]; then
    # The package comes, is replaced, and goes, while keyns-upcall is installed.
    keyutils
    MACHINE=with
    installed
    dpkg --no-triggers --force-confold -i $DEBS >/run/dpkg 2>&1
    installed
    cp /sbin/request-key.distrib /run/original
    quietly keynsd upcall uninstall
    check
    as_before
    as_packaged
    quietly keynsd upcall install
    dpkg --no-triggers --purge keyutils >/run/dpkg 2>&1
    MACHINE=without
    installed
    quietly keynsd upcall uninstall
    check
    as_before
    echo "package: came and went"
fi
