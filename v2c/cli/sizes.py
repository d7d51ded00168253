"""A size on the command line, as manifests write it."""

import click


def size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Bytes of "2GiB"; None: nothing was said."""
    from v2c.manifest.values import bytes_of

    if value is None:
        return None
    try:
        return bytes_of(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from None
