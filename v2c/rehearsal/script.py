"""The files by which a user starts an instance for good: a shell script with the very QEMU command line, and what it reads."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from v2c.accelerator import accelerator
from v2c.model import Firmware
from v2c.platforms import platform
from v2c.rehearsal import metadata
from v2c.rehearsal.firmware import uefi
from v2c.rehearsal.shape import BootSpec, Wiring, argv

_HEAD = """\
#!/bin/sh
# Starts this machine for good: it writes to the disks beside this script. {title}, as near as QEMU gets.
# Ctrl-a x ends it, Ctrl-a c switches between its serial console and QEMU's monitor.
set -eu
cd "$(dirname "$0")"

# true: the machine reaches nothing but the metadata service. Write false to give it the network of this host.
restricted=true
"""
_SERVICE = """
V2C_METADATA_CODE=$(cat metadata.py)
V2C_METADATA=$(cat metadata.json)
export V2C_METADATA_CODE V2C_METADATA
"""


def files(spec: BootSpec, disks: Sequence[tuple[str, str]]) -> dict[str, str]:
    """File name -> text: `start`, and what its metadata service needs. `disks`: (id, name of the raw file beside it).

    UEFI machines keep their variables in `vars.fd` beside it.
    """
    facts = platform(spec.platform)
    wiring = Wiring(
        disks=tuple((id, _file(name) | {"discard": "unmap"}) for id, name in disks),
        console="stdio,mux=on,signal=off",
        accelerator=accelerator(),
    )
    if spec.firmware is Firmware.UEFI:
        wiring = replace(wiring, code=_file(str(uefi().code)), variables=_file("vars.fd"))
    made: dict[str, str] = {}
    service = facts.boot.metadata if facts.boot else "none"
    if service != "none":
        told = metadata.environment(service, spec, secret=spec.digits("secret", 32))
        made |= {"metadata.py": told["V2C_METADATA_CODE"], "metadata.json": told["V2C_METADATA"] + "\n"}
        wiring = replace(wiring, metadata=metadata.COMMAND)
    words = [*argv(facts, replace(spec, isolated=True), wiring), "-mon", "chardev=console,mode=readline"]
    text = _HEAD.format(title=facts.title) + (_SERVICE if made else "") + "\nexec " + _command(words)
    return {"start": text, **made}


def _file(name: str) -> dict[str, object]:
    return {"driver": "raw", "file": {"driver": "file", "filename": name}}


def _command(words: Sequence[str]) -> str:
    """The words for a shell, an option and its value on a line, the restriction taken from the variable."""
    quoted = [shlex.quote(word).replace('"restrict": true', '"restrict": \'"$restricted"\'') for word in words]
    lines = [quoted[0]]
    for before, word in zip(words, quoted[1:], strict=False):
        if word.startswith("-") or not before.startswith("-"):
            lines.append(word)
        else:
            lines[-1] += " " + word
    return " \\\n  ".join(lines) + "\n"
