"""The footer of a fixed VHD, read as strictly as the disk service reads it when the upload ends.

Virtual Hard Disk Image Format Specification 1.0. A reader of its own: the writer that it judges is elsewhere.
"""

import struct

FOOTER = 512


def complaint(footer: bytes, size: int) -> str:
    """What is wrong with the footer of a disk of `size` bytes; empty: nothing."""
    if len(footer) != FOOTER or footer[:8] != b"conectix":
        return "the cookie 'conectix' is not where the last 512 bytes begin"
    features, version, data_offset = struct.unpack(">IIQ", footer[8:24])
    original, current = struct.unpack(">QQ", footer[40:56])
    kind, checksum = struct.unpack(">II", footer[60:68])
    if version != 0x00010000 or not features & 2:
        return "the format version is not 1.0"
    if kind != 2 or data_offset != 0xFFFFFFFFFFFFFFFF:
        return f"the disk type is {kind}, and only fixed disks (2) are supported"
    if checksum != ~sum(footer[:64] + footer[68:]) & 0xFFFFFFFF:
        return "the checksum of the footer does not match"
    if current != size or original != size:
        return f"the footer says {current} bytes, and the disk has {size}"
    return ""
