"""A tiny guest made of this host's kernel and Python: boots in seconds, needs no package and no network."""

import functools
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from v2c.rehearsal.shape import DirectKernel

GUEST = Path(__file__).with_name("tiny_guest.txt")
PYTHON = Path("/usr/bin/python3").resolve()
# what the tiny guest imports: asked of the very interpreter that it will be
IMPORTS = "import sys, json, time, socket, struct, fcntl, ctypes, http.client, encodings.idna, traceback"


def kernel() -> Path:
    images = sorted(Path("/boot").glob("vmlinuz-*"))
    if not images:
        pytest.skip("this host has no kernel in /boot")
    return images[-1]


def _libraries(file: Path) -> Iterator[Path]:
    text = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    for word in text.split():
        if word.startswith("/"):
            yield Path(word)


def _python() -> Iterator[Path]:
    listing = f"{IMPORTS}\nprint(json.dumps([m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)]))"
    found = subprocess.run([str(PYTHON), "-I", "-S", "-c", listing], capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in json.loads(found)]
    yield from files
    # the landmarks by which Python knows where it lives
    root = Path(os.__file__).parent if Path(os.__file__).is_relative_to("/usr/lib") else Path("/usr/lib/python3.11")
    yield from (root / name for name in ("os.py", "site.py"))
    for binary in [PYTHON, *(file for file in files if file.suffix == ".so")]:
        yield from _libraries(binary)
    yield Path("/lib64/ld-linux-x86-64.so.2")


@functools.cache
def _dependencies(release: str) -> dict[str, list[str]]:
    """Module name -> its files below the module tree, what it needs first."""
    found = {}
    for line in Path(f"/lib/modules/{release}/modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        found[Path(file).name.split(".")[0].replace("-", "_")] = [*reversed(needs.split()), file]
    return found


def _cpio(entries: dict[str, tuple[int, bytes]]) -> bytes:
    """The "newc" archive that a kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    out = bytearray()
    for number, (name, (mode, data)) in enumerate([*sorted(entries.items()), ("TRAILER!!!", (0, b""))], 1):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


class TinyGuest:
    """make(modules, **settings): a kernel and an initramfs that run tests/rehearsal/tiny_guest.txt with these settings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._image = kernel()
        self._entries: dict[str, tuple[int, bytes]] = {"init": (stat.S_IFREG | 0o755, GUEST.read_bytes())}
        for file in {PYTHON, *_python()}:
            self._entries[str(file).lstrip("/")] = (stat.S_IFREG | 0o755, file.read_bytes())
        self._entries["usr/bin/python3"] = (stat.S_IFLNK | 0o777, PYTHON.name.encode())

    def make(self, modules: tuple[str, ...] = (), **settings: str) -> DirectKernel:
        release = self._image.name.removeprefix("vmlinuz-")
        wanted: list[str] = []
        for module in modules:
            wanted += [name for name in _dependencies(release)[module] if name not in wanted]
        mine = dict(self._entries)
        for name in wanted:
            mine[f"modules/{Path(name).name}"] = (stat.S_IFREG | 0o644, Path(f"/lib/modules/{release}/{name}").read_bytes())
        told = {**settings, "modules": [Path(name).name for name in wanted]}
        mine["settings.json"] = (stat.S_IFREG | 0o644, json.dumps(told).encode())
        for name in [*mine, "proc/x", "sys/x", "dev/x"]:
            for parent in Path(name).parents:
                if str(parent) != ".":
                    mine.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        initrd = self._folder / f"initrd-{len(list(self._folder.iterdir()))}"
        initrd.write_bytes(_cpio(mine))
        return DirectKernel(str(self._image), str(initrd), "console=ttyS0 panic=-1 quiet loglevel=4")
