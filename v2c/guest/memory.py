"""A guest whose files live in memory: for tests, for trying a fix, and for machines of `memory:` sources.

It keeps the same promises as a real one (symlinks are resolved inside it, modes and owners stay, a full disk is full), and
its programs are Python callables given at construction: `programs={"update-initramfs": build}` runs `build(guest, argv)`.
"""

import base64
import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter

from v2c.errors import GuestError, NoSpaceError
from v2c.guest import FileKind, Stat, paths
from v2c.model import MIB, Facts, Filesystem

LIMIT = 64 * MIB  # what `read` returns at most; larger files are fetched
_LOOPS = 40  # symlinks followed before ELOOP, as Linux has it (path_resolution(7))
_FACTS: TypeAdapter[Facts] = TypeAdapter(Facts)
_FILESYSTEMS: TypeAdapter[tuple[Filesystem, ...]] = TypeAdapter(tuple[Filesystem, ...])


@dataclass(slots=True)
class Node:
    """A file, directory or symlink: `data` is the content, for a symlink what it says."""

    kind: FileKind
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def file(data: str | bytes = b"", mode: int = 0o644, uid: int = 0, gid: int = 0) -> Node:
    """A file of a tree, where a plain str or bytes does not say enough."""
    return Node(FileKind.FILE, _bytes(data), mode, uid, gid)


def link(target: str) -> Node:
    """A symlink of a tree."""
    return Node(FileKind.SYMLINK, _bytes(target), 0o777)


def folder(mode: int = 0o755) -> Node:
    """An (empty) directory of a tree."""
    return Node(FileKind.DIRECTORY, b"", mode)


Program = Callable[["MemoryGuest", Sequence[str]], str]
Tree = Mapping[str, str | bytes | Node]


