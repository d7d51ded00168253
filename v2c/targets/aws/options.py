"""The locator: aws:REGION and what may stand behind it."""

import re
from dataclasses import dataclass, fields
from urllib.parse import parse_qsl

from v2c.errors import UsageError
from v2c.targets.aws.facts import api


@dataclass(frozen=True, slots=True)
class Options:
    """What the locator says. `security_group`: ids, several separated by commas. `reserve`: hours of a capacity reservation."""

    region: str
    subnet: str = ""
    security_group: str = ""
    type: str = ""
    kms: str = ""
    volume_type: str = "gp3"
    key_name: str = ""
    profile: str = ""
    reserve: str = ""
    imds: str = "required"
    role: str = ""  # instance profile of the real instance

    @property
    def groups(self) -> list[str]:
        """The ids of the security groups of the real instance."""
        return [id for id in self.security_group.split(",") if id]

    @property
    def hours(self) -> int:
        """For how long capacity is reserved; 0: it is not."""
        return int(self.reserve or 0)


_CHOICES = {"imds": ("required", "optional")}


def parse(rest: str) -> Options:
    """ "REGION[?subnet=ID&security-group=ID&...]". UsageError lists what may stand there."""
    region, _, query = rest.partition("?")
    known = {field.name.replace("_", "-"): field.name for field in fields(Options) if field.name != "region"}
    given = dict(parse_qsl(query, keep_blank_values=True))
    told = ", ".join(f"{name}=" for name in known)
    if strange := sorted(set(given) - set(known)):
        raise UsageError(f'"aws:{rest}": {strange[0]} is not known', remedy=f"what may follow the region: {told}")
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region):
        raise UsageError(f'"aws:{rest}" names no region', remedy=f"write aws:REGION, as in aws:eu-west-1, and behind it {told}")
    options = Options(region, **{known[name]: value for name, value in given.items()})
    for name, choices in (*_CHOICES.items(), ("volume_type", tuple(api().ebs.volume_types))):
        if getattr(options, name) not in choices:
            word = name.replace("_", "-")
            raise UsageError(f'"aws:{rest}": {word}={getattr(options, name)} is not one of {", ".join(filter(None, choices))}')
    if options.reserve and not (options.reserve.isdigit() and 0 < options.hours <= 24 * 31):
        raise UsageError(f'"aws:{rest}": reserve={options.reserve} is no number of hours', remedy="write reserve=4, for one")
    return options
