"""What waits to be sent: the bytes come out as they went in, however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from v2c.targets.gcp.buffers import Buffers


@given(st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 60)), max_size=30), st.integers(0, 80))
def test_bytes_come_out_as_they_went_in(steps: list[tuple[bytes, int]], size: int) -> None:
    buffers = Buffers(size)
    came, went = bytearray(), bytearray()
    for data, wanted in steps:
        went += data
        buffers.add(data)
        assert bytes(buffers.view()) == went[len(came) :] and len(buffers) == len(went) - len(came)
        came += buffers.take(min(wanted, len(buffers)))
    came += buffers.take(len(buffers))
    assert came == went and len(buffers) == 0


def test_what_was_taken_stays_while_more_is_added() -> None:
    buffers = Buffers(8)
    buffers.add(b"firstsec")
    first = buffers.take(5)
    buffers.add(b"ond and much more than there was room for")
    assert bytes(first) == b"first" and bytes(buffers.view()) == b"second and much more than there was room for"
