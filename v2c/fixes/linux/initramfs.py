"""The initramfs of every kernel that may boot: built by the guest's own tool, then opened here to prove what is in it.

The build is most of a repair's time (46 to 83 % of 54 to 102 s), so it is done only for an image that lacks something, once
per kernel, after all configuration is in its place.
"""

import posixpath
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from v2c.errors import GuestError, NoSpaceError
from v2c.fixes.fix import Fix, present, text
from v2c.fixes.linux.devices import bound
from v2c.fixes.linux.initramfsconf import dracut_says, drivers, tool
from v2c.fixes.linux.lvm import hides
from v2c.fixes.linux.modules import ModuleTree
from v2c.guest import Guest, initrd, kernels
from v2c.guest.formats.lvmconf import LvmConf
from v2c.guest.formats.modprobe import Modprobe, canonical
from v2c.model import MIB, Caps, Finding, Firmware, KernelCaps, KernelFacts, Level, Needs

_DEVICES = ("conf/conf.d/", "conf/param.conf", "cryptroot/crypttab", "etc/crypttab", "etc/cmdline.d/")
_NAME = re.compile(r"/dev/[\w/.:\-]+")
_CONFIGURATION = "look at the guest's initramfs configuration (MODULES=, hooks, dracut's omit_drivers)"
_BUILD_S = 3600.0  # an emulated build takes two minutes alone, and took over 900 s on two processors that twenty programs shared
_ROOM = 24 * MIB  # for what an image grows by, and for the file system's own bookkeeping


def candidates(guest: Guest, need: Needs) -> dict[str, ModuleTree]:
    """The kernels that can start on the target: those whose module tree has all that is required, by release."""
    trees = {k.release: ModuleTree.of(guest, k.release, k.modules) for k in guest.facts.kernels if k.modules}
    return {release: tree for release, tree in trees.items() if all(map(tree.has, need.initramfs_required))}


def unfit(guest: Guest, need: Needs) -> dict[str, list[str]]:
    """What each of the other kernels lacks."""
    found = {}
    for kernel in guest.facts.kernels:
        tree = (
            ModuleTree.of(guest, kernel.release, kernel.modules)
            if kernel.modules
            else ModuleTree(kernel.release, {}, frozenset())
        )
        missing = [m for m in need.initramfs_required if not tree.has(m)]
        if missing or not kernel.modules:
            found[kernel.release] = missing or ["all modules"]
    return found


def images(guest: Guest, kernel: KernelFacts) -> list[list[str]]:
    """The images that a boot of this kernel may load, each as the row of files that are unpacked over each other."""
    rows = [[kernel.initramfs]] if kernel.initramfs else []
    for entry in kernels.entries(guest):
        if entry.release == kernel.release and entry.initramfs and list(entry.initramfs) not in rows:
            rows.append(list(entry.initramfs))
    return rows


class Images:
    """Images of one guest, each fetched and opened once until it is built anew."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._known: dict[str, initrd.Image] = {}

    def forget(self) -> None:
        """Images were built."""
        self._known.clear()

    def get(self, row: Iterable[str]) -> initrd.Image:
        """What is in a row of files, unpacked over each other."""
        whole = initrd.Image()
        for path in row:
            if path not in self._known:
                self._known[path] = self._read(path)
            whole.add(self._known[path])
        return whole

    def _read(self, path: str) -> initrd.Image:
        with tempfile.TemporaryDirectory(prefix="v2c-initramfs-") as folder:
            local = Path(folder) / "image"
            try:
                self._guest.fetch(path, str(local))
                return initrd.read(local)
            except initrd.UnknownPacking:
                # its own tool can open it; the texts in it stay unknown
                listing = self._guest.run(["lsinitramfs" if tool(self._guest) == "initramfs-tools" else "lsinitrd", path])
                return initrd.Image(names={posixpath.normpath(line.split()[-1]) for line in listing.splitlines() if line.strip()})
            except GuestError as error:
                raise GuestError(f"{path}: {error.text}", remedy="build it anew in the source machine") from error
            except FileNotFoundError:
                return initrd.Image()


def _asked(tree: ModuleTree, need: Needs) -> list[str]:
    """What the image shall hold of what this kernel has, with all that is below."""
    return list(dict.fromkeys(below for module in drivers(need) for below in tree.needed(module)))


def _stale(image: initrd.Image, need: Needs) -> Iterator[str]:
    """Configuration in the image that would stop the boot, though the guest's own is right by now."""
    wanted = set(map(canonical, drivers(need)))
    for path, data in sorted(image.files.items()):
        content = data.decode("utf-8", "surrogateescape")
        if "modprobe.d/" in path and Modprobe(content).blocked & wanted:
            yield f"keeps {', '.join(sorted(Modprobe(content).blocked & wanted))} from loading"
        elif path.startswith(_DEVICES):
            names = sorted({name for name in _NAME.findall(content) if bound(name)})
            if names:
                yield f"looks for {', '.join(names)}"
        elif path.startswith("etc/lvm/") and path.endswith(".conf") and hides(LvmConf(content)):
            yield "hides disks from LVM"


