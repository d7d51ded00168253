"""`v2c emulate`: a double of a cloud in the foreground, for rehearsing without an account."""

import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import click

from v2c.cli import options
from v2c.emulators import CLOUDS


@click.command()
@click.argument("cloud", type=click.Choice(CLOUDS))
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the cloud lies; named again it is the same one (default: $XDG_STATE_HOME/v2c/emulators/CLOUD).",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Of the loopback address (default: any).")
@click.option("--fail", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="Let this share of the requests fail.")
@options.as_json
@options.debug
def emulate(cloud: str, folder: Path | None, port: int, fail: float, as_json: bool) -> int:
    """Be CLOUD, on this machine, until Ctrl-C: what is uploaded is kept, what is launched boots in QEMU.

    \b
    Its output makes another shell's v2c (and the cloud's own tools) talk to it:
      v2c emulate aws > aws.env &      then, there:  . ./aws.env

    Not a cloud: it answers what a migration asks, refuses what the vendor's schema does not know, and costs nothing.
    """
    from v2c import processes
    from v2c.cli import show
    from v2c.emulators import open_emulator
    from v2c.state import default_folder, private_folder

    over = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    home = private_folder((folder or default_folder() / "emulators" / cloud).absolute())
    try:
        with open_emulator(cloud, home, port=port) as emulator:
            emulator.faults.share = fail
            environment = dict(emulator.environment)
            if as_json:
                show.document({"environment": environment, "locator": emulator.locator, "folder": str(home)})
            else:
                for name, value in environment.items():
                    click.echo(f"export {name}={shlex.quote(value)}")
                click.echo(f"# v2c convert DISK... --to {shlex.quote(emulator.locator)}")
            sys.stdout.flush()
            over.wait()
            left = emulator.left()
    finally:
        processes.kill_all()
    for line in left:
        click.echo(f"left there: {line}", err=True)
    return show.DONE
