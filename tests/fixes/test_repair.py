"""The whole repair over small guests: its whole effect as golden diffs, unchanged the second time, hostile input survived."""

import dataclasses
import os
import re
from pathlib import Path

import pytest
from fix_trees import NEEDS, RECIPES, RELEASE, ROOT, closure, image

from v2c.errors import GuestError, NoSpaceError, UsageError, V2cError
from v2c.events import Meter
from v2c.fixes import FIXES
from v2c.fixes.repair import Repaired, repair
from v2c.guest.ledger import Ledger
from v2c.guest.memory import MemoryGuest, Node, link
from v2c.model import Needs

Entries = dict[str, str | bytes | Node | None]

EXPECT = Path(__file__).parent / "expect"


def run(guest: MemoryGuest, needs: Needs, skip: tuple[str, ...] = ()) -> Repaired:
    return repair(Ledger(guest), needs, skip=skip, meter=Meter())


def story(done: Repaired) -> str:
    """All that a review should see."""
    parts = [f"{fix}: {reason}\n" for fix, reason in done.reasons]
    parts += [f"! {f.level} {f.id} {f.subject}: {f.text}\n" for f in done.findings]
    parts += [
        f"drives {k.release}: initramfs {' '.join(k.initramfs)}; present {' '.join(k.present)}\n" for k in done.caps.kernels
    ]
    parts += [f"\n== {c.fix}: {c.kind} {c.path}\n{c.diff}\n" for c in done.changes]
    return re.sub(r"\([^()]* -> [^()]* bytes\)", "(SIZES)", "".join(parts))  # of images, which zlib packs as it likes


@pytest.mark.parametrize("platform", NEEDS)
@pytest.mark.parametrize("name", RECIPES)
def test_the_whole_effect_is_as_expected(name: str, platform: str) -> None:
    """Run with EXPECT=write to write the goldens anew, then review them."""
    told = story(run(RECIPES[name].guest(), NEEDS[platform]))
    golden = EXPECT / f"{name}-{platform}.diff"
    if os.environ.get("EXPECT") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(told, encoding="utf-8")
    assert told == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("platform", NEEDS)
@pytest.mark.parametrize("name", RECIPES)
def test_the_second_time_changes_nothing(name: str, platform: str) -> None:
    guest = RECIPES[name].guest()
    first = run(guest, NEEDS[platform])
    ran = len(guest.ran)
    before = guest.tree
    second = run(guest, NEEDS[platform])
    assert first.reasons
    assert (second.reasons, second.changes, guest.tree) == ((), (), before)
    assert len(guest.ran) == ran


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("fix", FIXES, ids=lambda fix: fix.id)
def test_each_fix_alone_keeps_its_word(name: str, fix: object) -> None:
    one = next(f for f in FIXES if f is fix)
    guest = RECIPES[name].guest()
    before = guest.tree
    need = NEEDS["aws"]
    reason = one.detect(guest, need)
    list(one.findings(guest, need))
    assert guest.tree == before  # detect only reads
    if reason is None or one.id == "initramfs":  # that one takes what initramfs-config wrote
        return
    one.apply(guest, need)
    assert guest.tree != before
    assert one.detect(guest, need) is None


@pytest.mark.parametrize("order", [("aws", "gcp"), ("gcp", "azure"), ("azure", "aws")])
@pytest.mark.parametrize("name", RECIPES)
def test_a_repaired_guest_can_be_repaired_for_another_platform(name: str, order: tuple[str, str]) -> None:
    guest = RECIPES[name].guest()
    for platform in order:
        run(guest, NEEDS[platform])
    assert run(guest, NEEDS[order[-1]]).reasons == ()


def test_keep_network_touches_no_network_file() -> None:
    guest = RECIPES["debian12-bios"].guest()
    done = run(guest, dataclasses.replace(NEEDS["aws"], keep_network=True))
    assert not [c.path for c in done.changes if "network" in c.path or "udev" in c.path]


def test_a_skipped_fix_is_not_run_and_an_unknown_one_is_refused() -> None:
    done = run(RECIPES["debian12-bios"].guest(), NEEDS["aws"], skip=("network-ifupdown",))
    assert "network-ifupdown" not in dict(done.reasons)
    with pytest.raises(UsageError, match="nonsense"):
        run(RECIPES["debian12-bios"].guest(), NEEDS["aws"], skip=("nonsense",))


def test_a_full_boot_filesystem_is_said_before_the_image_is_touched() -> None:
    recipe = dataclasses.replace(RECIPES["debian12-bios"], capacity=20 << 20)
    guest = recipe.guest()
    before = guest.read(f"/boot/initrd.img-{RELEASE}")
    with pytest.raises(NoSpaceError, match=r"/boot of the machine has \d+ MiB free"):
        run(guest, NEEDS["aws"])
    assert guest.read(f"/boot/initrd.img-{RELEASE}") == before


@pytest.mark.parametrize("name", ["debian12-dracut", "debian12-systemd-boot-dracut"])
def test_no_file_that_dracut_reads_later_can_take_back_what_ours_says(name: str) -> None:
    guest = RECIPES[name].guest()
    run(guest, NEEDS["aws"])
    assert 'hostonly="no"' in guest.text(sorted(guest.glob("/etc/dracut.conf.d/*.conf"))[-1])


