"""The console is kept within bounds, whatever is printed and in whatever pieces."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from v2c.rehearsal.serial import Console


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_head_and_tail_are_kept(pieces: list[bytes]) -> None:
    console = Console(head=20, tail=10)
    for piece in pieces:
        console.feed(piece)
    whole = b"".join(pieces)
    text = console.text()
    if len(whole) <= 30:
        assert text == whole.decode("utf-8", "replace")
    else:
        lost = f"\n[v2c: {len(whole) - 30} bytes were left out here]\n".encode()
        assert text == (whole[:20] + lost + whole[-10:]).decode("utf-8", "replace")


def test_the_file_is_bounded_too(tmp_path: Path) -> None:
    console = Console(tmp_path / "console.log", head=1000, tail=500)
    for _ in range(1000):
        console.feed(b"x" * 100)
    assert (tmp_path / "console.log").stat().st_size == 1000
    console.close()
    console.close()
    assert (tmp_path / "console.log").stat().st_size < 1600
    assert (tmp_path / "console.log").read_text() == console.text()
