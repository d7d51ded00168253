"""Our own server, read by our client, by libnbd and by QEMU."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c import nbd, nbdserver, qemu
from v2c.errors import ToolError
from v2c.model import KIB, MIB, DiskFormat
from v2c.nbd import Export, Extent
from v2c.processes import run


class Memory:
    """Bytes with holes of `grain`: what the server tests serve."""

    def __init__(self, content: bytes, grain: int = 512) -> None:
        self.content, self.grain = content, grain
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % self.grain + self.grain)
            yield Extent(offset, stop - offset, any(self.content[offset:stop]))
            offset = stop


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 3000)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 10000), st.integers(0, 5000)), max_size=6),
    st.integers(1, 9),
)
def test_server_and_client_agree(runs: list[tuple[bool, int]], asked: list[tuple[int, int]], in_flight: int) -> None:
    """Any content with any holes reads back, and no data lies where the extents say zero."""
    import tempfile

    content = b"".join(bytes([1 + i % 255]) * n if data else bytes(n) for i, (data, n) in enumerate(runs))
    wanted = [(o % len(content), min(n, len(content) - o % len(content))) for o, n in asked]
    with tempfile.TemporaryDirectory() as folder:
        with nbdserver.serve(Memory(content), Path(folder) / "s", "m") as export, nbd.connect(export) as client:
            assert export.size == client.size == len(content)
            assert client.read_only
            assert client.pread(0, len(content)) == content
            for (offset, length), (at, data) in zip(wanted, client.read_many(wanted, in_flight), strict=True):
                assert at == offset
                assert data == content[offset : offset + length]
            position = 0
            for extent in client.extents():
                assert extent.offset == position
                position += extent.length
                assert extent.data or not any(content[extent.offset : position])
            assert position == len(content)
        assert list(Path(folder).iterdir()) == []


@pytest.mark.tool
def test_libnbd_reads_our_server(tmp_path: Path) -> None:
    content = os.urandom(MIB) + bytes(3 * MIB) + os.urandom(70000)
    with nbdserver.serve(Memory(content, 65536), tmp_path / "s.sock", "mem") as export:
        uri = f"nbd+unix:///mem?socket={export.socket}"
        run(["nbdcopy", uri, str(tmp_path / "copy")])
        assert (tmp_path / "copy").read_bytes() == content
        told = json.loads(run(["nbdinfo", "--json", uri]))["exports"][0]
        assert told["export-size"] == len(content)
        assert told["is_read_only"]
        assert told["contexts"] == ["base:allocation"]
        kinds = [(e["length"], e["type"]) for e in json.loads(run(["nbdinfo", "--json", "--map", uri]))]
        assert kinds == [(MIB, 0), (3 * MIB, 3), (70000, 0)]
        with pytest.raises(ToolError):
            run(["nbdcopy", str(tmp_path / "copy"), uri])
        with pytest.raises(ToolError, match="not served"):
            nbd.connect(Export(export.socket, "other", 0))


@pytest.mark.tool
def test_qemu_reads_our_server_through_an_overlay(tmp_path: Path) -> None:
    content = os.urandom(MIB) + bytes(MIB)
    overlay = tmp_path / "o.qcow2"
    qemu.create(overlay, DiskFormat.QCOW2, len(content))
    with nbdserver.serve(Memory(content, 65536), tmp_path / "s.sock", "mem") as below:
        at = tmp_path / "o.sock"
        with (
            qemu.serve(overlay, DiskFormat.QCOW2, socket=at, read_only=False, backing=below, depth=True) as export,
            nbd.connect(export, contexts=(nbd.ALLOCATION, nbd.DEPTH)) as client,
        ):
            client.pwrite(512 * KIB, b"changed" * 100)
            assert client.pread(0, 512 * KIB) == content[: 512 * KIB]
            assert client.pread(512 * KIB, 700) == b"changed" * 100
            assert list(client.extents()) == [Extent(0, MIB, True), Extent(MIB, MIB, False)]
            own = [(o, n) for o, n, depth in client.status(nbd.DEPTH) if depth == 1]
            assert own == [(512 * KIB, 64 * KIB)]
