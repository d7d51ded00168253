"""Signatures of UEFI programs (PE files): boot loaders, and Linux kernels, which are such programs too.

Reference: Microsoft, "PE Format" (optional header, certificate table) and "Windows Authenticode Portable Executable Signature
Format" (what the digest is over). Who signed, and with what key, is not verified here: only that a signature over these bytes is
there, and whose name is in it. The firmware that starts the file is the judge.
"""

import hashlib
import struct

_OPTIONAL = 24  # bytes from "PE" to the optional header
_SECURITY = 4  # which data directory is the certificate table
_PKCS = 0x0002  # WIN_CERT_TYPE_PKCS_SIGNED_DATA
_LEAST = 8  # bytes of a certificate's head


def signature(data: bytes) -> bytes:
    """The certificates in it, if one of them holds the SHA-256 of the file as it is; empty: it is not signed, was changed after
    it was, or is no PE file."""
    try:
        return _signature(data)
    except (struct.error, ValueError):
        return b""


def _signature(data: bytes) -> bytes:
    (start,) = struct.unpack_from("<I", data, 0x3C)
    if data[:2] != b"MZ" or data[start : start + 4] != b"PE\0\0":
        return b""
    optional = start + _OPTIONAL
    (magic,) = struct.unpack_from("<H", data, optional)
    directories = optional + {0x10B: 96, 0x20B: 112}.get(magic, len(data))
    (count,) = struct.unpack_from("<I", data, directories - 4)
    entry = directories + 8 * _SECURITY
    offset, size = struct.unpack_from("<II", data, entry) if count > _SECURITY else (0, 0)
    if size <= _LEAST or offset < entry or offset + size > len(data):
        return b""
    table = data[offset : offset + size]
    length, _, kind = struct.unpack_from("<IHH", table)
    if kind != _PKCS or not _LEAST < length <= size:
        return b""
    # all but the checksum, the certificate table's own entry, and the table
    parts = (data[: optional + 64], data[optional + 68 : entry], data[entry + 8 : offset], data[offset + size :])
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return table if digest.digest() in table else b""
