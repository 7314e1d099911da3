#!/bin/sh
# stop.sh DIR: kills the server that start.sh put into DIR. The data stays.
# SIGKILL on purpose: SeaweedFS takes 16 s to obey SIGTERM.
set -eu
[ $# = 1 ] || { echo "usage: stop.sh DIR" >&2; exit 2; }
[ -f "$1/pid" ] || exit 0
pid=$(cat "$1/pid")
kill -9 "$pid" 2>/dev/null || true
# Gone means gone: the port is free when this returns. A zombie counts as gone, not
# every machine's first process collects orphans; but only with its last thread, which
# is the one that closes the sockets.
turns=0
while [ "$turns" -lt 100 ] && kill -0 "$pid" 2>/dev/null; do
    case $(cat "/proc/$pid/stat" 2>/dev/null) in
    '') break ;;
    *') Z '*) [ "$(ls "/proc/$pid/task" 2>/dev/null | wc -l)" -gt 1 ] || break ;;
    esac
    turns=$((turns + 1))
    sleep 0.05
done
rm -f "$1/pid"