def test_dracut_takes_what_the_image_held_and_what_the_target_asks_for() -> None:
    """And not all that might start a machine, of which a host-only guest had nothing."""
    guest = RECIPES["debian12-systemd-boot-dracut"].guest()
    run(guest, NEEDS["aws"])
    (argv,) = [argv for argv in guest.ran if argv[0] == "dracut"]
    assert "--no-hostonly" in argv
    asked = argv[argv.index("--drivers") + 1].split()
    assert {"vmw_pvscsi", "sd_mod", "nvme", "nvme_core", "ena"} <= set(asked)


@pytest.mark.parametrize(
    ("more", "packed"),
    [
        ({"/usr/bin/zstd": b"", f"/boot/config-{RELEASE}": "CONFIG_RD_ZSTD=y\n"}, True),
        ({"/usr/bin/zstd": b"", f"/boot/config-{RELEASE}": "# CONFIG_RD_ZSTD is not set\n"}, False),
        ({f"/boot/config-{RELEASE}": "CONFIG_RD_ZSTD=y\n"}, False),
        (
            {
                "/usr/bin/zstd": b"",
                f"/boot/config-{RELEASE}": "CONFIG_RD_ZSTD=y\n",
                "/etc/dracut.conf.d/xz.conf": 'compress="xz"\n',
            },
            False,
        ),
    ],
)
def test_dracut_packs_with_zstd_where_the_kernel_can_unpack_it(more: Entries, packed: bool) -> None:
    guest = RECIPES["debian12-systemd-boot-dracut"].guest(**more)
    run(guest, NEEDS["aws"])
    (argv,) = [argv for argv in guest.ran if argv[0] == "dracut"]
    assert ("--compress" in argv) is packed


class CrowdedEsp(MemoryGuest):
    """Its EFI system partition is full."""

    def free(self, path: str) -> int:
        return 0 if path.startswith("/boot/efi") else super().free(path)


def test_a_full_esp_is_said_before_its_copy_of_the_image_is_touched() -> None:
    made = RECIPES["debian12-systemd-boot-dracut"].guest()
    guest = CrowdedEsp.from_tree(made.tree, facts=made.facts, programs=RECIPES["debian12-systemd-boot-dracut"].programs)
    copy = f"/boot/efi/0123/{RELEASE}/initrd.img-{RELEASE}"
    before = guest.read(copy)
    with pytest.raises(NoSpaceError, match=rf"/boot/efi/0123/{RELEASE} of the machine has \d+ MiB for the initramfs"):
        run(guest, NEEDS["aws"])
    assert guest.read(copy) == before


def test_a_tool_that_builds_an_image_without_the_driver_is_found_out() -> None:
    recipe = RECIPES["debian12-bios"]
    lying = dataclasses.replace(recipe, programs={"env": lambda guest, argv: ""})
    with pytest.raises(GuestError, match="was built and lacks ena, nvme"):
        run(lying.guest(), NEEDS["aws"])


def test_a_dependency_that_is_missing_from_the_image_is_found_out() -> None:
    def build(guest: MemoryGuest, argv: object) -> str:
        paths = [p for p in closure(["nvme", "ena", "xen-blkfront", "xen-netfront"]) if "nvme-core" not in p]
        guest.write(f"/boot/initrd.img-{RELEASE}", image(paths))
        return ""

    lying = dataclasses.replace(RECIPES["debian12-bios"], programs={"env": build})
    with pytest.raises(GuestError, match="nvme_core"):
        run(lying.guest(), NEEDS["aws"])


def test_an_image_that_has_everything_is_not_built() -> None:
    held = image(closure(["nvme", "ena", "xen-blkfront", "xen-netfront"]))
    guest = RECIPES["debian12-bios"].guest(**{f"/boot/initrd.img-{RELEASE}": held})
    done = run(guest, NEEDS["aws"])
    assert "initramfs" not in dict(done.reasons)
    assert guest.ran == []


def test_stale_configuration_in_the_image_makes_it_be_built() -> None:
    texts = {"conf/conf.d/resume": "RESUME=/dev/sda5\n", "etc/modprobe.d/x.conf": "blacklist nvme\n"}
    held = image(closure(["nvme", "ena", "xen-blkfront", "xen-netfront"]), texts)
    guest = RECIPES["debian12-bios"].guest(**{f"/boot/initrd.img-{RELEASE}": held})
    reason = dict(run(guest, NEEDS["aws"]).reasons)["initramfs"]
    assert "looks for /dev/sda5" in reason
    assert "keeps nvme from loading" in reason


OLD = "4.19.0-1-amd64"


