"""What a disk file is, and what is refused before QEMU opens it."""

import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v2c import qemu
from v2c.errors import SourceError, ToolError, UsageError, V2cError
from v2c.model import KIB, MIB, DiskFormat
from v2c.processes import run
from v2c.sources import formats, vmdk

KINDS = {
    "qcow2": (DiskFormat.QCOW2, {}),
    "qcow2 v2": (DiskFormat.QCOW2, {"compat": "0.10"}),
    "vmdk": (DiskFormat.VMDK, {}),
    "vmdk flat": (DiskFormat.VMDK, {"subformat": "monolithicFlat"}),
    "vmdk split": (DiskFormat.VMDK, {"subformat": "twoGbMaxExtentSparse"}),
    "vmdk split flat": (DiskFormat.VMDK, {"subformat": "twoGbMaxExtentFlat"}),
    "vmdk stream": (DiskFormat.VMDK, {"subformat": "streamOptimized"}),
    "vhd": (DiskFormat.VHD, {"force_size": "on"}),
    "vhd fixed": (DiskFormat.VHD, {"force_size": "on", "subformat": "fixed"}),
    "vhdx": (DiskFormat.VHDX, {}),
    "vhdx fixed": (DiskFormat.VHDX, {"subformat": "fixed"}),
    "vdi": (DiskFormat.VDI, {}),
    "vdi static": (DiskFormat.VDI, {"static": "on"}),
}
FILES = {"vmdk flat": 2, "vmdk split": 3, "vmdk split flat": 3}


def disk(folder: Path, kind: str) -> Path:
    """An image of that kind with 3 MiB of data at its start and some at its end."""
    format, options = KINDS[kind]
    raw = folder / "content"
    with raw.open("wb") as file:
        file.write(os.urandom(3 * MIB))
        size = 2100 * MIB if "split" in kind else 40 * MIB
        file.seek(size - MIB)
        file.write(os.urandom(MIB))
    path = folder / f"disk.{format}"
    qemu.convert(raw, DiskFormat.RAW, path, format, options=options)
    raw.unlink()
    return path


@pytest.mark.tool
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_known_and_found_whole(kind: str, tmp_path: Path) -> None:
    format, _ = KINDS[kind]
    path = disk(tmp_path, kind)
    assert formats.sniff(path) is format
    assert formats.decide(path) is format
    image = formats.examine(path, format)
    assert image.files[0] == path
    assert {file.parent for file in image.files} == {tmp_path}
    assert len(image.files) == FILES.get(kind, 1)
    assert image.sector_size == 512


@pytest.mark.tool
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.01])
def test_every_kind_cut_short_is_found(kind: str, keep: float, tmp_path: Path) -> None:
    """Of several files the longest is cut. One sentence that names the file, always."""
    path = disk(tmp_path, kind)
    cut = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    os.truncate(cut, int(cut.stat().st_size * keep))
    with pytest.raises(V2cError) as error:
        formats.examine(path, formats.decide(path))
    assert isinstance(error.value, SourceError | UsageError)
    assert cut.name in error.value.text
    assert "truncated" in error.value.text or "ends within" in error.value.text


@pytest.mark.tool
def test_a_raw_file_is_raw_whatever_it_begins_with(tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret.raw"
    secret.write_bytes(bytes(MIB))
    made = tmp_path / "x"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(made)])
    hostile = tmp_path / "disk.raw"
    hostile.write_bytes(made.read_bytes().ljust(MIB, b"\0"))
    assert formats.decide(hostile) is DiskFormat.RAW
    image = formats.examine(hostile, DiskFormat.RAW)
    assert image.files == (hostile,)
    assert image.looks_like is DiskFormat.QCOW2
    with pytest.raises(UsageError, match=r"secret\.raw.*outside"):
        formats.examine(hostile, formats.decide(hostile, DiskFormat.QCOW2))


