"""What lies on a converted disk, without booting it and without an appliance: e2fsprogs reads ext4 natively, in seconds."""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

_ROOT = 2  # the root's inode
_LISTED = re.compile(r"/(\d+)/(\d+)/(\d+)/(\d+)/([^/]+)/(\d*)/$")
_XATTR = re.compile(r"\s+(\S+ \(\d+\).*)$")


@dataclass(frozen=True)
class Entry:
    """A path's mode (with its kind), owner, extended attributes, and the digest of its content or its link's target."""

    mode: str
    owner: str
    xattrs: tuple[str, ...]
    content: str

    def differs(self, other: "Entry") -> list[str]:
        """The names of what is not the same."""
        return [name for name in self.__dataclass_fields__ if getattr(self, name) != getattr(other, name)]


def tree(disk: Path, offset: int, folder: Path) -> dict[str, Entry]:
    """Every path of the ext4 at `offset` of the disk; `folder` gets a copy of the files, with guests' paths below it."""
    where = f"{disk}?offset={offset}"
    folder.mkdir()
    _debugfs(where, [f"rdump / {folder}"])
    found = dict(_walk(where))
    attributes = _xattrs(where, {inode for inode, *_ in found.values()})
    return {
        path: Entry(oct(mode), f"{uid}:{gid}", attributes.get(inode, ()), _content(folder / path[1:], mode))
        for path, (inode, mode, uid, gid) in found.items()
    }


def _walk(where: str) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """path -> inode, mode, uid, gid; a level of folders at a time."""
    level = {_ROOT: ""}
    while level:
        below: dict[int, str] = {}
        for inode, lines in _answers(where, "ls -p", level):
            for line in lines:
                if not (match := _LISTED.match(line)):
                    continue
                child, mode, uid, gid = int(match[1]), int(match[2], 8), int(match[3]), int(match[4])
                if match[5] in (".", ".."):
                    continue
                path = f"{level[inode]}/{match[5]}"
                yield path, (child, mode, uid, gid)
                if S_ISDIR(mode):
                    below[child] = path
        level = below


def _xattrs(where: str, inodes: Iterable[int]) -> dict[int, tuple[str, ...]]:
    answers = _answers(where, "ea_list", inodes)
    return {inode: tuple(sorted(m[1] for line in lines if (m := _XATTR.match(line)))) for inode, lines in answers}


def _answers(where: str, verb: str, inodes: Iterable[int]) -> Iterator[tuple[int, list[str]]]:
    """What debugfs says to a verb about each inode."""
    lines: list[str] = []
    asked = 0
    for line in _debugfs(where, [f"{verb} <{inode}>" for inode in inodes]):
        if match := re.match(rf"debugfs: {verb} <(\d+)>$", line):
            if asked:
                yield asked, lines
            asked, lines = int(match[1]), []
        else:
            lines.append(line)
    if asked:
        yield asked, lines


def _debugfs(where: str, commands: Iterable[str]) -> list[str]:
    script = "".join(f"{command}\n" for command in commands)
    done = subprocess.run(
        ["debugfs", "-f", "-", where], input=script, capture_output=True, text=True, errors="surrogateescape", check=True
    )
    return done.stdout.splitlines()


def _content(file: Path, mode: int) -> str:
    if S_ISLNK(mode):
        return str(file.readlink())
    if not S_ISREG(mode):
        return ""
    if not os.access(file, os.R_OK):
        file.chmod(0o600)
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
