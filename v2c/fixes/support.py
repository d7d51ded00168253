"""Which guests the fixes are made for: what they are not made for is a blocker before the first change."""

from collections.abc import Iterator

from v2c.model import Facts, Finding, Level

FAMILIES = {"redhat": "Red Hat's", "suse": "SUSE's"}  # known by name, not repaired yet


def findings(facts: Facts, system: str = "") -> Iterator[Finding]:
    """Blockers for a guest whose system, architecture or way of booting no fix knows, or that is not of the family that is wanted
    (`system`; empty: any). Facts may lack the architecture."""
    title = facts.title or facts.distribution or "a system without a name"
    if system and facts.family != system:
        text = f'the guest runs "{title}", and the licence that is to come with it is for {system.capitalize()}'
        yield _blocker("guest.licence", text, "ask for no licence (leave licence=included out)")
    if facts.family == "windows":
        yield _blocker("guest.family", "the guest runs Windows, and only Linux guests of Debian's family can be repaired")
    elif facts.family != "debian":
        kin = FAMILIES.get(facts.family)
        what = f"of {kin} family" if kin else "of no family that is known here"
        yield _blocker(
            "guest.family", f'the guest runs "{title}", {what}, and only Linux guests of Debian\'s family can be repaired'
        )
    if facts.architecture not in ("", "x86_64"):
        kind = "a 32-bit system (i386)" if facts.architecture == "i386" else f"a system for {facts.architecture}"
        yield _blocker("guest.architecture", f"the guest is {kind}, and only x86_64 guests can be moved")
    if facts.unified and "systemd-boot" in facts.bootloaders and not any(name.startswith("grub") for name in facts.bootloaders):
        yield _blocker(
            "guest.unified-kernel",
            f"the guest boots {facts.unified[-1]}, a unified kernel image, and what is inside of one cannot be repaired",
            "have its kernels installed as separate files (layout=bls in /etc/kernel/install.conf), and remove that image",
        )


def _blocker(id: str, text: str, remedy: str = "leave it where it is, or install it anew at the target") -> Finding:
    return Finding(id, Level.BLOCKER, "guest", text, remedy)
