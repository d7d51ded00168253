"""What exists at the double: one JSON file per resource, by its ARM id, which ARM compares without case."""

import copy
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Resource:
    """A resource: what a GET shows, and what only the service knows."""

    shown: dict[str, Any]
    hidden: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The full ARM id, in the case it was made with."""
        return str(self.shown["id"])

    @property
    def properties(self) -> dict[str, Any]:
        """Its properties, to be changed and then saved."""
        found: dict[str, Any] = self.shown.setdefault("properties", {})
        return found


class Store:
    """Resources by id. Take `lock` around what must happen at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._all: dict[str, Resource] = {}
        for file in sorted(folder.glob("*.json")):
            found = json.loads(file.read_text(encoding="utf-8"))
            self._all[found["shown"]["id"].lower()] = Resource(found["shown"], found["hidden"])

    def get(self, id: str) -> Resource | None:
        """The resource, or None."""
        with self.lock:
            return self._all.get(id.lower())

    def save(self, resource: Resource) -> None:
        """Made or changed: what is there after a restart."""
        with self.lock:
            self._all[resource.id.lower()] = resource
            file = self._file(resource.id)
            new = file.with_suffix(".new")
            new.write_text(json.dumps({"shown": resource.shown, "hidden": resource.hidden}), encoding="utf-8")
            new.replace(file)

    def remove(self, id: str) -> None:
        """Gone; absent is success."""
        with self.lock:
            self._all.pop(id.lower(), None)
            self._file(id).unlink(missing_ok=True)

    def below(self, prefix: str) -> Iterator[Resource]:
        """Those whose id begins with it, and that lie right below it."""
        with self.lock:
            found = [copy.deepcopy(r) for id, r in sorted(self._all.items()) if id.startswith(prefix.lower() + "/")]
        yield from (r for r in found if "/" not in r.id[len(prefix) + 1 :])

    def all(self) -> list[Resource]:
        """Everything, by id."""
        with self.lock:
            return [resource for _, resource in sorted(self._all.items())]

    def _file(self, id: str) -> Path:
        return self.folder / f"{hashlib.sha256(id.lower().encode()).hexdigest()[:40]}.json"
