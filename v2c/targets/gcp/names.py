"""What things of a job are called, and how they carry its tag. All deterministic: a repeat finds what an earlier try made."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from v2c.errors import TargetError
from v2c.model import Plan

TAG = "v2c-job"
NUMBER = "v2c-disk"  # which disk of the plan, from 0
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1035, as Compute Engine publishes it for all its names
LABEL = re.compile(r"[a-z0-9_-]{1,63}")


def label(job: str) -> str:
    """The job as a label's value: it must stay what it is, or `find` would not find it."""
    if not LABEL.fullmatch(job):
        raise TargetError(f'the job id "{job}" cannot be a label', remedy="use lower-case letters, digits, - and _")
    return job


def labels(job: str, **more: str) -> dict[str, str]:
    """Of all that can have labels."""
    return {TAG: label(job), **{key.replace("_", "-"): value for key, value in more.items()}}


def described(job: str) -> str:
    """The tag of networks, firewall rules and reservations, which have no labels."""
    return f"{TAG}={label(job)}"


def tagged(thing: Mapping[str, Any]) -> str:
    """The job that a thing belongs to; empty: to none."""
    told = {**thing.get("metadata", {}), **thing.get("labels", {})} if not isinstance(thing.get("metadata"), str) else {}
    described = str(thing.get("description", ""))
    return str(told.get(TAG, "")) or (described.removeprefix(f"{TAG}=") if described.startswith(f"{TAG}=") else "")


def same(link: str, other: str) -> bool:
    """Whether two URLs, full or partial, name one thing."""
    return link.rpartition("projects/")[2] == other.rpartition("projects/")[2]


def slug(text: str, most: int) -> str:
    """A hostile name as a part of one of ours."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:most].strip("-") or "machine"


def name(plan: Plan, what: str) -> str:
    """ "v2c-MACHINE-JOB-WHAT"."""
    return f"v2c-{slug(plan.machine.name, 24)}-{short(plan.job)}-{what}"


def short(job: str) -> str:
    """Enough of a job to tell it from others; a job is hexadecimal or a word of the user's."""
    plain = slug(job, 20)
    return plain if plain == job else f"{plain[:10]}-{hashlib.sha256(job.encode()).hexdigest()[:8]}"


def instance(plan: Plan, *, cutover: bool) -> str:
    """The real machine keeps its name, as far as the pattern allows; the test is called after the job."""
    if not cutover:
        return name(plan, "test")
    kept = slug(plan.machine.name, 63)
    return kept if NAME.fullmatch(kept) else f"vm-{kept}"[:63].rstrip("-")


def bucket(project: str, job: str) -> str:
    """The name of a bucket of our own: bucket names are the whole world's."""
    return f"v2c-{hashlib.sha256(f'{project}/{job}'.encode()).hexdigest()[:32]}"


def staged(job: str, number: int) -> str:
    """The object that a disk is staged in."""
    return f"v2c/{job}/disk-{number}.tar.gz"
