"""What a machine shows: power state, addresses, and through boot diagnostics its serial console and its screen."""

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from v2c import state
from v2c.errors import TargetError
from v2c.model import Observation, Ref
from v2c.targets.azure.launch import power
from v2c.targets.azure.pageblob import client
from v2c.targets.azure.session import Session, code_of, status_of

EVERY_S = 5.0  # between two looks at one machine: Azure allows 12 a minute of each kind (compute-throttling-limits)
MINUTES = 5  # how long the links to console and screen are good for
MOST = 4 << 20  # bytes of console that are fetched: its end


class Observer:
    """Looks at machines, seldom enough; what it saw last stands in between. Thread-safe."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._seen: dict[str, tuple[float, Observation]] = {}
        self._lock = threading.Lock()

    def forget(self, id: str) -> None:
        """What was seen of it is of the past."""
        with self._lock:
            self._seen.pop(id, None)

    def look(self, instance: Ref) -> Observation:
        """The machine now, or a few seconds ago."""
        with self._lock:
            at, seen = self._seen.get(instance.id, (0.0, None))
        if seen is not None and time.monotonic() - at < EVERY_S:
            return seen
        name = instance.id.rpartition("/")[2]
        now = power(self.session, name)
        if now == "gone":
            return Observation("gone", alive=False)
        console, screen = self._diagnostics(name)
        seen = Observation(
            now,
            alive=now in ("starting", "running"),
            console=console or (seen.console if seen else ""),
            screenshot=self._kept(name, screen) or (seen.screenshot if seen else ""),
            addresses=tuple(self._addresses(name)),
        )
        with self._lock:
            self._seen[instance.id] = (time.monotonic(), seen)
        return seen

    def _diagnostics(self, name: str) -> tuple[str, bytes]:
        """Console and screen; what is not there yet is empty."""
        machines, group = self.session.compute.virtual_machines, self.session.place.group

        def links() -> Any:
            try:
                return machines.retrieve_boot_diagnostics_data(group, name, sas_uri_expiration_time_in_minutes=MINUTES)
            except Exception as error:
                if status_of(error) in (404, 409):  # a machine that has just been made has none yet
                    return None
                raise

        found = self.session.ask(f"the boot diagnostics of {name} cannot be had", links)
        if found is None:
            return "", b""
        return (
            self._fetched(name, found.serial_console_log_blob_uri).decode("utf-8", "replace"),
            self._fetched(name, found.console_screenshot_blob_uri),
        )

    def _fetched(self, name: str, link: str | None) -> bytes:
        def fetch() -> bytes:
            try:
                blob = client(self.session, str(link))
                size = blob.get_blob_properties().size
                got: bytes = blob.download_blob(offset=max(0, size - MOST)).readall() if size else b""
                return got
            except Exception as error:
                if status_of(error) in (404, 416) or code_of(error) == "BlobNotFound":
                    return b""
                raise

        if not link:
            return b""
        try:
            return self.session.ask(f"the boot diagnostics of {name} cannot be read", fetch)
        except TargetError as error:
            error.__cause__ = None  # the SDK's words may hold the link
            raise

    @staticmethod
    def _kept(name: str, screen: bytes) -> str:
        """Azure's screenshot in a file; only PNG is shown in reports."""
        if not screen.startswith(b"\x89PNG"):
            return ""
        folder = state.private_folder(state.default_folder() / "screens")
        path = Path(folder) / f"{name}.png"
        new = path.with_suffix(".new")
        new.write_bytes(screen)
        new.replace(path)
        return str(path)

    def _addresses(self, name: str) -> list[str]:
        machines, cards, group = (
            self.session.compute.virtual_machines,
            self.session.network.network_interfaces,
            self.session.place.group,
        )
        shown = self.session.look(f"{name} cannot be read", lambda: machines.get(group, name))
        found = []
        for entry in (shown.properties.network_profile.network_interfaces or []) if shown is not None else []:
            card = str(entry.id).rpartition("/")[2]
            nic = self.session.look(f"the network card {card} cannot be read", partial(cards.get, group, card))
            for configuration in (nic.properties.ip_configurations or []) if nic is not None else []:
                if address := configuration.properties.private_ip_address:
                    found.append(str(address))
        return found