def test_names_and_magic_must_agree(tmp_path: Path) -> None:
    for name, content, says in (
        ("a.vmdk", b"this is no disk\n" * 100, "none of that"),
        ("a.qcow2", b"KDMV" + bytes(5000), "content is vmdk"),
        ("a.vhdx", bytes(5000), "none of that"),
        ("a", bytes(512), "does not say what format"),
        ("b.bin", b"QFI\xfb" + bytes(5000), "look like qcow2"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=says):
            formats.decide(tmp_path / name)
    assert formats.decide(tmp_path / "a", DiskFormat.RAW) is DiskFormat.RAW
    assert formats.decide(tmp_path / "b.bin", DiskFormat.QCOW2) is DiskFormat.QCOW2


@pytest.mark.parametrize(("size", "says"), [(0, "is empty"), (1000, "512")])
def test_a_raw_file_has_whole_sectors(size: int, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(size))
    with pytest.raises(UsageError, match=says):
        formats.examine(tmp_path / "a.raw", DiskFormat.RAW)


@pytest.mark.tool
def test_backing_files_may_lie_beside_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    for place in (folder, tmp_path):
        (place / "base.raw").write_bytes(bytes(MIB))
    top = folder / "top.qcow2"

    def lies_on(name: str, *how: str) -> None:
        run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", *how, "-b", name, str(top), "1M"])

    lies_on("base.raw", "-F", "raw")
    assert formats.examine(top, DiskFormat.QCOW2).files == (top, folder / "base.raw")
    lies_on(str(folder / "base.raw"), "-F", "raw")
    assert formats.examine(top, DiskFormat.QCOW2).files == (top, folder / "base.raw")
    (folder / "link.raw").symlink_to("../base.raw")
    (folder / "pipe").symlink_to("/dev/zero")
    for name, says in (
        ("../base.raw", "outside"),
        (str(tmp_path / "base.raw"), "outside"),
        ("../vm/base.raw", "outside"),
        ("link.raw", "outside"),
        ("pipe", "outside"),
        ("gone.raw", "not there"),
        ("nbd:unix:/x", "not the name"),
        ('json:{"driver":"file","filename":"/etc/passwd"}', "not the name"),
        ("top.qcow2", "lies on itself|lies on top"),
    ):
        lies_on(name, "-F", "qcow2" if "top" in name else "raw")
        with pytest.raises(UsageError, match=says):
            formats.examine(top, DiskFormat.QCOW2)
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "mid.qcow2"), "1M"])
    lies_on("mid.qcow2", "-F", "vmdk")
    with pytest.raises(UsageError, match="not vmdk as it says"):
        formats.examine(top, DiskFormat.QCOW2)
    lies_on("mid.qcow2", "-F", "qcow2")
    assert [file.name for file in formats.examine(top, DiskFormat.QCOW2).files] == ["top.qcow2", "mid.qcow2"]


@pytest.mark.tool
def test_a_backing_file_of_unsaid_format_is_refused(tmp_path: Path) -> None:
    """QEMU would look at the guest's bytes to find out."""
    (tmp_path / "base.raw").write_bytes(bytes(MIB))
    top = tmp_path / "top.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", str(top)])
    data = bytearray(top.read_bytes())
    at = data.index(struct.pack(">II", 0xE2792ACA, 3))
    data[at : at + 16] = bytes(16)
    top.write_bytes(data)
    with pytest.raises(UsageError, match="does not say what format its backing file has"):
        formats.examine(top, DiskFormat.QCOW2)


def encrypted(path: Path) -> None:
    """Makes an encrypted qcow2. qemu-img measures the processor for it, and says so when a busy one would not be measured."""
    words = ["-o", "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10"]
    for attempt in range(10):
        try:
            run(["qemu-img", "create", "-q", "--object", "secret,id=k,data=canary", "-f", "qcow2", *words, str(path), "1M"])
            return
        except ToolError as error:
            if "CPU usage" not in str(error) or attempt == 9:
                raise


@pytest.mark.tool
def test_what_else_a_qcow2_may_hide(tmp_path: Path) -> None:
    outside = tmp_path / "data.raw"
    path = tmp_path / "disk.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={outside},data_file_raw=on", str(path), "1M"])
    with pytest.raises(UsageError, match="keeps its data in another file"):
        formats.examine(path, DiskFormat.QCOW2)
    encrypted(path)
    with pytest.raises(SourceError, match="encrypted"):
        formats.examine(path, DiskFormat.QCOW2)


