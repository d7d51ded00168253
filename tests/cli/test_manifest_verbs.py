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
    text = EXAMPLE.read_text().replace("mode: warm", "mode: hot").replace("rank: 1", "rnak: 1")
    file.write_text(text)
    at = {word: number for number, line in enumerate(text.splitlines(), 1) for word in ("mode: hot", "rnak: 1") if word in line}
    lines = v2c("manifest", "check", str(file), code=2).stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{file}:{at['mode: hot']}:15: waves[1].machines[0].mode: ")
    assert f"{file}:{at['rnak: 1']}:9: " in lines[1]
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


WAVE = """version: 1
name: trial
sources: {mem: {type: memory}}
targets: {there: {to: "memory:there"}}
defaults: {target: there}
waves:
  - name: one
    machines:
      - {id: erp, source: {at: mem, name: "erp?seed=7&size=67108864"}}
  - name: two
    machines:
      - {id: web, source: {at: mem}, downtimeBudget: 1s}
"""


def test_plan_of_a_manifest(tmp_path: Path) -> None:
    file, out = tmp_path / "wave.yaml", tmp_path / "plan.json"
    file.write_text(WAVE)
    shown = v2c("plan", str(file), "--wave", "one", "--out", str(out)).stdout
    assert "trial: 1 machine, 2 at once" in shown and shown.endswith("\nREADY\n")
    kept = json.loads(out.read_text())
    assert kept["kind"] == "v2c-wave-plan" and kept["digest"] in shown and [m["id"] for m in kept["machines"]] == ["erp"]
    assert "exists already" in v2c("plan", str(file), "--wave", "one", "--out", str(out), code=2).stderr


def test_plan_of_a_manifest_with_a_blocker(tmp_path: Path) -> None:
    file = tmp_path / "wave.yaml"
    file.write_text(WAVE)
    out = v2c("plan", str(file), code=4).stdout
    assert "blocker: web: the downtime is at least" in out and out.endswith("\nBLOCKED: 1 of 2\n")
    assert [m["blocked"] for m in json.loads(v2c("plan", str(file), "--json", code=4).stdout)["waves"]] == [0, 1]


def test_plan_takes_disks_or_a_manifest(tmp_path: Path) -> None:
    file = tmp_path / "wave.yaml"
    file.write_text(WAVE)
    assert "a manifest names its own targets" in v2c("plan", str(file), "--to", "local:kvm", code=2).stderr
    assert "Missing option '--to'" in v2c("plan", "memory:x", code=2).stderr
    assert "are for a manifest" in v2c("plan", "memory:x", "--to", "memory:y", "--wave", "one", code=2).stderr
    file.write_text(WAVE.replace("target: there", "target: ther"))
    done = v2c("plan", str(file), code=2)
    assert "did you mean there?" in done.stderr and "Traceback" not in done.stderr


def test_import_and_export(tmp_path: Path) -> None:
    made, table = tmp_path / "wave.yaml", tmp_path / "wave.csv"
    folder = EXAMPLE.parent
    done = v2c("manifest", "import", "--from", "mgn", str(folder / "mgn.csv"), "-o", str(made))
    assert done.stdout == "" and "note: " in done.stderr and "not used: " in done.stderr
    assert "3 machines in 2 waves, no mistake" in v2c("manifest", "check", str(made)).stdout
    v2c("manifest", "export", "--csv", str(made), "-o", str(table))
    back = v2c("manifest", "import", "--from", "csv", str(table), "--name", "mgn").stdout
    assert "pay-web-01" in back and "aws:eu-west-1" in back
    bad = tmp_path / "bad.csv"
    bad.write_text("Server name,Cores,Memory (In MB)\nweb,many,8192\n,2,x\n")
    lines = v2c("manifest", "import", "--from", "azure-migrate", str(bad), "--to", "azure:a/b/c", code=2).stderr.splitlines()
    assert [line.partition("bad.csv: ")[2].partition(":")[0] for line in lines[:-1]] == [
        'row 2, column "Cores"',
        'row 3, column "Server name"',
        'row 3, column "Memory (In MB)"',
    ]
    assert lines[-1].endswith("bad.csv: 3 mistakes: correct what is said above")
