"""Options that several verbs share, and how their words become values."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from v2c.errors import UsageError
from v2c.model import DiskFormat, Firmware
from v2c.model.plan import OURS

if TYPE_CHECKING:
    from v2c.state import State

F = TypeVar("F", bound=Callable[..., Any])

RATE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?(?:i?B|bit|bps)?|[KMGT]i?)(?:/s)?", re.IGNORECASE)
FACTOR = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def together(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, shown in the order given."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _platforms(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell's completion."""
    from v2c.platforms import platforms

    names = [f"local:{p.name}" for p in platforms().values() if p.boot and p.name != "vmware"] + ["file:"]
    return [name for name in names if name.startswith(incomplete)]


def _drivers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The site's folder reaches everything that asks `v2c.platforms`, helpers too."""
    if value:
        os.environ["V2C_DRIVERS"] = value
    return value


sources = click.argument("sources", nargs=-1, required=True, metavar="DISK...")

drivers = click.option(
    "--drivers",
    metavar="DIR",
    callback=_drivers,
    expose_value=False,
    help="A site's own folder of platform facts, over drivers/.",
)

target = click.option(
    "--to",
    "target",
    required=True,
    metavar="TARGET",
    shell_complete=_platforms,
    help="local:aws|gcp|azure|kvm, or file:PATH.qcow2 ...",
)

machine = together(
    click.option(
        "--machine",
        "machine_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A TOML file that describes the machine.",
    ),
    click.option("--name", help="The machine's name (default: the first disk's)."),
    click.option("--memory", type=click.IntRange(min=128), metavar="MIB", help="Its memory in MiB."),
    click.option("--vcpus", type=click.IntRange(min=1), metavar="N", help="Its processors."),
    click.option("--firmware", type=click.Choice([f.value for f in Firmware]), help="What starts its boot loader."),
    click.option("--nic", "nics", multiple=True, metavar="MAC", help="A network card by hardware address; once per card."),
    click.option(
        "--format",
        "formats",
        multiple=True,
        type=click.Choice([f.value for f in DiskFormat]),
        help="The disks' format, where names do not tell; once for all, or once per disk.",
    ),
)


