"""Long-running operations, global, regional and zonal: answered RUNNING at once, DONE when their work is."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from v2c.emulators.gcp.calls import Answer, Call
from v2c.emulators.gcp.store import Refusal, Store, Thing, missing, now

ROOT = "https://www.googleapis.com/compute/v1"
WAIT_S = 20.0  # `wait` answers within two minutes, done or not; the double is less patient
ZERO = "00000000-0000-0000-0000-000000000000"


class Failed(Exception):
    """How an operation ends that went wrong: the error's code ("QUOTA_EXCEEDED") and its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Operations:
    """Operations by key ("global/operations/NAME", "zones/Z/operations/NAME")."""

    def __init__(self, store: Store, project: str) -> None:
        self.store, self.project = store, project
        self._pool = ThreadPoolExecutor(8, "operations")
        self._ended = threading.Condition(store.lock)
        with store.changing() as things:  # those that died with an earlier life of the double
            for key in [key for key, thing in things.items() if "/operations/" in key and thing["status"] != "DONE"]:
                self._done(things[key], Failed("INTERNAL_ERROR", "The service was interrupted."))

    def begin(self, call: Call, scope: str, kind: str, target: str, work: Callable[[], None]) -> Thing:
        """Starts `work` on the thing `target` (a key); the same requestId again is answered with the same operation."""
        asked = call.query.get("requestId", "")
        if asked:
            try:
                if str(uuid.UUID(asked)) == ZERO:
                    raise ValueError
            except ValueError:
                raise Refusal(400, "invalid", f"Invalid value for field 'requestId': '{asked}'.") from None
        with self.store.changing() as things:
            number = self.store.number()
            name = f"operation-{number}"
            operation: Thing = {
                **{"kind": "compute#operation", "id": str(number), "name": name, "operationType": kind, "status": "RUNNING"},
                **{"targetLink": self.link(target), "progress": 0, "insertTime": now(), "startTime": now()},
                **{"selfLink": self.link(f"{scope}/operations/{name}"), "user": "somebody@example.org"},
                **({"clientOperationId": asked} if asked else {}),
                **({"zone": self.link(scope)} if scope.startswith("zones/") else {}),
                **({"region": self.link(scope)} if scope.startswith("regions/") else {}),
            }
            things[f"{scope}/operations/{name}"] = operation
        self._pool.submit(self._run, operation, work)
        return dict(operation)

    def repeated(self, call: Call) -> Thing | None:
        """The operation that an earlier request with the same requestId began."""
        asked = call.query.get("requestId")
        with self.store.lock:
            for key, thing in self.store.things.items():
                if asked and "/operations/" in key and thing.get("clientOperationId") == asked:
                    return dict(thing)
        return None

    def link(self, key: str) -> str:
        """The URL that Google names a thing by."""
        return f"{ROOT}/projects/{self.project}/{key}"

    def get(self, call: Call) -> Thing:
        with self.store.lock:
            return dict(self.store.get(self._key(call)))

    def wait(self, call: Call) -> Thing:
        with self._ended:
            key = self._key(call)
            if key not in self.store.things:
                raise missing(key)
            self._ended.wait_for(lambda: self.store.things[key]["status"] == "DONE", WAIT_S)
            return dict(self.store.things[key])

    def delete(self, call: Call) -> Answer:
        with self.store.changing() as things:
            if things.pop(self._key(call), None) is None:
                raise missing(self._key(call))
        return Answer(status=204)

    @staticmethod
    def _key(call: Call) -> str:
        scope = next((f"{kind}s/{call.params[kind]}" for kind in ("zone", "region") if kind in call.params), "global")
        return f"{scope}/operations/{call.params['operation']}"

    def _run(self, operation: Thing, work: Callable[[], None]) -> None:
        failure: Failed | None = None
        try:
            work()
        except Failed as failed:
            failure = failed
        except Exception as error:  # a mistake of the double's is told as what it is to a client: an internal error
            failure = Failed("INTERNAL_ERROR", f"{type(error).__name__}: {error}")
        with self.store.changing():
            self._done(operation, failure)
            self._ended.notify_all()

    @staticmethod
    def _done(operation: Thing, failure: Failed | None) -> None:
        operation |= {"status": "DONE", "progress": 100, "endTime": now()}
        if failure:
            status, message = (403, "FORBIDDEN") if "QUOTA" in failure.code else (400, "BAD REQUEST")
            operation |= {"httpErrorStatusCode": status, "httpErrorMessage": message}
            operation["error"] = {"errors": [{"code": failure.code, "message": failure.message}]}

    def close(self) -> None:
        """Waits for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)
