"""The locator: aws:REGION and what may stand behind it."""

import re
from dataclasses import dataclass, fields
from urllib.parse import parse_qsl

from v2c.errors import UsageError
from v2c.targets import percard
from v2c.targets.aws.facts import api


@dataclass(frozen=True, slots=True)
class Options:
    """What the locator says. `subnet`, `private_ip`: of the machine's cards in their order, separated by commas (the addresses:
    of the real instance, an empty one by DHCP). `security_group`: ids, of every card. `reserve`: hours of a capacity reservation.
    `tpm`: "v2.0" for a NitroTPM; `uefi_data`: a file with the UEFI variables that the image gets (base64, as python-uefivars
    writes it), secure boot's keys among them. `via`: the way of the disks, by EBS direct when nothing is said; `bucket`: of
    the way by S3; `import_role`: VM Import's. `licence`: "included": AWS's own, of Windows."""

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
    private_ip: str = ""
    tpm: str = ""
    uefi_data: str = ""
    via: str = ""
    bucket: str = ""
    import_role: str = "vmimport"
    licence: str = ""

    @property
    def subnets(self) -> list[str]:
        """The ids of the subnets, by card; cards beyond them are in the last one. Empty: nobody said any."""
        return percard.values(self.subnet)

    @property
    def addresses(self) -> list[str]:
        """The addresses of the real instance, by card; an empty one, and what is beyond them, is by DHCP."""
        return percard.values(self.private_ip)

    @property
    def groups(self) -> list[str]:
        """The ids of the security groups of the real instance."""
        return [id for id in self.security_group.split(",") if id]

    @property
    def staged(self) -> bool:
        """Whether disks go by way of S3."""
        return self.via == "s3-import"

    @property
    def licensed(self) -> bool:
        """Whether AWS provides the licence of the guest's system."""
        return self.licence == "included"

    @property
    def hours(self) -> int:
        """For how long capacity is reserved; 0: it is not."""
        return int(self.reserve or 0)


_CHOICES = {
    "imds": ("required", "optional"),
    "via": ("", "ebs-direct", "s3-import"),
    "tpm": ("", "v2.0"),
    "licence": ("", "included"),
}


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
    if options.licensed and (options.tpm or options.uefi_data):
        raise UsageError(
            f'"aws:{rest}": licence=included goes without tpm= and uefi-data=',
            remedy="AWS imports such an image, and takes neither",
        )
    if "" in options.subnets:
        raise UsageError(f'"aws:{rest}": subnet={options.subnet} leaves one out', remedy="write subnet=A,B: one for each card")
    for wrong in percard.strange(options.addresses):
        raise UsageError(f'"aws:{rest}": private-ip={wrong} is no address', remedy=percard.REMEDY)
    wanted = [address for address in options.addresses if address]
    if twice := next((address for address in wanted if wanted.count(address) > 1), ""):
        raise UsageError(f'"aws:{rest}": private-ip= names {twice} twice', remedy="give each card an address of its own")
    return options
