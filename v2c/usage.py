"""What machines really use: a CSV of the user's monitoring, and the size that such use asks for.

    machine,cpu_percent,memory_percent
    erp,23,41

Percent of what the machine has now, at a busy hour (the 95th percentile of a month is usual; a mean is too little). Other columns
are left alone.
"""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

from v2c.errors import UsageError
from v2c.model import Finding, Level, Machine

# A machine of the right size is this busy in a busy hour: the rest is for what a percentile hides, and for growth. The figures
# are ours; a site that wants others changes its CSV.
CPU_BUSY = 0.70
MEMORY_BUSY = 0.80
LEAST_MIB = 512
_COLUMNS = ("machine", "cpu_percent", "memory_percent")


@dataclass(frozen=True, slots=True)
class Usage:
    """Shares (0 to 1) of its processors and its memory that a machine uses, where that is said ("usage.csv:2"), and how busy a
    machine of the right size is."""

    cpu: float
    memory: float
    where: str = ""
    cpu_busy: float = CPU_BUSY
    memory_busy: float = MEMORY_BUSY


def read(path: Path) -> dict[str, Usage]:
    """The usage of each machine by its name. UsageError names every mistake with its line."""
    wrong, found = [], dict[str, Usage]()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if missing := [column for column in _COLUMNS if column not in (rows.fieldnames or ())]:
                raise UsageError(f"{path} lacks the column {missing[0]}", remedy=f"its first line names {', '.join(_COLUMNS)}")
            for row in rows:
                where, name = f"{path.name}:{rows.line_num}", row["machine"] or ""
                try:
                    cpu, memory = (float(row[column] or "") / 100 for column in _COLUMNS[1:])
                    if not name or name in found or not (0 <= cpu <= 1 and 0 <= memory <= 1):
                        raise ValueError
                    found[name] = Usage(cpu, memory, where)
                except ValueError:
                    wrong.append(where)
    except OSError as error:
        raise UsageError(f"the usage file {path} cannot be read ({error.strerror})", remedy="correct --size-by") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the usage file {path} is no CSV: {error}", remedy="correct it there") from error
    if wrong:
        remedy = "each machine once, with percentages from 0 to 100"
        raise UsageError(f"not understood: {', '.join(wrong[:20])}", remedy=remedy)
    return found


def sized(machine: Machine, usage: Usage) -> Machine:
    """The machine with the processors and the memory that its use asks for, never more than it has."""
    vcpus = max(1, math.ceil(machine.vcpus * usage.cpu / usage.cpu_busy - 1e-9))
    memory = max(LEAST_MIB, math.ceil(machine.memory_mib * usage.memory / usage.memory_busy - 1e-9))
    return replace(machine, vcpus=min(vcpus, machine.vcpus), memory_mib=min(memory, machine.memory_mib))


def finding(before: Machine, after: Machine, usage: Usage) -> Finding:
    """What was made of the use, said aloud."""
    return Finding(
        "machine.usage",
        Level.INFO,
        before.name,
        f"of {before.vcpus} processors it uses {usage.cpu:.0%}, of {before.memory_mib} MiB {usage.memory:.0%} ({usage.where}): "
        f"{after.vcpus} processors and {after.memory_mib} MiB are looked for",
        "size it by what it has to keep its size",
    )
