"""Keys of encrypted disks: "SELECTOR:file:PATH" or "SELECTOR:env:NAME"; the selector is a device, a UUID, or `all`.

A key is read when it is needed, goes to the helper's stdin, and is held by nothing else: programs that we start do not inherit
the variable.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2c.errors import UsageError
from v2c.guest import devices
from v2c.model import MIB, Filesystem
from v2c.processes import withhold

LOCKED = ("crypto_LUKS", "BitLocker")
_LIMIT = 8 * MIB  # cryptsetup's own for key files
_FORM = re.compile(r"(?P<selector>.+?):(?P<kind>file|env):(?P<where>.+)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Key:
    """Where a key is to be found, and for which device."""

    selector: str
    kind: str
    where: str

    def fits(self, filesystem: Filesystem, all: Sequence[Filesystem]) -> bool:
        """Whether it is meant for this device."""
        if self.selector == "all" or self.selector.lower() == filesystem.uuid.lower():
            return True
        return devices.find(self.selector, all) == filesystem

    def secret(self) -> str:
        """The passphrase: one newline at the end is the editor's, not part of it. UsageError when it cannot be read."""
        if self.kind == "env":
            value = os.environ.get(self.where)
            if value is None:
                raise UsageError(
                    f"the environment has no variable {self.where} for the key of {self.selector}", remedy="export it"
                )
            data = value.encode("utf-8", "surrogateescape")
        else:
            try:
                with Path(self.where).open("rb") as file:
                    data = file.read(_LIMIT + 1)
            except OSError as error:
                raise UsageError(
                    f"the key file {self.where} of {self.selector} cannot be read ({error.strerror})", remedy="name another one"
                ) from error
            data = data.removesuffix(b"\n")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if not data or "\0" in text or len(data) > _LIMIT:
            raise UsageError(
                f"the key of {self.selector} is empty, too long or binary; only text can be given",
                remedy="add a passphrase to the volume (cryptsetup luksAddKey) and give that",
            )
        return text


def parse(keys: Sequence[str]) -> tuple[Key, ...]:
    """The keys that the user named; UsageError for another form (the text is not repeated: it may hold the secret)."""
    found = []
    for number, text in enumerate(keys, 1):
        match = _FORM.match(text)
        if match is None:
            raise UsageError(
                f"key {number} is not of the form SELECTOR:file:PATH or SELECTOR:env:NAME",
                remedy="for example --key all:file:/root/disk.key; a key itself never goes on the command line",
            )
        if match["kind"] == "env":
            withhold(match["where"])
        found.append(Key(match["selector"], match["kind"], match["where"]))
    return tuple(found)
