"""What things of a job are called and marked with, the same each time, so that a repeat finds instead of making twice."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

TAG = "v2c-job"
DISK = "v2c-disk"
GENERATION = "v2c-generation"
CARD = "v2c-card"  # which of the machine's network cards, from 0
ROLE = "v2c-role"  # "test" or "cutover"


def tags(job: str, name: str, also: Iterable[tuple[str, str]] = (), **more: str) -> list[dict[str, str]]:
    """The tags of a thing: whose it is, what the console calls it, the user's `also`, and `more` (underscores become dashes)."""
    words = {TAG: job, "Name": name[:255], **dict(also), **{key.replace("_", "-"): value[:255] for key, value in more.items()}}
    return [{"Key": key, "Value": value} for key, value in words.items()]


def tagged(thing: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a described thing; network interfaces have another name for them."""
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags") or thing.get("TagSet") or ()}


def ours(job: str) -> list[dict[str, Any]]:
    """The filter for what carries the job's tag."""
    return [{"Name": f"tag:{TAG}", "Values": [job]}]


def token(*parts: str) -> str:
    """A client token, 64 characters of ASCII: the same for the same parts, and no other ones'."""
    return "v2c-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:60]


def image_name(machine: str, job: str) -> str:
    """An image's name: unique in the account, readable, of the characters that RegisterImage takes."""
    safe = re.sub(r"[^A-Za-z0-9()\[\] ./'@_-]", "-", machine)[:80] or "machine"
    return f"v2c {safe} {job}"[:128]


def devices(count: int) -> Iterable[str]:
    """Device names for a machine's disks: the root, then the ones that EC2 advises, then those of long lists."""
    names = ["/dev/sda1", *(f"/dev/sd{letter}" for letter in "fghijklmnop")]
    names += [f"/dev/xvd{first}{second}" for first in "bc" for second in "abcdefghijklmnopqrstuvwxyz"]
    return names[:count]
