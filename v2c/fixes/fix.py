"""What a fix is, and the plain kind that most are: a list of edits that is empty once all is well."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from v2c.guest import Guest
from v2c.model import Finding, Needs


class Fix(Protocol):
    """One repair."""

    id: str
    title: str

    def detect(self, guest: Guest, need: Needs) -> str | None:
        """Why it is needed, as a sentence; None: not mine, or already so. Reads only."""
        ...

    def apply(self, guest: Guest, need: Needs) -> None:
        """Makes it so."""
        ...

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        """What the user should know about it; asked once, before `apply`. Reads only."""
        return ()


@dataclass(frozen=True, slots=True)
class Edit:
    """One thing to do to one path, and why (a clause, read by users).

    Exactly one of: `text` (the new content), `move` (the new name), `link` (what the path shall point at); none: removed.
    """

    path: str
    why: str
    text: str | bytes | None = None
    mode: int | None = None
    move: str = ""
    link: str = ""

    def carry_out(self, guest: Guest) -> None:
        """Does it."""
        if self.text is not None:
            guest.write(self.path, self.text, mode=self.mode)
        elif self.move:
            guest.rename(self.path, self.move)
        elif self.link:
            guest.symlink(self.link, self.path)
        else:
            guest.remove(self.path)


class Edits(Fix, Protocol):
    """A fix that is a list of edits: it is needed when there are any."""

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        """What is still to be done, in order. All are found before the first is carried out."""
        ...

    def detect(self, guest: Guest, need: Needs) -> str | None:
        reasons = dict.fromkeys(edit.why for edit in self.edits(guest, need))
        return "; ".join(reasons) or None

    def apply(self, guest: Guest, need: Needs) -> None:
        for edit in list(self.edits(guest, need)):
            edit.carry_out(guest)


def text(guest: Guest, path: str) -> str | None:
    """The text of a file, or None where there is none to read (missing, a directory, a symlink that leads in a circle)."""
    try:
        return guest.text(path)
    except OSError:
        return None


def present(guest: Guest, path: str) -> bool:
    """Whether the path itself exists, be it a symlink that leads nowhere."""
    try:
        guest.stat(path)
    except OSError:
        return False
    return True


def aside(guest: Guest, path: str, *, hidden: bool = False) -> str:
    """A free name beside a path, where what stood there is kept. `hidden`: begins with a dot, for directories of which
    everything else is read."""
    folder, _, name = path.rpartition("/")
    base = f"{folder}/{'.' if hidden else ''}{name}.v2c-before"
    number, free = 1, base
    while present(guest, free):
        number += 1
        free = f"{base}-{number}"
    return free
