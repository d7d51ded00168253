"""The user's storage account, as far as staging needs it: what it is, the job's container, the blobs in it.

The account is found in the subscription's list, since nobody says its resource group; its blobs are reached by the endpoint that
Azure names, with the login of everything else (Entra ID), never with the account's keys.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Ref
from v2c.targets.azure.pageblob import settings
from v2c.targets.azure.place import JOB
from v2c.targets.azure.session import Session, code_of

ACCOUNTS = "2024-01-01"  # api-version of Microsoft.Storage/storageAccounts
OWNER = "v2c_job"  # metadata, whose names are identifiers: no hyphens


@dataclass(frozen=True, slots=True)
class Account:
    """A storage account; `endpoint`: of its blob service, `tree`: whether it has a hierarchical namespace."""

    id: str
    location: str
    kind: str
    sku: str
    endpoint: str
    tree: bool


def account(session: Session) -> Account | None:
    """The account that the place names, asked for once; None: the subscription has none of that name, or hides it."""
    if session.kept.get("account") is None:
        path = f"/subscriptions/{session.place.subscription}/providers/Microsoft.Storage/storageAccounts"
        what = "the storage accounts cannot be listed"
        every = (_account(one) for one in session.rows(what, path, ACCOUNTS) if one["name"].lower() == session.place.account)
        session.kept["account"] = next(every, None)
    found: Account | None = session.kept["account"]
    return found


def _account(shown: Any) -> Account:
    about = shown.get("properties", {})
    return Account(
        id=shown["id"],
        location=shown["location"].replace(" ", "").lower(),
        kind=shown.get("kind", ""),
        sku=shown.get("sku", {}).get("name", ""),
        endpoint=about.get("primaryEndpoints", {}).get("blob", ""),
        tree=bool(about.get("isHnsEnabled")),
    )


def service(session: Session) -> Any:
    """The SDK's client of the account's blob service. TargetError when there is no such account."""
    if session.kept.get("blobs") is None:
        from azure.storage.blob import BlobServiceClient

        found = account(session)
        if found is None:
            text = f"the subscription has no storage account {session.place.account}"
            raise TargetError(text, remedy="correct &storage-account=, or have the right to read it")
        session.kept["blobs"] = BlobServiceClient(found.endpoint, credential=session.credential, **settings(session))
    return session.kept["blobs"]


# ---- containers ------------------------------------------------------------------------------------------------------------


def container_of(session: Session, job: str) -> str:
    """The container that a job stages in: the one named, else its own, the same each time."""
    place = session.place
    return place.container or f"v2c-{hashlib.sha256(f'{place.account}/{job}'.encode()).hexdigest()[:32]}"


def reserve(session: Session, journal: Journal) -> Iterator[Ref]:
    """A container of the job's own where none was named. Twice is harmless."""
    if session.place.container:
        return
    name = container_of(session, journal.job)
    ref = container_ref(session, name, journal.job)
    found = owner(session, name)
    if found not in (None, journal.job):
        raise TargetError(f"the container {name} is not of job {journal.job}", remedy="name one with &container=")
    if found is None or ref not in journal.refs("container"):
        with journal.intent("container", ref.id, {JOB: journal.job}) as intent:
            if found is None:
                session.ask(f"the container {name} cannot be made", lambda: _make(session, name, journal.job))
            intent.done(ref)
    yield ref


def _make(session: Session, name: str, job: str) -> None:
    from azure.core.exceptions import ResourceExistsError

    try:
        service(session).create_container(name, metadata={OWNER: job})
    except ResourceExistsError as error:
        if code_of(error) != "ContainerAlreadyExists":  # the answer to an earlier try was lost
            raise


def container_ref(session: Session, name: str, job: str) -> Ref:
    """A container of the account."""
    return Ref.of("container", f"blob://{session.place.account}/{name}", job=job)


def owner(session: Session, name: str) -> str | None:
    """Whose job's container it is, empty when it says nothing; None: there is none."""
    client = service(session).get_container_client(name)
    found = session.look(f"the container {name} cannot be read", lambda: client.get_container_properties())
    return None if found is None else str((found.metadata or {}).get(OWNER, ""))


def listed(session: Session, name: str, job: str) -> list[str]:
    """The names of a job's blobs in a container."""
    client = service(session).get_container_client(name)
    what = f"the blobs of {name} cannot be listed"
    return sorted(str(one) for one in session.list(what, lambda: client.list_blob_names(name_starts_with=f"v2c/{job}/")))


def remove_container(session: Session, name: str, job: str) -> None:
    """A container of the job's own, with all that lies in it; absent is success."""
    found = owner(session, name)
    if found is None:
        return
    if not job or found != job:
        raise TargetError(f"the container {name} is not of job {job or '?'}, so it is left alone")
    client = service(session).get_container_client(name)
    session.look(f"the container {name} cannot be removed", lambda: client.delete_container())
