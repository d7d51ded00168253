"""What is true about a machine and worth saying before (or after) it moves."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters: a blocker stops the migration."""

    INFO = "info"
    WARNING = "warning"
    BLOCKER = "blocker"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact about the machine. `id` is stable ("disk.sector-size"), `subject` is the disk, file or field it is about."""

    id: str
    level: Level
    subject: str
    text: str
    remedy: str = ""
