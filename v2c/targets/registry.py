"""Which locator belongs to which target. Each is imported when it is asked for: some need SDKs or programs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from v2c.errors import UsageError
from v2c.targets import Target


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme of target locators: the module whose `open_target(rest)` knows them, and how one is written."""

    name: str
    module: str
    usage: str


SCHEMES = (
    Scheme("aws", "v2c.targets.aws", "aws:REGION"),
    Scheme("gcp", "v2c.targets.gcp", "gcp:PROJECT/ZONE"),
    Scheme("azure", "v2c.targets.azure", "azure:SUBSCRIPTION/GROUP/LOCATION"),
    Scheme("file", "v2c.targets.file", "file:PATH.{qcow2,raw,vmdk,vhd,vhdx,vdi,tar.gz} or file:FOLDER/"),
    Scheme("local", "v2c.targets.local", "local:{aws,gcp,azure,kvm,vmware}"),
    Scheme("memory", "v2c.targets.memory", "memory:NAME"),
)


def open_target(locator: str) -> Target:
    """The target for "SCHEME:REST". UsageError lists the schemes when nobody knows it, and says which SDK is missing."""
    name, colon, rest = locator.partition(":")
    for scheme in SCHEMES:
        if colon and scheme.name == name:
            try:
                opener: Callable[[str], Target] = import_module(scheme.module).open_target
            except ImportError as error:
                raise UsageError(f"{name}: needs {error.name}", remedy=f"pip install 'v2c[{name}]'") from error
            return opener(rest)
    written = "; ".join(scheme.usage for scheme in SCHEMES)
    raise UsageError(f'"{locator}" names no target that v2c knows', remedy=f"write one of {written}")
