"""Programs of this machine: what they inherit."""

import pytest

from v2c import processes

pytestmark = pytest.mark.tool


def test_a_withheld_variable_is_inherited_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_withheld", set())
    monkeypatch.setenv("DISK_KEY", "canary")
    assert "DISK_KEY=canary" in processes.run(["env"])
    processes.withhold("DISK_KEY")
    told = processes.run(["env"], env={"OTHER": "given"})
    assert "DISK_KEY" not in told and "OTHER=given" in told and "PATH=" in told
    talk = processes.Conversation(["env"])
    assert "canary" not in talk.stdout.read()
    talk.kill()
