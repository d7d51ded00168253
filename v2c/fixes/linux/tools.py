"""Tools of the hypervisor that is left: they must neither run nor fail at boot. Packages stay, so nothing has to be undone."""

from collections.abc import Iterable, Iterator

from v2c.fixes.fix import Edit, Edits, text
from v2c.fixes.linux.units import mask
from v2c.guest import Guest
from v2c.guest.formats.lines import Row, Table
from v2c.guest.formats.modprobe import canonical
from v2c.model import Finding, LeaveTool, Level, Needs

LISTS = ("/etc/modules", "/etc/modules-load.d/*.conf")


def here(guest: Guest, need: Needs) -> list[LeaveTool]:
    """The tools that this guest has."""
    return [tool for tool in need.leave if any(guest.glob(path) if "*" in path else guest.exists(path) for path in tool.paths)]


class HypervisorTools(Edits):
    """Units masked, and modules that only the old hypervisor has no longer loaded at boot."""

    id = "hypervisor-tools"
    title = "tools of the old hypervisor are silent"

    def edits(self, guest: Guest, need: Needs) -> Iterator[Edit]:
        for tool in here(guest, need):
            why = f"{tool.name} has nothing to talk to on the target"
            yield from mask(guest, tool.units, why)
        modules = {canonical(m) for tool in here(guest, need) for m in tool.modules}
        for path in [p for pattern in LISTS for p in guest.glob(pattern)]:
            table = Table(text(guest, path) or "")
            old = [row.words[0] for row in table.lines if row.words and canonical(row.words[0]) in modules]
            if old:
                table.lines = [Row(f"#{row}") if row.words and row.words[0] in old else row for row in table.lines]
                yield Edit(path, f"{path} loads {', '.join(old)}, which fails on other hardware", text=str(table))

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        for tool in here(guest, need):
            if next(iter(self.edits(guest, need)), None):
                yield Finding(
                    "tools.silenced",
                    Level.INFO,
                    tool.name,
                    f"{tool.name} stays installed and is masked: {', '.join(tool.units) or 'it has no units'}",
                    "remove the package once the machine has settled",
                )
