"""The wave manifest: read, checked, resolved, written; its JSON Schema; tables in and out.

    text -> schema -> check -> resolve        a file becomes machines with all that holds for each
    tables -> importers -> write              an inventory of somebody's becomes a manifest

A file's mistakes are told all at once, each with line, column and path. Nothing here asks a source or a target.
"""

from pathlib import Path

from pydantic import ValidationError

from v2c.errors import UsageError
from v2c.manifest import secrets
from v2c.manifest.check import check
from v2c.manifest.explain import mistakes
from v2c.manifest.mistakes import ManifestError, Mistake
from v2c.manifest.resolve import Resolved, ordered, resolve
from v2c.manifest.schema import Manifest, json_schema
from v2c.manifest.text import Document, read

__all__ = ["Manifest", "ManifestError", "Mistake", "Resolved", "json_schema", "load", "ordered", "parse", "resolve"]

SUFFIXES = (".yaml", ".yml")


def load(path: Path) -> Manifest:
    """The manifest in a file. ManifestError with every mistake in it; UsageError when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the manifest {path} cannot be read ({error.strerror})", remedy="correct the path") from error
    return parse(data, str(path))


def parse(data: bytes, file: str) -> Manifest:
    """The manifest in a file's bytes; `file` is its name in mistakes. ManifestError with every mistake in it."""
    document = read(data, file)
    found = list(document.mistakes)
    if not isinstance(document.value, dict) and found:
        raise ManifestError(found)
    found += secrets.found(document)
    told = {mistake.path for mistake in found}
    manifest, wrong = _validated(document)
    found += [mistake for mistake in wrong if mistake.path not in told]
    if manifest is not None and not found:
        found = [document.mistake(path, text, remedy) for path, text, remedy in check(manifest)]
    if found or manifest is None:
        raise ManifestError(found)
    return manifest


def _validated(document: Document) -> tuple[Manifest | None, list[Mistake]]:
    if not isinstance(document.value, dict):
        text = "a manifest is a mapping with version, name, sources, targets and waves"
        return None, [document.mistake((), text, "see `v2c manifest schema`")]
    try:
        return Manifest.model_validate(document.value), []
    except ValidationError as error:
        return None, list(mistakes(error, document))