@pytest.mark.tool
def test_differencing_disks_are_refused(tmp_path: Path) -> None:
    for kind, at, mark in (("vhd", -512 + 60, struct.pack(">I", 4)), ("vdi", 0x4C, struct.pack("<I", 4))):
        path = disk(tmp_path, kind)
        data = bytearray(path.read_bytes())
        start = len(data) + at if at < 0 else at
        data[start : start + 4] = mark
        path.write_bytes(data)
        with pytest.raises(UsageError, match="differencing"):
            formats.examine(path, formats.decide(path))
        path.unlink()
    path = disk(tmp_path, "vhdx")
    data = bytearray(path.read_bytes())
    guid = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
    item = data.index(guid)
    offset = struct.unpack_from("<I", data, item + 16)[0] + (item - item % (64 * KIB))
    data[offset + 4] |= 2
    path.write_bytes(data)
    with pytest.raises(UsageError, match="differencing"):
        formats.examine(path, DiskFormat.VHDX)


@pytest.mark.tool
def test_a_vhdx_whose_log_is_not_replayed(tmp_path: Path) -> None:
    path = disk(tmp_path, "vhdx")
    data = bytearray(path.read_bytes())
    for at in (64 * KIB, 128 * KIB):
        data[at + 48 : at + 64] = os.urandom(16)
    path.write_bytes(data)
    with pytest.raises(SourceError, match="not closed"):
        formats.examine(path, DiskFormat.VHDX)


def test_4096_byte_sectors_are_seen_by_the_partition_table(tmp_path: Path) -> None:
    entries = (b"\xa2" * 16 + b"\x01" * 16 + struct.pack("<QQQ", 6, 100, 0)).ljust(128 * 128, b"\0")
    fields = (b"EFI PART", 0x10000, 92, 0, 0, 1, 999, 6, 990, b"g" * 16, 2, 128, 128, zlib.crc32(entries))
    header = struct.pack("<8sIIIIQQQQ16sQIII", *fields)
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    path = tmp_path / "disk.raw"
    path.write_bytes((bytes(4096) + header).ljust(8192, b"\0") + entries + bytes(MIB))
    assert formats.examine(path, DiskFormat.RAW).sector_size == 4096


# ---- VMDK descriptors -----------------------------------------------------------------------------------------------------

HEAD = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'


def descriptor(folder: Path, *lines: str, head: str = HEAD) -> Path:
    (folder / "flat.vmdk").write_bytes(bytes(MIB))
    path = folder / "disk.vmdk"
    path.write_text(head + "\n".join(lines) + "\n")
    return path


def test_a_descriptor_and_its_extents(tmp_path: Path) -> None:
    path = descriptor(tmp_path, 'RW 1024 FLAT "flat.vmdk" 1024', "RW 77 ZERO", "", 'ddb.adapterType = "lsilogic"')
    assert vmdk.examine(path) == (path, tmp_path / "flat.vmdk")
    parsed = vmdk.parse(path.read_text())
    assert parsed.extents == (("FLAT", 1024, "flat.vmdk", 1024), ("ZERO", 77, "", 0))
    assert parsed.parents == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('RW 1 FLAT "/etc/passwd" 0', "outside"),
        ('RW 1 FLAT "../elsewhere.vmdk" 0', "outside"),
        ('RW 1 FLAT "./../x/flat.vmdk" 0', "outside"),
        ('RW 1 FLAT "gone-flat.vmdk" 0', "not there"),
        ('RW 1 FLAT "json:{}" 0', "not the name"),
        ('RW 1 FLAT "nbd:unix:x" 0', "not the name"),
        ('RW 1 FLAT "" 0', "not the name"),
        ('RW 1 FLAT "sub" 0', "not a plain file"),
        ('RW 1 FLAT "zero" 0', "outside"),
        ('RW 4096 FLAT "flat.vmdk" 0', "truncated"),
        ('RW 1024 FLAT "flat.vmdk" 1500', "truncated"),
        ('RW 1 VMFSRDM "flat.vmdk" 0', "device"),
        ('RW 1 SPARSE "flat.vmdk"', "no VMDK header"),
        ('RW 10FLAT"../elsewhere.vmdk"', "outside"),
        ('RW 1 FLAT\v"../elsewhere.vmdk" 0', "outside"),
        ('RW 1 FLAT "../elsewhere.vmdk', "outside"),
        ('rw -1 FLAT "flat.vmdk" 0', "negative"),
        ("", "names no extent"),
    ],
)
def test_a_descriptor_that_leads_astray(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "sub").mkdir()
    (tmp_path / "vm" / "zero").symlink_to("/dev/zero")
    (tmp_path / "elsewhere.vmdk").write_bytes(bytes(MIB))
    with pytest.raises((UsageError, SourceError), match=says):
        vmdk.examine(descriptor(tmp_path / "vm", line))


