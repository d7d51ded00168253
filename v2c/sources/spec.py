"""What a user says of a machine that its disks do not tell: a TOML file, or flags of the command line.

name = "erp"
memory_mib = 4096
vcpus = 2
firmware = "bios"          # or "uefi"
formats = ["vmdk"]         # one for all disks, or one for each
[[nics]]
mac = "00:50:56:aa:bb:cc"
network = "lan"
[expect]                   # of the machine that came up
listening = ["tcp 8080"]
failed_units = []          # none may fail; left out: not asked
reach = ["http://{address}:8080/health=200", "ssh:{address}"]
"""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from v2c.errors import UsageError
from v2c.model import Declared, DiskFormat, Firmware, Nic

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What was said; None (or nothing) where nobody did. `formats`: one for all disks, or one for each of them."""

    name: str | None = None
    memory_mib: int | None = None
    vcpus: int | None = None
    firmware: Firmware | None = None
    nics: tuple[Nic, ...] | None = None
    formats: tuple[DiskFormat, ...] = ()
    expect: Declared = field(default_factory=Declared)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name has letters, digits, dots, dashes and underscores, begins with a letter or digit, at most 63")
    return value


def port(value: str) -> str:
    """A port as checks name it, of "tcp 8080" or "tcp:8080". ValueError when it is none."""
    kind, _, number = value.strip().replace(":", " ").partition(" ")
    if kind not in ("tcp", "udp") or not number.strip().isdecimal() or not 0 < int(number) < 65536:
        raise ValueError(f'"{value}" is no port; write it like tcp 8080')
    return f"{kind} {int(number)}"


def _mac(value: str) -> str:
    mac = value.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError("that is no hardware address; write it like 00:50:56:aa:bb:cc")
    return mac


def _word(kind: type[Firmware] | type[DiskFormat]) -> BeforeValidator:
    def known(value: Any) -> Any:
        if value not in [member.value for member in kind]:
            raise ValueError(f"is one of {', '.join(member.value for member in kind)}")
        return kind(value)

    return BeforeValidator(known)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _card(value: Any) -> Any:
    return {"mac": value} if isinstance(value, str) else value  # nics = ["00:50:56:aa:bb:cc"] says the same, shorter


class _NicFile(_Strict):
    mac: Annotated[str, AfterValidator(_mac)] | None = None
    network: str | None = None


class _Expect(_Strict):
    listening: Annotated[tuple[Annotated[str, AfterValidator(port)], ...], Field(strict=False)] = ()
    failed_units: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    reach: Annotated[tuple[str, ...], Field(strict=False)] = ()


class _File(_Strict):
    name: Annotated[str, AfterValidator(_name)] | None = None
    memory_mib: Annotated[int, Field(ge=128, le=64 * 1024 * 1024)] | None = None
    vcpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    firmware: Annotated[Firmware, _word(Firmware)] | None = None
    nics: Annotated[tuple[Annotated[_NicFile, BeforeValidator(_card)], ...], Field(strict=False)] | None = None
    formats: Annotated[tuple[Annotated[DiskFormat, _word(DiskFormat)], ...], Field(strict=False)] = ()
    expect: _Expect = _Expect()


def load_spec(path: Path) -> MachineSpec:
    """Reads a machine file. UsageError names every mistake in it, each with its place."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"the machine file {path} cannot be read ({error.strerror})", remedy="correct --machine") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the machine file {path} is no TOML: {error}", remedy="correct it there") from error
    try:
        read = _File.model_validate(document)
    except ValidationError as wrong:
        mistakes = "; ".join(_mistake(error["loc"], error["type"], error["msg"]) for error in wrong.errors())
        known = ", ".join(_File.model_fields)
        raise UsageError(f"the machine file {path} is wrong: {mistakes}", remedy=f"it may say {known}") from wrong
    nics = None if read.nics is None else tuple(Nic(nic.mac, nic.network) for nic in read.nics)
    expect = Declared(read.expect.listening, read.expect.failed_units, read.expect.reach)
    return MachineSpec(read.name, read.memory_mib, read.vcpus, read.firmware, nics, read.formats, expect)


def _mistake(place: tuple[int | str, ...], kind: str, message: str) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if kind == "extra_forbidden":
        return f"{where} is not a word it knows"
    return f"{where}: {message.removeprefix('Value error, ')}"
