"""What a cloud holds, by region and kind, in one JSON file that is replaced at each change.

A record is what the SDK shows of a thing, under the SDK's names; names that begin with "_" are ours and are not shown. A record's
"_next" holds what becomes of it: [time, changes] in order, applied when somebody looks.
"""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from v2c.emulators.aws.wire import Refusal

Record = dict[str, Any]


class Store:
    """Records that outlive the process. Callers hold `lock` while they look and change; `save` when they changed something."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self.lock = threading.RLock()
        self._all: dict[str, dict[str, dict[str, Record]]] = {}
        if path.exists():
            self._all = json.loads(path.read_text(encoding="utf-8"))

    def table(self, region: str, kind: str) -> dict[str, Record]:
        """The records of a kind by id, each as it is by now."""
        found = self._all.setdefault(region, {}).setdefault(kind, {})
        for record in found.values():
            self._settle(record)
        return found

    def get(self, region: str, kind: str, id: str, code: str) -> Record:
        """One record; Refusal with the published `code` when there is none."""
        found = self.table(region, kind).get(id)
        if found is None:
            raise Refusal(code, f"The ID '{id}' does not exist")
        return found

    def all(self, kind: str) -> Iterator[tuple[str, Record]]:
        """(region, record) of a kind, everywhere."""
        for region in list(self._all):
            for record in list(self.table(region, kind).values()):
                yield region, record

    def later(self, record: Record, seconds: float, **changes: Any) -> None:
        """What becomes of a record in so many seconds."""
        record.setdefault("_next", []).append([self._clock() + seconds, changes])

    def save(self) -> None:
        """Everything is on the disk."""
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps(self._all, indent=1), encoding="utf-8")
        new.replace(self._path)

    def _settle(self, record: Record) -> None:
        while record.get("_next") and record["_next"][0][0] <= self._clock():
            record.update(record["_next"].pop(0)[1])


def new_id(prefix: str) -> str:
    """An id as AWS writes them: "snap-0123456789abcdef0"."""
    return f"{prefix}-0{secrets.token_hex(8)}"


def tags_for(params: Record, kind: str, known: tuple[str, ...]) -> list[Record]:
    """The tags that TagSpecifications give to a kind of resource. Refusal for a kind that the call does not make."""
    found: dict[str, str] = {}
    for specification in params.get("TagSpecifications", []):
        if specification.get("ResourceType") not in known:
            raise Refusal(
                "InvalidParameterValue", f"'{specification.get('ResourceType')}' is not a valid taggable resource type here"
            )
        for tag in specification.get("Tags", []):
            if specification["ResourceType"] == kind:
                _tag(found, tag)
    return [{"Key": key, "Value": value} for key, value in found.items()]


def _tag(found: dict[str, str], tag: Record) -> None:
    key, value = tag.get("Key", ""), tag.get("Value", "")
    if not key or len(key) > 127 or len(value) > 255 or key.startswith("aws:"):
        raise Refusal("InvalidParameterValue", f"Tag key '{key}' is not allowed")
    if key in found:
        raise Refusal("InvalidParameterValue", f"Duplicate tag key '{key}' specified")
    found[key] = value


def filtered(records: list[Record], filters: list[Record], fields: dict[str, Callable[[Record], list[str]]]) -> list[Record]:
    """The records that all filters let through: `tag:KEY`, `tag-key`, and those of `fields`. Refusal for another name."""
    for one in filters:
        name, values = one.get("Name", ""), one.get("Values", [])
        if not values:
            raise Refusal("InvalidParameterValue", f"The filter {name} has no values")
        if not (name.startswith("tag:") or name == "tag-key" or name in fields):
            raise Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")
        records = [record for record in records if any(_like(v, seen) for seen in _seen(record, name, fields) for v in values)]
    return records


def _seen(record: Record, name: str, fields: dict[str, Callable[[Record], list[str]]]) -> list[str]:
    tags = {tag["Key"]: tag["Value"] for tag in record.get("Tags", [])}
    if name == "tag-key":
        return list(tags)
    if name.startswith("tag:"):
        return [tags[name[4:]]] if name[4:] in tags else []
    return fields[name](record)


def _like(pattern: str, text: str) -> bool:
    """EC2's filters know * and ? as wild cards."""
    import fnmatch

    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))
