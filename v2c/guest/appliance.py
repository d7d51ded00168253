"""The appliance's helper: `/usr/bin/python3 -I appliance.py`, the only program of ours that imports guestfs.

guestfs belongs to the system's Python, v2c to any; so this file needs the standard library and guestfs only, and runs alone:
when the appliance hangs or crashes, this process group dies and nothing else.

A request is one line of JSON on stdin, {"id", "call", "args"}; the answer one line on stdout, {"id", "result"} or
{"id", "error": {"kind", "errno", "text"}}; before it may come {"said"}, a sign of life: an appliance that hangs is silent.
Bytes travel as base64. Only the functions below marked `@verb` can be called. It ends when stdin does. Keys of encrypted
disks come over stdin only; guestfs' tracing, which would print them, is off.

Calls of guestfs differ a hundredfold under emulation (measured, 2 processors, TCG): pread 1 ms, but read_file and download
200 ms; lstatns 1 ms, but find 120 ms; list_filesystems 1.5 to 3 s and blkid 0.4 s a device, but one shell loop over all
devices 0.3 s. Hence `survey` and `look`, and no download.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any

CHUNK = 3 << 20  # a message of guestfs' protocol holds 4 MiB
LIMIT = 64 << 20
SURVEY = r"""
for l in /sys/class/block/*; do
  n=${l##*/}
  case $n in loop*|ram*|zram*|fd*|sr*|nbd*) continue ;; esac
  echo "[$n]"
  echo "V2C_PATH=$(readlink -f $l)"
  read s < $l/size; echo "V2C_SECTORS=$s"
  [ -e $l/partition ] && read s < $l/partition && echo "V2C_PARTITION=$s"
  [ -e $l/dm/name ] && read s < $l/dm/name && echo "V2C_DM_NAME=$s"
  [ -e $l/dm/uuid ] && read s < $l/dm/uuid && echo "V2C_DM_UUID=$s"
  [ -d $l/slaves ] && echo V2C_SLAVES=$(ls $l/slaves)
  b=$(blkid -p -o export /dev/$n 2>/dev/null)
  echo "$b"
  case $b in *TYPE=ext[234]*)
    echo V2C_EXT_STATE=$(od -An -tu2 -j1082 -N2 /dev/$n)
    echo V2C_EXT_INCOMPAT=$(od -An -tu4 -j1120 -N4 /dev/$n) ;;
  esac
  [ -d $l/device ] && head -c 512 /dev/$n | grep -aq GRUB && echo V2C_GRUB=yes
done
:
"""
# A journal is not replayed here: nothing may be written before the root is chosen.
LOOK = r"""
t=/tmp/v2c-look; mkdir -p $t
see() {
  echo "[$1]"
  echo "subvolume=$(printf %s "$2" | base64 -w0)"
  b=$t${2:+/$2}
  [ -d "$b/etc" ] && { [ -e "$b/bin" ] || [ -L "$b/bin" ] || [ -d "$b/usr/bin" ]; } && echo linux=yes
  [ -d "$b/boot" ] && [ -n "$(ls -A "$b/boot")" ] && echo boot=yes
  for f in usr/lib/os-release etc/os-release; do
    [ -f "$b/$f" ] && { echo "release=$(head -c 4096 "$b/$f" | base64 -w0)"; break; }
  done
  [ -f "$b/etc/fstab" ] && echo "fstab=$(head -c 65536 "$b/etc/fstab" | base64 -w0)"
  [ -f "$b/etc/crypttab" ] && echo "crypttab=$(head -c 65536 "$b/etc/crypttab" | base64 -w0)"
  w=$(ls -d "$b"/[Ww][Ii][Nn][Dd][Oo][Ww][Ss]/[Ss]ystem32 2>/dev/null) && [ -n "$w" ] && echo windows=yes
  [ -f "$b/hiberfil.sys" ] && echo "hiberfil=$(head -c 4 "$b/hiberfil.sys" | base64 -w0)"
}
look() {
  if ! mount -t $2 -o "ro$3" /dev/$1 $t 2>$t.err; then
    echo "[$1]"; echo "error=$(head -c 500 $t.err | base64 -w0)"; return
  fi
  see "$1" ""
  if [ $2 = btrfs ]; then
    echo "default=$(btrfs subvolume get-default $t | sed 's/.* path //; /^ID 5 /d' | base64 -w0)"
    btrfs subvolume list $t | sed 's/.* path //' | grep -v -e snapshot -e timeshift | head -n 64 |
      while IFS= read -r s; do [ -d "$t/$s/etc" ] && see "$1" "$s"; done
  fi
  umount $t
}
"""
LOOKABLE = {  # type by blkid -> the driver to mount with, options that keep the journal as it is
    "ext2": ("ext4", ""),
    "ext3": ("ext4", ",noload"),
    "ext4": ("ext4", ",noload"),
    "xfs": ("xfs", ",norecovery,nouuid"),
    "btrfs": ("btrfs", ",subvolid=5"),
    "ntfs": ("ntfs-3g", ""),
    "jfs": ("jfs", ""),
    "reiserfs": ("reiserfs", ""),
    "f2fs": ("f2fs", ""),
}

ERRORS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EROFS, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EBUSY, errno.EIO, errno.EDQUOT),
)

verbs: dict[str, Callable[..., Any]] = {}
words: deque[str] = deque(maxlen=60)  # what the appliance and QEMU said last
answers = os.fdopen(os.dup(1), "w", encoding="ascii")
g: Any = None


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """May be called over stdin."""
    verbs[function.__name__] = function
    return function


@verb
def launch(drives: list[dict[str, str]], readonly: bool, smp: int, memsize: int, append: str) -> dict[str, Any]:
    """Starts the appliance on NBD exports; `readonly`: writes go to a snapshot that is thrown away."""
    global g
    import guestfs

    g = guestfs.GuestFS(python_return_dict=True)
    g.set_trace(False)
    g.set_autosync(True)
    g.set_network(False)
    g.set_smp(smp)
    g.set_memsize(memsize)
    g.set_event_callback(heard, guestfs.EVENT_APPLIANCE | guestfs.EVENT_LIBRARY)
    if append:
        g.set_append(append)
    for drive in drives:
        g.add_drive_opts(
            drive["name"],
            protocol="nbd",
            server=["unix:" + drive["socket"]],
            format="raw",
            readonly=readonly,
            cachemode="unsafe",
            discard="disable" if readonly else "besteffort",
        )
    g.launch()
    version = g.version()
    return {"version": f"{version['major']}.{version['minor']}.{version['release']}"}


@verb
def survey() -> str:
    """Every block device of the appliance, by the kernel's names, with what blkid finds on it."""
    return str(shell(SURVEY))


