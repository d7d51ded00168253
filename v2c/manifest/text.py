"""YAML text to plain values, with the place of everything: the strict part of YAML 1.2 that a manifest needs.

Built from the parser's events, not from ruamel's constructors: so every duplicate key is found at once, nothing is made of a
value but text, numbers, true, false and null (`no` and `12:34` stay text), a hostile file can neither nest nor multiply without
end, and 500 machines take a third of a second. Where libyaml is missing, or refuses what YAML 1.2 allows, ruamel's own parser
reads the text, six times slower.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from v2c.manifest.mistakes import Mistake, written

DEPTH = 40  # a manifest nests ten deep
VALUES = 2_000_000  # after aliases are followed; 10,000 machines have 400,000
LARGEST = 64 * 1024 * 1024  # bytes of a file

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_STANDARD = "tag:yaml.org,2002:"

Path = tuple[int | str, ...]


@dataclass(slots=True)
class Node:
    """A value and where it stands (line and column from 1): `items` of a mapping (key node, value node) or a list, or a
    scalar's `value` and, as it is written, `raw`."""

    kind: str  # "mapping", "list" or "scalar"
    line: int
    column: int
    value: Any = None
    raw: str = ""
    keys: "dict[str, tuple[Node, Node]]" = field(default_factory=dict)
    items: "list[Node]" = field(default_factory=list)

    def step(self, part: int | str) -> "Node | None":
        """The value under a key or at an index; None when there is none."""
        if self.kind == "mapping" and part in self.keys:
            return self.keys[str(part)][1]
        if self.kind == "list" and isinstance(part, int) and part < len(self.items):
            return self.items[part]
        return None

    def at(self, path: Path) -> "tuple[Node, bool]":
        """The node nearest to the path, and whether it is the very one."""
        node = self
        for part in path:
            found = node.step(part)
            if found is None:
                return node, False
            node = found
        return node, True

    def key(self, path: Path) -> "Node":
        """The node of the path's last key (of the value, in a list)."""
        parent, there = self.at(path[:-1])
        if there and path and parent.kind == "mapping" and path[-1] in parent.keys:
            return parent.keys[str(path[-1])][0]
        return self.at(path)[0]

    def walk(self, path: Path = (), seen: "set[int] | None" = None) -> "Iterator[tuple[Path, Node]]":
        """Every node below (keys too, under the path of their value), in the file's order; what aliases repeat only once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield path, self
        for name, (key, value) in self.keys.items():
            yield (*path, name), key
            yield from value.walk((*path, name), seen)
        for index, item in enumerate(self.items):
            yield from item.walk((*path, index), seen)


@dataclass(slots=True)
class Document:
    """What a file says: plain `value`, the `root` for places, and the mistakes of the text itself."""

    file: str
    value: Any
    root: Node
    mistakes: list[Mistake]

    def mistake(self, path: Path, text: str, remedy: str = "", *, key: bool = False) -> Mistake:
        """A mistake at a path; `key`: at its key, not its value."""
        node = self.root.key(path) if key else self.root.at(path)[0]
        return Mistake(self.file, node.line, node.column, written(path), text, remedy)


def decoded(data: bytes) -> str:
    """A file's text: UTF-8 with or without a mark, or UTF-16 with one (as PowerShell writes). UnicodeDecodeError for others."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def read(data: bytes, file: str) -> Document:
    """The document in a file. Text that is no YAML is one mistake, at its place; nothing is raised."""
    nothing = Node("mapping", 1, 1)
    if len(data) > LARGEST:
        return Document(file, None, nothing, [Mistake(file, 1, 1, "", f"the file has {len(data)} bytes", "split it")])
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Document(file, None, nothing, [Mistake(file, line, 1, "", "this is no UTF-8", "save the file as UTF-8")])
    builder = _Builder(file)
    try:
        try:
            root = builder.document(_events(text, pure=False))
        except YAMLError:  # libyaml is of YAML 1.1: it refuses {url: http://host} and {start: 2026-12-05T22:00}
            builder = _Builder(file)
            root = builder.document(_events(text, pure=True))
        return Document(file, builder.plain(root), root, builder.mistakes)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        builder.add(line, column, (), f"this is no YAML: {_problem(error)}", "correct the text there")
    except YAMLError as error:
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        builder.add(line, 1, (), "there is a character that YAML does not allow", "remove it")
    except _Refused:
        pass
    return Document(file, None, nothing, builder.mistakes)


def _events(text: str, *, pure: bool) -> Iterator[Any]:
    return iter(YAML(typ="safe", pure=pure).parse(text))  # pure=False: libyaml where it is there


