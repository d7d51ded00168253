"""The nouns: frozen values that every other room speaks in.

One file per family; nothing here imports anything of ours outside `v2c.model`. All are plain data: they go through the
engine as JSON (`v2c.engine` encodes and decodes them by their types) and never hold a socket, a process or a path that only
one process can see.
"""

from v2c.model.change import Caps, Change, ChangeKind, Fitted, KernelCaps
from v2c.model.evidence import (
    Act,
    Check,
    Compared,
    Expectation,
    Observation,
    Probe,
    Report,
    StatusCheck,
    StepRecord,
    Verdict,
)
from v2c.model.facts import Facts, Filesystem, KernelFacts, Mount, Swap, User
from v2c.model.findings import Finding, Level
from v2c.model.machine import (
    GIB,
    KIB,
    MIB,
    Disk,
    DiskFormat,
    Firmware,
    Machine,
    Nic,
)
from v2c.model.needs import AddressNeed, LeaveTool, Needs, ProbeNeed
from v2c.model.plan import HOURS_A_MONTH, Declared, DiskPlan, Placement, Plan, Price, Repair, Step, Verify, Volume
from v2c.model.refs import Marks, Ref

__all__ = [
    "GIB",
    "HOURS_A_MONTH",
    "KIB",
    "MIB",
    "Act",
    "AddressNeed",
    "Caps",
    "Change",
    "ChangeKind",
    "Check",
    "Compared",
    "Declared",
    "Disk",
    "DiskFormat",
    "DiskPlan",
    "Expectation",
    "Facts",
    "Filesystem",
    "Finding",
    "Firmware",
    "Fitted",
    "KernelCaps",
    "KernelFacts",
    "LeaveTool",
    "Level",
    "Machine",
    "Marks",
    "Mount",
    "Needs",
    "Nic",
    "Observation",
    "Placement",
    "Plan",
    "Price",
    "Probe",
    "ProbeNeed",
    "Ref",
    "Repair",
    "Report",
    "StatusCheck",
    "Step",
    "StepRecord",
    "Swap",
    "User",
    "Verdict",
    "Verify",
    "Volume",
]
