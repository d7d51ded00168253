"""Text on screenshots: drawn here with the fonts that firmware and kernel use, then read back."""

import struct
import zlib
from pathlib import Path

import pytest

from fixtures import screen

pytestmark = pytest.mark.tool  # the font is in QEMU's VGA BIOS
LINES = ["erp-bios login: ", "", "ALERT!  /dev/sda1 does not exist.  Dropping to a shell!", "(initramfs) #$%&{}~"]


def rows(lines: list[str], cell: int, width: int, height: int) -> list[bytes]:
    """Grey text on black, as rows of RGB."""
    glyphs = {char: glyph for glyph, char in screen._bios_font().items()}
    picture = []
    for y in range(height):
        line = lines[y // 16] if y // 16 < len(lines) else ""
        row = bytearray(width * 3)
        for column, char in enumerate(line):
            for bit in range(8):
                if glyphs[char][y % 16] & (0x80 >> bit):
                    at = (column * cell + bit) * 3
                    row[at : at + 3] = b"\xaa\xaa\xaa"
        picture.append(bytes(row))
    return picture


def filtered(kind: int, row: bytes, above: bytes) -> bytes:
    """A row as the PNG filter stores it (PNG specification, 9.2)."""
    out = bytearray()
    for x, value in enumerate(row):
        left, up = row[x - 3] if x >= 3 else 0, above[x]
        corner = above[x - 3] if x >= 3 else 0
        p = left + up - corner
        nearest = min((left, up, corner), key=lambda c: abs(p - c))
        out.append((value - (0, left, up, (left + up) // 2, nearest)[kind]) & 255)
    return bytes([kind]) + bytes(out)


def png(path: Path, picture: list[bytes], width: int) -> Path:
    """Writes the picture, with every filter in turn."""
    above = bytes(width * 3)
    data = b""
    for y, row in enumerate(picture):
        data += filtered(y % 5, row, above)
        above = row
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, len(picture), 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize(("cell", "width", "height"), [(9, 720, 400), (8, 640, 480), (8, 1024, 96)])
def test_text_is_read_back(tmp_path: Path, cell: int, width: int, height: int) -> None:
    picture = png(tmp_path / "s.png", rows(LINES, cell, width, height), width)
    assert screen.text(picture).splitlines() == [line.rstrip() for line in LINES]


def test_a_cursor_does_not_hide_the_text(tmp_path: Path) -> None:
    picture = rows(["login: x"], 8, 640, 32)
    for y in (14, 15):
        row = bytearray(picture[y])
        row[7 * 24 : 8 * 24] = b"\xaa" * 24  # an underline below the x
        picture[y] = bytes(row)
    assert screen.text(png(tmp_path / "s.png", picture, 640)) == "login: x"


def test_an_interlaced_picture_is_refused(tmp_path: Path) -> None:
    path = png(tmp_path / "s.png", rows(["x"], 8, 640, 16), 640)
    data = bytearray(path.read_bytes())
    data[28] = 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not an 8-bit RGB image"):
        screen.text(path)
