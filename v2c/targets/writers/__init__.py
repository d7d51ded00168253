"""Disk writers: the formats that a disk can be built in, one file per way of building."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from v2c.model import GIB, MIB, DiskFormat, Ref
from v2c.targets.writers.image import ImageWriter
from v2c.targets.writers.part import CHUNK, leftovers, part
from v2c.targets.writers.raw import FixedVhdWriter, RawWriter
from v2c.targets.writers.stream import StreamWriter
from v2c.targets.writers.tar import TarWriter
from v2c.targets.writers.vmdk import VmdkWriter
from v2c.transfer import DiskWriter

__all__ = [
    "CHUNK",
    "FORMATS",
    "FixedVhdWriter",
    "Format",
    "ImageWriter",
    "RawWriter",
    "StreamWriter",
    "TarWriter",
    "VmdkWriter",
    "leftovers",
    "part",
]

TIB = 1024 * GIB


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. `open(path, size, ref)` gives the writer; `ref` is what its commit returns.

    `size_unit`: disks are rounded up to it; `most`: the largest disk (both in bytes); `sequential`, `rewritable`, `parallel`:
    as in TargetFeatures; `platform`: the platform of drivers/ that such files are for, unless the user says otherwise.
    """

    name: str
    suffixes: tuple[str, ...]
    open: Callable[[Path, int, Ref], AbstractContextManager[DiskWriter]]
    platform: str = "kvm"
    size_unit: int = 512
    most: int = 0
    parallel: int = 1
    sequential: bool = False
    rewritable: bool = True


def _image(format: DiskFormat, **options: str) -> Callable[[Path, int, Ref], AbstractContextManager[DiskWriter]]:
    return partial(ImageWriter, format=format, options=options)


FORMATS = (
    Format("qcow2", (".qcow2",), _image(DiskFormat.QCOW2)),
    Format("raw", (".raw", ".img"), RawWriter, parallel=4),
    Format("vmdk", (".vmdk",), VmdkWriter, "vmware", MIB, sequential=True, rewritable=False),
    Format("vhd", (".vhd",), FixedVhdWriter, "azure", MIB, parallel=4),
    # the virtual size is what the footer says (force_size), not what cylinders and heads can count
    Format("vhd-dynamic", (), _image(DiskFormat.VHD, subformat="dynamic", force_size="on"), "hyperv", MIB, most=2040 * GIB),
    Format("vhdx", (".vhdx",), _image(DiskFormat.VHDX, subformat="dynamic"), "hyperv", MIB, most=64 * TIB),
    Format("vdi", (".vdi",), _image(DiskFormat.VDI), "virtualbox", MIB),
    Format("tar.gz", (".tar.gz",), TarWriter, "gcp", GIB, sequential=True, rewritable=False),
)
