#!/bin/bash
# tests/fresh/run.sh [--user] [--keep] [--minimal] -- COMMAND...
#
# Proves that a fresh Debian 12 needs nothing but this checkout: makes a minbase system with mmdebstrap from this machine's own apt
# sources, copies a clone of the last commit into it, and runs each COMMAND ("./run demo") there twice, as root or (--user) as a
# user with sudo. --keep leaves the system in place for a look. --minimal gives it no /proc, /sys and /dev, as some build chroots
# do (enough for "./run v2c --version"). Needs root, mmdebstrap and git. Prints the seconds of each run.
set -euo pipefail

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
umask 022 # the system is for all its users
PLACE=${V2C_FRESH:-/var/tmp/v2c-fresh}
GIVEN=("$@")
WHO=root
KEEP=""
MOUNTS=yes
while [ $# -gt 0 ]; do
    case $1 in
        --user) WHO=anna ;;
        --keep) KEEP=yes ;;
        --minimal) MOUNTS="" ;;
        --) shift && break ;;
        *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- "./run demo"

# A mount namespace of its own: whatever happens, no mount of ours stays behind, and no process either.
if [ "${V2C_FRESH_INSIDE:-}" != yes ]; then
    export V2C_FRESH_INSIDE=yes
    exec unshare --mount --propagation private --pid --fork --kill-child -- "${BASH_SOURCE[0]}" "${GIVEN[@]}"
fi

cleanup() {
    local at
    for at in proc sys dev/pts dev/shm dev; do umount -l "$PLACE/$at" 2>/dev/null || true; done
    [ -n "$KEEP" ] || rm -rf --one-file-system "$PLACE"
}
trap cleanup EXIT

sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/debian.list; do
    [ -s "$file" ] && sources+=("$file")
done
rm -rf --one-file-system "$PLACE"
echo "fresh: making $PLACE from ${sources[*]}"
mmdebstrap --quiet --variant=minbase --include=sudo bookworm "$PLACE" "${sources[@]}"

# The machine's own way into the network: resolver, proxies, certificates. Nothing else of it goes in.
[ ! -f /etc/resolv.conf ] || cp -L /etc/resolv.conf "$PLACE/etc/resolv.conf"
for file in /etc/pip.conf /usr/local/share/ca-certificates/*.crt /etc/apt/apt.conf.d/*proxy*; do
    [ ! -f "$file" ] || install -D -m 0644 "$file" "$PLACE$file"
done

if [ -n "$MOUNTS" ]; then
    mount -t proc proc "$PLACE/proc"
    mount -t sysfs -o ro sysfs "$PLACE/sys"
    mount --rbind /dev "$PLACE/dev"
fi
home=/root
if [ "$WHO" != root ]; then
    chroot "$PLACE" useradd --create-home --shell /bin/bash "$WHO"
    echo "$WHO ALL=(ALL) NOPASSWD: ALL" >"$PLACE/etc/sudoers.d/$WHO"
    home=/home/$WHO
fi
printf '[safe]\n\tdirectory = *\n' >"$PLACE/gitconfig" # the checkout may be another user's
GIT_CONFIG_GLOBAL=$PLACE/gitconfig git clone --quiet "$ROOT" "$PLACE$home/v2c"
rm "$PLACE/gitconfig"
[ "$WHO" = root ] || chroot "$PLACE" chown -R "$WHO:" "$home/v2c"

for command in "$@"; do
    for time in first second; do
        began=$SECONDS
        chroot "$PLACE" su --login --shell /bin/bash "$WHO" -c "cd v2c && $command" </dev/null || {
            code=$?
            echo "fresh: FAILED: the $time \"$command\" as $WHO ended with $code after $((SECONDS - began)) s"
            exit 1
        }
        echo "fresh: the $time \"$command\" as $WHO took $((SECONDS - began)) s"
    done
done
