#!/bin/sh
# stop.sh DIR: kills the server that start.sh put into DIR. The data stays.
# SIGKILL on purpose: SeaweedFS takes 16 s to obey SIGTERM.
set -eu
[ $# = 1 ] || { echo "usage: stop.sh DIR" >&2; exit 2; }
[ -f "$1/pid" ] || exit 0
kill -9 "$(cat "$1/pid")" 2>/dev/null || true
rm -f "$1/pid"
