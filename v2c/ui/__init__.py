"""How progress is shown: listeners of `v2c.events`, chosen by where it goes. The only room that draws."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from v2c.events import Listener

WAYS = ("auto", "bar", "plain", "json", "none")


@contextmanager
def shown(way: str, stream: TextIO) -> Iterator["Listener"]:
    """A listener that shows progress on `stream` until the context ends; `way` is one of WAYS.

    "auto" draws bars on a terminal and writes plain lines elsewhere.
    """
    if way == "none":
        from v2c.events import silent

        yield silent
        return
    if way == "auto":
        way = "bar" if stream.isatty() else "plain"
    if way == "bar":
        from v2c.ui.terminal import Terminal as Shown
    elif way == "json":
        from v2c.ui.lines import JsonLines as Shown  # type: ignore[assignment]
    else:
        from v2c.ui.plain import Plain as Shown  # type: ignore[assignment]
    listener = Shown(stream)
    try:
        yield listener
    finally:
        listener.close()
