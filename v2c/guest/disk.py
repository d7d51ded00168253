"""A real guest: on disks that are NBD exports, reached through the appliance."""

import contextlib
import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG
from typing import Any

from v2c.errors import GuestError
from v2c.events import Meter
from v2c.guest import FileKind, Stat, paths
from v2c.guest.client import Appliance, Failed, Unanswered, decode, encode, launch
from v2c.guest.inspect import inspect
from v2c.guest.keys import parse
from v2c.guest.mounting import mount_all, open_root
from v2c.model import Disk, Facts, Filesystem, Finding, LeaveTool, Level
from v2c.nbd import Export


@contextmanager
def open_guest(
    disks: Sequence[tuple[Disk, Export]],
    *,
    writable: bool,
    keys: Sequence[str] = (),
    root: str = "",
    meter: Meter | None = None,
    platforms_tools: Sequence[LeaveTool] = (),
) -> Iterator["DiskGuest"]:
    """The guest on these disks (in the source's order): launched, unlocked, mounted by its own fstab, inspected.

    `keys`: "SELECTOR:file:PATH" or "SELECTOR:env:NAME". `root`: which operating system, where there are several. Not
    `writable`: mounted read-only; the journal of an unclean filesystem is replayed into a snapshot that is thrown away. When the
    block ends without an error all is unmounted and flushed into the exports; with one, the appliance is killed at once.
    Raises GuestError (not understood), UsageError (a key), ToolError (this machine).
    """
    meter = meter or Meter()
    wanted = parse(keys)
    with meter.phase("launch"):
        appliance = launch([export for _, export in disks], writable=writable, meter=meter)
    try:
        with meter.phase("inspect"):
            opened = open_root(appliance, [disk for disk, _ in disks], wanted, root)
            mounted, findings = mount_all(appliance, opened, writable=writable)
            guest = DiskGuest(appliance, mounted, findings)
            guest.inspected(
                opened.filesystems, opened.root.filesystem.device, opened.boot_disk, opened.root.windows, platforms_tools
            )
        yield guest
        with meter.phase("close"):
            guest.close()
    except Failed as failed:
        raise failed.error() from None
    finally:
        appliance.kill()


class DiskGuest:
    """See `v2c.guest.Guest`. `findings`: what was tolerated or is worth saying about its disks; `mounted`: path -> device."""

    def __init__(self, appliance: Appliance, mounted: dict[str, str], findings: Iterable[Finding]) -> None:
        self._appliance = appliance
        self._facts: Facts | None = None
        self.mounted = mounted
        self.findings: list[Finding] = list(findings)

    def inspected(
        self, filesystems: Sequence[Filesystem], root: str, boot_disk: str, windows: bool, tools: Sequence[LeaveTool]
    ) -> None:
        """Reads the facts; called once, before the first repair."""
        if windows:  # its registry is read by other means; say what is certain
            home = next(fs for fs in filesystems if fs.device == root)
            self._facts = Facts(
                family="windows",
                distribution="windows",
                version="",
                title="Windows",
                architecture="",
                root=root,
                root_uuid=home.uuid,
                root_type=home.type,
                boot_disk=boot_disk,
                filesystems=tuple(filesystems),
            )
        else:
            self._facts = inspect(self, filesystems=filesystems, root=root, boot_disk=boot_disk, tools=tools)

    @property
    def facts(self) -> Facts:
        assert self._facts is not None
        return self._facts

    def exists(self, path: str) -> bool:
        return bool(self._call("exists", path=paths.normal(path)))

    def stat(self, path: str) -> Stat:
        mode, uid, gid, size = self._call("lstat", path=paths.normal(path))
        kind = FileKind.OTHER
        if S_ISREG(mode):
            kind = FileKind.FILE
        elif S_ISDIR(mode):
            kind = FileKind.DIRECTORY
        elif S_ISLNK(mode):
            kind = FileKind.SYMLINK
        return Stat(kind, mode - S_IFMT(mode), uid, gid, size)

    def read(self, path: str) -> bytes:
        try:
            return decode(self._call("read", path=paths.normal(path)))
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise GuestError(f"{path} is larger than 64 MiB", remedy="fetch it instead of reading it") from None
            raise

    def text(self, path: str) -> str:
        return self.read(path).decode("utf-8", "surrogateescape")

    def names(self, path: str) -> list[str]:
        try:
            return [str(name) for name in self._call("names", path=paths.normal(path))]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def glob(self, pattern: str) -> list[str]:
        return paths.expand(pattern, self.names, self.exists)

    def readlink(self, path: str) -> str:
        return str(self._call("readlink", path=paths.normal(path)))

    def fetch(self, path: str, local: str) -> None:
        self._call("fetch", path=paths.normal(path), local=str(Path(local).absolute()))

    def write(self, path: str, data: bytes | str, *, mode: int | None = None) -> None:
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        self._call("write", path=paths.normal(path), data=encode(content), mode=mode)

    def remove(self, path: str) -> None:
        with contextlib.suppress(NotADirectoryError):
            self._call("remove", path=paths.normal(path))

    def rename(self, path: str, to: str) -> None:
        self._call("rename", path=paths.normal(path), to=paths.normal(to))

    def symlink(self, target: str, path: str) -> None:
        self._call("symlink", target=target, path=paths.normal(path))

    def chmod(self, path: str, mode: int) -> None:
        self._call("chmod", path=paths.normal(path), mode=mode)

    def run(self, argv: Sequence[str], *, timeout: float = 900.0) -> str:
        try:
            return str(self._appliance.call("run", timeout=timeout, argv=list(argv)))
        except Unanswered as late:
            raise GuestError(f"{argv[0]} took over {timeout:.0f} s in the guest, which was given up", transient=True) from late
        except Failed as failed:
            words = " ".join(failed.text.removeprefix("command: ").split())
            raise GuestError(f"{argv[0]} failed in the guest: {words[-1500:] or 'it said nothing'}") from None

    def free(self, path: str) -> int:
        return int(self._call("free", path=paths.normal(path)))

    def touched(self, paths: Iterable[str]) -> None:
        """Nothing to do: only the ledger keeps accounts."""

    def trim(self) -> None:
        """Tells the disks what the mounted filesystems do not use, so that it is not copied. A refusal is a finding."""
        for where, device in self.mounted.items():
            try:
                self._appliance.call("trim", where=where)
            except Failed as failed:
                words = " ".join(failed.text.split())
                text = f"{where} ({device}) could not be trimmed: its free space is copied too ({words})"
                self.findings.append(Finding("guest.trim", Level.INFO, where, text))

    def close(self) -> None:
        """Unmounts and flushes; raises when that fails, for then a repair is not to be trusted. Harmless twice."""
        try:
            self._appliance.close()
        except Failed as failed:
            raise GuestError(
                f"the guest's filesystems could not be closed: {' '.join(failed.text.split())}", transient=True
            ) from None

    def _call(self, verb: str, **args: Any) -> Any:
        try:
            return self._appliance.call(verb, **args)
        except Failed as failed:
            raise failed.error() from None
