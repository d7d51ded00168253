"""/etc/crypttab (crypttab(5)): name, device, key file, options."""

from v2c.guest.formats.lines import Row, Table


class Volume:
    """One encrypted volume; views the row."""

    def __init__(self, row: Row) -> None:
        self._row = row

    @property
    def name(self) -> str:
        """Its name under /dev/mapper."""
        return self._row.words[0]

    @property
    def device(self) -> str:
        """The device below, as written."""
        return self._row.words[1]

    @device.setter
    def device(self, value: str) -> None:
        self._row.set(1, value)

    @property
    def key(self) -> str:
        """The key file, "none" when missing."""
        return self._row.words[2] if len(self._row.words) > 2 else "none"

    @property
    def options(self) -> tuple[str, ...]:
        """Its options, in order."""
        return tuple(self._row.words[3].split(",")) if len(self._row.words) > 3 else ()

    @options.setter
    def options(self, value: tuple[str, ...]) -> None:
        if len(self._row.words) < 3:
            self._row.set(2, "none")
        self._row.set(3, ",".join(value))


class Crypttab(Table):
    """The whole file."""

    @property
    def volumes(self) -> list[Volume]:
        """Lines that name a volume and a device, in order."""
        return [Volume(row) for row in self.lines if len(row.words) >= 2]
