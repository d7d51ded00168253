"""Disks by way of a storage account (`?via=blob`): each as a fixed VHD in a page blob, of which a managed disk is made.

A worker holds the blob by a lease, under its own id and without an end: every write names it, and who comes after breaks it, so
that what the earlier worker still sends is refused (412). That the blob is complete stands in its metadata.
"""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from v2c.errors import TargetError
from v2c.model import Disk, DiskPlan, Plan, Ref
from v2c.targets.azure import accounts
from v2c.targets.azure.accounts import OWNER
from v2c.targets.azure.pageblob import TAKEN, WAIT, Blob
from v2c.targets.azure.session import Session, code_of, status_of
from v2c.targets.azure.upload import State, pages_of
from v2c.targets.writers.raw import FOOTER

SEALED = "v2c_sealed"
_FREE = ("LeaseNotPresentWithLeaseOperation", "LeaseIdMismatchWithLeaseOperation")  # it holds it no more


class StagedDisk:
    """One blob of the container, by the number of its disk in the machine's order."""

    def __init__(self, session: Session, container: str, key: str) -> None:
        self.session, self.container, self.key = session, container, key
        self.name = f"{container}/{key}"
        self.me = str(uuid.uuid4())

    @property
    def client(self) -> Any:
        """The SDK's client of the blob."""
        return accounts.service(self.session).get_blob_client(self.container, self.key)

    @property
    def url(self) -> str:
        """Where Azure finds it; no secret is in it."""
        return str(self.client.url)

    # ---- what is there -----------------------------------------------------------------------------------------------------

    def shown(self) -> Any:
        """The blob's properties; None: there is none."""
        return self.session.look(f"the blob {self.name} cannot be read", lambda: self.client.get_blob_properties())

    def ours(self, job: str) -> Any:
        """The same; TargetError when it is another job's, or nobody's."""
        shown = self.shown()
        if shown is not None and (shown.metadata or {}).get(OWNER) != job:
            raise TargetError(f"the blob {self.name} is not of job {job}", remedy="name another container with &container=")
        return shown

    def state(self, job: str) -> State:
        """Whether it is complete."""
        shown = self.ours(job)
        if shown is None:
            return State.ABSENT
        return State.SEALED if SEALED in shown.metadata else State.OPEN

    def create(self, plan: Plan, disk: Disk, planned: DiskPlan, *, boots: bool) -> None:
        """Makes it, of zeros. There already: nothing happens; TargetError when somebody else was quicker."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError

        def make() -> None:
            try:
                size, job = planned.target_size + FOOTER, {OWNER: plan.job}
                self.client.create_page_blob(size, metadata=job, match_condition=MatchConditions.IfMissing)
            except ResourceExistsError as error:
                if code_of(error) != "BlobAlreadyExists":  # the answer to an earlier try was lost, or it is a stranger's
                    raise

        self.session.ask(f"the blob {self.name} cannot be made", make)
        self.ours(plan.job)

    # ---- access ------------------------------------------------------------------------------------------------------------

    def said(self) -> dict[str, Any]:
        """The lease under which this worker writes."""
        return {"lease": self.me}

    def take(self) -> Any:
        """The blob under a lease of this worker's own: every other's is broken."""
        from azure.storage.blob import BlobLeaseClient

        self.free()

        def acquire() -> None:
            try:
                BlobLeaseClient(self.client, lease_id=self.me).acquire(lease_duration=-1)
            except Exception as error:
                if code_of(error) != "LeaseAlreadyPresent":
                    raise
                raise TargetError(f"the blob {self.name} is not ours: {TAKEN}", remedy=WAIT) from None

        self.session.ask(f"the blob {self.name} cannot be opened", acquire)
        self._mark(complete=False)
        return self.client

    def renew(self) -> Any:
        """Another client, for a login that was refused; asked once, so that one that stays refused is told."""
        self.shown()
        return self.client

    def free(self) -> None:
        """Ends whoever's lease there is; harmless when there is none, or no blob."""
        from azure.storage.blob import BlobLeaseClient

        shown = self.shown()
        if shown is not None and shown.lease.state == "leased":
            self._let_go(lambda: BlobLeaseClient(self.client, lease_id=self.me).break_lease(lease_break_period=0))

    def _let_go(self, how: Any) -> None:
        def once() -> None:
            try:
                how()
            except Exception as error:
                if status_of(error) != 409 or code_of(error) not in _FREE:
                    raise

        self.session.look(f"the blob {self.name} cannot be let go", once)

    def _mark(self, *, complete: bool) -> None:
        """Writes into its metadata whether it is complete."""
        shown = self.shown()
        if shown is None:
            raise TargetError(f"the blob {self.name} is gone", remedy="run the command again", transient=True)
        if complete == (SEALED in shown.metadata):
            return
        kept = {key: value for key, value in shown.metadata.items() if key != SEALED}
        marked = {**kept, SEALED: "yes"} if complete else kept
        Blob(self.client, self.renew, self.session.meter).call(
            f"the blob {self.name} cannot be described", lambda blob: blob.set_blob_metadata(marked, lease=self.me)
        )

    def seal(self) -> None:
        """All is uploaded: says so, and lets it go."""
        from azure.storage.blob import BlobLeaseClient

        self._mark(complete=True)
        self._let_go(lambda: BlobLeaseClient(self.client, lease_id=self.me).release())

    def read(self, size: int, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Blocks of the disk in it."""
        yield from pages_of(Blob(self.client, self.renew, self.session.meter), self.name, size, indexes)

    def delete(self) -> None:
        """Removes it, whoever writes it. Absent is success."""
        self.free()
        self.session.look(f"the blob {self.name} cannot be removed", lambda: self.client.delete_blob())


def staged(session: Session, job: str, number: int) -> StagedDisk:
    """The blob of a disk: its name is the job's own."""
    return StagedDisk(session, accounts.container_of(session, job), f"v2c/{job}/disk-{number}.vhd")


def ref_of(session: Session, job: str, number: int) -> Ref:
    """The same, as a ref."""
    return Ref.of("disk", f"blob://{session.place.account}/{staged(session, job, number).name}", job=job, number=str(number))


def find(session: Session, job: str) -> Iterator[Ref]:
    """What this way adds to a job's things: its container and its blobs; the disks made of them are the group's."""
    if accounts.account(session) is None:
        return
    container = accounts.container_of(session, job)
    found = accounts.owner(session, container)
    if found is None:
        return
    if found == job:
        yield accounts.container_ref(session, container, job)
    for key in accounts.listed(session, container, job):
        yield ref_of(session, job, int(key.rpartition("disk-")[2].removesuffix(".vhd")))


def destroy(session: Session, ref: Ref) -> bool:
    """Removes a thing of this way; False when it is none. Absent is success."""
    if not ref.id.startswith("blob://"):
        return False
    account, container, *key = ref.id.removeprefix("blob://").split("/", 2)
    job = ref.get("job")
    if account != session.place.account:
        raise TargetError(f"{ref.id} is not in the account {session.place.account}, so it is left alone")
    if ref.kind == "container":
        accounts.remove_container(session, container, job)
        return True
    if not job or not key or not key[0].startswith(f"v2c/{job}/"):
        raise TargetError(f"{ref.id} is not of job {job or '?'}, so it is left alone")
    blob = StagedDisk(session, container, key[0])
    if blob.ours(job) is not None:
        blob.delete()
    return True
