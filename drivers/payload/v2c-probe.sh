#!/bin/sh
# Tells on the serial console what came up, once: waits until the boot has settled, prints what it finds as
#
#     V2C1 NONCE SEQ/TOTAL SHA256 LENGTH CHUNK
#
# where the chunks are the base64 of a gzipped JSON document, {"v":1,"nonce":...,"sections":{NAME: base64 of a command's
# output}}, and SHA256 and LENGTH are those of all chunks together. Everything is said three times, because the kernel prints
# in between. Then it disarms itself by removing the nonce; a boot cut short before that says it again.
#
# POSIX sh, and every tool may be missing. V2C_ROOT stands before every path (tests).
# shellcheck disable=SC2317 # most functions are called through `section`
LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export LC_ALL PATH
root=${V2C_ROOT:-}
etc=$root/etc/v2c
settle=${V2C_SETTLE:-120}   # seconds that services may take to start
address=${V2C_ADDRESS:-30}  # seconds that the network may take
pause=${V2C_PAUSE:-4}       # seconds between the repetitions

[ -r "$etc/nonce" ] || exit 0
read -r nonce < "$etc/nonce"
device=ttyS0
[ ! -r "$etc/device" ] || read -r device < "$etc/device"
case $device in
    *[!A-Za-z0-9/_.-]* | *..*) exit 1 ;;
esac
device=$root/dev/${device#/dev/}

has() { command -v "$1" > /dev/null 2>&1; }

# A tool that hangs (a dead network mount, a directory service) must not silence the others.
bounded() {
    if has timeout; then timeout "${bound:-60}" "$@"; else "$@"; fi
}

encode() {
    if has base64; then base64 | tr -d '\n'
    elif has openssl; then openssl base64 -A
    else busybox base64 | tr -d '\n'
    fi
}

digest() {
    if has sha256sum; then sha256sum
    elif has openssl; then openssl dgst -sha256 -r
    else busybox sha256sum
    fi | { read -r hash _; printf '%s' "$hash"; }
}

pack() {
    if has gzip; then gzip -9 -n -c; else busybox gzip -9 -c; fi
}

state() {
    # "degraded" is an answer, with a status other than 0
    if has systemctl; then systemctl is-system-running 2> /dev/null || true; else echo unknown; fi
}

wait_for_boot() {
    waited=0
    while [ "$waited" -lt "$settle" ]; do
        case $(state) in
            initializing | starting) ;;
            *) return ;;
        esac
        sleep 1
        waited=$((waited + 1))
    done
}

# Interfaces other than loopback that have an address (a link-local IPv6 one comes by itself and proves nothing).
addressed() {
    ip -o addr show 2> /dev/null | while read -r _ name family value _; do
        case $name,$family,$value in
            lo,* | *,inet6,fe80:*) ;;
            *,inet,* | *,inet6,*) echo "$name" ;;
        esac
    done
}

wait_for_address() {
    has ip || return
    case $(ip -o link show 2> /dev/null | grep -vc ': lo:') in 0) return ;; esac
    waited=0
    while [ "$waited" -lt "$address" ]; do
        [ -z "$(addressed)" ] || return
        sleep 1
        waited=$((waited + 1))
    done
}

mounts() {
    if has findmnt; then bounded findmnt -rn -o TARGET,SOURCE,FSTYPE,UUID
    else while read -r source target type _; do echo "$target $source $type"; done < "$root/proc/mounts"
    fi
}

swaps() {
    if has swapon && swapon --show=NAME,UUID --noheadings --raw 2> /dev/null; then return; fi
    while read -r name _; do [ "$name" = Filename ] || echo "$name"; done < "$root/proc/swaps"
}

accounts() {
    if has getent; then bounded getent passwd; else cat "$root/etc/passwd"; fi
}

# Without ss: the kernel's own tables; state 0A is LISTEN, 07 is a bound UDP socket.
sockets() {
    for protocol in tcp tcp6 udp udp6; do
        [ -r "$root/proc/net/$protocol" ] || continue
        while read -r _ local _ state _; do
            case ${protocol%6},$state in
                tcp,0A) echo "tcp LISTEN 0 0 *:$((0x${local##*:})) *:*" ;;
                udp,07) echo "udp UNCONN 0 0 *:$((0x${local##*:})) *:*" ;;
            esac
        done < "$root/proc/net/$protocol"
    done
}

