"""The manifest that README.md shows is right, and with its two mistakes says what README.md shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import read

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def example() -> str:
    return blocks()[0]


def test_it_is_right() -> None:
    made = read(example())
    assert [m.id for m in made.waves[0].machines] == ["erp-db", "erp-app"]


@pytest.mark.parametrize("piece", blocks()[1:])
def test_a_piece_that_is_shown_alone_is_right(piece: str) -> None:
    """It stands in the place of the example's own, if that has one."""
    name = piece.partition(":")[0]
    rest = re.sub(rf"^{name}:.*?(?=^\S)", "", example(), flags=re.MULTILINE | re.DOTALL)
    assert getattr(read(piece + rest), name)


def test_its_mistakes(tmp_path: Path) -> None:
    text = example().replace("target: lab", "tagret: lab").replace("downtimeBudget: 1h", "downtimeBudget: one hour")
    (tmp_path / "wave.yaml").write_text(text)
    argv = [sys.executable, "-m", "v2c", "manifest", "check", "wave.yaml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    shown = re.search(r"^\$ v2c manifest check wave\.yaml\n(wave\.yaml:.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert shown and done.returncode == 2 and done.stderr == shown[1]
