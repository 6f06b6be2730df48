#!/bin/bash
# The Debian package on a machine with systemd, from its installation to its removal.
#
# Called with PATH leading to keyns-probe and with the variables: DEB, the package; and DEBS, those of
# keyutils. Prints what was done and how long it took; the first thing that is not as it should be ends
# it. Only for the lab: it changes the packages of the machine.
set -euo pipefail
[ -e /run/lab/job ] || { echo "this is not the lab" >&2; exit 2; }
exec 2>&1

fail() {
    echo "failed: $*"
    systemctl status --no-pager 'keynsd*' || true
    journalctl --no-pager -o short-monotonic -u keynsd -u keynsd.socket | tail -n 40
    ls -laR /run/keyns /sbin/request-key* 2>&1 | head -n 60
    exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

now() { date +%s%3N; }
# Runs something and says how long it took.
timed() {
    local what=$1 begun
    shift
    begun=$(now)
    "$@" >/run/said || fail "$*: $(cat /run/said)"
    echo "$what: $(($(now) - begun)) ms"
}
property() { systemctl show --value -p "$1" "${2:-keynsd}"; }
await() {
    local what=$1
    shift
    for _ in {1..200}; do
        if "$@"; then return; fi
        sleep 0.05
    done
    fail "not in time: $what"
}
is() { [ "$(property "$1")" = "$2" ]; }
another() { is ActiveState active && [ "$(property MainPID)" != "$1" ]; }
quiet_dpkg() { dpkg --no-triggers --force-unsafe-io "$@" >/run/dpkg 2>&1; }

# As on a machine without keyns, and with it installed.
check_host() {
    local said
    said=$(keyns-probe request user "lab:$$:$RANDOM$RANDOM" hello) || true
    [[ $said == *' = 5 "hello"' ]] || fail "a request of the host got: $said"
}
check_container() {
    local said
    said=$(keyctl-ns container exec web --program "$(command -v keyns-probe)" -- \
        keyns-probe request user "lab:$RANDOM$RANDOM" hello) || true
    [[ $said == *EKEYREJECTED* ]] || fail "a request of the container got: $said"
    kill -0 "$inside" || fail "what ran in the container is dead"
}
installed() {
    [[ $(keynsd upcall status) == *'keyns-upcall is installed'* ]] || fail "it is not behind request-key"
    for socket in keynsd keynsd-admin keynsd-upcall; do
        systemctl --quiet is-active "$socket.socket" || fail "nobody listens for $socket.socket"
        systemctl --quiet is-enabled "$socket.socket" || fail "$socket.socket is not enabled"
    done
}
as_before() {
    cmp -s /sbin/request-key /run/original || fail "another program is behind request-key"
    [ "$(echo /sbin/*request-key*)" = /sbin/request-key ] || fail "these are there: $(echo /sbin/*request-key*)"
    [[ $(</var/lib/dpkg/diversions) != *request-key* ]] || fail "a diversion is left"
    [ ! -e /run/keyns ] || fail "/run/keyns is left"
    [ -z "$(pgrep -x keynsd)" ] || fail "a daemon is left"
    [ "$(property LoadState)" = not-found ] || fail "the service is left"
}

# A Debian of few packages: dpkg reads what is known of all of them at each call.
perl -00 -ni -e 'print if /^Package: (base-files|libc6|init-system-helpers|libkeyutils1|keyutils)\n/' \
    /var/lib/dpkg/status
dpkg --no-triggers --force-depends --purge keyutils >/run/dpkg 2>&1
rm -f /sbin/request-key*
# shellcheck disable=SC2086
quiet_dpkg -i $DEBS
echo 'create user lab:* * /bin/keyctl instantiate %k %c %S' >>/etc/request-key.conf
# Images of containers have one that keeps services from being started.
rm -f /usr/sbin/policy-rc.d
cp /sbin/request-key /run/original
check_host

timed "installed" quiet_dpkg -i "$DEB"
installed
is ActiveState inactive || fail "the daemon runs before anybody came"
check_host
is ActiveState inactive || fail "a request of the host started the daemon"

timed "first use" keyctl-ns container list
is ActiveState active || fail "who answered?"
start=$(property ExecMainStartTimestampMonotonic)
echo "ready: $((($(property ActiveEnterTimestampMonotonic) - start) / 1000)) ms after its start"

# Also for whoever comes over the bus.
systemctl stop keynsd 2>/dev/null
is ActiveState inactive || fail "it does not stop"
timed "first use over D-Bus" busctl call org.keyns /org/keyns org.freedesktop.DBus.Properties GetAll s \
    org.keyns.Manager1
grep -q mainline /run/said || fail "the bus says: $(cat /run/said)"
is ActiveState active || fail "who answered on the bus?"

keyctl-ns container create web >/run/said
keyctl-ns intercept web user --reject EKEYREJECTED >/run/said
keyctl-ns container run web --detach -- sleep 3600 >/run/said || fail "$(cat /run/said)"
inside=$(sed -n 's/.*pid \([0-9]*\).*/\1/p' /run/said)
printf canary-b31c57 | keyctl-ns add --container web user lab-key >/run/said
check_container

# Whoever comes while the daemon is replaced waits for the next one.
clients() {
    local answered=0
    while [ ! -e /run/enough ]; do
        if keyctl-ns container list >/run/client 2>&1; then
            answered=$((answered + 1))
        elif grep -q 'no daemon\|cannot reach\|refused' /run/client; then
            cat /run/client
            return 1
        fi
    done
    echo "answered meanwhile: $answered"
}
clients >/run/clients &
clients=$!
for _ in 1 2 3; do timed "restarted" systemctl restart keynsd; done
check_container
before=$(property MainPID)
begun=$(now)
systemctl kill --signal=KILL keynsd
await "another daemon" another "$before"
echo "back after SIGKILL: $(($(now) - begun)) ms"
check_container
touch /run/enough
wait "$clients" || fail "somebody was refused: $(cat /run/clients)"
cat /run/clients
systemctl daemon-reexec
await "systemd" systemctl --quiet is-active keynsd
check_container
keyctl-ns container list | grep -q web

# A mistake in the settings is shown as the state of the service.
echo 'lgo = "info"' >/etc/keyns/keyns.conf.d-not-yet
mkdir -p /etc/keyns/keyns.conf.d
mv /etc/keyns/keyns.conf.d-not-yet /etc/keyns/keyns.conf.d/mine.conf
before=$(property MainPID)
systemctl reload keynsd
mistaken() { [[ $(property StatusText) == *'/etc/keyns/keyns.conf.d/mine.conf:1: unknown field `lgo`'* ]]; }
await "the mistake" mistaken
is ActiveState active || fail "a mistake ended it"
echo 'log = "debug"' >/etc/keyns/keyns.conf.d/mine.conf
systemctl reload keynsd
contented() { [[ $(property StatusText) == *'1 container' ]]; }
await "the settings" contented
is MainPID "$before" || fail "a reload is no restart"
rm /etc/keyns/keyns.conf.d/mine.conf
echo "reloaded: with a mistake, and without"

# A daemon that does not move any more is replaced.
mkdir -p /run/systemd/system/keynsd.service.d
printf '[Service]\nWatchdogSec=1\n' >/run/systemd/system/keynsd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart keynsd
before=$(property MainPID)
sleep 1.5
is MainPID "$before" || fail "a daemon that works was taken for dead"
begun=$(now)
kill -STOP "$before"
await "another daemon" another "$before"
echo "replaced by the watchdog: $(($(now) - begun)) ms"
check_container
rm -r /run/systemd/system/keynsd.service.d
systemctl daemon-reload

# Stopped, its containers stay, and one of their requests starts it again.
keyctl-ns container exec web --detach -- sh -c 'sleep 4; exec keyctl request2 user lab:late hello' >/run/said
systemctl stop keynsd 2>/dev/null
is ActiveState inactive || fail "it does not stop"
await "a daemon for the request" is ActiveState active
check_container
echo "started by a request of a container"

# The journal has fields, and no payload.
journal() { journalctl --quiet -o cat "$@"; }
journal KEYNS_CONTAINER=web MESSAGE_ID=7b03aa7591464188aab3ac02370fdfac | grep -q 'container created' ||
    fail "the journal does not have the container"
journal KEYNS_CONTAINER=web MESSAGE_ID=805d4f672dc5478b8512f08ecdc0085c | grep -q 'upcall ' ||
    fail "the journal does not have its requests"
[ "$(journal MESSAGE_ID=6388af6c64df43caa86fd0e3d8298161 | wc -l)" = 1 ] ||
    fail "the journal does not have the mistake in the settings"
journal MESSAGE_ID=ea973edcc253480e812d0816fb373aa4 _SYSTEMD_UNIT=keynsd.service | grep -q ready ||
    fail "the journal does not have a start"
if journalctl --all -o export | grep -q canary; then fail "a payload is in the journal"; fi
echo "journal: $(journalctl --quiet -o cat _SYSTEMD_UNIT=keynsd.service | wc -l) messages, with fields and without payload"

# An upgrade, and a removal that is refused.
before=$(property MainPID)
timed "upgraded" quiet_dpkg -i "$DEB"
installed
another "$before" || fail "the old daemon still runs"
check_container
check_host
if quiet_dpkg --remove keyns; then fail "removed with a container that runs"; fi
grep -q 'keyctl-ns container list' /run/dpkg || fail "$(cat /run/dpkg)"
installed
check_container
echo "removal: refused while there is a container"

# Ended at any moment, it is done or can be done again, and the host is answered meanwhile.
keyctl-ns container kill web >/run/said
interrupted=0
for delay in 1 3; do
    { timeout --signal=KILL "$delay" setsid dpkg --no-triggers --remove keyns >/run/dpkg 2>&1; } 2>/dev/null || true
    # What dpkg had started goes on or has ended; it is waited for.
    await "the scripts" eval '! pgrep -f /var/lib/dpkg/info/keyns >/dev/null'
    check_host
    status=$(dpkg-query -W -f '${db:Status-Status}' keyns)
    case $status in installed | config-files) ;; *) interrupted=$((interrupted + 1)) ;; esac
    quiet_dpkg -i "$DEB" || fail "after an interruption ($status): $(cat /run/dpkg)"
    installed
    check_host
done
echo "removal: $interrupted of 2 ended half way, and made good"

keyctl-ns container list >/run/said
timed "removed" quiet_dpkg --remove keyns
as_before
check_host
timed "purged" quiet_dpkg --purge keyns
as_before
for path in /etc/keyns /var/lib/keyns; do [ ! -e "$path" ] || fail "$path is left"; done
[ -z "$(find /etc/systemd -name '*keyns*')" ] || fail "links of units are left"
if dpkg --verify keyutils | grep -v request-key.conf; then fail "dpkg sees a difference"; fi
echo "gone without a trace"
