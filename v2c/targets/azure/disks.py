"""A managed disk that is being uploaded: made, opened by a SAS, fenced, closed.

A SAS lets whoever holds it write. So a worker puts its own name into the disk's tags, has a new SAS made (which ends the one
before it), and looks at the tag again before it uses it: a worker that was frozen meanwhile finds its SAS dead and another name
on the disk, and changes nothing. The SAS itself is in this process's memory and nowhere else.

Ending a SAS ends the upload for good. So it is ended when the disk is complete, or removed; a pause leaves it, and it runs out
within the hour.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from v2c.errors import TargetError
from v2c.model import Disk, DiskPlan, Firmware, Plan, Ref
from v2c.targets.azure.pageblob import TAKEN, WAIT, Blob, client
from v2c.targets.azure.place import DISK, ETAG, JOB, SEALED, SIZE, STANDARD, WRITER, Place
from v2c.targets.azure.session import Session
from v2c.targets.azure.upload import State, pages_of
from v2c.targets.writers.raw import FOOTER

KIND = "Microsoft.Compute/disks"
READ_S = 3600  # of a read SAS
SAS_S = 3600  # of a write SAS: renewed as often as needed, and dead by itself when v2c is


def ref_of(place: Place, shown: Any) -> Ref:
    """The ref of an uploaded disk, from what Azure shows of it."""
    tags = shown.tags or {}
    kind = "imported-disk" if ETAG in tags else "disk"
    return Ref.of(kind, place.id(KIND, shown.name), job=tags[JOB], disk=tags.get(DISK, ""), size=tags.get(SIZE, ""))


def state_of(shown: Any) -> str:
    """ "Unattached", "ActiveUpload", ..."""
    state = shown.properties.disk_state
    return str(getattr(state, "value", state))


def security_of(shown: Any) -> str:
    """What machines it boots: "TrustedLaunch", or "Standard" when it does not say."""
    profile = shown.properties.security_profile
    kind = profile.security_type if profile is not None else None
    return str(getattr(kind, "value", kind) or STANDARD)


class ManagedDisk:
    """One disk of the group, by name."""

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name
        self.place = session.place
        self.me = secrets.token_hex(8)
        self._lock = threading.Lock()

    # ---- what is there -----------------------------------------------------------------------------------------------------

    def shown(self) -> Any:
        """The disk as Azure shows it; None: there is none."""
        disks = self.session.compute.disks
        return self.session.look(f"the disk {self.name} cannot be read", lambda: disks.get(self.place.group, self.name))

    def ours(self, job: str) -> Any:
        """The same; TargetError when it is another job's, or nobody's."""
        shown = self.shown()
        if shown is not None and (shown.tags or {}).get(JOB) != job:
            owner = (shown.tags or {}).get(JOB)
            whose = f"belongs to job {owner}" if owner else "was not made by v2c"
            raise TargetError(f"the disk {self.name} {whose}", remedy="choose another machine name, or clean that job up")
        return shown

    def state(self, job: str) -> State:
        """How far its upload is."""
        shown = self.ours(job)
        if shown is None:
            return State.ABSENT
        if uploading(shown):
            return State.OPEN
        return State.SEALED if sealed(shown) else State.CLOSED

    def create(self, plan: Plan, disk: Disk, planned: DiskPlan, *, boots: bool) -> None:
        """Makes it, ready for upload. Made with the same body already: nothing happens."""
        creation = {"createOption": "Upload", "uploadSizeBytes": planned.target_size + FOOTER}
        self.make(plan, disk, planned, creation, boots=boots)

    def make(
        self, plan: Plan, disk: Disk, planned: DiskPlan, creation: Mapping[str, object], *, boots: bool, etag: str = ""
    ) -> None:
        """The same, of whatever `creation` says; `etag`: of the blob that it says."""
        firmware = plan.machine.firmware or plan.needs.firmware
        properties: dict[str, object] = {
            "hyperVGeneration": "V2" if firmware is Firmware.UEFI else "V1",
            "creationData": dict(creation),
        }
        if boots:
            properties["osType"] = self.place.os
            properties["supportedCapabilities"] = {"architecture": "x64", "diskControllerTypes": "SCSI"}
            if self.place.trusted:  # of the boot disk alone, and never changed (model of DiskSecurityProfile)
                properties["securityProfile"] = {"securityType": self.place.security}
        body = {
            "location": self.place.location,
            "sku": {"name": planned.type or self.place.sku},
            "tags": {
                **dict(plan.tags),
                JOB: plan.job,
                DISK: disk.id,
                SIZE: str(planned.target_size),
                **({ETAG: etag} if etag else {}),
            },
            "properties": properties,
        }
        disks = self.session.compute.disks
        self.session.run(
            f"the disk {self.name} cannot be made", lambda: disks.begin_create_or_update(self.place.group, self.name, body)
        )

    # ---- access ------------------------------------------------------------------------------------------------------------

    def take(self) -> Any:
        """Opens it for writing: a SAS that nobody else has, and that ended every other. TargetError when somebody else took it
        in between."""
        with self._lock:
            self._mark({WRITER: self.me}, without=(SEALED,))
            return self._granted()

    def renew(self) -> Any:
        """Another SAS when the one at hand was refused: it ran out, unless another run of this job holds the disk now."""
        with self._lock:
            self._still_mine()
            return self._granted()

    def said(self) -> dict[str, Any]:
        """Nothing: the SAS says who writes."""
        return {}

    def read(self, size: int, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Blocks of it, by a read SAS that is ended at the end. Only when it is attached to nothing."""

        def opened() -> Any:
            return client(self.session, self._asked("Read", READ_S))

        try:
            yield from pages_of(Blob(opened(), opened, self.session.meter), self.name, size, indexes)
        finally:
            self.revoke()

    def _asked(self, access: str, seconds: int) -> str:
        disks = self.session.compute.disks
        wanted = {"access": access, "durationInSeconds": seconds}
        what = f"the disk {self.name} cannot be opened ({access})"
        return sas_in(self.session.run(what, lambda: disks.begin_grant_access(self.place.group, self.name, wanted)))

    def _granted(self) -> Any:
        sas = self._asked("Write", SAS_S)
        self._still_mine()
        return client(self.session, sas)

    def _still_mine(self) -> Any:
        shown = self.shown()
        if shown is None or (shown.tags or {}).get(WRITER) != self.me:
            raise TargetError(f"the disk {self.name} is not ours: {TAKEN}", remedy=WAIT)
        if not uploading(shown):
            raise TargetError(f"the upload of the disk {self.name} was ended by somebody else", transient=True)
        return shown

    def _mark(self, tags: dict[str, str], without: tuple[str, ...] = ()) -> None:
        shown = self.shown()
        kept = {key: value for key, value in ((shown.tags if shown else None) or {}).items() if key not in without}
        disks = self.session.compute.disks
        body = {"tags": {**kept, **tags}}
        self.session.run(f"the disk {self.name} cannot be tagged", lambda: disks.begin_update(self.place.group, self.name, body))

    def seal(self) -> None:
        """All is uploaded: says so in the tags, ends the SAS, and waits until the disk can be attached."""
        with self._lock:
            self._still_mine()
            self._mark({SEALED: self.me})
            self.revoke()
            state = state_of(self.shown() or self._lost())
            if state != "Unattached":
                raise TargetError(f"the disk {self.name} is in the state {state} after its upload", transient=True)

    def revoke(self) -> None:
        """Ends whatever SAS there is; harmless when there is none, or no disk."""
        disks = self.session.compute.disks
        what = f"the access to the disk {self.name} cannot be ended"
        self.session.gone(what, lambda: disks.begin_revoke_access(self.place.group, self.name))

    def delete(self) -> None:
        """Removes it, its SAS first. Absent is success."""
        shown = self.shown()
        if shown is None:
            return
        if state_of(shown) in ("ActiveUpload", "ActiveSAS"):
            self.revoke()
        disks = self.session.compute.disks
        self.session.gone(f"the disk {self.name} cannot be removed", lambda: disks.begin_delete(self.place.group, self.name))

    def _lost(self) -> Any:
        raise TargetError(f"the disk {self.name} is gone", remedy="run the command again with --again")


def uploading(shown: Any) -> bool:
    """Whether it takes pages. Once its SAS was ended it never does again."""
    return state_of(shown) in ("ReadyToUpload", "ActiveUpload")


def sealed(shown: Any) -> bool:
    """Whether its upload was complete when its SAS was ended, by the run that held it; or it was imported, as a whole."""
    tags = shown.tags or {}
    if ETAG in tags:
        return str(shown.properties.provisioning_state) == "Succeeded"
    return not uploading(shown) and SEALED in tags and tags[SEALED] == tags.get(WRITER)


def sas_in(answer: Any) -> str:
    """The SAS of a grant's answer, however the SDK at hand shows it."""
    if isinstance(answer, dict):
        return str(answer.get("accessSAS") or answer["access_sas"])
    return str(answer.access_sas)
