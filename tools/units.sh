#!/bin/bash
# Writes keynsd.service, for where the daemon is installed and for a version of systemd.
#
#   tools/units.sh SBINDIR [VERSION]                   to standard output
#
# From version 253 on systemd reloads by itself and waits for the end of it; an older one refuses the
# word for it. What is made for an older one works with all. Without a VERSION it is the one of this
# machine, and 252 where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
sbindir=$1
version=${2:-$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')}

if [ "${version:-252}" -ge 253 ]; then
    type=notify-reload reload=
else
    type=notify reload="ExecReload=/bin/kill -HUP \$MAINPID"
fi

sed -e "s|@type@|$type|" -e "s|@sbindir@|$sbindir|" \
    -e "s|^@reload@$|$reload|" units/keynsd.service.in | sed '/^$/N;/^\n$/D'
