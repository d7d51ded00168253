"""Whatever a file holds, the answer is a manifest or its mistakes: never another exception, never a path out."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2c.manifest import ManifestError, parse
from v2c.manifest.tables import LAYOUTS, import_tables

FIXTURES = Path(__file__).parents[2] / "fixtures" / "manifests"
EXAMPLE = (FIXTURES / "wave.yaml").read_bytes()
TABLES = {
    "mgn": "mgn.csv",
    "cmf": "cmf.csv",
    "azure-migrate": "azure-scripts.csv",
    "rvtools": "RVTools_tabvDisk.csv",
    "gcp-migration-center": "vmInfo.csv",
    "csv": "mgn.csv",
}
PIECES = [
    b"",
    b"\0",
    b"\xff",
    b": ",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"!x ",
    b'"',
    b"'",
    b"\n",
    b"\t",
    b"|\n",
    b"<<: ",
    b"? ",
]
CELLS = [
    b"",
    b"\0",
    b"\xff\xfe",
    b'"',
    b",",
    b";",
    b"\n",
    b"#REF!",
    b"-1",
    b"1e9",
    b"=1",
    b"\xa0",
    b"nics[99].x",
    b"[",
    b"{}",
    b"true",
]


def broken(data: bytes, pieces: list[bytes], seed: int) -> bytes:
    """The data with some bytes replaced by pieces of trouble."""
    choose = random.Random(seed)
    for _ in range(choose.randint(1, 4)):
        at = choose.randrange(len(data))
        data = data[:at] + choose.choice(pieces) + data[at + choose.randint(0, 12) :]
    return data


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**9))
def test_broken_manifests(seed: int) -> None:
    try:
        parse(broken(EXAMPLE, PIECES, seed), "x")
    except ManifestError as error:
        assert all(m.line >= 1 and m.column >= 1 and m.text for m in error.mistakes)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse(data, "x")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_broken_tables(layout: str, tmp_path: Path) -> None:
    data = (FIXTURES / TABLES[layout]).read_bytes()
    for seed in range(40):
        (tmp_path / "t.csv").write_bytes(broken(data, CELLS, seed))
        try:
            import_tables(layout, [tmp_path / "t.csv"], to="local:kvm")
        except ManifestError as error:
            assert all(m.line >= 1 and m.row and m.text for m in error.mistakes)
