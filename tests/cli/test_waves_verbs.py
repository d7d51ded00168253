"""The verbs of a run through the real command line: what they say, and how they end."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from waving import OPEN, machine, manifest

V2C = [sys.executable, "-m", "v2c"]

pytestmark = pytest.mark.tool


@dataclass
class Terminal:
    """Where commands are typed: in a folder with the manifest wave.yaml."""

    folder: Path

    def write(self, text: str) -> None:
        (self.folder / "wave.yaml").write_text(text)

    def __call__(self, *words: str, code: int = 0) -> str:
        """Types a command; answers with what it said."""
        done = subprocess.run([*V2C, *words], capture_output=True, text=True, check=False, timeout=300, cwd=self.folder)
        assert done.returncode == code, done
        return done.stdout + done.stderr


@pytest.fixture
def v2c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("V2C_MEMORY", str(tmp_path / "memory"))
    monkeypatch.setenv("V2C_STATE", str(tmp_path / "state"))
    return Terminal(tmp_path)


def test_the_life_of_a_run(v2c: Terminal) -> None:
    v2c.write(manifest([machine("a1"), machine("a2")], gates="{ okToTest: true, okToFinalize: true }"))
    said = v2c("run", "wave.yaml")
    assert "joined: a1, a2" in said and "a1: replicate done" in said
    assert "trial: 2 gated" in said and "agree: v2c approve okToCutover --run trial" in said
    assert "run trial: 2 gated" in v2c("status")
    assert v2c("approve", "okToCutover", "--run", "trial", "--machine", "a1") == "yes to okToCutover: a1\n"
    assert v2c("approve", "oktocutover", "--run", "trial", "--machine", "a2", "--no") == "no to okToCutover: a2\n"
    said = v2c("run", "wave.yaml", code=3)
    assert "joined" not in said and "trial: 1 refused, 1 done" in said
    seen = json.loads(v2c("status", "--run", "trial", "--json", code=3))
    assert [(one["id"], one["stage"], one["standing"]) for one in seen["machines"]] == [
        ("a1", "finalize", "done"),
        ("a2", "cutover", "refused"),
    ]
    assert [act["what"] for act in seen["acts"]] == ["begin", "approve okToCutover", "refuse okToCutover"]
    said = v2c("cutover", "--run", "trial", "--machine", "a2", "--yes")
    assert "a2: cutover done" in said and "finalize done" not in said
    said = v2c("rollback", "--run", "trial", "--machine", "a2", "--yes", code=2)
    assert "--discard-target-writes gives them up" in said
    assert "a2: rollback done" in v2c("rollback", "--run", "trial", "--machine", "a2", "--yes", "--discard-target-writes")
    assert "is past okToTest" in v2c("approve", "okToTest", "--run", "trial", "--machine", "a1", code=2)


def test_words_that_cannot_be_meant(v2c: Terminal) -> None:
    v2c.write(manifest([machine("a1")], gates=OPEN))
    assert '"trial" is not a run' in v2c("status", "--run", "trial", code=2)
    v2c("run", "wave.yaml", "--detach")
    for words, text in (
        (("run", "wave.yaml", "--wave", "x"), 'has no wave "x": it has pilot'),
        (("run", "none.yaml"), "the manifest none.yaml cannot be read"),
        (("run", "wave.yaml", "--engine", "mysql://x"), "--engine is no postgresql:// address"),
        (("approve", "okToFly", "--run", "trial"), "name one of okToTest, okToCutover, okToFinalize"),
        (("pause", "--run", "trial", "--machine", "b1"), 'the run trial has no machine "b1"'),
        (("cutover", "--run", "trial", "--yes"), "say --machine ID or --wave NAME"),
        (("cutover", "job", "--run", "trial"), "either a JOB is named, or a run"),
        (("cutover",), "either a JOB is named, or a run"),
        (("rollback", "--run", "trial", "--machine", "a1", "--yes"), "a1 did not begin, so there is nothing to undo"),
        (("retry", "--run", "trial", "--machine", "a1"), "a1 is waiting"),
        (("retry", "--run", "other", "--edit", "wave.yaml"), "wave.yaml is the manifest of trial"),
    ):
        assert text in v2c(*words, code=2), words


def test_a_run_is_bound_to_its_plan(v2c: Terminal) -> None:
    v2c.write(manifest([machine("a1")]))
    v2c("plan", "wave.yaml", "--out", "plan.json")
    v2c.write(manifest([machine("a1", "owner: anna")]))
    assert "since it was planned these changed: a1" in v2c("run", "wave.yaml", "--plan", "plan.json", code=2)
    assert "not a run" in v2c("status", "--run", "trial", code=2)
    v2c.write(manifest([machine("a1")]))
    assert "trial: 1 done" in v2c("run", "wave.yaml", "--plan", "plan.json")


def test_blocked_alone_is_four_and_with_a_failure_three(v2c: Terminal) -> None:
    text = manifest([machine("a1"), "id: a2, source: { at: vc, name: x }, disks: [{ id: d, size: 1GiB }]"])
    v2c.write(text.replace("sources: {", "sources: { vc: { type: inventory },"))
    said = v2c("run", "wave.yaml", code=4)
    assert "trial: 1 blocked, 1 done" in said and "do: export its disks, and name them as files" in said
    assert "a1: cancel" not in v2c("cancel", "--run", "trial", "--machine", "a2")
    v2c("status", "--run", "trial", code=3)
