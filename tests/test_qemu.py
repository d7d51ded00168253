"""qemu-img and qemu-nbd as they answer here: formats always named, locks and full disks told as what they are."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from v2c import nbd, qemu, sockets
from v2c.errors import BusyError, Paused, SourceError, ToolError, UsageError
from v2c.events import Meter
from v2c.model import KIB, MIB, DiskFormat
from v2c.processes import run

pytestmark = pytest.mark.tool


@pytest.mark.parametrize("format", DiskFormat)
def test_every_format_is_made_converted_and_compared(format: DiskFormat, tmp_path: Path) -> None:
    raw = tmp_path / "in.raw"
    raw.write_bytes(os.urandom(MIB) + bytes(3 * MIB) + os.urandom(64 * KIB) + bytes(MIB - 64 * KIB))
    out, back = tmp_path / "out", tmp_path / "back.raw"
    options = {"force_size": "on"} if format is DiskFormat.VHD else None
    qemu.convert(raw, DiskFormat.RAW, out, format, options=options)
    told = qemu.info(out, format)
    assert (told.size, told.format, told.backing) == (5 * MIB, format, "")
    assert qemu.compare(raw, DiskFormat.RAW, out, format)
    qemu.check(out, format)
    with qemu.serve(out, format, socket=tmp_path / "s", name="disk, one") as export:
        assert export.size == 5 * MIB
        qemu.convert(export, DiskFormat.RAW, back, DiskFormat.RAW)
    assert back.read_bytes() == raw.read_bytes()
    whole = back.read_bytes()
    back.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert not qemu.compare(back, DiskFormat.RAW, out, format)


def test_raw_bytes_that_look_like_qcow2_stay_raw(tmp_path: Path) -> None:
    """A guest that writes a qcow2 header onto its raw disk must not make QEMU follow its backing file."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"the host's own" + bytes(MIB))
    disk = tmp_path / "disk.img"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", str(secret), "-F", "raw", str(disk), "1M"])
    header = disk.read_bytes()
    assert qemu.info(disk, DiskFormat.RAW).size == len(header) + -len(header) % 512
    with qemu.serve(disk, DiskFormat.RAW, socket=tmp_path / "s") as export, nbd.connect(export) as client:
        assert client.pread(0, 512) == header[:512]
    assert qemu.info(disk, DiskFormat.QCOW2).backing == str(secret)


def test_names_that_qemu_would_read_as_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "a,b=c"
    folder.mkdir()
    for name in ("nbd:unix:x", "json:{}", "my disk,file.filename=other.raw", "-rf.raw"):
        disk = folder / name
        qemu.create(disk, DiskFormat.QCOW2, MIB)
        assert disk.exists()
        assert qemu.info(disk, DiskFormat.QCOW2).size == MIB
        with qemu.serve(disk, DiskFormat.QCOW2, socket=tmp_path / "s") as export:
            assert export.size == MIB


