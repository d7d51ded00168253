"""`v2c prices`: what instance types cost, from a file that the user brings or names by URL."""

from pathlib import Path

import click

from v2c.cli import options


@click.group()
def prices() -> None:
    """Bring a price list, or see which one plans are estimated with.

    A price file says its date, its source and its currency, and the price of an hour by platform, region and type, in TOML or
    JSON. Export it from where you buy; nothing is fetched but the URL that you name.
    """


@prices.command()
@click.argument("file", metavar="FILE|URL")
@options.places
@options.debug
def update(file: str, state: Path | None, workdir: Path | None) -> int:
    """Take the prices of FILE, or of an https: or file: URL, in place of those there were, when all of it is understood."""
    from v2c import prices as book

    places = options.placed(state, workdir)
    new = book.fetch(file) if "://" in file else book.read(Path(file))
    book.keep(new, places.state)
    return _tell(new)


@prices.command()
@options.places
@options.as_json
@options.debug
def show(state: Path | None, workdir: Path | None, as_json: bool) -> int:
    """Tell which prices plans are estimated with: their date, their source, how many."""
    from v2c import prices as book
    from v2c.cli import show as shown

    known = book.kept(options.placed(state, workdir).state)
    if as_json:
        shown.document(known.model_dump(mode="json") if known else None)
        return shown.DONE
    if known is None:
        shown.line("no prices yet: v2c prices update FILE")
        return shown.DONE
    return _tell(known)


def _tell(known: object) -> int:
    from v2c.cli import show as shown
    from v2c.prices import Prices

    assert isinstance(known, Prices)
    shown.line(f"prices of {known.date} in {known.currency}, from {known.source}")
    shown.table([(place, f"{count} types") for place, count in known.counts().items()])
    return shown.DONE
