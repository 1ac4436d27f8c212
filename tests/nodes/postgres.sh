#!/bin/sh
# A private PostgreSQL server on the loopback interface, user and database `petiole`, the password that of
# the environment variable PGPASSWORD.
#
#   postgres.sh DIR PORT
#
# It runs until its standard input closes, so it can't outlive whoever started it; the folder is then
# removed. PostgreSQL does not run as root: there it runs as its service's user, who may not reach the
# folder, so that its data is in a temporary folder.
set -eu
dir=$1 port=$2
mkdir -p "$dir"

bin=$(ls -d /usr/lib/postgresql/*/bin 2> /dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || bin=$(dirname "$(command -v postgres)")
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
printf '%s\n' "$PGPASSWORD" > "$data/password"
as_user=
if [ "$(id -u)" = 0 ]; then
    as_user='setpriv --reuid=postgres --regid=postgres --clear-groups'
    chown -R postgres: "$data"
fi

exec 3<&0 2>> "$dir/output"
cd "$data"
$as_user "$bin/initdb" --pgdata=db --username=petiole --pwfile=password --auth=scram-sha-256 --encoding=UTF8 \
    --no-locale --no-sync >> "$dir/output"
printf 'create database petiole;\n' | $as_user "$bin/postgres" --single -D db postgres >> "$dir/output"
$as_user "$bin/postgres" -D db -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off >> "$dir/output" 2>&1 3<&- &
server_pid=$!
{
    cat <&3 > /dev/null
    : > "$dir/closed"
    kill -QUIT "$server_pid"
} &
watcher=$!

wait "$server_pid" || true
cd /
if [ -e "$dir/closed" ]; then
    rm -rf "$dir"
else
    kill "$watcher" 2> /dev/null || true
    exit 1
fi
