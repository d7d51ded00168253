"""A process that moves a machine's disk to Azure and launches it, for tests that kill it: `azure_child.py FOLDER LOCATOR`."""

import sys
from pathlib import Path

from azure_place import CAPS, JOB, content, planned, uploaded

from v2c import crashpoints
from v2c.events import Meter
from v2c.journal import SqlJournal
from v2c.model import Placement
from v2c.targets import open_target
from v2c.targets.azure import AzureTarget


def main(folder: Path, locator: str) -> None:
    target, plan, journal = open_target(locator), planned(40), SqlJournal(folder / "state", JOB)
    assert isinstance(target, AzureTarget)
    plan = target.size(plan)
    list(target.reserve(plan, journal))
    disk = uploaded(target, plan, journal, folder / "work", content(plan))
    crashpoints.point("uploaded")
    image = target.register(plan, [disk], CAPS, journal)
    test = target.launch(plan, image, Placement(), journal, Meter())
    target.stop(test, journal)
    target.launch(plan, image, Placement(isolated=False, cutover=True), journal, Meter())
    for _ in target.finalize(plan, journal):
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
