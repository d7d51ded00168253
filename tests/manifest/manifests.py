"""Small manifests for tests: a right one, and what becomes of it when a piece is changed."""

from typing import Any

from v2c.manifest import Manifest, ManifestError, Mistake, parse

HEAD = """version: 1
name: move
sources:
  lab: {type: files, at: disks}
targets:
  prod: {to: "local:kvm"}
defaults: {target: prod, zone: Europe/Berlin}
waves:
"""
MACHINE = "{id: erp, source: {at: lab, files: [erp.vmdk]}%s}"


def manifest(waves: str, head: str = HEAD) -> str:
    return head + waves


def wave(*machines: str, name: str = "w1", settings: str = "") -> str:
    """A wave of machines, each as a flow mapping; `settings` is a line of YAML."""
    lines = [f"  - name: {name}", *([f"    {settings}"] if settings else []), "    machines:"]
    return "\n".join([*lines, *(f"      - {machine}" for machine in machines)]) + "\n"


def machine(id: str, more: str = "") -> str:
    return "{" + f"id: {id}, source: {{at: lab, files: [{id}.vmdk]}}" + (f", {more}" if more else "") + "}"


def read(text: str) -> Manifest:
    return parse(text.encode(), "wave.yaml")


def mistakes(text: str | bytes) -> tuple[Mistake, ...]:
    """The mistakes of a manifest, none when it is right."""
    try:
        parse(text if isinstance(text, bytes) else text.encode(), "wave.yaml")
    except ManifestError as error:
        return error.mistakes
    return ()


def told(text: str | bytes) -> list[str]:
    return [str(mistake) for mistake in mistakes(text)]


def one(text: str) -> str:
    """The only mistake."""
    (only,) = told(text)
    return only


def deep(value: Any, *path: Any) -> Any:
    for part in path:
        value = value[part]
    return value
