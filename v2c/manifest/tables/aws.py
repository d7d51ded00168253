"""What the tables of AWS have in common: a region, and perhaps an account, are where a server goes."""

from v2c.manifest.tables.drafts import Draft, slug


def aim(one: Draft, to: str | None, region: str | None, account: str | None, header: str) -> None:
    """The server's target: what --to says, else its region, one for each account; a mistake when there is neither."""
    if to:
        one.target = (slug(to), {"to": to})
    elif region:
        one.target = (slug(f"aws-{region}" + (f"-{account}" if account else "")), {"to": f"aws:{region}"})
    else:
        one.table.add(one.row, header, "neither the row nor --to says a region", "fill it in, or say --to aws:REGION")
