"""What a story does its steps with."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter

from v2c import crashpoints
from v2c.engine.memory import RECORD, Redo
from v2c.events import Ended, Listener, Meter
from v2c.model import StepRecord

T = TypeVar("T")
Perform = Callable[[str, str, Callable[[Meter], Any], int], tuple[Any, StepRecord]]  # attempt, step, work, retries


class StepFailed(BaseException):
    """Carries a step's error past DBOS, which would make a memo of it. Only finished steps are memos."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class StepMeter(Meter):
    """A meter whose every block is a boundary of the crash tests."""

    def moved(self, count: int) -> None:
        super().moved(count)
        crashpoints.point(f"moved {self.step}")


class Steps:
    """What a story gets to do its steps with. `attempt` is the id of this try: the job's, or "JOB.2" after --again."""

    def __init__(self, attempt: str, perform: Perform, tell: Listener) -> None:
        self.job = attempt.partition(".")[0]
        self.attempt = attempt
        self._perform = perform
        self._tell = tell
        self._records: list[StepRecord] = []

    def __call__(self, name: str, do: Callable[[Meter], T], *, returns: type[T], retries: int = 0) -> T:
        """Does one step durably and returns its value, or the remembered one when it ended before.

        The value goes through JSON as `returns` (dataclasses, tuples, enums; no bytes, sockets or pids). Transient
        V2cErrors are tried again up to `retries` times with a growing pause; any other error ends the job. Names are unique
        within a story and stay the same for ever.
        """
        from dbos import DBOS

        adapter: TypeAdapter[T] = TypeAdapter(returns)

        def body() -> dict[str, Any]:
            crashpoints.point(f"before {name}")
            value, record = self._perform(self.attempt, name, do, retries)
            memo = {"value": adapter.dump_python(value, mode="json"), "record": RECORD.dump_python(record, mode="json")}
            crashpoints.point(f"done {name}")
            return memo

        try:
            memo = DBOS.run_step({"name": name}, body)
        except StepFailed as failed:
            raise failed.error from None
        crashpoints.point(f"remembered {name}")
        record = RECORD.validate_python(memo["record"])
        self._records.append(record)
        # Of a step of an earlier process this is heard as an end without a beginning.
        self._tell(Ended(self.attempt, name, time.time(), seconds=record.seconds, bytes=record.bytes))
        return adapter.validate_python(memo["value"])

    def records(self) -> tuple[StepRecord, ...]:
        """The steps that ended so far, also those of earlier processes, in order."""
        return tuple(self._records)

    def redo(self, step: str, why: str) -> Redo:
        """To be raised by the story: go back to `step` and do it and everything after it again."""
        return Redo(why, step=step)