listening() {
    if has ss; then ss -Hltun; else sockets; fi
}

disks() {
    if has lsblk; then bounded lsblk -Pbno NAME,TYPE,SIZE,SERIAL,UUID
    else
        for block in "$root"/sys/block/*; do
            [ -r "$block/device/uevent" ] || continue
            read -r sectors < "$block/size"
            echo "NAME=\"${block##*/}\" TYPE=\"disk\" SIZE=\"$((sectors * 512))\" SERIAL=\"\" UUID=\"\""
        done
    fi
}

addresses() {
    ip -o addr show
    ip -o link show
    ip route show
}

units() {
    set -- list-unit-files --state=enabled --no-legend --no-pager --plain
    # With --root systemctl reads the files itself, when a busy systemd does not answer in time: that took over 60 s on a
    # converter without KVM whose two processors had eleven programs to run.
    bounded systemctl "$@" || bound=240 bounded systemctl --root=/ "$@"
}

failures() {
    bound=240 bounded systemctl list-units --failed --no-legend --no-pager --plain
}

host() {
    if has hostname; then hostname; else cat "$root/proc/sys/kernel/hostname"; fi
}

# section NAME COMMAND...: the JSON member; output beyond 64 KiB is cut. A command that failed (or took too long) is named in the
# section "unheard", so that its silence is not taken for an answer; 128 and more is `head` having had enough.
section() {
    name=$1
    shift
    printf '"%s":"' "$name"
    {
        "$@" 2> /dev/null
        status=$?
        { [ "$status" -eq 0 ] || [ "$status" -ge 128 ]; } || echo "$name" >> "$etc/unheard"
    } | head -c 65536 | encode
    printf '",'
}

document() {
    printf '{"v":1,"nonce":"%s","sections":{' "$nonce"
    section hostname host
    section machine-id cat "$root/etc/machine-id"
    section kernel uname -r
    section cmdline cat "$root/proc/cmdline"
    section mounts mounts
    section swaps swaps
    section enabled units
    section failed failures
    section passwd accounts
    section listening listening
    section disks disks
    section addresses addresses
    section modules cat "$root/proc/modules"
    section uptime cat "$root/proc/uptime"
    section state state
    section unheard cat "$etc/unheard"
    printf '"end":""}}\n'
}

put() { { printf '\r\n%s\r\n' "$1" >> "$device"; } 2> /dev/null; }

# The console is opened for every line: a getty that starts meanwhile hangs the line up, and an open file would be dead.
say() {
    sequence=0
    rest=$payload
    while [ -n "$rest" ]; do
        if [ "${#rest}" -gt 200 ]; then
            tail=${rest#????????????????????????????????????????????????????????????????????????????????????????????????????}
            tail=${tail#????????????????????????????????????????????????????????????????????????????????????????????????????}
            chunk=${rest%"$tail"}
            rest=$tail
        else
            chunk=$rest
            rest=
        fi
        sequence=$((sequence + 1))
        line="V2C1 $nonce $sequence/$total $sum $length $chunk"
        put "$line" || { sleep 1; put "$line" || return; }
    done
}

# The kernel's messages stay in its log, off the console, while we speak.
quiet() {
    [ -z "$root" ] && [ -w /proc/sys/kernel/printk ] || return
    read -r level _ < /proc/sys/kernel/printk
    echo 1 > /proc/sys/kernel/printk
    # shellcheck disable=SC2064 # the level as it is now
    trap "echo $level > /proc/sys/kernel/printk" EXIT
}

wait_for_boot
wait_for_address
: > "$etc/unheard"
payload=$(document | pack | encode)
length=${#payload}
total=$(((length + 199) / 200))
sum=$(printf '%s' "$payload" | digest)
quiet
for time in 1 2 3; do
    say
    [ "$time" = 3 ] || sleep "$pause"
done
rm -f "$etc/unheard" "$etc/nonce"
exit 0
