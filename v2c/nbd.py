"""A small NBD client: structured replies, block status, many requests in flight."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Export:
    """An NBD export on a UNIX socket: `size` in bytes. A value: it says where, it holds nothing open."""

    socket: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes: `data` False means that it reads as zeros."""

    offset: int
    length: int
    data: bool
