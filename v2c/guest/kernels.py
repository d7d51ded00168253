"""The installed kernels, their boot images, and which of them boots when nobody chooses."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from v2c.guest import Guest
from v2c.guest.formats.lines import body, split_lines
from v2c.guest.formats.loaderentry import LoaderEntry
from v2c.model import KernelFacts

ESPS = ("/boot/efi", "/efi", "/boot")  # where distributions mount the EFI system partition
GRUBS = ("/boot/grub", "/boot/grub2")
_IMAGES = ("vmlinuz-", "vmlinux-", "linux-image-")
_NOT = (".rpmsave", ".rpmnew", ".old", ".bak", ".dpkg-tmp", ".dpkg-new", ".hmac", ".signed", ".orig")


def kernels(guest: Guest) -> tuple[KernelFacts, ...]:
    """Those in /boot, else those in /usr/lib/modules, else those on the EFI system partition; oldest first."""
    found: dict[str, KernelFacts] = {}
    boot = guest.names("/boot")
    for name in boot:
        prefix = next((p for p in _IMAGES if name.startswith(p)), "")
        release = name.removeprefix(prefix)
        if not prefix or name.endswith(_NOT) or "kdump" in name or "rescue" in release:
            continue
        found[release] = KernelFacts(release, f"/boot/{name}", _initramfs(release, boot), _modules(guest, release))
    for entry in [] if found else entries(guest):
        if entry.image and entry.release and guest.exists(entry.image):
            found[entry.release] = KernelFacts(
                entry.release, entry.image, (entry.initramfs or ("",))[-1], _modules(guest, entry.release)
            )
    return tuple(sorted(found.values(), key=lambda k: order(k.release)))


def order(release: str) -> tuple[tuple[int, int | str], ...]:
    """A key that sorts releases as versions: 6.1.0-9 before 6.1.0-13, and 6.1.0-rc1 (with a "~") before 6.1.0."""
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in re.findall(r"[0-9]+|[^0-9.\-+_]+", release))


def _initramfs(release: str, boot: Sequence[str]) -> str:
    """The image that the distributions name after the release; else the shortest name in /boot that holds it as a whole."""
    for name in (f"initrd.img-{release}", f"initramfs-{release}.img", f"initrd-{release}", f"initrd-{release}.img"):
        if name in boot:
            return f"/boot/{name}"
    word = re.compile(rf"init(?:rd|ramfs).*-{re.escape(release)}(?![0-9A-Za-z+~-])")
    names = [n for n in boot if word.match(n) and "kdump" not in n and not n.endswith(_NOT)]
    return f"/boot/{min(names, key=len)}" if names else ""


def _modules(guest: Guest, release: str) -> str:
    return next((p for p in (f"/lib/modules/{release}", f"/usr/lib/modules/{release}") if guest.exists(p)), "")


@dataclass(frozen=True, slots=True)
class BootEntry:
    """An entry of the Boot Loader Specification: its file, and the guest's paths that it names."""

    path: str
    release: str
    image: str
    initramfs: tuple[str, ...]
    sort: tuple[str, str]


def entries(guest: Guest) -> list[BootEntry]:
    """All entries, best first, as systemd-boot sorts them where there are no boot counters (sort-key, then version)."""
    found = []
    for base in ESPS:
        for path in guest.glob(f"{base}/loader/entries/*.conf"):
            entry = LoaderEntry(guest.text(path))
            first = {key: (entry.all(key) or [""])[0] for key in ("version", "linux", "sort-key")}
            image = _on(guest, base, first["linux"])
            release = first["version"] or posixpath.basename(image).removeprefix("vmlinuz-").removeprefix("linux")
            images = tuple(_on(guest, base, i) for i in entry.all("initrd"))
            found.append(BootEntry(path, release, image, images, (first["sort-key"], posixpath.basename(path))))
    return sorted(found, key=lambda e: (order(e.release), e.sort[1]), reverse=True)


def unified(guest: Guest) -> tuple[str, ...]:
    """Unified kernel images: kernel, command line and initramfs in one file, where the Boot Loader Specification puts them."""
    return tuple(path for base in ESPS for path in guest.glob(f"{base}/EFI/Linux/*.[eE][fF][iI]"))


def _on(guest: Guest, base: str, path: str) -> str:
    """An entry's path is relative to the partition that the entry lies on; Fedora's name /boot itself."""
    if not path:
        return ""
    for where in (base + path, path, "/boot" + path):
        if where.startswith("/") and guest.exists(where):
            return where
    return base + "/" + path.lstrip("/")


