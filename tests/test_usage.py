"""Sizes by what is used."""

from pathlib import Path

import pytest

from v2c import usage
from v2c.errors import UsageError
from v2c.model import Disk, Machine
from v2c.usage import LEAST_MIB, Usage, sized

MACHINE = Machine("erp", (Disk("d", 512),), memory_mib=16384, vcpus=8)


@pytest.mark.parametrize(
    ("cpu", "memory", "vcpus", "memory_mib"),
    [
        (0.70, 0.80, 8, 16384),  # as busy as a machine of the right size
        (0.35, 0.40, 4, 8192),
        (0.10, 0.25, 2, 5120),
        (0.0, 0.0, 1, LEAST_MIB),
        (1.0, 1.0, 8, 16384),  # never more than it has: whether that is too little, the figures do not say
    ],
)
def test_sizes(cpu: float, memory: float, vcpus: int, memory_mib: int) -> None:
    made = sized(MACHINE, Usage(cpu, memory))
    assert (made.vcpus, made.memory_mib, made.disks, made.name) == (vcpus, memory_mib, MACHINE.disks, "erp")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_text("\ufeffmachine,note,cpu_percent,memory_percent\nerp,busy,23.5,41\nweb,,0,100\n", encoding="utf-8")
    assert usage.read(path) == {"erp": Usage(0.235, 0.41, "usage.csv:2"), "web": Usage(0, 1, "usage.csv:3")}


HEAD = "machine,cpu_percent,memory_percent\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("machine,cpu_percent\nerp,1\n", "lacks the column memory_percent"),
        ("", "lacks the column machine"),
        (HEAD + "a,101,1\n,1,1\nb,x,1\nc,1\n", "usage.csv:2, usage.csv:3, usage.csv:4, usage.csv:5"),
        (HEAD + "a,1,1\na,1,1\nb,nan,1\n", "understood: usage.csv:3, usage.csv:4"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "usage.csv").write_text(text)
    with pytest.raises(UsageError, match=why):
        usage.read(tmp_path / "usage.csv")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="correct --size-by"):
        usage.read(tmp_path / "nothing.csv")