class Initramfs(Fix):
    """Builds what lacks something, and proves it."""

    id = "initramfs"
    title = "every initramfs holds the target's drivers"

    def __init__(self) -> None:
        self._images: weakref.WeakKeyDictionary[Guest, Images] = weakref.WeakKeyDictionary()

    def images(self, guest: Guest) -> Images:
        """The guest's images, as far as they were opened."""
        if guest not in self._images:
            self._images[guest] = Images(guest)
        return self._images[guest]

    def _reasons(self, guest: Guest, need: Needs) -> dict[str, list[str]]:
        """Why each kernel's image must be built, by release."""
        found: dict[str, list[str]] = {}
        trees = candidates(guest, need)
        for kernel in guest.facts.kernels:
            if kernel.release not in trees:
                continue
            asked = _asked(trees[kernel.release], need)
            rows = images(guest, kernel)
            reasons = [] if rows or not asked else [f"{kernel.release} has no initramfs"]
            for row in rows:
                image = self.images(guest).get(row)
                missing = sorted(set(asked) - image.modules(kernel.release))
                reasons += [f"the initramfs of {kernel.release} lacks {', '.join(missing)}"] if missing else []
                reasons += [f"the initramfs of {kernel.release} {what}" for what in _stale(image, need)]
            if reasons:
                found[kernel.release] = list(dict.fromkeys(reasons))
        return found

    def detect(self, guest: Guest, need: Needs) -> str | None:
        return "; ".join(reason for reasons in self._reasons(guest, need).values() for reason in reasons) or None

    def apply(self, guest: Guest, need: Needs) -> None:
        pending, trees = self._reasons(guest, need), candidates(guest, need)
        for kernel in guest.facts.kernels:
            if kernel.release in pending:
                held = {m for row in images(guest, kernel) for m in self.images(guest).get(row).modules(kernel.release)}
                build(guest, kernel, sorted({*held, *_asked(trees[kernel.release], need)}) if held else ())
        self.images(guest).forget()
        for release, reasons in self._reasons(guest, need).items():
            what = "; ".join(reasons).replace(f"the initramfs of {release} ", "")
            raise GuestError(f"the initramfs of {release} was built and {what} all the same", remedy=_CONFIGURATION)

    def findings(self, guest: Guest, need: Needs) -> Iterable[Finding]:
        for release, missing in unfit(guest, need).items():
            yield Finding(
                "kernel.unfit",
                Level.WARNING,
                release,
                f"the kernel {release} has no {', '.join(missing)} and cannot start on the target: it must not be chosen at boot",
                "remove it in the source machine, or install a newer one",
            )
        for release, tree in candidates(guest, need).items():
            absent = [m for m in need.modules_present if not tree.has(m)]
            if absent:
                yield Finding(
                    "kernel.module-missing",
                    Level.WARNING,
                    release,
                    f"the kernel {release} has no driver {', '.join(absent)}, which the target's network needs",
                    "install a newer kernel in the source machine",
                )

    def prove(self, guest: Guest, need: Needs) -> Caps:
        """What the guest can drive. GuestError when no kernel can start, the default one cannot, or an image lacks something
        that it must hold."""
        trees = candidates(guest, need)
        kernels_here = guest.facts.kernels
        default = guest.facts.default_kernel
        if kernels_here and (not trees or (default and default not in trees)):
            bad = default if trees or default else kernels_here[-1].release
            lacking = ", ".join(unfit(guest, need).get(bad, ["a driver"]))
            raise GuestError(
                f"the kernel {bad}, which boots by default, has no {lacking}" if trees else f"no installed kernel has {lacking}",
                remedy="install a newer kernel in the source machine" + (", or make another the default" if trees else ""),
            )
        if not kernels_here:
            raise GuestError("the machine has no kernel that could boot", remedy="install one in the source machine")
        caps = []
        for kernel in kernels_here:
            if kernel.release not in trees:
                continue
            tree, rows = trees[kernel.release], images(guest, kernel)
            held = [self.images(guest).get(row).modules(kernel.release) for row in rows]
            everywhere = frozenset.intersection(*held) if held else frozenset()
            for module in need.initramfs_required:
                absent = [below for below in tree.needed(module) if below not in everywhere]
                if absent:
                    raise GuestError(
                        f"the initramfs of {kernel.release} was built and lacks {', '.join(absent)} all the same",
                        remedy=_CONFIGURATION,
                    )
            named = tuple(dict.fromkeys((*drivers(need), *need.modules_present)))
            caps.append(
                KernelCaps(
                    kernel.release,
                    initramfs=tuple(m for m in named if canonical(m) in everywhere),
                    builtin=tuple(m for m in named if canonical(m) in tree.builtin),
                    present=tuple(m for m in named if canonical(m) in tree.below),
                )
            )
        facts = guest.facts
        # a machine that can start both ways says so itself; an assumed BIOS does not hold against what is on the disks
        firmware = need.firmware if need.firmware is Firmware.UEFI or not facts.firmware else Firmware(facts.firmware)
        return Caps(firmware, facts.architecture, facts.boot_disk, tuple(caps))


