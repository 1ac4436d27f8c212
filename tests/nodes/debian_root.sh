#!/bin/sh
# Another RabbitMQ than this Debian's own: unpacks that of another suite, with all it needs, into a folder.
#
#   debian_root.sh SUITE ROOT
#
# The packages come from where this machine's own come from, by apt with folders of its own, and nothing
# of this machine is changed. The folder is complete when ROOT/version is there, which holds RabbitMQ's.
set -eu
suite=$1 root=$2
sources=/etc/apt/sources.list.d/debian.sources
. /etc/os-release

apt=$root/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources"
: > "$apt/sources.list"
: > "$apt/status"
# The first entry is the archive; the others are security and update suites, which sid has none of.
sed "s/$VERSION_CODENAME-updates//; s/$VERSION_CODENAME/$suite/g; /^\$/,\$d" "$sources" > "$apt/sources/debian.sources"
options="-oDir::State::Lists=$apt/lists -oDir::Cache=$apt/cache -oDir::Etc::SourceList=$apt/sources.list
    -oDir::Etc::SourceParts=$apt/sources -oDir::State::status=$apt/status -qq"
# shellcheck disable=SC2086
{
    apt-get $options update
    apt-get $options --yes --download-only --no-install-recommends install \
        rabbitmq-server bash coreutils libc-bin sed grep gawk util-linux
} > /dev/null

mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" \
    "$root/tmp" "$root/etc" "$root/proc" "$root/dev" "$root/var/log" "$root/var/lib"
for folder in bin sbin lib lib64; do
    [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"
done
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink
done
ln -sf bash "$root/usr/bin/sh"
cp /etc/hosts /etc/passwd /etc/group "$root/etc/"
rm -rf "$apt"
for server in "$root"/usr/lib/rabbitmq/lib/rabbitmq_server-*; do
    printf '%s\n' "${server##*-}" > "$root/version"
done
