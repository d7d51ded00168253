"""Waves of real guests: what a manifest says of them, and what is left of them at a cloud's double."""

import re
from typing import TYPE_CHECKING

from v2c.emulators import Emulator

if TYPE_CHECKING:
    from fixtures.build import BuiltGuest

_INSTANCES = {
    "aws": re.compile(r"^instance "),
    "gcp": re.compile(r"/instances/[^/]+$"),
    "azure": re.compile(r"^Microsoft.Compute/virtualMachines "),
}


def said(guest: "BuiltGuest") -> str:
    """What a manifest says of the guest."""
    files = ", ".join(f"{guest.folder.name}/{disk.name}" for disk in guest.disks)
    nics = ", ".join(f'{{ mac: "{mac}" }}' for mac in guest.nics)
    return f"source: {{ at: images, files: [{files}] }}, {hardware(guest)}, nics: [{nics}]"


def hardware(guest: "BuiltGuest") -> str:
    """Its processors, memory and firmware, as a manifest says them."""
    return f"hardware: {{ vcpus: {guest.vcpus}, memory: {guest.memory_mib}MiB, firmware: {guest.firmware} }}"


def real_instances(cloud: str, double: Emulator) -> list[str]:
    """The instances that the double holds, as it lists them."""
    return [line for line in double.left() if _INSTANCES[cloud].search(line)]
