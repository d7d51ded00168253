"""Waves of machines in memory: manifests as text, runs by the real worker, and what came of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2c.manifest import parse
from v2c.model import MIB
from v2c.model.wave import MachineView, Snapshot, Stage, Standing
from v2c.state import State, open_state
from v2c.waves import begin, orders
from v2c.waves.begin import Begun
from v2c.waves.snapshot import snapshot
from v2c.waves.worker import Worker

OPEN = "{ okToTest: true, okToCutover: true, okToFinalize: true }"
SIZE = 16 * MIB  # of a disk: the head with the guest, and some pieces of data


def manifest(machines: Sequence[str], *, gates: str = OPEN, more: str = "", name: str = "trial") -> str:
    """A manifest of one wave, "pilot", from memory: to memory:; each machine as the inside of a YAML mapping ("id: a1, ...")."""
    lines = "\n".join(f"      - {{ {machine} }}" for machine in machines)
    return f"""version: 1
name: {name}
sources: {{ made: {{ type: memory }}, other: {{ type: memory, copies: 1 }} }}
targets: {{ cloud: {{ to: "memory:cloud" }}, files: {{ to: "file:out/" }} }}
defaults: {{ target: cloud, zone: Europe/Berlin, gates: {gates} }}
{more}
waves:
  - name: pilot
    machines:
{lines}
"""


def machine(id: str, more: str = "") -> str:
    """A small machine in memory."""
    return f'id: {id}, source: {{ at: made, name: "{id}?size={SIZE}" }}{", " + more if more else ""}'


@dataclass
class World:
    """A state, a work folder, and the targets in memory (V2C_MEMORY)."""

    folder: Path

    @property
    def state(self) -> State:
        return open_state(self.folder / "state")

    def begin(self, text: str, **more: Any) -> Begun:
        """Takes a manifest in, as v2c run does."""
        file = self.folder / "wave.yaml"
        file.write_text(text)
        wanted = orders.wanted(parse(text.encode(), str(file)), file, wave=more.pop("wave", None))
        return begin.begin(self.state, wanted, **more)

    def work(self, run: str = "trial", *, slots: int = 4, stage: Stage | None = None, only: Sequence[str] = ()) -> Snapshot:
        """Works until nothing moves without somebody."""
        with Worker(self.state, self.folder / "work", slots=slots, run=run, stage=stage, only=only) as worker:
            worker.work()
        return self.seen(run)

    def seen(self, run: str = "trial", now: float | None = None) -> Snapshot:
        return snapshot(self.state, run, now)

    def one(self, id: str, run: str = "trial") -> MachineView:
        return next(one for one in self.seen(run).machines if one.id == id)

    def stood(self, run: str = "trial") -> dict[str, tuple[Stage, Standing]]:
        """Each machine's stage and standing."""
        return {one.id: (one.stage, one.standing) for one in self.seen(run).machines}

    def events(self, target: str = "cloud") -> list[dict[str, Any]]:
        """Every effect at a target in memory, in order."""
        file = self.folder / "memory" / "targets" / target / "events"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def twice(self) -> list[str]:
        """What was made more than once."""
        made = Counter(event["id"] for event in self.events() if event["what"] == "create")
        return [id for id, count in made.items() if count > 1]