def build(guest: Guest, kernel: KernelFacts, modules: Sequence[str] = ()) -> None:
    """Runs the guest's own tool for one kernel. Room is looked at first: a full /boot leaves half an image behind.

    `modules`: what dracut shall take. None given: all that might start a machine (39 MB in a Debian 12 where the list makes 17).
    """
    builder, release = tool(guest), kernel.release
    path = kernel.initramfs or f"/boot/initrd.img-{release}"
    if not builder:
        raise GuestError(
            f"the initramfs of {release} must be built, and the machine has neither initramfs-tools nor dracut",
            remedy="install one of them in the source machine",
        )
    size = guest.stat(path).size if present(guest, path) else 0
    widened = 3 if builder == "dracut" else 1  # dracut may go from a host-only image to a general one
    for where, room in ((posixpath.dirname(path), widened * size + _ROOM), ("/var/tmp", 4 * widened * size + 2 * _ROOM)):  # noqa: S108
        if guest.free(where) < room:
            raise NoSpaceError(
                f"{where} of the machine has {guest.free(where) // MIB} MiB free, and a new initramfs needs {room // MIB} MiB",
                remedy=f"free space on {where} in the source machine (old kernels: apt autoremove)",
            )
    entries = [entry for entry in kernels.entries(guest) if entry.release == kernel.release]  # hooks write these anew
    guest.touched(dict.fromkeys([path, *(p for e in entries for p in (e.path, *e.initramfs))]))
    if builder == "initramfs-tools":
        # most of the time goes into packing and into some 1300 small programs; the level holds for this build only, and only
        # where the guest's configuration sets none (mkinitramfs takes COMPRESSLEVEL from its environment; zstd -3 packs a Debian
        # image in a seventh of the time of its default -9, and makes it 9 % larger)
        argv = ["env", "COMPRESSLEVEL=3", "update-initramfs", "-u" if present(guest, path) else "-c", "-k", release]
    else:
        # host-only would look at the appliance's hardware; the modules of the image that there was, and the target's, are enough
        listed = ["--drivers", " ".join(modules)] if modules else []
        packed = ["--compress", "zstd -3 -q -T0"] if _zstd(guest, release) else []
        argv = ["dracut", "--force", "--no-hostonly", *listed, *packed, "--tmpdir", "/var/tmp", path, release]  # noqa: S108
    guest.run(argv, timeout=_BUILD_S)
    _copy_to_entries(guest, kernel, path)


def _zstd(guest: Guest, release: str) -> bool:
    """Whether dracut may pack with zstd -3: the kernel can unpack it, and the guest's configuration does not say how to pack.

    Its default is gzip -9, which takes 8.6 s of processor for a host-only image of Debian 12, where zstd -3 takes 0.4 s and
    makes it no larger.
    """
    known = "CONFIG_RD_ZSTD=y" in (text(guest, f"/boot/config-{release}") or "") and guest.exists("/usr/bin/zstd")
    return known and not dracut_says(guest, "compress")


def _copy_to_entries(guest: Guest, kernel: KernelFacts, path: str) -> None:
    """systemd-boot loads a copy on the EFI system partition; the hook that makes it may be missing."""
    for entry in kernels.entries(guest):
        own = [p for p in entry.initramfs if "microcode" not in p and "ucode" not in p]
        if entry.release != kernel.release or not own or own[-1] == path or not present(guest, own[-1]):
            continue
        size, old, where = guest.stat(path).size, guest.stat(own[-1]).size, posixpath.dirname(own[-1])
        if size == old:
            continue
        room = guest.free(where) + old
        if room < size + MIB:
            raise NoSpaceError(
                f"{where} of the machine has {room // MIB} MiB for the initramfs that {posixpath.basename(entry.path)} loads, "
                f"and the new one has {size // MIB + 1} MiB",
                remedy="free space there in the source machine (old kernels: apt autoremove), or give it a larger partition",
            )
        guest.run(["cp", path, own[-1]])
