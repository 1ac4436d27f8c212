#!/bin/sh
# A private RabbitMQ node on the loopback interface: its own data folder, cookie, node name and epmd.
#
#   rabbitmq.sh DIR AMQP_PORT DIST_PORT EPMD_PORT [ROOT]
#
# It runs until its standard input closes, so it can't outlive whoever started it, however that
# ended; the folder is then removed. Its process id is in DIR/pid. When the node itself is killed the
# folder stays, and the same command starts the node again on the same data. With ROOT, a folder made
# by debian_root.sh, it is the RabbitMQ in there.
set -eu
dir=$1 amqp=$2 dist=$3 epmd=$4 root=${5:-}

# Mounts into ROOT are seen by this node alone, and go with it.
if [ -n "$root" ] && [ -z "${PETIOLE_NODE_MOUNTS:-}" ]; then
    PETIOLE_NODE_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
fi

mkdir -p "$dir"
inside=
if [ -n "$root" ]; then
    inside="chroot $root"
    mkdir -p "$root$dir"
    mount --bind "$dir" "$root$dir"
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    server=/usr/lib/rabbitmq/bin/rabbitmq-server
else
    # Debian's command in /usr/sbin only runs as root, who becomes the service's user: the script behind
    # it serves any user.
    server=/usr/lib/rabbitmq/bin/rabbitmq-server
    [ -x "$server" ] || server=$(command -v rabbitmq-server)
fi

: > "$dir/rabbitmq-env.conf"
# A test's own settings are in DIR/enabled_plugins, DIR/more.conf, and in DIR/more.args for Erlang, before the node
# starts.
[ -e "$dir/enabled_plugins" ] || printf '[].\n' > "$dir/enabled_plugins"
{
    printf 'listeners.tcp.1 = 127.0.0.1:%s\nlog.file.level = warning\n' "$amqp"
    cat "$dir/more.conf" 2> /dev/null || true
} > "$dir/rabbitmq.conf"

export HOME="$dir"
export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$epmd"
export RABBITMQ_NODENAME="petiole-$amqp@localhost" RABBITMQ_DIST_PORT="$dist"
export RABBITMQ_CONF_ENV_FILE="$dir/rabbitmq-env.conf" RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf"
export RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" RABBITMQ_MNESIA_BASE="$dir/mnesia"
export RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_GENERATED_CONFIG_DIR="$dir/generated"
# One process to kill: the script becomes the Erlang VM instead of watching over it.
export RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_START_ARGS=-noinput
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none $(cat "$dir/more.args" 2> /dev/null || true)"

exec 3<&0 2>> "$dir/output"
$inside epmd -port "$epmd" > /dev/null 2>&1 &
epmd_pid=$!
# Mnesia leaves a dump of itself in the working directory.
(cd "$dir" && exec $inside "$server") >> "$dir/output" 2>&1 3<&- &
server_pid=$!
printf '%s\n' "$server_pid" > "$dir/pid"
{
    cat <&3 > /dev/null
    : > "$dir/closed"
    kill -KILL "$server_pid"
} &
watcher=$!

wait "$server_pid" || true
kill "$epmd_pid" 2> /dev/null || true
if [ -e "$dir/closed" ]; then
    rm -rf "$dir"
else
    kill "$watcher" 2> /dev/null || true
    exit 1
fi
