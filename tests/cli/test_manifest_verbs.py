"""`v2c manifest` through the real command line."""

import json
import subprocess
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

EXAMPLE = Path(__file__).parents[2] / "fixtures" / "manifests" / "wave.yaml"


def v2c(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "v2c", *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done
    return done


def test_check_of_a_right_manifest() -> None:
    assert v2c("manifest", "check", str(EXAMPLE)).stdout.endswith("wave.yaml: 3 machines in 2 waves, no mistake\n")


def test_check_tells_every_mistake_and_ends_with_2(tmp_path: Path) -> None:
    file = tmp_path / "wave.yaml"
    file.write_text(EXAMPLE.read_text().replace("mode: warm", "mode: hot").replace("rank: 1", "rnak: 1"))
    lines = v2c("manifest", "check", str(file), code=2).stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{file}:81:15: waves[1].machines[0].mode: ") and f"{file}:82:9: " in lines[1]
    assert lines[2] == f"v2c: {file}: 2 mistakes: correct what is said above"


def test_check_of_what_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in v2c("manifest", "check", str(tmp_path / "no.yaml"), code=2).stderr


def test_show() -> None:
    out = v2c("manifest", "show", str(EXAMPLE)).stdout
    assert out.index("web-01") < out.index("erp-db") < out.index("erp-app") and "after erp-db" in out
    shown = json.loads(v2c("manifest", "show", str(EXAMPLE), "--wave", "erp", "--json").stdout)
    assert [one["id"] for one in shown] == ["erp-db", "erp-app"]
    assert shown[1]["tags"] == {"env": "prod"} and shown[1]["gates"]["okToFinalize"] is True
    assert shown[0]["window"] == [["2026-12-05T19:00:00+00:00", "2026-12-06T05:00:00+00:00"]]
    assert 'has no wave "no": it has pilot, erp' in v2c("manifest", "show", str(EXAMPLE), "--wave", "no", code=2).stderr


def test_schema_is_one() -> None:
    Draft202012Validator.check_schema(json.loads(v2c("manifest", "schema").stdout))
