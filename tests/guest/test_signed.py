"""Signatures of UEFI programs and of kernel modules: seen where they are, and nowhere else; by hostile files nothing is upset."""

import gzip
import lzma
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from signed_files import MODULE, program

from v2c.guest.formats import module
from v2c.guest.formats.module import signed
from v2c.guest.formats.pe import signature

CA = b"Some UEFI CA 2011"


@pytest.mark.parametrize("kind", [0x20B, 0x10B])
@pytest.mark.parametrize("after", [b"", b"more of the file"])
def test_a_signature_over_the_file_as_it_is(kind: int, after: bytes) -> None:
    data = program(CA, after=after, kind=kind)
    assert CA in signature(data) and signature(program(kind=kind)) == b""
    at = data.index(b"code")
    assert signature(data[:at] + b"evil" + data[at + 4 :]) == b"", "it was changed after it was signed"
    checksum = 0x40 + 24 + 64
    assert signature(data[:checksum] + b"\1\2\3\4" + data[checksum + 4 :]), "the checksum is not part of what is signed"


def test_a_file_that_claims_more_than_it_has() -> None:
    data = program(CA)
    entry = 0x40 + 24 + 112 + 32
    for claim in (b"\xff" * 8, b"\0\0\0\0" + b"\x40\0\0\0", data[entry : entry + 4] + b"\xff\xff\0\0"):
        assert signature(data[:entry] + claim + data[entry + 8 :]) == b""
    other = bytearray(data)
    other[data.index(b"PKCS7") - 2] = 1  # WIN_CERT_TYPE_X509
    assert signature(bytes(other)) == b""


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_file_upsets_it(noise: bytes, at: int) -> None:
    data = program(CA)
    assert signature(noise) == b"" and isinstance(signature(data[:at]), bytes)
    assert isinstance(signature(data[:at] + noise + data[at:]), bytes)


def test_this_host_s_own_kernel() -> None:
    """Debian's are signed; one byte makes it another."""
    images = sorted(Path("/boot").glob("vmlinuz-*-amd64"))
    if not images:
        pytest.skip("this host has no kernel in /boot")
    data = images[-1].read_bytes()
    assert b"Debian" in signature(data) and signature(data[:9000] + bytes([data[9000] ^ 1]) + data[9001:]) == b""


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
def test_modules_packed_or_not(ending: str, pack: "object") -> None:
    assert callable(pack)
    name = f"/lib/modules/6.1/kernel/x.ko{ending}"
    assert signed(name, pack(MODULE)) and not signed(name, pack(MODULE + b"x")) and not signed(name, pack(b""))
    assert not signed(name, pack(MODULE)[:-3]), "cut off"
    assert ending == "" or not signed(name, MODULE), "it is not what it says"


def test_a_module_that_unpacks_to_more_than_any_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is all of it held at once."""
    bomb = gzip.compress(bytes(module.MOST + 1) + MODULE)
    tracemalloc.start()
    try:
        assert not signed("x.ko.gz", bomb)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
