"""Who answers by SSH in a new machine's place: the host key that it must show.

    hostKey: ssh-ed25519 AAAA...   this one
    knownHosts: FILE               one that the file has for the machine's name, as OpenSSH reads it
    neither                        the first one that its instance shows; it is remembered, and no other is taken after it

What is remembered lies in the job's journal, where every worker finds it, and in its folder, where ssh does.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from v2c.errors import UsageError
from v2c.journal import Journal
from v2c.model import Finding, Level
from v2c.waves.nouns import Order

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a name that known_hosts can hold
REFUSED = "Host key verification failed"  # sshconnect.c, whatever was the matter
UNKNOWN = "host key is known for"
SHOWN = re.compile(r"SHA256:[A-Za-z0-9+/]+")
NOTE = "host-key"
MORE = (
    *("-o", "GlobalKnownHostsFile=none"),
    *("-o", "CheckHostIP=no"),
    *("-o", "HashKnownHosts=no"),
    *("-o", "UpdateHostKeys=no"),  # or the machine would say by itself which keys are its own
)


@dataclass(frozen=True, slots=True)
class Trust:
    """What one instance of a machine is known by. `folder`: the job's."""

    order: Order
    instance: str
    journal: Journal
    folder: Path

    def options(self) -> tuple[str, ...]:
        """What ssh is told. UsageError when the file of known hosts is not there."""
        sure, file = True, self._file
        if self.order.host_key:
            _write(file := self.folder / "known_hosts", f"{self.alias} {self.order.host_key}\n")
        elif self.order.known_hosts:
            file = Path(self.order.known_hosts)
            _readable(file)
        elif key := self._first():
            _write(file, f"{self.alias} {key}\n")
        else:
            sure = False
        way = ("-o", f"UserKnownHostsFile={_quoted(file)}", "-o", f"HostKeyAlias={self.alias}")
        return (*MORE, *way, "-o", f"StrictHostKeyChecking={'yes' if sure else 'accept-new'}")

    def seen(self) -> Finding | None:
        """After ssh ended: the key that was taken because it was the first one; None: it was said which it must be."""
        if self.order.host_key or self.order.known_hosts:
            return None
        key = self._first()
        if not key:
            return None
        if not self.journal.noted(self._note):
            self.journal.note(self._note, key)
            self.journal.act("trust host key", f"{self.instance}: {_told(key)}")
        text = f"nobody said its host key, so the first one that it showed was taken: {_told(key)}"
        remedy = "compare it on the machine, or say hostKey: or knownHosts: in the manifest"
        return Finding("ssh.first-key", Level.INFO, self.order.id, text, remedy)

    def refused(self, words: str) -> tuple[str, str]:
        """What ssh said, if it was that the host key is a wrong one: why, and what to do; else both empty."""
        if REFUSED not in words:
            return "", ""
        shown = SHOWN.search(words)
        its = f"its host key{f' ({shown[0]})' if shown else ''}"
        edit = "then v2c retry --edit"
        if self.order.host_key:
            why, what = f"is not the manifest's ({_print(self.order.host_key)})", f"correct hostKey, {edit}"
        elif self.order.known_hosts:
            why = f"is not the one of {self.alias} in {self.order.known_hosts}"
            if UNKNOWN in words:
                why = f"is not known: {self.order.known_hosts} has none of {self.alias}"
            what = "put its key there"
        else:
            why = f"is another one than it showed before ({_told(self._first())})"
            what = f"if it made new ones, say hostKey in the manifest, {edit}"
        return f"{its} {why}", f"see who answers there; {what}"

    @property
    def alias(self) -> str:
        """By which name known_hosts knows it, whatever its address is: its own, or its id where that cannot stand there."""
        return self.order.name if PLAIN.fullmatch(self.order.name) else self.order.id

    @property
    def _note(self) -> str:
        return f"{NOTE}/{self.instance}"

    @property
    def _file(self) -> Path:
        return self.folder / f"known_hosts-{hashlib.sha256(self.instance.encode()).hexdigest()[:8]}"

    def _first(self) -> str:
        """The key that was remembered: "TYPE BASE64"; empty: none yet."""
        if said := self.journal.noted(self._note):
            return said
        try:
            lines = self._file.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return " ".join(next((line.split()[1:3] for line in lines if line.startswith(f"{self.alias} ")), []))


def _write(file: Path, text: str) -> None:
    if not file.exists() or file.read_text(encoding="ascii", errors="replace") != text:
        file.touch(mode=0o600)
        file.write_text(text, encoding="ascii")


def _readable(file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        text = f"the file of known hosts {file} cannot be read ({error.strerror})"
        raise UsageError(text, remedy="put it on every worker, or correct knownHosts") from error


def _quoted(file: Path) -> str:
    """A path as ssh's options take it: one word, nothing in it a token."""
    text = str(file).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def _told(key: str) -> str:
    return f"{key.partition(' ')[0]} {_print(key)}"


def _print(key: str) -> str:
    """A key's fingerprint as ssh-keygen -l shows it."""
    blob = base64.b64decode(key.split()[1])
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"
