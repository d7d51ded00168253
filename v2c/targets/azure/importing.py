"""Managed disks out of staged blobs: disks.create with createOption Import, which Azure judges and copies by itself.

A disk carries the ETag of the blob that it was made of: a blob that was sent again makes the disk anew.
"""

from collections.abc import Sequence

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Plan, Ref
from v2c.targets.azure import accounts, staging
from v2c.targets.azure.disks import KIND, ManagedDisk, ref_of
from v2c.targets.azure.place import ETAG, JOB, name_of
from v2c.targets.azure.session import Session


def imported(session: Session, plan: Plan, held: Sequence[Ref], journal: Journal) -> list[Ref]:
    """A managed disk of each staged one, made or adopted; each with the attributes that registering needs."""
    return [_imported(session, plan, int(ref["number"]), journal) for ref in held]


def _imported(session: Session, plan: Plan, number: int, journal: Journal) -> Ref:
    blob = staging.staged(session, journal.job, number)
    etag = _etag(blob, journal.job)
    managed = ManagedDisk(session, name_of(plan, f"disk{number}"))
    planned, disk = plan.disks[number], plan.machine.disks[number]
    shown = managed.ours(journal.job)
    if shown is not None and ((shown.tags or {}).get(ETAG) != etag or str(shown.properties.provisioning_state) == "Failed"):
        old = ref_of(session.place, shown)
        managed.delete()
        journal.undone(old)
        shown = None
    size = str(planned.target_size)
    ref = Ref.of("imported-disk", session.place.id(KIND, managed.name), job=journal.job, disk=disk.id, size=size)
    if shown is None or ref not in journal.refs("imported-disk"):
        found = accounts.account(session)
        creation = {"createOption": "Import", "sourceUri": blob.url, "storageAccountId": found.id if found else ""}
        with journal.intent("imported-disk", ref.id, {JOB: journal.job}) as intent:
            managed.make(plan, disk, planned, creation, boots=number == 0, etag=etag)
            intent.done(ref)
    return Ref.of("disk", ref.id, disk=planned.disk)


def _etag(blob: staging.StagedDisk, job: str) -> str:
    """Of the blob, complete and held by nobody."""
    shown = blob.ours(job)
    if shown is None or staging.SEALED not in shown.metadata:
        raise TargetError(f"the upload of {blob.name} was never completed", remedy="run the command again with --again")
    blob.free()
    return str(shown.etag).strip('"')
