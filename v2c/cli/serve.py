"""`v2c serve`: the page of the runs, until Ctrl-C."""

import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

import click

from v2c.cli import options
from v2c.errors import UsageError


@click.command()
@options.run_id
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Of the loopback address (default: any).")
@options.where
@options.as_json
@options.debug
def serve(run_id: str, port: int, state: Path | None, workdir: Path | None, engine: str | None, as_json: bool) -> int:
    """Show the runs on a web page at this machine, live, until Ctrl-C; gates can be agreed to there.

    It prints the address to open: with a token, which is another one each time. Only this machine reaches it. From another one:
    ssh -L PORT:127.0.0.1:PORT HOST, and open the same address there.
    """
    from v2c.cli import show
    from v2c.serve.runs import StateRuns
    from v2c.serve.server import Server

    runs = StateRuns(options.opened(options.placed(state, workdir), engine), run_id)
    if run_id:
        runs.snapshot(run_id)  # a wrong name is told here, not on the page
    try:
        server = Server(runs, port)
    except OSError as error:
        raise UsageError(f"port {port} cannot be used ({error.strerror})", remedy="name another one with --port") from error
    over = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    thread.start()
    if as_json:
        show.document({"address": server.address, "port": server.server_port})
    else:
        port = server.server_port
        click.echo(server.address)
        click.echo(f"Ctrl-C ends it; from another machine: ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}", err=True)
    sys.stdout.flush()
    over.wait()
    server.shutdown()
    server.server_close()
    return show.DONE
