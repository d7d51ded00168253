"""The boot test before an upload: the repaired machine on hardware shaped like the target's, on a throw-away layer."""

from collections.abc import Sequence
from pathlib import Path

from v2c.errors import ProofError
from v2c.events import Meter
from v2c.model import Caps, Disk, Firmware, Needs, Observation, Plan
from v2c.nbd import Export
from v2c.platforms import platform
from v2c.rehearsal import firmware, tpm
from v2c.rehearsal.machine import BootDisk, VirtualMachine
from v2c.rehearsal.shape import BootSpec, bounded
from v2c.validate.boot import Evidence, await_probe, booted


def spec_of(plan: Plan, caps: Caps) -> BootSpec:
    """What a boot test of the planned machine gets: its firmware and boot disk, memory and processors within bounds."""
    spec = BootSpec(
        platform=plan.platform,
        firmware=caps.firmware,
        seed=plan.job,
        name=plan.machine.name,
        memory_mib=plan.machine.memory_mib,
        vcpus=plan.machine.vcpus,
        nics=max(1, len(plan.machine.nics)),
        boot_disk=caps.boot_disk,
        secure_boot=caps.secure_boot,
        tpm=plan.needs.tpm and caps.firmware is Firmware.UEFI,
    )
    return bounded(spec)


def unproven(needs: Needs, folders: tuple[Path, ...] = firmware.FOLDERS) -> tuple[str, ...]:
    """What a boot on this host cannot show of what the target gives. `folders`: where its firmware is described."""
    found = []
    if needs.trusts and not firmware.verifies(folders):
        found.append("secure boot: no firmware that verifies what it starts is installed here (ovmf)")
    if needs.tpm and not tpm.installed():
        found.append("the TPM: swtpm is not installed here, so the boot had none")
    return tuple(found)


def rehearse(
    exports: Sequence[tuple[Disk, Export]],
    plan: Plan,
    caps: Caps,
    *,
    workdir: Path,
    timeout_s: float,
    meter: Meter,
) -> Observation:
    """Boots the exports (read-only, the sealed overlays) and returns what was seen when the probe was complete.

    Screenshot and console stay in `workdir` as `rehearsal.png` and `rehearsal.log`. ProofError says why no probe came.
    """
    assert plan.needs.probe, "a rehearsal listens for the probe"
    nonce = plan.needs.probe.nonce
    disks = [BootDisk(disk.id, export.size, export=export) for disk, export in exports]
    picture = workdir / "rehearsal.png"
    picture.unlink(missing_ok=True)

    def boot() -> Evidence:
        with VirtualMachine(spec_of(plan, caps), disks, workdir, console=workdir / "rehearsal.log") as machine:

            def observe() -> Observation:
                alive = machine.alive  # asked first: what it printed before it ended is then in the console
                return Observation("running" if alive else "off", alive, machine.console(), requests=machine.requests())

            evidence = await_probe(observe, nonce, timeout_s, meter)
            machine.screenshot(picture)
        return evidence

    evidence = booted(boot, meter)
    if evidence.probe is None:
        raise ProofError(
            f"{plan.machine.name} did not come up on hardware like {platform(plan.platform).title}'s: {evidence.failure}",
            remedy=f"see {workdir / 'rehearsal.log'}; nothing was uploaded",
        )
    seen = evidence.observation
    return Observation(
        seen.state, seen.alive, seen.console, str(picture) if picture.exists() else "", seen.addresses, seen.requests
    )
