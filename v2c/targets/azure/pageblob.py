"""A page blob that is read and written: tried again as long as the failure passes, at the pace that the service bears."""

import threading
import time
from collections.abc import Callable
from typing import Any

from v2c.errors import Paused, TargetError
from v2c.events import Meter
from v2c.model import MIB
from v2c.patience import Patience
from v2c.targets.azure.pace import Pace
from v2c.targets.azure.session import Session, code_of, passing, retry_after, status_of, told

CHUNK = 4 * MIB  # the most that one Put Page takes
TAKEN = "it was taken over by another run of this job"
WAIT = "let that one end, or pause it; then run this command again"
RENEWED = {"AuthenticationFailed"}  # the service's word for a SAS that ran out or was ended


class Renewed(Exception):
    """The SAS was replaced: the same page may be tried again at once."""


class Blob:
    """The page blob behind an SDK's client, which `renew` replaces when its SAS ran out. Thread-safe."""

    def __init__(self, at_hand: Any, renew: Callable[[], Any], meter: Meter) -> None:
        self._client, self._renew, self._meter = at_hand, renew, meter
        self._lock = threading.Lock()
        self.pace = Pace()
        self.patience = Patience(meter)

    def call(self, what: str, ask: Callable[[Any], Any], count: int = 0) -> Any:
        """`ask(client)`, again and again while the failure is a passing one. `count`: bytes that it sends, for the pace."""

        def once() -> Any:
            self._wait(self.pace.turn(count) if count else 0.0)
            at_hand = self._client
            try:
                answer = ask(at_hand)
            except Exception as error:
                if status_of(error) == 403 and code_of(error) in RENEWED:
                    self._replace(at_hand)
                    raise Renewed from None
                if status_of(error) in (429, 503):
                    self.pace.busy(retry_after(error))
                raise
            if count:
                self.pace.fine(count)
            return answer

        try:
            return self.patience(once, _passing)
        except (TargetError, Paused):
            raise
        except Exception as error:
            if status_of(error) == 412 and code_of(error).startswith("Lease"):
                raise TargetError(f"{what}: {TAKEN}", remedy=WAIT) from None
            raise told(what, error) from None  # no chain: the SDK's own words may hold the SAS

    def _replace(self, used: Any) -> None:
        """Another SAS, unless another thread has just got one."""
        with self._lock:
            if self._client is used:
                self._client = self._renew()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._meter.cancelled():
                raise Paused("stopped while pages were being sent", remedy="the same command goes on")
            time.sleep(min(left, 0.2))

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """The half-open ranges of bytes that were written, ascending."""
        found = self.call(f"the pages of {name} cannot be listed", lambda blob: list(blob.list_page_ranges()))
        return [(one.start, one.end + 1) for one in found if not one.cleared]


def _passing(error: Exception) -> str | None:
    return "the SAS was renewed" if isinstance(error, Renewed) else passing(error)


def settings(session: Session) -> dict[str, Any]:
    """What every client of the storage service gets."""
    return {"transport": session.transport(), "retry_total": 0, "max_single_get_size": CHUNK, "max_chunk_get_size": CHUNK}


def client(session: Session, sas: str) -> Any:
    """The SDK's client of the blob that the SAS opens."""
    from azure.storage.blob import BlobClient

    return BlobClient.from_blob_url(sas, **settings(session))
