"""A process that moves a machine's disk to Azure and launches it, for tests that kill it: `azure_child.py FOLDER LOCATOR`."""

import sys
from pathlib import Path

from azure_place import CAPS, JOB, content, planned, uploaded

from v2c import crashpoints
from v2c.events import Meter
from v2c.journal import SqlJournal
from v2c.model import Placement, Plan
from v2c.targets import open_target
from v2c.targets.azure import AzureTarget


def main(where: str, locator: str) -> None:
    folder = Path(where)
    target, plan, journal = open_target(locator), planned(40), SqlJournal(folder / "state", JOB)
    assert isinstance(target, AzureTarget)
    plan = target.size(plan)
    if not (folder / "launched").exists():  # a step that is done is not done again, as in the engine
        launched(target, plan, journal, folder)
        (folder / "launched").touch()
    for _ in target.finalize(plan, journal):
        pass


def launched(target: AzureTarget, plan: Plan, journal: SqlJournal, folder: Path) -> None:
    """All up to the real machine."""
    list(target.reserve(plan, journal))
    disk = uploaded(target, plan, journal, folder / "work", content(plan))
    crashpoints.point("uploaded")
    image = target.register(plan, [disk], CAPS, journal)
    test = target.launch(plan, image, Placement(), journal, Meter())
    target.stop(test, journal)
    target.launch(plan, image, Placement(isolated=False, cutover=True), journal, Meter())


if __name__ == "__main__":
    main(*sys.argv[1:])
