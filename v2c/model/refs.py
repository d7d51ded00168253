"""Names of things that exist outside this process, and marks in a source's change history."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ref:
    """A thing that a backend made or found: kind ("capture", "disk", "image", "instance", "file"), its id there, and what
    the backend needs to find it again. Comparable and serialisable; opening it is the backend's business."""

    kind: str
    id: str
    attributes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, kind: str, id: str, **attributes: str) -> "Ref":
        """A ref with attributes in a fixed order, so that equal things compare equal."""
        return cls(kind, id, tuple(sorted(attributes.items())))

    def __getitem__(self, key: str) -> str:
        for name, value in self.attributes:
            if name == key:
                return value
        raise KeyError(key)

    def get(self, key: str, default: str = "") -> str:
        """The attribute, or `default`."""
        return dict(self.attributes).get(key, default)


@dataclass(frozen=True, slots=True)
class Marks:
    """Where a source's change tracking stood at a capture: disk id -> opaque mark. No marks: everything is new."""

    disks: tuple[tuple[str, str], ...] = ()
