#!/bin/bash
# Boots a Linux as an ordinary process, with the files of this machine, and runs a command on it.
#
#   tools/lab.sh [--kernel FILE [--modules DIRECTORY]] [--memory SIZE] [--timeout SECONDS]
#       [--systemd] [--] [COMMAND [ARGUMENT…]]
#
# The command sees the directory, the environment and the files it would see here, and may change all
# of them: what it writes stays in the memory of that kernel and ends with it. Its output and its exit
# status become those of this script; its input is empty. Without a command there is a shell, for
# which a terminal is needed.
#
# The kernel is Debian's Linux for user space (6.1 in Debian 12), or the given FILE, of which DIRECTORY
# holds the modules. It has 512M of memory, or the given SIZE.
#
# With --systemd, systemd is the first process, as far as this machine has it, and the command a service.
#
# Exit status: the command's; 124 when time was up (300 seconds, for a shell never); 125 when the
# kernel did not run to its end.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)

memory=512M
kernel=
modules=
timeout=300
systemd=
while [ $# -gt 0 ]; do
    case $1 in
        --kernel | --modules | --memory | --timeout)
            [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"
            shift 2
            ;;
        --systemd) systemd=1; shift ;;
        --) shift; break ;;
        -*) echo "error: no such option: $1" >&2; exit 2 ;;
        *) break ;;
    esac
done
if [ "$(id -u)" -ne 0 ]; then
    echo "error: the lab needs root: its kernel reads every file of this machine" >&2
    exit 2
fi
if [ $# -eq 0 ] && ! { [ -t 0 ] && [ -t 1 ]; }; then
    echo "error: a shell in the lab needs a terminal; give a command instead" >&2
    exit 2
fi
if [ -n "$systemd" ] && { [ $# -eq 0 ] || ! [ -x /lib/systemd/systemd ]; }; then
    echo "error: --systemd needs a command, and the package systemd" >&2
    exit 2
fi
if [ -z "$kernel" ]; then
    package=$("$tools/lab/fetch.sh")/files
    kernel=$package/usr/bin/linux.uml
    modules=$(echo "$package"/usr/lib/uml/modules/*)
fi

# What both sides share: the only directory that the other kernel may write to.
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
cp "$tools/lab/init" "$share/init"
{
    export -p
    printf 'lab_modules=%q\n' "$modules"
    printf 'lab_systemd=%q\n' "$systemd"
    # A directory that is only there in one of two mount namespaces is not there in the other kernel.
    printf 'cd %q\n' "$PWD"
    if [ $# -gt 0 ]; then
        printf 'lab_command=(%s)\n' "$(printf '%q ' "$@")"
    else
        printf 'lab_size=(%s)\n' "$(stty size)"
    fi
} >"$share/job"

# A process namespace of its own: when its first process is killed, so is everything the kernel has
# started for its own processes. Whoever is killed here takes the rest along.
boot() {
    setpriv --pdeathsig KILL "${limit[@]}" \
        setpriv --pdeathsig KILL \
        unshare --mount --pid --fork --kill-child --mount-proc \
        "$kernel" root=/dev/root rootfstype=hostfs ro "mem=$memory" "uml_dir=$share/" \
        "init=$share/init" "keyns_lab=$share" con=null "$@"
}

status=0
if [ $# -gt 0 ]; then
    limit=(timeout --signal=KILL "$timeout")
    # Through pipes of our own: the kernel makes its lines non-blocking, for everybody who has them.
    exec 3> >(exec cat) 4> >(exec cat >&2)
    out=$!
    boot con0=null,fd:5 ssl0=null,fd:3 ssl1=null,fd:4 \
        </dev/null >"$share/kernel" 2>&1 5>>"$share/console" &
    kernel_pid=$!
    until [ -s "$share/status" ] || ! kill -0 "$kernel_pid" 2>/dev/null; do sleep 0.05; done
    # All is said and done. Some kernels fall over their own end and never come to it.
    for _ in {1..60}; do
        kill -0 "$kernel_pid" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$kernel_pid" 2>/dev/null || true
    wait "$kernel_pid" 2>/dev/null || status=$?
    exec 3>&- 4>&-
    wait "$out" || true
else
    limit=()
    terminal=$(stty -g)
    boot con0=null,null con1=fd:0,fd:1 2>"$share/kernel" || status=$?
    stty "$terminal"
fi

if [ -s "$share/status" ]; then
    exit "$(cat "$share/status")"
fi
if [ $# -gt 0 ] && [ "$status" -eq 137 ]; then
    echo "error: not done after $timeout seconds: $*" >&2
    exit 124
fi
echo "error: the kernel of the lab did not run to its end (status $status)" >&2
tail -n 30 "$share/kernel" "$share/console" >&2 || true
exit 125
