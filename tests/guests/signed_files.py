"""UEFI programs and kernel modules that are signed, as far as an eye without keys can see: small, and made here."""

import hashlib
import struct

MODULE = b"\x7fELF module ~Module signature appended~\n"


def program(signer: bytes = b"", body: bytes = b"code", *, after: bytes = b"", kind: int = 0x20B) -> bytes:
    """A PE file with `body`, signed over what it holds by whoever `signer` names; empty: unsigned. `after`: bytes behind the
    certificates; `kind`: of the optional header, PE32+ or PE32 (0x10b)."""
    start, fixed = 0x40, {0x20B: 112, 0x10B: 96}[kind]
    head = bytearray(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", start) + b"PE\0\0".ljust(24, b"\0"))
    head += struct.pack("<H", kind).ljust(fixed - 4, b"\0") + struct.pack("<I", 16) + bytes(16 * 8)
    entry = start + 24 + fixed + 8 * 4
    plain = bytes(head) + body.ljust(-(-len(body) // 8) * 8, b"\0")
    if not signer:
        return plain
    hashed = plain[: start + 24 + 64] + plain[start + 24 + 68 : entry] + plain[entry + 8 :] + after
    inner = b"PKCS7 " + hashlib.sha256(hashed).digest() + signer
    table = struct.pack("<IHH", 8 + len(inner), 0x200, 2) + inner
    return plain[:entry] + struct.pack("<II", len(plain), len(table)) + plain[entry + 8 :] + table + after
