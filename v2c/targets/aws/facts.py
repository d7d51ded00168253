"""drivers/aws/*.toml, typed: what this target knows about AWS without asking it."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from v2c.errors import UsageError
from v2c.platforms import folders


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Errors(_Strict):
    """Error codes by what to do about them; see the file."""

    passing: frozenset[str]
    lasting: frozenset[str]
    expired: frozenset[str]
    denied: frozenset[str]
    unknown: frozenset[str]
    slow: frozenset[str]
    slow_text: str


class VolumeType(_Strict):
    """GiB that a volume of the type holds, and that it has at least; whether a machine boots from it. What may be provisioned:
    operations per second (least and most, and the most for each GiB), MiB/s (least and most, and the most for each operation);
    empty: nothing. `asks`: operations have to be said."""

    most: int
    least: int = 1
    boots: bool = True
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    throughput: tuple[int, int] | None = None
    throughput_per_iops: float = 0
    asks: bool = False


class Ebs(_Strict):
    """Bytes of a block, minutes of the idle time-out, seconds until a snapshot is visible, what the volume types are."""

    block: int
    timeout_minutes: int
    visible_seconds: float
    volume_types: dict[str, VolumeType]


class Quota(_Strict):
    """Codes of quotas; those of vCPUs by the first letters of the instance type, those of storage by the volume type."""

    pending_snapshots: str
    vcpus: dict[str, str]
    volumes: dict[str, str]


class Types(_Strict):
    """Which instance types are chosen unasked (patterns with * and ?), and how many volumes one takes at least."""

    automatic: tuple[str, ...]
    attachments: int


class ImageImport(_Strict):
    """Of a machine that ImportImage takes: the most disks, and GiB that each stays below."""

    disks: int
    gib: int


class Api(_Strict):
    """api.toml."""

    errors: Errors
    ebs: Ebs
    quota: Quota
    types: Types
    image_import: ImageImport


class Rights(_Strict):
    """Actions that belong together, why they are needed, and how to find out whether they are there."""

    name: str
    why: str
    probe: Literal["dry-run", "absent", "call"]
    actions: tuple[str, ...] = Field(min_length=1)


class RightsFile(_Strict):
    """rights.toml."""

    group: tuple[Rights, ...]


M = TypeVar("M", bound=BaseModel)


def _read(name: str, model: type[M]) -> M:
    for folder in reversed(folders()):
        path: Path = folder / "aws" / name
        if path.is_file():
            try:
                return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
            except (tomllib.TOMLDecodeError, ValidationError) as error:
                raise UsageError(f"{path}: {error}", remedy="correct the file") from error
    raise UsageError(f"drivers/aws/{name} is missing", remedy="install v2c again")


@cache
def api() -> Api:
    """Codes, limits and times."""
    return _read("api.toml", Api)


@cache
def rights() -> tuple[Rights, ...]:
    """What an identity must be allowed."""
    return _read("rights.toml", RightsFile).group
