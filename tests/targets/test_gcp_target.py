"""gcp: the contract, over the double."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from gcp_places import Places, target_at, things
from target_contract import TargetContract

from v2c.emulators.gcp.archive import unpack
from v2c.model import Ref
from v2c.targets import Target
from v2c.targets.gcp import GcpTarget


@pytest.mark.tool
class TestGcp(TargetContract):
    lasting = ("image", "instance")  # disks are staged, and an image keeps nothing of it
    intents = 2  # the disk's name, the image
    places: ClassVar[Places]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def doubles(cls) -> Iterator[None]:
        cls.places = Places()
        yield
        cls.places.close()

    def make(self, folder: Path) -> Target:
        return target_at(self.places.at(folder))

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        """By what the double makes an image with, which is Python's own tarfile."""
        bucket, _, name = disk.id.removeprefix("gs://").partition("/")
        assert isinstance(target, GcpTarget)
        here = target.place.session.endpoints.storage
        double = next(d for d in self.places.doubles.values() if d.environment["STORAGE_EMULATOR_HOST"] == here)
        unpack(double.storage.path(double.storage.object(bucket, name)), raw := folder / "read.raw")
        return raw

    def inventory(self, place: Path) -> Mapping[str, object]:
        return things(self.places.at(place))

    def bulky(self, place: Path) -> set[str]:
        return {key for key, thing in things(self.places.at(place)).items() if int(thing.get("size", 0)) > 0}

    def kept(self, place: Path, name: str) -> bool:
        return False


@pytest.mark.full
class TestGcpOwnBucket(TestGcp):
    """Without a bucket of the user's."""

    intents = 3

    def make(self, folder: Path) -> Target:
        return target_at(self.places.at(folder), locator="gcp:rehearsal-1/europe-west1-b")
