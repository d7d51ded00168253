"""Long-running operations as ARM publishes them: 201 or 202, where to ask, how soon, and the result at the end."""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from v2c.emulators.azure.answers import Answer, Refusal, in_json

VERSION = "2026-03-02"


@dataclass
class _Operation:
    ready: float
    body: object = None
    refusal: Refusal | None = None
    done: bool = False


class Operations:
    """`pace_s`: how long each takes at least. They end with the process, as a poller whose cloud was restarted finds out."""

    def __init__(self, pace_s: float = 0.0) -> None:
        self.pace_s = pace_s
        self._all: dict[str, _Operation] = {}

    def begin(
        self, base: str, subscription: str, work: Callable[[], object], *, status: int = 202, body: object = None
    ) -> Answer:
        """Starts the work; the answer tells where its state (Azure-AsyncOperation) and its result (Location) can be had."""
        id = str(uuid.uuid4())
        operation = self._all[id] = _Operation(time.monotonic() + self.pace_s)

        def run() -> None:
            try:
                operation.body = work()
            except Refusal as refusal:
                operation.refusal = refusal
            operation.done = True

        thread = threading.Thread(target=run, name="v2c-azure-operation", daemon=True)
        thread.start()
        thread.join(0.05)  # most are done by then: the first question is answered with the result
        place = f"{base}/subscriptions/{subscription}/providers/Microsoft.Compute/locations/here/operations/{id}"
        headers = {
            "Azure-AsyncOperation": f"{place}?api-version={VERSION}",
            "Location": f"{place}?monitor=true&api-version={VERSION}",
            "Retry-After": "0" if operation.done and not self.pace_s else "1",
        }
        return in_json(status, body, headers) if body is not None else Answer(status, headers=headers)

    def answer(self, id: str, monitor: bool) -> Answer:
        """How far it is, or, with `monitor`, its result."""
        operation = self._all.get(id)
        if operation is None:
            raise Refusal(404, "OperationNotFound", f"the operation {id} is not known")
        over = operation.done and time.monotonic() >= operation.ready
        if monitor:
            if not over:
                return Answer(202, headers={"Retry-After": "1"})
            if operation.refusal:
                raise operation.refusal
            return in_json(200, operation.body) if operation.body is not None else Answer(204)
        if not over:
            return in_json(200, {"name": id, "status": "InProgress"}, {"Retry-After": "1"})
        if operation.refusal:
            error = {"code": operation.refusal.code, "message": operation.refusal.message}
            return in_json(200, {"name": id, "status": "Failed", "error": error})
        return in_json(200, {"name": id, "status": "Succeeded", "properties": {"output": operation.body}})
