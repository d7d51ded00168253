"""Google Cloud on this machine: Compute Engine, Cloud Storage, permissions and tokens behind one port.

Kept honest by Google's discovery documents, which judge every request and every answer. Images are unpacked from the archives
that were uploaded, and instances boot from them. Point clients here by `environment`:

    GOOGLE_APPLICATION_CREDENTIALS                          a service account whose token endpoint is this double's
    STORAGE_EMULATOR_HOST                                   Cloud Storage
    CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE                 Compute Engine
    CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER    testIamPermissions of the project
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from v2c.emulators.faults import Faults
from v2c.emulators.gcp.calls import Call
from v2c.emulators.gcp.compute import BUILT_IN, Compute
from v2c.emulators.gcp.instances import Instances
from v2c.emulators.gcp.rights import Rights
from v2c.emulators.gcp.server import Server
from v2c.emulators.gcp.storage import Storage
from v2c.emulators.gcp.store import Refusal, Store, Thing
from v2c.emulators.gcp.tokens import Tokens
from v2c.emulators.ledger import Requests
from v2c.emulators.machines import Machines

PROJECT, REGION, ZONE, BUCKET = "rehearsal-1", "europe-west1", "europe-west1-b", "rehearsal-staging"


def open_emulator(folder: Path, *, port: int = 0) -> "GcpEmulator":
    """The double over what `folder` holds."""
    return GcpEmulator(folder, port)


class GcpEmulator:
    """One project with a zone, a network, and a bucket for staging."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self.rights = Rights()
        self.store = Store(folder)
        self.storage = Storage(self.store, PROJECT)
        self.machines = Machines(folder / "machines")
        self.compute = Compute(self.store, self.storage, PROJECT, REGION)
        self.instances = Instances(self.compute, self.machines)
        self.tokens = Tokens(folder, PROJECT)
        self._server: Server | None = None
        self._faults, self._requests = Faults(), Requests()
        with suppress(Refusal):
            self.storage.bucket_insert(Call({}, body={"name": BUCKET, "location": REGION}))

    def __enter__(self) -> Self:
        verbs = {
            **self.storage.verbs,
            **self.compute.verbs,
            **self.instances.verbs,
            "cloudresourcemanager.projects.testIamPermissions": self._permissions,
        }
        self._server = Server(self.port, verbs, self.storage, self.tokens)
        self._server.faults, self._server.requests, self._server.rights = self._faults, self._requests, self.rights
        self.port = self._server.server_port
        self.tokens.publish(self._server.base)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server:
            self._server.close()
            self._server = None
        self.machines.close()
        self.compute.operations.close()
        self.store.save()

    @property
    def faults(self) -> Faults:
        """What fails, and how: "throttle", "unavailable", "internal", "reset", "lost-answer", "quota", "capacity", and of uploads
        "short", "expired", "lying-crc"."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if self._server:
            self._server.faults = faults

    @property
    def granted(self) -> set[str] | None:
        """The permissions that the account has; None: all."""
        return self.rights.granted

    @granted.setter
    def granted(self, granted: set[str] | None) -> None:
        self.rights.granted = self.storage.granted = granted

    @property
    def requests(self) -> Requests:
        """What was asked."""
        return self._requests

    @property
    def environment(self) -> Mapping[str, str]:
        base = f"http://127.0.0.1:{self.port}"
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.tokens.path.absolute()),
            "STORAGE_EMULATOR_HOST": base,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{base}/compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": f"{base}/",
        }

    @property
    def locator(self) -> str:
        return f"gcp:{PROJECT}/{ZONE}?bucket={BUCKET}&network=default&subnet=default"

    def left(self) -> list[str]:
        """Also sessions that could still become an object."""
        fresh = {f"b/{BUCKET}", *(key.format(region=REGION) for key in BUILT_IN)}
        found = [key for key, thing in self.store.under("") if key not in fresh and not _passing(key, thing)]
        return [f"upload to {self.store.things[key]['metadata']['name']}" if key[:2] == "u/" else key for key in found]

    def disk(self, id: str) -> Path:
        """Of an image or a disk, by name."""
        with self.store.lock:
            for key, thing in self.store.under(""):
                if key.endswith((f"images/{id}", f"disks/{id}")) and thing.get("_raw"):
                    return self.compute.folder / str(thing["_raw"])
        raise Refusal(404, "notFound", f"there is no disk or image {id}")

    def _permissions(self, call: Call) -> Thing:
        asked = call.body.get("permissions", [])
        held = [one for one in asked if self.granted is None or one in self.granted]
        return {"permissions": held} if held else {}


def _passing(key: str, thing: Thing) -> bool:
    """What goes away by itself: operations, sessions that are over or could become nothing any more."""
    return "/operations/" in key or (key[:2] == "u/" and thing["state"] != "open")
