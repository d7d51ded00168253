"""netplan's YAML. Read and rewritten with ruamel's round trip; a text that was not changed is given back as it came."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

KINDS = ("ethernets", "wifis", "modems", "bonds", "bridges", "vlans", "tunnels", "vrfs", "dummy-devices", "virtual-ethernets")


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


class Netplan:
    """One file. `broken` says why it cannot be read ("" when it can)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.changed = False
        self.broken = ""
        self.document: Any = {}
        try:
            self.document = _yaml().load(text) or {}
        except (YAMLError, ValueError, RecursionError) as error:
            self.broken = " ".join(str(error).split())

    def __str__(self) -> str:
        if not self.changed:
            return self._text
        out = io.StringIO()
        _yaml().dump(self.document, out)
        return out.getvalue()

    @property
    def network(self) -> Any:
        """The mapping under `network`, empty when there is none."""
        found = self.document.get("network") if isinstance(self.document, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def renderer(self) -> str:
        """ "networkd", "NetworkManager", or "" for the default."""
        return str(self.network.get("renderer") or "")

    def devices(self, kind: str) -> dict[str, Any]:
        """The devices of one kind ("ethernets"), by id."""
        found = self.network.get(kind)
        return {str(k): v if isinstance(v, dict) else {} for k, v in found.items()} if isinstance(found, dict) else {}