def test_snapshots_lie_on_their_parents(tmp_path: Path) -> None:
    base = descriptor(tmp_path, 'RW 1024 FLAT "flat.vmdk" 0').rename(tmp_path / "base.vmdk")
    (tmp_path / "delta").write_bytes(bytes(MIB))
    snapshot = HEAD.replace("parentCID=ffffffff", "parentCID=fffffffe")
    path = descriptor(tmp_path, 'parentFileNameHint="base.vmdk"', 'RW 1024 FLAT "delta" 0', head=snapshot)
    assert [file.name for file in vmdk.examine(path)] == ["disk.vmdk", "delta", "base.vmdk", "flat.vmdk"]
    base.unlink()
    with pytest.raises(UsageError, match=r"base\.vmdk, which is not there"):
        vmdk.examine(path)
    for hint in ('x parentFileNameHint="../secret"', 'parentFileNameHint="/etc/passwd"'):
        with pytest.raises(UsageError, match="outside"):
            vmdk.examine(descriptor(tmp_path, hint, 'RW 1024 FLAT "delta" 0'))
    with pytest.raises(UsageError, match="lies on itself"):
        vmdk.examine(descriptor(tmp_path, 'parentFileNameHint="disk.vmdk"', 'RW 1024 FLAT "delta" 0'))
    with pytest.raises(UsageError, match="not the name of another file"):
        vmdk.examine(descriptor(tmp_path, 'RW 1024 FLAT "delta" 0', head=snapshot))


@pytest.mark.tool
def test_an_embedded_descriptor_may_not_lead_away_either(tmp_path: Path) -> None:
    """A sparse extent of capacity 0 makes QEMU open what the text inside names; a parent is followed in any case."""
    path = disk(tmp_path, "vmdk")
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<Q", data, 28)
    text = data[at * 512 : at * 512 + 10240].split(b"\0")[0].decode()
    data[12:20] = bytes(8)
    evil = text.replace('"disk.vmdk"', '"/etc/passwd"')
    data[at * 512 : at * 512 + 10240] = evil.encode().ljust(10240, b"\0")
    path.write_bytes(data)
    with pytest.raises(UsageError, match="outside"):
        formats.examine(path, DiskFormat.VMDK)
    path = disk(tmp_path, "vmdk")
    data = bytearray(path.read_bytes())
    data[at * 512 : at * 512 + 10240] = (text + 'parentFileNameHint="/etc/passwd"').encode().ljust(10240, b"\0")
    data[36:44] = bytes(8)  # its stated length says there is none
    path.write_bytes(data)
    with pytest.raises(UsageError, match="outside"):
        formats.examine(path, DiskFormat.VMDK)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"KDMV", b"COWD", b"# Disk DescriptorFile\n", b"QFI\xfb\0\0\0\3", b"conectix", b"vhdxfile", b""]),
    st.binary(max_size=3000),
    st.sampled_from(list(DiskFormat)),
)
def test_any_bytes_give_an_image_or_one_sentence(tmp_path: Path, magic: bytes, rest: bytes, format: DiskFormat) -> None:
    path = tmp_path / "x"
    path.write_bytes(magic + rest)
    try:
        image = formats.examine(path, format)
    except (UsageError, SourceError):
        return
    assert image.files[0] == path
    assert all(file.parent == tmp_path for file in image.files)
