#!/bin/sh
# A private Redis server on the loopback interface, with nothing kept on disk.
#
#   redis.sh DIR PORT
#
# It runs until its standard input closes, so it can't outlive whoever started it; the folder is then
# removed.
set -eu
dir=$1 port=$2
mkdir -p "$dir"

exec 3<&0 2>> "$dir/output"
redis-server --bind 127.0.0.1 --port "$port" --dir "$dir" --save '' --appendonly no \
    >> "$dir/output" 2>&1 3<&- &
server_pid=$!
{
    cat <&3 > /dev/null
    : > "$dir/closed"
    kill -KILL "$server_pid"
} &
watcher=$!

wait "$server_pid" || true
if [ -e "$dir/closed" ]; then
    rm -rf "$dir"
else
    kill "$watcher" 2> /dev/null || true
    exit 1
fi