@verb
def look(devices: list[list[str]]) -> str:
    """What lies on each of (kernel name, blkid type), without replaying a journal."""
    calls = []
    for name, kind in devices:
        if kind in LOOKABLE and all(c.isalnum() or c in "-_" for c in name):
            driver, options = LOOKABLE[kind]
            calls.append(f"look {name} {driver} '{options}'")
    return str(shell(LOOK + "\n".join([*calls, ":"])))


@verb
def unlock(device: str, name: str, key: str) -> None:
    """Opens a LUKS device as /dev/mapper/NAME. The key is text (guestfs takes C strings)."""
    g.cryptsetup_open(device, key, name)


@verb
def volumes() -> None:
    """Finds and activates logical volumes, as after an unlock."""
    g.lvm_scan(True)


@verb
def rename_mapping(old: str, new: str) -> None:
    """Gives an opened device the name that the guest itself uses for it."""
    if not all(c.isalnum() or c in "-_.+" for c in old + new):
        raise OSError(errno.EINVAL, f"{new!r} is no name for a device")
    shell(f"dmsetup rename {old} {new} && udevadm settle")


@verb
def mount(device: str, where: str, options: str) -> None:
    """Mounts a device at a directory that exists."""
    g.mount_options(options, device, where)


@verb
def unmount() -> None:
    g.umount_all()


@verb
def exists(path: str) -> bool:
    """Follows symlinks, which guestfs' own `exists` does not."""
    try:
        g.statns(path)
    except RuntimeError as failed:
        if number_of(str(failed)) in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True


@verb
def lstat(path: str) -> list[int]:
    """st_mode, uid, gid, size."""
    s = g.lstatns(path)
    return [s["st_mode"], s["st_uid"], s["st_gid"], s["st_size"]]


@verb
def read(path: str) -> str:
    s = no_directory(g.statns(path))
    if s["st_size"] > LIMIT:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return base64.b64encode(b"".join(chunks(path))).decode()


@verb
def fetch(path: str, local: str) -> int:
    """Copies a file out; its size."""
    with open(local, "wb") as file:  # noqa: PTH123 - plain and old
        return sum(map(file.write, chunks(path)))


@verb
def names(path: str) -> list[str]:
    try:
        entries = [entry["name"] for entry in g.readdir(path)]
    except UnicodeDecodeError:  # the binding decodes strictly; ls0 writes bytes to a file
        with tempfile.NamedTemporaryFile() as file:
            g.ls0(path, file.name)
            entries = [name.decode("utf-8", "surrogateescape") for name in file.read().split(b"\0") if name]
    return sorted(name for name in entries if name not in (".", ".."))


