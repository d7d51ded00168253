"""The guest: an operating system on disks that is off, as files, commands and facts.

`Guest` is the one thin interface that the fixes see. `guest/memory.py` holds it in memory (for tests and for trying a fix);
`guest/disk.py` reaches a real one through the appliance, a helper process that is the only importer of guestfs.
`guest/ledger.py` wraps either, records every change, and gives a fix's diff and its idempotence test.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from v2c.model import Facts


class FileKind(StrEnum):
    """What a path is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Stat:
    """lstat of a guest's path: permission bits (0o644), owner, size in bytes."""

    kind: FileKind
    mode: int
    uid: int
    gid: int
    size: int


class Guest(Protocol):
    """Paths are absolute, the guest's own, and resolved inside the guest (a symlink never leaves it).

    Reading a missing path raises FileNotFoundError. Text is UTF-8 with surrogateescape, so any file survives a round trip.
    """

    @property
    def facts(self) -> Facts:
        """As inspected before the first repair."""
        ...

    def exists(self, path: str) -> bool:
        """Follows symlinks."""
        ...

    def stat(self, path: str) -> Stat:
        """Does not follow a last symlink."""
        ...

    def read(self, path: str) -> bytes:
        """The whole file, at most 64 MiB (GuestError beyond); initramfs images are fetched with `fetch`."""
        ...

    def text(self, path: str) -> str:
        """`read`, decoded."""
        ...

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; empty when it is missing."""
        ...

    def glob(self, pattern: str) -> list[str]:
        """Existing paths, sorted ("/boot/vmlinuz-*")."""
        ...

    def readlink(self, path: str) -> str:
        """What a symlink says."""
        ...

    def fetch(self, path: str, local: str) -> None:
        """Copies a guest's file to a local one, of any size."""
        ...

    def write(self, path: str, data: bytes | str, *, mode: int | None = None) -> None:
        """Replaces the content, keeps owner and mode of what was there; parent directories are made (0755)."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file, a symlink or an empty directory; absent is success."""
        ...

    def rename(self, path: str, to: str) -> None:
        """Moves a file within one filesystem."""
        ...

    def symlink(self, target: str, path: str) -> None:
        """Makes (or replaces) a symlink at `path` that says `target`."""
        ...

    def chmod(self, path: str, mode: int) -> None:
        """Sets the permission bits."""
        ...

    def run(self, argv: Sequence[str], *, timeout: float = 900.0) -> str:
        """Runs a program of the guest inside it (chroot, its /dev /proc /sys mounted); returns stdout.

        Raises GuestError with its last words when it exits other than 0.
        """
        ...

    def free(self, path: str) -> int:
        """Free bytes on the filesystem that holds `path`."""
        ...

    def touched(self, paths: Iterable[str]) -> None:
        """Says that a program of the guest changes these paths; best said before it runs, for the ledger then knows both."""
        ...
