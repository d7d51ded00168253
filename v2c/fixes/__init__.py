"""The repairs: small units that detect and apply. Their order is written here and nowhere else.

A fix reads `Needs` (what the guest must be able to do) and never the name of a cloud. `detect` answers with the reason as a
sentence that users read verbatim, or None; `apply` writes through the guest only. After `apply`, `detect` answers None.
"""

from typing import Protocol

from v2c.guest import Guest
from v2c.model import Needs


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
