"""Which locator belongs to which target."""

from v2c.errors import UsageError
from v2c.targets import Target


def open_target(locator: str) -> Target:
    """The target for "SCHEME:REST"."""
    raise UsageError(f"nothing writes {locator}")