def test_an_unfit_kernel_is_warned_of_and_left_alone() -> None:
    more: Entries = {f"/boot/vmlinuz-{OLD}": b"k", f"/boot/initrd.img-{OLD}": image([])}
    more[f"/usr/lib/modules/{OLD}/modules.dep"] = "kernel/drivers/scsi/sd_mod.ko:\n"
    guest = RECIPES["debian12-bios"].guest(**more)
    done = run(guest, NEEDS["aws"])
    assert [(f.id, f.subject) for f in done.findings if f.id == "kernel.unfit"] == [("kernel.unfit", OLD)]
    assert [k.release for k in done.caps.kernels] == [RELEASE]
    assert not any(OLD in argv for argv in guest.ran)


def test_no_kernel_with_the_driver_is_an_error() -> None:
    tree = {f"/usr/lib/modules/{RELEASE}/modules.dep": "kernel/drivers/scsi/sd_mod.ko:\n"}
    with pytest.raises(GuestError, match="no installed kernel has nvme"):
        run(RECIPES["debian12-bios"].guest(**tree), NEEDS["aws"])


def test_a_default_kernel_without_the_driver_is_an_error() -> None:
    newer = "6.9.0-1-amd64"
    tree: Entries = {f"/boot/vmlinuz-{newer}": b"k", f"/usr/lib/modules/{newer}/modules.dep": "x.ko:\n"}
    config = RECIPES["debian12-bios"].guest().text("/boot/grub/grub.cfg").replace(RELEASE, newer, 2)
    with pytest.raises(GuestError, match=f"the kernel {newer}, which boots by default, has no nvme"):
        run(RECIPES["debian12-bios"].guest(**tree, **{"/boot/grub/grub.cfg": config}), NEEDS["aws"])


def test_a_damaged_image_is_said_to_be_damaged() -> None:
    guest = RECIPES["debian12-bios"].guest(**{f"/boot/initrd.img-{RELEASE}": b"070701garbage"})
    with pytest.raises(GuestError, match="damaged"):
        run(guest, NEEDS["aws"])


HOSTILE: dict[str, Entries] = {
    "symlink loops": {
        "/etc/fstab": link("/etc/fstab"),
        "/etc/crypttab": link("crypttab"),
        "/etc/lvm/lvm.conf": link("/etc/lvm/lvm.conf"),
        "/etc/modprobe.d/a.conf": link("b.conf"),
        "/etc/modprobe.d/b.conf": link("a.conf"),
        "/etc/network/interfaces": link("interfaces"),
        "/etc/default/grub": link("grub"),
        "/boot/grub/device.map": link("device.map"),
    },
    "directories for files": {
        "/etc/default/grub.d/x.cfg/y": "",
        "/etc/modprobe.d/x.conf/y": "",
        "/etc/udev/rules.d/x.rules/y": "",
        "/etc/netplan/x.yaml/y": "",
        "/etc/network/interfaces.d/x/y": "",
    },
    "huge lines": {
        "/etc/fstab": f"/dev/sda1 / ext4 {'x' * 1_000_000} 0 1\n",
        "/etc/modprobe.d/a.conf": "blacklist " + "a" * 1_000_000,
        "/etc/network/interfaces": "auto " + "ens192 " * 100_000,
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="' + "a=b " * 100_000,
    },
    "bytes that are no text": {"/etc/fstab": b"\xff\xfe/dev/sda1 / ext4\n\0", "/etc/default/grub": bytes(range(256))},
    "files that source each other": {
        "/etc/network/interfaces": "source /etc/network/interfaces.d/*\nsource /etc/network/interfaces\nauto ens192\n",
        "/etc/network/interfaces.d/a": "source /etc/network/interfaces.d/*\nsource ../../../../../*\n",
    },
    "nothing there": {
        **dict.fromkeys(path for path in RECIPES["debian12-bios"].tree if path.startswith(("/etc/", "/boot/grub"))),
        "/etc/initramfs-tools/modules": "",
    },
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_guests_end_in_a_repair_or_in_one_sentence(kind: str) -> None:
    guest = RECIPES["debian12-bios"].guest(**HOSTILE[kind])
    try:
        run(guest, NEEDS["aws"])
    except V2cError as error:
        assert "\n" not in str(error)
    else:
        assert run(guest, NEEDS["aws"]).changes == ()


def test_the_root_without_a_uuid_cannot_be_named() -> None:
    recipe = RECIPES["debian12-bios"]
    bare = dataclasses.replace(recipe, filesystems=tuple(dataclasses.replace(f, uuid="") for f in recipe.filesystems))
    with pytest.raises(GuestError, match="has no UUID"):
        run(bare.guest(), NEEDS["aws"])


def test_grub_and_its_defaults_agree() -> None:
    """What boots now and what the next update-grub writes have the same root and the same last console."""
    guest = RECIPES["debian12-bios"].guest()
    run(guest, NEEDS["azure"])
    config, defaults = guest.text("/boot/grub/grub.cfg"), guest.text("/etc/default/grub")
    assert config.count(f"root=UUID={ROOT}") == 2
    assert config.count("console=tty1 console=ttyS0,115200n8") == 2
    assert "quiet" not in config + defaults
    assert "/dev/sda" not in config + defaults
    assert "#GRUB_DISABLE_LINUX_UUID=true" in defaults
    assert "rootdelay=300 console=tty1 console=ttyS0,115200n8" in defaults
