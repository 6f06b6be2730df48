#!/bin/bash
# Boots a Linux for PCs on an emulated one with two processors, and runs a command there.
#
#   tools/qemu.sh --kernel FILE [--memory SIZE] [--timeout SECONDS] DIRECTORY COMMAND
#
# Unlike in the lab (lab.sh) the only files are busybox and those of DIRECTORY: programs that need no
# library, in the current directory of the COMMAND, which is text for a shell. Its output, and its exit
# status, become those of this script. Two processors show what one cannot, and take their time: each
# instruction is translated.
#
# Exit status: the command's; 124 when time was up (300 seconds); 125 when the kernel did not run to its
# end.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)

memory=1G
timeout=300
kernel=
while [ $# -gt 0 ]; do
    case $1 in
        --kernel | --memory | --timeout)
            [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"
            shift 2
            ;;
        -*) echo "error: no such option: $1" >&2; exit 2 ;;
        *) break ;;
    esac
done
if [ $# -ne 2 ] || [ -z "$kernel" ]; then
    echo "usage: tools/qemu.sh --kernel FILE [--memory SIZE] [--timeout SECONDS] DIRECTORY COMMAND" >&2
    exit 2
fi
if ! command -v qemu-system-x86_64 >/dev/null; then
    echo "error: qemu-system-x86_64 is missing; run first: tools/requirements.sh kernel qemu" >&2
    exit 1
fi
busybox=$("$tools/lab/fetch.sh" busybox-static)/files/bin/busybox

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=$work/files
mkdir -p "$files"/{bin,dev,proc,sys,tmp,mnt,programs}
cp "$busybox" "$files/bin/busybox"
cp -R "$1"/. "$files/programs"
printf '%s\n' "$2" >"$files/command"
# The first root can be nobody's but the kernel's own: another one takes its place, as on every machine.
cat >"$files/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir /root
mount -t tmpfs tmpfs /root
cp -a /bin /dev /proc /sys /tmp /mnt /programs /command /run-command /root
exec switch_root /root /bin/sh /run-command
END
# The status comes last, so that all before it has arrived when it does.
cat >"$files/run-command" <<'END'
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=1777 tmpfs /tmp
stty -F /dev/ttyS1 raw -echo
cd /programs
sh /command </dev/null >/dev/ttyS1 2>&1
echo "status $?" >/dev/ttyS1
reboot -f
END
chmod 0755 "$files/init" "$files/bin/busybox"
(cd "$files" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$work/archive"

status=0
timeout --signal=KILL "$timeout" setpriv --pdeathsig KILL \
    qemu-system-x86_64 -accel tcg,thread=multi -smp 2,sockets=2 -m "$memory" -nodefaults -display none -no-reboot \
    -serial "file:$work/console" -serial "file:$work/out" \
    -kernel "$kernel" -initrd "$work/archive" \
    -append "console=ttyS0 quiet panic=-1 rdinit=/init" </dev/null >&2 || status=$?
said=$(tail -n 1 "$work/out" 2>/dev/null | tr -d '\r')
if [[ $said =~ ^status\ [0-9]+$ ]]; then
    head -n -1 "$work/out"
    exit "${said#status }"
fi
cat "$work/out" 2>/dev/null || true
if [ "$status" -eq 137 ]; then
    echo "error: not done after $timeout seconds" >&2
else
    echo "error: the kernel did not run to its end (status $status)" >&2
fi
tail -n 60 "$work/console" >&2 || true
[ "$status" -eq 137 ] && exit 124
exit 125
