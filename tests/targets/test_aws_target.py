"""Amazon EC2 under the targets' contract, over the emulator."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from aws_places import Places, address, places
from target_contract import TargetContract

from v2c.model import Ref
from v2c.targets import Target

pytestmark = pytest.mark.tool


class TestAws(TargetContract):
    intents = 2  # disk, image
    clouds: Places

    @pytest.fixture(autouse=True)
    def _clouds(self, place: Path) -> Iterator[None]:
        with places() as known:
            self.clouds = known
            self.clouds[place]
            yield

    def make(self, folder: Path) -> Target:
        return self.clouds.target(folder, self.more(folder))

    def more(self, folder: Path) -> str:
        """What the locator says beside the place."""
        return ""

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        (emulator,) = self.clouds._known.values()
        return emulator.disk(disk.id)

    def inventory(self, place: Path) -> Mapping[str, object]:
        return self.clouds.inventory(place)

    def bulky(self, place: Path) -> set[str]:
        return {name for name in self.inventory(place) if name.startswith(("snap-", "vol-"))}

    def kept(self, place: Path, name: str) -> bool:
        return False


@pytest.mark.full
class TestAwsHeld(TestAws):
    """With an address that is held for the real instance."""

    intents = 3  # the card, too
    lasting = ("disk", "image", "instance")

    def more(self, folder: Path) -> str:
        return f"&private-ip={address(self.clouds[folder], 77)}"
