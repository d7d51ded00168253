"""A manifest as YAML text that reads back as the same manifest."""

import io
import re
from typing import Any

from v2c.manifest.schema import Manifest

_MACHINE = ("id", "name", "source", "hardware", "disks", "nics", "rank", "dependsOn")  # what a machine is, before its settings


def plain(manifest: Manifest) -> dict[str, Any]:
    """Plain values, by the file's names, without what nobody said."""
    document = manifest.model_dump(by_alias=True, exclude_unset=True, mode="json")
    for wave in document["waves"]:
        wave["machines"] = [_ordered(machine, _MACHINE) for machine in wave["machines"]]
        wave["machines"] = wave.pop("machines")
    return _ordered(document, ("version", "name"))


def _ordered(values: dict[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in (*(n for n in first if n in values), *(n for n in values if n not in first))}


def text(manifest: Manifest, comments: tuple[str, ...] = ()) -> str:
    """The YAML, below comments (control characters made harmless: they may come from a stranger's table)."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=False)  # libyaml where it is there
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.BytesIO()
    yaml.dump(plain(manifest), out)
    head = "".join(f"# {re.sub(r'[^ -~]', '?', line)}\n" for line in comments)
    return head + out.getvalue().decode("utf-8")
