"""The house rules of imports: one way down, one door per outside tool. Read from the syntax tree, nothing is imported."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ROOT / "v2c"

# From the ground up. A room may import rooms of lower rows, and itself; strangers on one row stay strangers.
ROWS = (
    ("model", "crashpoints", "clock"),
    ("errors",),
    ("events", "processes", "sockets", "ids", "state", "patience", "throttle"),
    ("journal", "slots", "platforms", "manifest", "accelerator"),
    ("engine", "consoles"),
    ("nbd", "gpt", "sizing", "prices", "usage", "tags"),
    ("rawfile",),
    ("qemu", "nbdserver", "tails", "blocks"),
    ("transfer", "guest", "overlays", "jobs"),
    ("fixes", "sources", "targets", "rehearsal", "validate", "plan", "report"),
    ("pipeline", "doctor", "emulators", "waveplan", "discovery"),
    ("dryrun",),
    ("afterwards",),
    ("verbs",),
    ("waves",),
    ("serve",),
    ("ui",),
    ("cli",),
)
# (file or room, room): the few neighbours that may be visited, and why
VISITS = {
    ("targets/local", "rehearsal"): "an instance of local: is a rehearsal that stays",
    ("rehearsal/rehearse", "validate"): "a rehearsal ends when the probe was heard",
    ("engine", "journal"): "the journal's table lies in the engine's database",
}
# outside module -> the only files (or rooms) that may import it
DOORS = {
    "guestfs": ("guest/appliance.py",),
    "dbos": ("engine",),
    "sqlalchemy": ("engine", "state.py", "journal.py", "jobs.py", "waves/store.py", "waves/shares.py", "waves/pricelist.py"),
    "sh": ("processes.py",),
    "subprocess": ("processes.py",),
    "tqdm": ("ui/terminal.py",),
    "click": ("cli",),
    "jinja2": ("report",),
    "isal": ("targets",),
    "zstandard": ("guest", "targets"),
    "boto3": ("targets/aws",),
    "botocore": ("targets/aws", "emulators/aws"),
    "moto": ("emulators/aws",),
    "azure": ("targets/azure", "emulators/azure"),
    "google": ("targets/gcp",),
    "googleapiclient": ("emulators/gcp",),
    "cryptography": ("emulators/tls.py",),
    "xml": (),  # defusedxml reads, strings write
    "pickle": (),  # who can write a file must not run code
    "yaml": (),  # ruamel reports duplicate keys
}
WRITERS_OF_STDOUT = ("ui", "cli")  # the rooms that may print


@dataclass(frozen=True)
class Import:
    """One import statement's target: `v2c.model.plan`, `os.path`."""

    module: str
    line: int


def imports(tree: ast.AST) -> Iterator[Import]:
    """Every import in the file, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield Import(node.module or "", node.lineno)
            if node.module == "v2c":
                yield from (Import(f"v2c.{alias.name}", node.lineno) for alias in node.names)


def room(module: str) -> str:
    """The room of a module of ours: "v2c.targets.local" -> "targets"."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def row(name: str) -> int:
    for index, rooms in enumerate(ROWS):
        if name in rooms:
            return index
    raise AssertionError(f"the room {name} has no place in ROWS of tests/test_imports.py")


def within(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith((f"{place}/", f"{place}.")) for place in places)


def complaints(path: str, text: str) -> list[str]:
    """What one file of v2c/ does against the rules; `path` is relative to v2c/."""
    tree = ast.parse(text)
    here = room("v2c." + path.removesuffix(".py").replace("/", "."))
    found = []
    for one in imports(tree):
        top = one.module.partition(".")[0]
        if top == "v2c":
            there = room(one.module)
            if there in ("", "__version__", here) or here in ("__init__", "__main__"):
                continue
            visit = any(within(path, (who,)) and whom == there for who, whom in VISITS)
            if row(there) >= row(here) and not visit and there not in ("model", "errors", "events"):
                found.append(f"{path}:{one.line}: {here} may not import {there}")
        elif top in DOORS and not within(path, DOORS[top]):
            found.append(f"{path}:{one.line}: {top} has one door, {' or '.join(DOORS[top]) or 'closed'}")
    if here not in WRITERS_OF_STDOUT and path != "guest/appliance.py":
        found += [
            f"{path}:{node.lineno}: print belongs to ui/ and cli/"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ]
    return found


@pytest.mark.parametrize("file", sorted(HOUSE.rglob("*.py")), ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_point_one_way(file: Path) -> None:
    assert complaints(file.relative_to(HOUSE).as_posix(), file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("model/disk.py", "from v2c.errors import V2cError", ""),
        ("model/disk.py", "from v2c.journal import Journal", "model may not import journal"),
        ("targets/file.py", "from v2c.rehearsal import boot", "targets may not import rehearsal"),
        ("targets/local.py", "from v2c.rehearsal import boot", ""),
        ("targets/local/launch.py", "from v2c.rehearsal import boot", ""),
        ("fixes/linux/grub.py", "from v2c import plan", "fixes may not import plan"),
        ("guest/disk.py", "def f():\n    import guestfs", "guestfs has one door"),
        ("guest/appliance.py", "import guestfs\nprint(1)", ""),
        ("pipeline.py", "print(1)", "print belongs to ui/ and cli/"),
        ("sources/ova.py", "from xml.etree import ElementTree", "xml has one door"),
        ("sources/ova.py", "import xmlrpc", ""),
    ],
)
def test_the_rules_bite(path: str, text: str, complaint: str) -> None:
    found = complaints(path, text)
    assert bool(found) == bool(complaint), found
    assert not complaint or complaint in found[0]


def test_help_loads_click_and_little_else() -> None:
    """`v2c --help` must not wait for the engine, pydantic, SDKs: what is loaded tells, whatever the machine."""
    import subprocess

    script = (
        "import sys\nfrom v2c.cli import cli\ncli.main(['--help'], standalone_mode=False)\n"
        "print(' '.join(sorted({m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name for name in done.stderr.split() if not name.startswith("_")}
    assert loaded <= {"click", "v2c", "sitecustomize", "distutils"}, loaded
    assert "v2c.model" not in done.stderr and "convert" in done.stdout
