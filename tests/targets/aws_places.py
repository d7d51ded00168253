"""One AWS double per folder, for as long as the tests of a file run; and a target that is pointed at it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from v2c.emulators.aws import AwsEmulator, open_emulator
from v2c.emulators.aws.cards import network, subnets
from v2c.emulators.aws.cloud import Pace
from v2c.model import Ref
from v2c.targets import Target, open_target

REGION = "eu-west-1"
QUICK = Pace(visible_s=0.05, completing_s=0.1, image_s=0.1, card_s=0.05, pending_s=0.1, ending_s=0.1)


@contextmanager
def pointed(emulator: AwsEmulator) -> Iterator[pytest.MonkeyPatch]:
    """The SDK's own variables point at the emulator."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
            patch.delenv(name, raising=False)
        for name, value in emulator.environment.items():
            patch.setenv(name, value)
        yield patch


class Places:
    """Emulators by folder."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._known = stack, dict[Path, AwsEmulator]()

    def __getitem__(self, folder: Path) -> AwsEmulator:
        if folder not in self._known:
            emulator = self._known[folder] = self._stack.enter_context(open_emulator(folder))
            emulator.pace = replace(QUICK)
            self._stack.enter_context(pointed(emulator))
        return self._known[folder]

    def target(self, folder: Path, more: str = "") -> Target:
        """A target of its own each time, over the folder's cloud."""
        return open_target(self[folder].locator + more)

    def raw(self, folder: Path, disk: Ref) -> Path:
        """What a snapshot holds, by the emulator's own file."""
        return self[folder].disk(disk.id)

    def inventory(self, folder: Path) -> Mapping[str, object]:
        """All that exists in the account, each with what tells a change of it."""
        emulator = self[folder]
        found: dict[str, object] = {}
        with emulator.cloud.store.lock:
            for kind in ("snapshots", "images", "instances", "volumes", "reservations", "cards"):
                for id, record in emulator.cloud.store.table(REGION, kind).items():
                    if record.get("State") not in ({"Code": 48, "Name": "terminated"}, "cancelled"):
                        blocks = sorted(emulator.cloud.blocks(record).held.items()) if kind == "snapshots" else ()
                        found[id] = (repr({k: v for k, v in record.items() if not k.startswith("_")}), repr(blocks))
        for groups in network(emulator.cloud, REGION).groups.values():
            for group in groups.values():
                found[group.id] = repr((group.name, [vars(rule) for rule in group.egress_rules]))
        return found


def address(emulator: AwsEmulator, last: int) -> str:
    """An address of the locator's subnet, by its last number."""
    subnet = emulator.locator.partition("subnet=")[2].partition("&")[0]
    return f"{str(subnets(emulator.cloud, REGION)[subnet].cidr.network_address).rpartition('.')[0]}.{last}"


@contextmanager
def places() -> Iterator[Places]:
    """The emulators of a test."""
    with ExitStack() as stack:
        yield Places(stack)
