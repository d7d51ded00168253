"""What can go wrong, as one tree; the command line turns each into one sentence and an exit code.

    V2cError (1)
    ├── UsageError (2)        the command line, the manifest or a file the user named is wrong
    ├── BlockedError (4)      a readiness finding stops the migration
    ├── SourceError (1)       the source cannot be read, or changed under us
    │   └── CaptureLost (1)   a capture is gone: the step that needs it starts anew
    ├── GuestError (1)        the guest cannot be understood or repaired
    ├── TargetError (1)       the target refused, or lies
    ├── ToolError (1)         a tool of this machine failed, or is missing
    ├── WorkLost (1)          what an earlier step made here is gone: that step is done again
    ├── NoSpaceError (1)      a disk of ours is too small
    ├── BusyError (1)         another process works on the same job or disk
    ├── JobLost (1)           another worker goes on with the job: this one was taken for dead
    └── ProofError (1)        the machine booted otherwise than it was, or not at all
    Paused (130)              not an error: Ctrl-C; the same command goes on

A fact about the machine is a `Finding`; a failure of ours is an error. Each carries its remedy. `transient` says whether
trying again unchanged can help: the step that raised it is then tried again by its decorator, never by its caller.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from v2c.model.findings import Finding


class V2cError(Exception):
    """What is wrong and where, in one sentence; `remedy` says what to do about it."""

    exit_code = 1

    def __init__(self, text: str, *, remedy: str = "", transient: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.remedy = remedy
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


class UsageError(V2cError):
    """The command line, the manifest or a file the user named is wrong."""

    exit_code = 2


class BlockedError(V2cError):
    """A readiness finding of level blocker; nothing was changed. `findings`: all that was found, where it is known."""

    exit_code = 4
    findings: "tuple[Finding, ...]" = ()


class SourceError(V2cError):
    """The source cannot be read, is in use, or changed since the job began."""


class CaptureLost(SourceError):
    """A capture no longer exists at the source."""


class GuestError(V2cError):
    """The guest cannot be inspected or repaired."""


class TargetError(V2cError):
    """The target refused a call, or what it holds differs from what was sent."""


class ToolError(V2cError):
    """A tool of this machine is missing or failed; the text holds its last words, `command` the line to paste."""

    def __init__(self, text: str, *, command: str = "", remedy: str = "", transient: bool = False) -> None:
        super().__init__(text, remedy=remedy, transient=transient)
        self.command = command


class WorkLost(V2cError):
    """What the step `step` made on this machine (an overlay, a block map) is gone; a story does that step again."""

    def __init__(self, text: str, *, step: str = "", remedy: str = "begin anew with --again") -> None:
        super().__init__(text, remedy=remedy)
        self.step = step


class NoSpaceError(V2cError):
    """A file system of ours, or of the guest, lacks room."""


class BusyError(V2cError):
    """Another process holds the job, the disk or the instance."""


class JobLost(V2cError):
    """Another process goes on with the job: this one was taken for dead. Nothing that it does now counts."""


class ProofError(V2cError):
    """The machine did not come up, or not as the same machine."""


class Paused(V2cError):
    """Ctrl-C: everything is kept, and the same command goes on."""

    exit_code = 130
