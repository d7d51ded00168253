"""How the command line ends: every error is one line and an exit code, Ctrl-C is a pause."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from v2c.errors import Paused, UsageError, V2cError
from v2c.ui.words import clean


def run(cli: click.Group, arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and leaves the process with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    code = outcome(cli, words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its exit
        code = code or 1
    sys.exit(code)


def outcome(cli: click.Group, arguments: list[str]) -> int:
    """The exit code of a command line; what went wrong is said on stderr in one line. With --debug the trace comes too."""
    debug = "--debug" in arguments or bool(os.environ.get("V2C_DEBUG"))
    try:
        code = cli.main(args=arguments, prog_name="v2c", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "v2c"
        return say(UsageError(error.format_message().rstrip("."), remedy=f"see {verb} --help"))
    except click.ClickException as error:
        return say(V2cError(error.format_message()))
    except (KeyboardInterrupt, click.Abort):
        return say(Paused("paused: the same command goes on"))
    except BrokenPipeError:
        raise
    except V2cError as error:
        if debug:
            _trace()
        return say(error)
    except OSError as error:
        if debug:
            _trace()
        what = f"{error.filename}: " if error.filename else ""
        return say(V2cError(f"{what}{error.strerror or error}", remedy="" if debug else "run again with --debug for the trace"))
    except Exception as error:
        if debug:
            _trace()
        remedy = "" if debug else "this is a mistake of v2c; run again with --debug for the trace"
        return say(V2cError(f"{type(error).__name__}: {error}", remedy=remedy))


def say(error: V2cError) -> int:
    """Says the error in one line on stderr; returns its exit code."""
    click.echo(f"v2c: {clean(' '.join(str(error).split()))}", err=True)
    return error.exit_code


def _trace() -> None:
    import traceback

    traceback.print_exc()


def terminable() -> None:
    """SIGTERM and SIGHUP (a closed terminal) are a Ctrl-C from now on: the engine makes a pause of it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def interruptible() -> None:
    """For verbs without an engine: Ctrl-C ends our programs first, so that nothing that waits for them holds us up."""

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        from v2c import processes

        processes.kill_all()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
