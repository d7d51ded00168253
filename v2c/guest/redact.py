"""Takes the secrets out of a guest's text before it is shown, stored or compared: too much rather than too little.

What counts: values of keys that sound like secrets (netplan, NetworkManager, wpa_supplicant, ifupdown, ppp, cloud-init,
WireGuard, cifs options in fstab, iSCSI and GRUB passwords), all that is nested below such a key, PEM private keys, password
hashes, passwords in URLs, and whole files that hold nothing else.
"""

import fnmatch
import re

HIDDEN = "[redacted]"

SECRET_FILES = (
    "/etc/shadow*",
    "/etc/gshadow*",
    "/etc/ppp/*-secrets",
    "/etc/ssh/ssh_host_*_key",
    "*/.ssh/id_*",
    "/etc/NetworkManager/system-connections/*",
    "/etc/wpa_supplicant/*",
    "/etc/wireguard/*",
    "/etc/ipsec.secrets",
    "/etc/ipsec.d/*",
    "/etc/openvpn/*",
    "/etc/iscsi/*",
    "/etc/luks*/*",
    "/etc/cryptsetup-keys.d/*",
    "/etc/krb5.keytab",
    "/etc/sudoers*",
    "*.key",
    "*.pem",
    "*.p12",
    "*.keytab",
    "*/.netrc",
    "*/.pgpass",
    "*/.my.cnf",
    "*credential*",
    "*secret*",
    "*passwd-*",
)
"""Files that are never shown as text, whatever their mode."""

_NAME = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|psk|secret|token|credential|preshared|private[-_]?key|shared[-_]?key|wep[-_]?key"
    r"|wireless[-_]key|api[-_]?key|access[-_]?key|auth[-_]?key|enc(?:ryption)?[-_]?key|chpasswd|(?<![a-z])pin(?![a-z]))"
)
# the name may stand inside a longer one (wpa-private-key-passwd, X_TOKEN_1); "key" and "keys" count only alone
_KEY = rf"(?:[\w.\-]*{_NAME}[\w.\-]*|(?<![\w.\-])keys?(?![\w.\-]))"
_ASSIGNED = re.compile(rf"""(?P<key>["']?{_KEY}["']?)(?P<sep>\s*[:=]\s*|\s+)(?P<value>\S.*)$""", re.IGNORECASE)
_OPENED = re.compile(rf"""["']?{_KEY}["']?\s*[:=]\s*(?:[|>][-+0-9]*)?\s*$""", re.IGNORECASE)
_OPTION = re.compile(rf"(?P<key>{_KEY})=(?P<value>[^\s,]+)", re.IGNORECASE)
_OPTION_FILES = re.compile(r"/etc/(?:fstab|crypttab|default/grub.*|kernel/cmdline)$|/(?:grub2?/.*|loader/entries/.*)$")
_GRUB = re.compile(r"\b(password(?:_pbkdf2)?)(\s+)\S.*$")
_HASH = re.compile(
    r"\$(?:1|2[abxy]?|5|6|7|y|gy|md5|sha1|argon2\w*)\$[^\s:,'\"]+|\bgrub\.pbkdf2\.\S+|\{SSHA?\d*\}\S+", re.IGNORECASE
)
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*://)[^\s/@]*:[^\s@]+@", re.IGNORECASE)
_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----")
_WORD = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_\w{20,}|\b(Bearer|Basic)\s+\S+", re.IGNORECASE)

LONGEST = 16_384  # of a line that is shown: the patterns are slow on longer ones, and no configuration has them


def secret_file(path: str) -> bool:
    """Whether a file is never shown as text."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in SECRET_FILES)


def redact(path: str, text: str) -> str:
    """The text with its secrets replaced, line by line: as many lines as before."""
    options = _OPTION_FILES.search(path) is not None
    lines = text.split("\n")
    shown = []
    below = -1  # indentation of the secret key whose nested lines are hidden; -1: none
    pem = continued = False
    for line in lines:
        indent = len(line) - len(line.lstrip(" \t"))
        if pem or _PEM_BEGIN.search(line):
            pem = not _PEM_END.search(line)
            shown.append(HIDDEN)
            continue
        if below >= 0:
            nested = indent > below or (indent == below and re.match(r"\s*-(?:\s|$)", line))
            if not line.strip():
                shown.append(line)
                continue
            if nested:
                shown.append(line[:indent] + HIDDEN)
                continue
            below = -1
        if continued:
            continued = line.endswith("\\")
            shown.append(HIDDEN)
            continue
        clean = _line(line, options)
        hides = clean != line
        if hides and line.endswith("\\"):
            continued = True
        if not options and (_OPENED.search(line) or (hides and _ASSIGNED.search(line))):
            below = indent
        shown.append(clean)
    return "\n".join(shown)


def _line(line: str, options: bool) -> str:
    if len(line) > LONGEST:
        return HIDDEN
    line = _URL.sub(lambda m: f"{m['scheme']}{HIDDEN}@", line)
    line = _HASH.sub(HIDDEN, line)
    line = _WORD.sub(HIDDEN, line)
    if options:
        line = _OPTION.sub(lambda m: f"{m['key']}={HIDDEN}", line)
        return _GRUB.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}", line)
    return _ASSIGNED.sub(lambda m: f"{m['key']}{m['sep']}{HIDDEN}", line)