def _reach(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from v2c.validate.reach import parse

    for check in value:
        parse(check)
    return value


reach = click.option(
    "--check",
    "reach",
    multiple=True,
    callback=_reach,
    metavar="CHECK",
    help="Asked from here: tcp:HOST:PORT, http://HOST/PATH=200, ssh:HOST; {address} is the instance's own.",
)

expect = together(
    click.option(
        "--expect-port", "ports", multiple=True, metavar="tcp:PORT", help="A port that it has to listen on; once per port."
    ),
    click.option(
        "--allow-failed", "failed", multiple=True, metavar="UNIT", help='A unit that may fail; "none": no unit may fail.'
    ),
    reach,
)


via = click.option(
    "--via",
    default="",
    metavar="WAY",
    help="The way of the disks: ebs-direct or s3-import to AWS, managed-disk or blob to Azure (as ?via= in TARGET).",
)


def _tags(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    made = []
    for word in value:
        key, equals, said = word.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{word!r} is no tag; write it like owner=anna")
        if key.casefold().startswith(OURS):
            raise click.BadParameter(f"{word!r}: tags that begin with {OURS} are v2c's own")
        made.append((key, said))
    return tuple(made)


tags = click.option(
    "--tag", "tags", multiple=True, callback=_tags, metavar="KEY=VALUE", help="A tag of the instance and its disks; once per tag."
)

size_by = click.option(
    "--size-by",
    default="specs",
    show_default=True,
    metavar="specs|FILE.csv",
    help="Size it by what it has, or by what it uses: a CSV with machine, cpu_percent, memory_percent.",
)

repair = together(
    click.option("--root", default="", metavar="DEVICE|UUID", help="Which system to repair when the disks hold several."),
    click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="SELECTOR:file:PATH",
        help="A LUKS key, from a file or env:NAME; never the key itself.",
    ),
    click.option(
        "--address", "addresses", multiple=True, metavar="[MAC=]CIDR[,GATEWAY[,DNS...]]", help="A fixed address; once per card."
    ),
    click.option("--dhcp", is_flag=True, help="Every card gets its address by DHCP (the default)."),
    click.option("--keep-network", is_flag=True, help="Leave the guest's network configuration as it is."),
    click.option("--skip", multiple=True, metavar="FIX", help="Leave out a repair by its id (see v2c plan --repair)."),
)

state = click.option(
    "--state", type=click.Path(path_type=Path), metavar="DIR", help="Where jobs are remembered (default: $XDG_STATE_HOME/v2c)."
)
workdir = click.option(
    "--workdir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where overlays lie while a machine moves (default: STATE/work).",
)
places = together(state, workdir)
engine = click.option(
    "--engine",
    envvar="V2C_ENGINE",
    metavar="URL",
    help="postgresql://HOST/DATABASE that workers share (default: a file in the state's folder; $V2C_ENGINE).",
)
where = together(state, workdir, engine)

dry_run = click.option(
    "--dry-run", is_flag=True, help="Change nothing: print every call that would change something, in order, with names and tags."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the trace of an error.")
progress = together(
    click.option(
        "--progress",
        type=click.Choice(["auto", "bar", "plain", "json", "none"]),
        default="auto",
        help="How progress is shown, on stderr.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Show no progress."),
)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a command works: absolute, so that the same command from another folder finds the same job."""

    state: Path
    workdir: Path


def placed(state: Path | None, workdir: Path | None) -> Places:
    """The folders, made if need be, closed to other users."""
    from v2c.state import default_folder, private_folder

    home = private_folder((state or default_folder()).absolute())
    named = workdir or (Path(os.environ["V2C_WORKDIR"]) if os.environ.get("V2C_WORKDIR") else home / "work")
    return Places(home, private_folder(named.absolute()))


def remembered(state: Path | None) -> Path:
    """The state's folder, for who only reads there: it is not made."""
    from v2c.state import default_folder

    return (state or default_folder()).absolute()


run_id = click.option("--run", "run_id", default="", metavar="RUN", help="A run of v2c run, by the name of its manifest.")
of_run = together(
    click.argument("job", metavar="[JOB]", required=False, default=""),
    run_id,
    click.option("--machine", "machines", multiple=True, metavar="ID", help="A machine of the run; once per machine."),
    click.option("--wave", metavar="NAME", help="The machines of a wave of the run."),
    engine,
)


def one_of(job: str, run_id: str) -> None:
    """UsageError unless either a job is named or a run."""
    if bool(job) == bool(run_id):
        raise UsageError("either a JOB is named, or a run with --run", remedy="see v2c status")


def opened(places: Places, engine: str | None) -> "State":
    """The state: in its folder, or in the database that --engine names. A password belongs into PGPASSFILE, not into the URL."""
    from v2c.state import open_state

    if engine and not engine.startswith(("postgresql://", "postgresql+psycopg://")):
        raise UsageError("--engine is no postgresql:// address", remedy="leave it out to use a file")
    return open_state(engine, places.state) if engine else open_state(places.state)


def bandwidth(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int:
    """Bytes per second of "20MiB/s", "20MB/s" or "100Mbit/s"; 0: no limit."""
    if not value:
        return 0
    found = RATE.fullmatch(value.strip())
    if not found or not float(found["number"]):
        raise click.BadParameter(f"{value!r} is no rate; write it like 20MiB/s or 100Mbit/s")
    unit = found["unit"].lower()
    bits = unit.endswith(("bit", "bps"))
    prefix = unit[:1] if unit[:1] in ("k", "m", "g", "t") else ""
    base = 1000 if bits or (unit.endswith("b") and "i" not in unit) else 1024
    return max(1, int(float(found["number"]) * base ** FACTOR[prefix] / (8 if bits else 1)))


def agreed(question: str, yes: bool) -> bool:
    """Whether somebody says yes, or said so by --yes. UsageError where nobody is there to answer."""
    try:
        return yes or click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise  # Ctrl-C
        click.echo(err=True)
        raise UsageError("nobody answers", remedy="say --yes") from None
