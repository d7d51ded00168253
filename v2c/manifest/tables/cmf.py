"""AWS Cloud Migration Factory: its intake form as CSV (attributes wave, application, server of its default schema).

The attribute names are those of the solution's schema and of its front end's tests; `private_ip` and `tags` (KEY=VALUE;...) are
unverified as to their form. Only servers whose strategy (r_type) is Rehost are taken, or that have none; the others are noted.
migration_status and replication_status tell what happened, which a manifest does not hold; tenancy, iamRole and ebs_kms_key_id
are not used.
"""

from v2c.manifest.tables.aws import aim
from v2c.manifest.tables.drafts import Column, Draft, draft, several
from v2c.manifest.tables.reading import Table, Wrong, words

TITLE = "AWS Cloud Migration Factory (intake form)"


def _tags(cell: str, _comma: bool = False) -> dict[str, str]:
    pairs = [part.partition("=") for part in words(cell)]
    if not all(sign and key.strip() for key, sign, _ in pairs):
        raise Wrong(f'"{cell[:40]}" holds no tags', "write them like key=value;key=value")
    return {key.strip(): value.strip() for key, _, value in pairs}


COLUMNS = (
    Column(("server_name",), ("id",), required=True),
    Column(("wave_name",), ("wave",)),
    Column(("app_name",), ("application",)),
    Column(("aws_region",), ("region",)),
    Column(("aws_accountid", "aws_account_id"), ("account",)),
    Column(("server_fqdn", "fqdn"), ("source", "name")),
    Column(("server_os_family", "os_family"), ("family",)),
    Column(("server_os_version", "os_version"), ("version",)),
    Column(("server_environment", "environment"), ("tags", "environment")),
    Column(("server_tier", "tier"), ("tags", "tier")),
    Column(("r_type",), ("strategy",)),
    Column(("instanceType",), ("size", "type")),
    Column(("subnet_IDs",), ("subnets",), several),
    Column(("subnet_IDs_test",), ("test_subnets",), several),
    Column(("securitygroup_IDs",), ("groups",), several),
    Column(("private_ip",), ("addresses",), several),
    Column(("tags",), ("more",), _tags),
    Column(("app_owner", "server_owner", "owner"), ("owner",)),
)


def read(tables: list[Table], to: str | None) -> list[Draft]:
    """A draft for each server that is to be rehosted."""
    made = []
    for table in tables:
        for one in draft(table, COLUMNS):
            strategy = one.take("strategy")
            if strategy and str(strategy).casefold() not in ("rehost", "lift and shift"):
                table.notes.append(f"{table.file}: row {one.row}: {one.get('id')} is left out, its strategy is {strategy}")
                continue
            made.append(_server(one, to))
    return made


def _server(one: Draft, to: str | None) -> Draft:
    one.wave = one.take("wave") or ""
    region, account = one.take("region"), one.take("account")
    os = " ".join(word for word in (one.take("version") or one.take("family"),) if word)
    one.take("family")
    if os:
        one.put(("hardware", "os"), os, "server os version")
    subnets, tests, groups = one.take("subnets"), one.take("test_subnets"), one.take("groups")
    addresses = one.take("addresses")
    for index, subnet in enumerate(subnets or []):
        one.put(("nics", index, "subnet"), subnet, "subnet ids")
    if groups:
        one.put(("nics", 0, "securityGroups"), groups, "securitygroup ids")
    for index, subnet in enumerate(tests or []):
        one.put(("nics", index, "test", "subnet"), subnet, "subnet ids test")
    for index, address in enumerate(addresses or []):
        one.put(("nics", index, "address"), address, "private ip")
    for key, value in (one.take("more") or {}).items():
        one.put(("tags", key), value, "tags")
    aim(one, to, region, account, "aws region")
    if one.get("id"):
        one.rename(str(one.get("id")))
    return one