@verb
def readlink(path: str) -> str:
    if not stat.S_ISLNK(g.lstatns(path)["st_mode"]):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return str(g.readlink(path))


@verb
def write(path: str, data: str, mode: int | None) -> None:
    content = base64.b64decode(data)
    there = no_directory(known(g.statns, path))
    if not there:
        parents(path)
    g.write(path, content[:CHUNK])
    for at in range(CHUNK, len(content), CHUNK):
        part = content[at : at + CHUNK]
        while part:
            done = g.pwrite(path, part, at)
            part, at = part[done:], at + done
    if mode is not None or not there:
        g.chmod(0o644 if mode is None else mode, path)


@verb
def remove(path: str) -> None:
    there = known(g.lstatns, path)
    if there and stat.S_ISDIR(there["st_mode"]):
        g.rmdir(path)
    elif there:
        g.rm(path)


@verb
def rename(path: str, to: str) -> None:
    g.lstatns(path)
    no_directory(known(g.lstatns, to))
    g.rename(path, to)


@verb
def symlink(target: str, path: str) -> None:
    if no_directory(known(g.lstatns, path)):
        g.rm(path)
    else:
        parents(path)
    g.ln_s(target, path)


@verb
def chmod(path: str, mode: int) -> None:
    g.chmod(mode, path)


@verb
def run(argv: list[str]) -> str:
    """A program of the guest, chrooted, with /dev, /proc and /sys; its stdout."""
    return decoded(lambda: g.command(argv))


@verb
def free(path: str) -> int:
    s = g.statvfs(path)
    return int(s["bavail"] * s["frsize"])


@verb
def trim(where: str) -> None:
    g.fstrim(where)


@verb
def close() -> None:
    """Unmounts, flushes and ends the appliance."""
    g.umount_all()
    g.shutdown()
    g.close()


def shell(script: str) -> str:
    """A shell script inside the appliance (not the guest); guestfs' `debug sh`, the one way to ask many things at once."""
    return decoded(lambda: g.debug("sh", [script]))


def decoded(call: Callable[[], Any]) -> str:
    """The binding decodes strictly; the bytes it choked on are in its exception."""
    try:
        return str(call())
    except UnicodeDecodeError as wrong:
        return bytes(wrong.object).decode("utf-8", "surrogateescape")


def chunks(path: str) -> Any:
    at = 0
    while True:
        data = g.pread(path, CHUNK, at)
        at += len(data)
        yield data
        if len(data) < CHUNK:  # pread reads in full; a short one is the end
            return


def known(look: Callable[[str], Any], path: str) -> Any:
    """What `look` says of the path, None when it is not there."""
    try:
        return look(path)
    except RuntimeError as failed:
        if number_of(str(failed)) == errno.ENOENT:
            return None
        raise


def no_directory(there: Any) -> Any:
    if there and stat.S_ISDIR(there["st_mode"]):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    return there


def number_of(text: str) -> int:
    """The errno that an error's text ends with, 0 for none: the Python binding has no last_errno."""
    return next((number for number in ERRORS if text.rstrip().endswith(os.strerror(number))), 0)


def parents(path: str) -> None:
    above = path.rsplit("/", 1)[0] or "/"
    if not exists(above):
        g.mkdir_p(above)


def answer(request: Any) -> dict[str, Any]:
    try:
        return {"id": request["id"], "result": verbs[request["call"]](**request["args"])}
    except ImportError as missing:
        return failure(request, "import", 0, str(missing))
    except OSError as refused:
        return failure(request, "errno", refused.errno or 0, str(refused))
    except (UnicodeEncodeError, ValueError, TypeError) as wrong:
        return failure(request, "call", 0, f"{type(wrong).__name__}: {wrong}")
    except RuntimeError as failed:
        text, number = str(failed), number_of(str(failed))
        if request["call"] == "launch":
            text += "\n" + "".join(words)
        return failure(request, "errno" if number else "failed", number, text)


def failure(request: Any, kind: str, number: int, text: str) -> dict[str, Any]:
    return {"id": request["id"], "error": {"kind": kind, "errno": number, "text": text[-8000:]}}


def heard(event: int, handle: int, text: str, array: Any) -> None:
    words.append(str(text))
    tell({"said": len(text)})


def tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), file=answers, flush=True)


def main() -> None:
    os.dup2(2, 1)  # whatever a library prints must not mix with answers
    for request in map(json.loads, sys.stdin):
        can = request["call"] in verbs
        tell(answer(request) if can else failure(request, "call", 0, f"no such call: {request['call']!r}"))


if __name__ == "__main__":
    main()