def test_an_image_in_use_is_told_as_busy(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu.create(disk, DiskFormat.QCOW2, MIB)
    with qemu.serve(disk, DiskFormat.QCOW2, socket=tmp_path / "w", read_only=False):
        with pytest.raises(BusyError, match="in use by another process"):
            qemu.info(disk, DiskFormat.QCOW2)
        busy = qemu.serve(disk, DiskFormat.QCOW2, socket=tmp_path / "r")
        with pytest.raises(BusyError, match="shut the machine down"), busy:
            pass
    with (
        qemu.serve(disk, DiskFormat.QCOW2, socket=tmp_path / "1") as first,
        qemu.serve(disk, DiskFormat.QCOW2, socket=tmp_path / "2") as second,
    ):
        assert first.size == second.size  # readers do not mind each other


def test_what_is_no_image_is_one_sentence(tmp_path: Path) -> None:
    junk = tmp_path / "junk.vmdk"
    junk.write_bytes(os.urandom(4096))
    with pytest.raises(ToolError, match="VMDK"):
        qemu.info(junk, DiskFormat.VMDK)
    bad = qemu.serve(junk, DiskFormat.QCOW2, socket=tmp_path / "s")
    with pytest.raises(ToolError, match="Image is not in qcow2 format"), bad:
        pass
    assert not (tmp_path / "s").exists()


def test_damage_is_found(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu.create(disk, DiskFormat.QCOW2, 64 * MIB)
    with qemu.serve(disk, DiskFormat.QCOW2, socket=tmp_path / "s", read_only=False) as export, nbd.connect(export) as client:
        client.pwrite(0, b"x" * 64 * KIB)
    qemu.check(disk, DiskFormat.QCOW2)
    with disk.open("r+b") as file:
        file.seek(2 * 64 * KIB)  # a reference count that says nothing is in use
        file.write(bytes(64 * KIB))
    with pytest.raises(SourceError, match="damaged"):
        qemu.check(disk, DiskFormat.QCOW2)


def test_resize_grows_with_zeros(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"x" * MIB)
    qemu.resize(disk, DiskFormat.RAW, 2 * MIB)
    assert disk.read_bytes() == b"x" * MIB + bytes(MIB)


def test_a_conversion_can_be_paused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(4 * MIB))
    began = time.monotonic()
    with pytest.raises(Paused):
        meter = Meter(cancelled=lambda: True)
        qemu.convert(disk, DiskFormat.RAW, tmp_path / "out.qcow2", DiskFormat.QCOW2, compress=True, meter=meter)
    assert time.monotonic() - began < 2


def test_qemu_nbd_dies_with_us(tmp_path: Path) -> None:
    """After kill -9 of the process that serves, its qemu-nbd is gone, and the lock with it."""
    disk = tmp_path / "disk.qcow2"
    qemu.create(disk, DiskFormat.QCOW2, MIB)
    script = (
        "import sys, time; from pathlib import Path; from v2c import qemu; from v2c.model import DiskFormat\n"
        "with qemu.serve(Path(sys.argv[1]), DiskFormat.QCOW2, socket=Path(sys.argv[2]), read_only=False):\n"
        "    print('up', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(disk), str(tmp_path / "s")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    with pytest.raises(BusyError):
        qemu.info(disk, DiskFormat.QCOW2)
    child.kill()
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            qemu.info(disk, DiskFormat.QCOW2)
            break
        except BusyError:
            time.sleep(0.05)
    assert qemu.info(disk, DiskFormat.QCOW2).size == MIB


def test_an_overlay_survives_the_restart_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "source.raw").write_bytes(content := os.urandom(4 * MIB))
    qemu.create(tmp_path / "o.qcow2", DiskFormat.QCOW2, len(content))
    first = qemu.serve(tmp_path / "source.raw", DiskFormat.RAW, socket=tmp_path / "below", name="b")
    below = first.__enter__()
    with (
        qemu.serve(tmp_path / "o.qcow2", DiskFormat.QCOW2, socket=tmp_path / "top", backing=below) as top,
        nbd.connect(top) as client,
    ):
        assert client.pread(0, MIB) == content[:MIB]
        first.__exit__(None, None, None)
        came: list[bytes] = []
        reader = threading.Thread(target=lambda: came.append(client.pread(2 * MIB, MIB)))
        reader.start()
        time.sleep(0.5)
        assert not came
        with qemu.serve(tmp_path / "source.raw", DiskFormat.RAW, socket=tmp_path / "below", name="b"):
            reader.join(30)
            assert came == [content[2 * MIB : 3 * MIB]]


def test_sockets_lie_where_only_we_can_reach(tmp_path: Path) -> None:
    with sockets.folder(tmp_path / "work") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        first, second = sockets.fresh(folder, "a"), sockets.fresh(folder, "a")
        assert first != second
        stale = folder / "part.999999999.1.sock"
        stale.touch()
        live = folder / f"part.{os.getpid()}.1.sock"
        live.touch()
        with sockets.folder(tmp_path / "work"):
            assert not stale.exists()
            assert live.exists()
        live.unlink()
    assert not folder.exists()
    folder.mkdir(mode=0o755)
    with pytest.raises(UsageError, match="only we can reach"), sockets.folder(tmp_path / "work"):
        pass
    folder.rmdir()
