"""The repairs: small units that detect and apply. Their order is written here and nowhere else.

A fix reads `Needs` (what the guest must be able to do) and never the name of a cloud. `detect` answers with the reason as a
sentence that users read verbatim, or None; `apply` writes through the guest only. After `apply`, `detect` answers None.
"""

from v2c.fixes.fix import Edit, Edits, Fix
from v2c.fixes.linux.blacklists import Blacklists
from v2c.fixes.linux.cloudinit import CloudInit
from v2c.fixes.linux.crypttab import CrypttabNames
from v2c.fixes.linux.fallback import UefiFallback
from v2c.fixes.linux.fstab import FstabNames
from v2c.fixes.linux.grubtimeout import GrubTimeout
from v2c.fixes.linux.ifupdown import Ifupdown
from v2c.fixes.linux.initramfs import Initramfs
from v2c.fixes.linux.initramfsconf import InitramfsConfig
from v2c.fixes.linux.kernelcmdline import KernelCommandLineKept
from v2c.fixes.linux.kernelroot import DeviceMaps, KernelRoot, Resume
from v2c.fixes.linux.kernelwords import KernelWords
from v2c.fixes.linux.lvm import Lvm
from v2c.fixes.linux.netplan import NetplanAnyCard
from v2c.fixes.linux.networkd import NetworkdAnyCard
from v2c.fixes.linux.networkmanager import NetworkManagerAnyCard
from v2c.fixes.linux.nicnames import PinnedNames
from v2c.fixes.linux.probe import ProbePlanted
from v2c.fixes.linux.selinux import Relabel
from v2c.fixes.linux.tools import HypervisorTools

INITRAMFS = Initramfs()

FIXES: tuple[Fix, ...] = (
    # where the disks are
    FstabNames(),
    CrypttabNames(),
    KernelCommandLineKept(),  # before the words are changed, so that the new file gets them too
    KernelRoot(),
    KernelWords(),
    GrubTimeout(),
    DeviceMaps(),
    Resume(),
    Lvm(),
    # who may load, run and be reached
    Blacklists(),
    HypervisorTools(),
    CloudInit(),
    PinnedNames(),
    Ifupdown(),
    NetplanAnyCard(),
    NetworkdAnyCard(),
    NetworkManagerAnyCard(),
    ProbePlanted(),
    # how it starts: the image takes in all that stands above
    InitramfsConfig(),
    INITRAMFS,
    UefiFallback(),
    Relabel(),
)

__all__ = ["FIXES", "INITRAMFS", "Edit", "Edits", "Fix"]
