"""A kernel's module tree: what it has, what is built in, and what each module needs."""

import posixpath
import re
from dataclasses import dataclass, field

from v2c.fixes.fix import text
from v2c.guest import Guest
from v2c.guest.formats.modprobe import canonical

_SUFFIX = re.compile(r"\.ko(?:\.(?:gz|xz|zst))?$")


def name_of(path: str) -> str:
    """kernel/drivers/nvme/host/nvme-core.ko.xz: nvme_core."""
    return canonical(_SUFFIX.sub("", posixpath.basename(path)))


@dataclass(frozen=True, slots=True)
class ModuleTree:
    """Modules by their canonical names: `below` lists what each needs loaded before it, `builtin` those in the kernel, `paths`
    the files of the others, below the tree's folder."""

    release: str
    below: dict[str, tuple[str, ...]]
    builtin: frozenset[str]
    paths: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, guest: Guest, release: str, folder: str) -> "ModuleTree":
        """From modules.dep and modules.builtin, which depmod and the kernel's build wrote."""
        below: dict[str, tuple[str, ...]] = {}
        paths: dict[str, str] = {}
        for line in (text(guest, f"{folder}/modules.dep") or "").splitlines():
            path, colon, needed = line.partition(":")
            if colon:
                below[name_of(path)] = tuple(map(name_of, needed.split()))
                paths[name_of(path)] = path
        builtin = frozenset(name_of(line) for line in (text(guest, f"{folder}/modules.builtin") or "").split())
        return cls(release, below, builtin, paths)

    def has(self, module: str) -> bool:
        """Whether this kernel can have the module at all."""
        return canonical(module) in self.below or canonical(module) in self.builtin

    def needed(self, module: str) -> tuple[str, ...]:
        """The module and all below it that are files of the tree; none when it is built in or missing."""
        name = canonical(module)
        return (name, *self.below[name]) if name in self.below else ()