def _problem(error: MarkedYAMLError) -> str:
    """The parser's own words without what it quotes of the text, which may be a secret."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "...", str(error.problem or error.context or "")) or "it cannot be read"


class _Refused(Exception):
    """The text cannot be gone on with; the mistake is noted."""


class _Builder:
    """Events to nodes, noting every mistake of the text."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.anchors: dict[str, Node] = {}
        self.open: set[str] = set()
        self.count = 0

    def add(self, line: int, column: int, path: Path, text: str, remedy: str = "") -> None:
        self.mistakes.append(Mistake(self.file, line, column, written(path), text, remedy))

    def refuse(self, event: Any, path: Path, text: str, remedy: str = "") -> _Refused:
        self.add(event.start_mark.line + 1, event.start_mark.column + 1, path, text, remedy)
        return _Refused()

    def document(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        for event in events:
            kind = type(event).__name__
            if kind in ("StreamStartEvent", "StreamEndEvent", "DocumentStartEvent", "DocumentEndEvent"):
                continue
            if root is not None:
                raise self.refuse(event, (), "a second document begins here", "keep one document in a file")
            root = self.node(event, events, ())
        return root or Node("mapping", 1, 1)

    def node(self, event: Any, events: Iterator[Any], path: Path) -> Node:
        kind = type(event).__name__
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if kind == "AliasEvent":
            return self.alias(event, path)
        if len(path) > DEPTH:
            raise self.refuse(event, path[:3], f"it nests deeper than {DEPTH} levels", "flatten it")
        tag = event.tag or ""
        if tag and tag != "!" and not str(tag).startswith((_STANDARD, "!!")):
            self.add(line, column, path, "a manifest uses no tags", "remove the word that begins with !")
        if event.anchor:
            self.open.add(event.anchor)
        if kind == "ScalarEvent":
            node = self.scalar(event, line, column)
        elif kind == "SequenceStartEvent":
            node = Node("list", line, column)
            while type(inner := next(events)).__name__ != "SequenceEndEvent":
                node.items.append(self.node(inner, events, (*path, len(node.items))))
        else:
            node = self.mapping(events, Node("mapping", line, column), path)
        if event.anchor:
            self.open.discard(event.anchor)
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any, path: Path) -> Node:
        if event.anchor in self.open:
            raise self.refuse(event, path, "an alias stands inside what it names", "write the value out")
        if event.anchor not in self.anchors:
            raise self.refuse(event, path, "an alias (*) names no anchor (&) before it", "correct it, or quote the text")
        return self.anchors[event.anchor]

    def scalar(self, event: Any, line: int, column: int) -> Node:
        raw = event.value
        if not raw.isascii():
            try:  # "\ud83d\ude00", as JSON writes what lies beyond the first plane; half a pair is no character
                raw = raw.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                self.add(line, column, (), "there is a character that YAML does not allow", "remove it")
                raw = "?"
        plain = event.style in (None, "") and not (event.tag and event.tag != "!")
        return Node("scalar", line, column, _core(raw) if plain else raw, raw)

    def mapping(self, events: Iterator[Any], node: Node, path: Path) -> Node:
        merged: list[Node] = []
        while type(event := next(events)).__name__ != "MappingEndEvent":
            if type(event).__name__ != "ScalarEvent":
                raise self.refuse(event, path, "a key is no plain text", "write the key as text")
            key = self.scalar(event, event.start_mark.line + 1, event.start_mark.column + 1)
            name = key.raw
            value = self.node(next(events), events, (*path, name))
            if name == "<<" and event.style in (None, ""):
                merged += value.items if value.kind == "list" else [value]
                continue
            if name in node.keys:
                first = node.keys[name][0].line
                self.add(key.line, key.column, (*path, name), f"the key is given twice (first in line {first})", "remove one")
                continue
            node.keys[name] = (key, value)
        for other in merged:
            if other.kind != "mapping":
                self.add(node.line, node.column, (*path, "<<"), "<< takes a mapping", "name an anchor of a mapping")
            for name, pair in other.keys.items():
                node.keys.setdefault(name, pair)
        return node

    def plain(self, node: Node) -> Any:
        """The plain value; aliases are followed, up to VALUES values."""
        self.count += 1
        if self.count > VALUES:
            self.add(node.line, node.column, (), f"its aliases stand for more than {VALUES} values", "write fewer")
            raise _Refused
        if node.kind == "mapping":
            return {name: self.plain(value) for name, (_, value) in node.keys.items()}
        if node.kind == "list":
            return [self.plain(item) for item in node.items]
        return node.value


def _core(raw: str) -> Any:
    """A plain scalar by YAML 1.2's core schema, decimal numbers only."""
    if raw in _WORDS:
        return _WORDS[raw]
    if len(raw) > 40:
        return raw
    if _INTEGER.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    return raw
