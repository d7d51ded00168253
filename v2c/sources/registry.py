"""Which locator belongs to which source."""

from v2c.errors import UsageError
from v2c.sources import Source


def open_source(locator: str) -> Source:
    """The source for "SCHEME:REST" or for the path of a disk file."""
    raise UsageError(f"nothing reads {locator}")
