"""What stands in the way of disks that go by a storage account: account, kind, rights, container, sizes."""

from collections.abc import Iterator

from v2c.errors import TargetError
from v2c.model import GIB, Finding, Level, Plan
from v2c.targets.azure import accounts
from v2c.targets.azure.catalogue import facts
from v2c.targets.azure.rights import missing
from v2c.targets.azure.session import Session
from v2c.targets.writers.raw import FOOTER


def staging(session: Session, plan: Plan) -> Iterator[Finding]:
    """All of it, at once; reads only."""
    place = session.place
    for disk in plan.disks:
        if disk.target_size + FOOTER > facts().limits.most_page_blob:
            most = facts().limits.most_page_blob // GIB
            text = f"the disk has {disk.target_size // GIB} GiB, and a page blob, by which it would go, {most} with its footer"
            yield _blocker("azure.blob", disk.disk, text, "leave &via=blob out")
    try:
        account = accounts.account(session)
    except TargetError as error:
        yield _blocker("azure.account", place.account, error.text, error.remedy)
        return
    if account is None:
        text = f"the subscription has no storage account {place.account}, or does not show it"
        yield _blocker("azure.account", place.account, text, "correct &storage-account=, or have the right to read it")
        return
    if account.location != place.location:
        text = (
            f"the storage account {place.account} is in {account.location}, and disks are imported within {place.location} only"
        )
        yield _blocker("azure.account-location", place.account, text, f"name one in {place.location} with &storage-account=")
    if account.kind not in facts().accounts.kinds or account.tree:
        what = "with a hierarchical namespace" if account.tree else f"of the kind {account.kind} ({account.sku})"
        text = f"the storage account {place.account} is one {what}, and holds no page blobs"
        remedy = f"name one of the kind {facts().accounts.kinds[0]}, without a hierarchical namespace"
        yield _blocker("azure.account-kind", place.account, text, remedy)
        return
    known = facts().rights
    wanted = [*known.blob, *(() if place.container else known.blob_container)]
    lacking = list(missing(session, account.id, place.account, wanted, known.blob_data))
    yield from lacking
    yield from missing(session, account.id, place.account, known.blob_import, level=Level.WARNING)
    if any(finding.level is Level.BLOCKER for finding in lacking):
        return  # what follows would be refused for the same reason
    name = accounts.container_of(session, plan.job)
    try:
        found = accounts.owner(session, name)
    except TargetError as error:
        yield _blocker("azure.container", name, error.text, error.remedy or "see that this machine reaches the storage account")
        return
    if found is None and place.container:
        yield _blocker("azure.container", name, f"there is no container {name}", "make it, or leave &container= out")


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