class MemoryGuest:
    """See `v2c.guest.Guest`. `capacity` is the size of its one filesystem in bytes."""

    def __init__(
        self,
        nodes: dict[str, Node],
        *,
        facts: Facts | None = None,
        filesystems: tuple[Filesystem, ...] = (),
        programs: Mapping[str, Program] | None = None,
        capacity: int = 1024 * MIB,
    ) -> None:
        self._nodes = nodes
        self._facts = facts
        self._filesystems = filesystems
        self._programs = dict(programs or {})
        self._capacity = capacity
        self.ran: list[tuple[str, ...]] = []

    @classmethod
    def from_tree(
        cls,
        tree: Tree,
        *,
        facts: Facts | None = None,
        filesystems: Sequence[Filesystem] = (),
        programs: Mapping[str, Program] | None = None,
        capacity: int = 1024 * MIB,
    ) -> Self:
        """A guest from {path: content}; `file`, `link` and `folder` say more. Without `facts` it is inspected as a disk
        would be, with `filesystems` as its devices."""
        nodes = {"/": folder()}
        guest = cls(nodes, facts=facts, filesystems=tuple(filesystems), programs=programs, capacity=capacity)
        for path, entry in tree.items():
            node = entry if isinstance(entry, Node) else file(entry)
            where = guest._resolve(path, follow=False)
            guest._make_parents(where)
            nodes[where] = Node(node.kind, node.data, node.mode, node.uid, node.gid)
        return guest

    def to_bytes(self) -> bytes:
        """All of it except its programs, as JSON in a fixed order: equal guests give equal bytes."""
        document = {
            "capacity": self._capacity,
            "facts": _FACTS.dump_python(self._facts, mode="json") if self._facts else None,
            "filesystems": _FILESYSTEMS.dump_python(self._filesystems, mode="json"),
            "nodes": {
                path: [n.kind.value, n.mode, n.uid, n.gid, base64.b64encode(n.data).decode()]
                for path, n in sorted(self._nodes.items())
            },
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, programs: Mapping[str, Program] | None = None) -> Self:
        """The guest that `to_bytes` wrote. Raises GuestError for anything else."""
        try:
            document = json.loads(data)
            nodes = {
                path: Node(FileKind(kind), base64.b64decode(content), mode, uid, gid)
                for path, (kind, mode, uid, gid, content) in document["nodes"].items()
            }
            facts = _FACTS.validate_python(document["facts"]) if document["facts"] else None
            filesystems = _FILESYSTEMS.validate_python(document["filesystems"])
            capacity = int(document["capacity"])
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise GuestError(f"this is not a kept guest: {wrong}", remedy="make the memory source anew") from wrong
        return cls(nodes, facts=facts, filesystems=filesystems, programs=programs, capacity=capacity)

    @property
    def facts(self) -> Facts:
        if self._facts is None:
            from v2c.guest.inspect import inspect

            self._facts = inspect(self, filesystems=self._filesystems)
        return self._facts

    @property
    def tree(self) -> dict[str, Node]:
        """A copy of all that is there, by path: what two guests are compared by."""
        return {p: Node(n.kind, n.data, n.mode, n.uid, n.gid) for p, n in sorted(self._nodes.items())}

    def exists(self, path: str) -> bool:
        try:
            return self._resolve(path) in self._nodes
        except OSError:
            return False

    def stat(self, path: str) -> Stat:
        node = self._node(path, follow=False)
        size = 4096 if node.kind is FileKind.DIRECTORY else len(node.data)
        return Stat(node.kind, node.mode, node.uid, node.gid, size)

    def read(self, path: str) -> bytes:
        node = self._node(path)
        if node.kind is FileKind.DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if len(node.data) > LIMIT:
            raise GuestError(f"{path} is larger than {LIMIT // MIB} MiB", remedy="fetch it instead of reading it")
        return node.data

    def text(self, path: str) -> str:
        return self.read(path).decode("utf-8", "surrogateescape")

    def names(self, path: str) -> list[str]:
        try:
            where = self._resolve(path)
        except OSError:
            return []
        prefix = where.rstrip("/") + "/"
        return sorted(p[len(prefix) :] for p in self._nodes if p.startswith(prefix) and p != "/" and "/" not in p[len(prefix) :])

    def glob(self, pattern: str) -> list[str]:
        return paths.expand(pattern, self.names, self.exists)

    def readlink(self, path: str) -> str:
        node = self._node(path, follow=False)
        if node.kind is not FileKind.SYMLINK:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return node.data.decode("utf-8", "surrogateescape")

    def fetch(self, path: str, local: str) -> None:
        Path(local).write_bytes(self._node(path).data)

    def write(self, path: str, data: bytes | str, *, mode: int | None = None) -> None:
        content = _bytes(data)
        where = self._resolve(path)
        node = self._nodes.get(where)
        if node is not None and node.kind is FileKind.DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if len(content) - (len(node.data) if node else 0) > self.free("/"):
            raise NoSpaceError(f"the guest has no room for {path}", remedy="free space in the machine and try again")
        if node is None:
            self._make_parents(where)
            node = self._nodes[where] = Node(FileKind.FILE)
        node.data = content
        if mode is not None:
            node.mode = mode

    def remove(self, path: str) -> None:
        try:
            where = self._resolve(path, follow=False)
        except FileNotFoundError:
            return
        if self.names(where) and self._nodes[where].kind is FileKind.DIRECTORY:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._nodes.pop(where, None)

    def rename(self, path: str, to: str) -> None:
        self._node(path, follow=False)
        old, new = self._resolve(path, follow=False), self._resolve(to, follow=False)
        if paths.parent(new) not in self._nodes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), to)
        if new in self._nodes and self._nodes[new].kind is FileKind.DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), to)
        for there in [p for p in self._nodes if p == old or p.startswith(old + "/")]:
            self._nodes[new + there[len(old) :]] = self._nodes.pop(there)

    def symlink(self, target: str, path: str) -> None:
        where = self._resolve(path, follow=False)
        if where in self._nodes and self._nodes[where].kind is FileKind.DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._make_parents(where)
        self._nodes[where] = link(target)

    def chmod(self, path: str, mode: int) -> None:
        self._node(path).mode = mode

    def run(self, argv: Sequence[str], *, timeout: float = 900.0) -> str:
        program = self._programs.get(argv[0]) or self._programs.get(argv[0].rsplit("/", 1)[-1])
        if program is None:
            raise GuestError(f"the guest has no program {argv[0]}", remedy="give MemoryGuest one by that name")
        self.ran.append(tuple(argv))
        return program(self, argv)

    def free(self, path: str) -> int:
        return self._capacity - sum(len(n.data) for n in self._nodes.values())

    def touched(self, paths: Iterable[str]) -> None:
        """Nothing to do: only the ledger keeps accounts."""

    def _node(self, path: str, *, follow: bool = True) -> Node:
        where = self._resolve(path, follow=follow)
        if where not in self._nodes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._nodes[where]

    def _resolve(self, path: str, *, follow: bool = True) -> str:
        """Where the path leads, every symlink followed inside the guest ("/.." is "/")."""
        todo = paths.normal(path).split("/")[1:]
        done: list[str] = []
        loops = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            if not part:
                continue
            here = "/" + "/".join([*done, part])
            node = self._nodes.get(here)
            if node is not None and node.kind is FileKind.SYMLINK and (todo or follow):
                loops += 1
                if loops > _LOOPS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = node.data.decode("utf-8", "surrogateescape")
                done = [] if target.startswith("/") else done
                todo = [p for p in target.split("/") if p not in ("", ".")] + todo
                continue
            if node is not None and node.kind is not FileKind.DIRECTORY and todo:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            done.append(part)
        return "/" + "/".join(done)

    def _make_parents(self, where: str) -> None:
        above = self._resolve(paths.parent(where)) if where != "/" else "/"
        if above not in self._nodes:
            self._make_parents(above)
            self._nodes[above] = folder()
        elif self._nodes[above].kind is not FileKind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where)


def _bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