def default(guest: Guest, installed: Sequence[KernelFacts], bootloaders: Sequence[str]) -> str:
    """The release that boots when nobody chooses; "" when there is no kernel."""
    releases = [k.release for k in installed]
    chosen = ""
    if "systemd-boot" in bootloaders and not any(loader.startswith("grub") for loader in bootloaders):
        chosen = _systemd_boot(guest)
    else:
        for folder in GRUBS:
            if guest.exists(f"{folder}/grub.cfg"):
                chosen = _grub(guest, folder)
                break
    if chosen in releases:
        return chosen
    return releases[-1] if releases else ""


def _systemd_boot(guest: Guest) -> str:
    found = entries(guest)
    for base in ESPS:
        if guest.exists(f"{base}/loader/loader.conf"):
            wanted = (LoaderEntry(guest.text(f"{base}/loader/loader.conf")).all("default") or [""])[0]
            pattern = re.compile(
                re.escape(wanted.removesuffix(".conf")).replace(r"\*", ".*").replace(r"\?", ".") + r"(?:\.conf)?$"
            )
            matching = [e for e in found if wanted and pattern.match(e.sort[1])]
            found = matching or found
    return found[0].release if found else ""


@dataclass(frozen=True, slots=True)
class _Entry:
    title: str
    id: str
    release: str


def _grub(guest: Guest, folder: str) -> str:
    """grub.cfg's `set default`, through grubenv's saved_entry where it says so: a number, a title, an id, or A>B of them."""
    text = guest.text(f"{folder}/grub.cfg")
    top = list(_menu(text))
    environment = {}
    if guest.exists(f"{folder}/grubenv"):
        lines = [body(line).partition("=") for line in split_lines(guest.text(f"{folder}/grubenv"))]
        environment = {key: value for key, _, value in lines if not key.startswith("#")}
    wanted = "0"
    for value in re.findall(r'^\s*set default="?([^"\n]*)"?\s*$', text, re.MULTILINE):
        if value == "${saved_entry}":
            wanted = environment.get("saved_entry", "0") or "0"
        elif value and "$" not in value:
            wanted = value
    level: list[_Entry | tuple[_Entry, list[_Entry]]] = list(top)
    for word in wanted.split(">"):
        chosen = _pick(level, word)
        if chosen is None:
            break
        if not isinstance(chosen, tuple):
            return chosen.release
        level = list(chosen[1])
    first = top[0] if top else None
    if isinstance(first, tuple):
        return first[1][0].release if first[1] else ""
    return first.release if first else ""


def _pick(level: "Sequence[_Entry | tuple[_Entry, list[_Entry]]]", word: str) -> "_Entry | tuple[_Entry, list[_Entry]] | None":
    if word.isdigit():
        return level[int(word)] if int(word) < len(level) else None
    for item in level:
        head = item[0] if isinstance(item, tuple) else item
        if word in (head.title, head.id):
            return item
    return None


_HEAD = re.compile(r"""^\s*(menuentry|submenu)\s+(?:'([^']*)'|"([^"]*)"|(\S+))(.*)\{\s*$""")
_ID = re.compile(r"""(?:\$menuentry_id_option|--id)\s+(?:'([^']*)'|"([^"]*)"|(\S+))""")
_LINUX = re.compile(r"^\s*linux(?:16|efi)?\s+(\S+)")


def _menu(text: str) -> "Iterator[_Entry | tuple[_Entry, list[_Entry]]]":
    """The entries of the menu in order; a submenu with its entries. Nesting deeper than that is not written by grub-mkconfig."""
    submenu: tuple[_Entry, list[_Entry]] | None = None
    title = id = release = ""
    depth = inside = 0
    for line in split_lines(text):
        line = body(line)
        if head := _HEAD.match(line):
            name = head[2] or head[3] or head[4]
            found = _ID.search(head[5])
            known = (found[1] or found[2] or found[3]) if found else ""
            depth += 1
            if head[1] == "submenu":
                submenu = (_Entry(name, known, ""), [])
            else:
                title, id, release, inside = name, known, "", depth
        elif (match := _LINUX.match(line)) and inside and not release:
            release = re.sub(r"^(?:vmlinuz|vmlinux|linux)-", "", posixpath.basename(match[1]))
        elif line.strip() == "}" and depth:
            if inside == depth:
                entry = _Entry(title, id, release)
                inside = 0
                if submenu is None:
                    yield entry
                else:
                    submenu[1].append(entry)
            elif submenu is not None and depth == 1:
                yield submenu
                submenu = None
            depth -= 1
