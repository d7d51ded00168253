"""What every guest promises, in memory, on a disk, behind a ledger, or kept in an image. See `v2c.guest.Guest`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from v2c.errors import GuestError
from v2c.guest import FileKind, Guest
from v2c.guest.memory import MemoryGuest, Node, Program, Tree, file, folder, link

SAY = '#!/bin/sh\necho "said $1"\necho "$1" > /etc/said\n'
FAIL = "#!/bin/sh\necho it is broken >&2\nexit 3\n"
TREE: Tree = {
    "/usr/bin": folder(),
    "/bin": link("usr/bin"),
    "/usr/bin/say": file(SAY, 0o755),
    "/usr/bin/fail": file(FAIL, 0o755),
    "/etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "/etc/fstab": "/dev/sda / ext4 errors=remount-ro 0 1\n",
    "/etc/hostname": "erp\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nerp:x:1000:1000::/home/erp:/bin/sh\n",
    "/etc/systemd/system/multi-user.target.wants/erp.service": link("/lib/systemd/system/erp.service"),
    "/etc/systemd/system/getty.target.wants/getty@tty1.service": link("/lib/systemd/system/getty@.service"),
    "/etc/systemd/system/multi-user.target.wants/gone.service": link("/lib/systemd/system/gone.service"),
    "/lib/systemd/system/erp.service": "[Service]\nExecStart=/bin/true\n",
    "/lib/systemd/system/getty@.service": "[Service]\nExecStart=/sbin/agetty\n",
    "/boot/vmlinuz-6.1.0-9-amd64": b"kernel",
    "/boot/initrd.img-6.1.0-9-amd64": b"initramfs",
    "/boot/vmlinuz-6.1.0-13-amd64": b"kernel",
    "/boot/initrd.img-6.1.0-13-amd64": b"initramfs",
    "/boot/grub/i386-pc/normal.mod": b"\x7fELF",
    "/lib/modules/6.1.0-13-amd64/modules.dep": "",
    "/srv/large": file(bytes(range(256)) * 12_400, 0o640),
    "/srv/secret": file("s", 0o600),
    "/srv/odd \udcff name": b"odd",
    "/srv/to-etc": link("/etc"),
    "/srv/out": link("../../../../etc/hostname"),
    "/srv/dangling": link("/srv/nothing/here"),
    "/srv/circle": link("/srv/circle"),
}


def say(guest: MemoryGuest, argv: list[str]) -> str:
    """What SAY does."""
    guest.write("/etc/said", argv[1] + "\n")
    return f"said {argv[1]}\n"


def fail(guest: MemoryGuest, argv: list[str]) -> str:
    """What FAIL does."""
    raise GuestError(f"{argv[0]} failed in the guest: it is broken")


PROGRAMS: dict[str, Program] = {"say": lambda g, argv: say(g, list(argv)), "fail": lambda g, argv: fail(g, list(argv))}


def content(tree: Tree) -> dict[str, Node]:
    """The tree with every entry a node."""
    return {path: entry if isinstance(entry, Node) else file(entry) for path, entry in tree.items()}


class GuestContract:
    """Subclasses give a fixture `guest` whose tree is TREE; tests write below /work only, so one appliance serves them all."""

    def test_reads_what_is_there(self, guest: Guest) -> None:
        assert guest.text("/etc/hostname") == "erp\n"
        assert guest.read("/srv/large") == bytes(range(256)) * 12_400
        assert guest.exists("/etc/hostname") and guest.exists("/etc") and not guest.exists("/etc/none")
        assert guest.stat("/srv/large").size == 3_174_400

    def test_symlinks_never_leave_the_guest(self, guest: Guest) -> None:
        assert guest.text("/srv/to-etc/hostname") == "erp\n"
        assert guest.text("/srv/out") == "erp\n"
        assert guest.text("/../../etc/hostname") == "erp\n"
        assert guest.readlink("/srv/to-etc") == "/etc"
        assert guest.stat("/srv/to-etc").kind is FileKind.SYMLINK
        assert not guest.exists("/srv/dangling") and guest.stat("/srv/dangling").kind is FileKind.SYMLINK
        with pytest.raises(OSError):
            guest.read("/srv/circle")

    @pytest.mark.parametrize(
        "ask",
        [
            lambda g: g.read("/no/such"),
            lambda g: g.stat("/no/such"),
            lambda g: g.readlink("/no"),
            lambda g: g.chmod("/no", 0o600),
        ],
    )
    def test_what_is_missing_is_said_to_be_missing(self, guest: Guest, ask: Callable[[Guest], object]) -> None:
        with pytest.raises(FileNotFoundError):
            ask(guest)

    def test_a_path_is_absolute(self, guest: Guest) -> None:
        with pytest.raises(ValueError, match="absolute"):
            guest.read("etc/hostname")

    def test_directories_are_listed_and_never_read(self, guest: Guest) -> None:
        assert "odd \udcff name" in guest.names("/srv")
        assert guest.names("/srv") == sorted(guest.names("/srv"))
        assert guest.names("/none") == [] == guest.names("/etc/hostname")
        with pytest.raises(IsADirectoryError):
            guest.read("/etc")
        with pytest.raises(IsADirectoryError):
            guest.write("/etc", "x")
        with pytest.raises(OSError):
            guest.readlink("/etc/hostname")

    def test_patterns_give_existing_paths_sorted(self, guest: Guest) -> None:
        assert guest.glob("/boot/vmlinuz-*") == ["/boot/vmlinuz-6.1.0-13-amd64", "/boot/vmlinuz-6.1.0-9-amd64"]
        assert guest.glob("/lib/*/6.1*/modules.dep") == ["/lib/modules/6.1.0-13-amd64/modules.dep"]
        assert guest.glob("/etc/hostname") == ["/etc/hostname"] and guest.glob("/none/*") == []

    def test_writing_makes_parents_and_keeps_owner_and_mode(self, guest: Guest) -> None:
        guest.write("/made/new/deep/file", "text \udcff")
        assert guest.read("/made/new/deep/file") == b"text \xff"
        assert guest.stat("/made/new/deep/file").mode == 0o644 and guest.stat("/made/new/deep").mode == 0o755
        guest.write("/made/closed", b"1", mode=0o600)
        before = guest.stat("/made/closed")
        guest.write("/made/closed", b"22")
        after = guest.stat("/made/closed")
        assert (after.mode, after.uid, after.gid, after.size) == (0o600, before.uid, before.gid, 2)
        guest.chmod("/made/closed", 0o4755)
        assert guest.stat("/made/closed").mode == 0o4755
        large = bytes(range(251)) * 40_000
        guest.write("/made/large", large)
        assert guest.read("/made/large") == large
        guest.write("/made/large", b"short")
        assert guest.read("/made/large") == b"short", "what was longer is cut off"

    def test_writing_goes_through_symlinks(self, guest: Guest) -> None:
        guest.write("/made/target", "old")
        guest.symlink("target", "/made/pointer")
        guest.write("/made/pointer", "new")
        assert guest.text("/made/target") == "new" and guest.readlink("/made/pointer") == "target"
        guest.symlink("fresh", "/made/pointer")
        guest.write("/made/pointer", "made")
        assert guest.text("/made/fresh") == "made", "a dangling one makes its target"

    def test_removing_twice_is_harmless(self, guest: Guest) -> None:
        guest.write("/made/gone/file", "x")
        guest.symlink("/etc/hostname", "/made/gone/link")
        with pytest.raises(OSError):
            guest.remove("/made/gone")
        for path in ("/made/gone/file", "/made/gone/link", "/made/gone", "/made/gone", "/no/such/path"):
            guest.remove(path)
        assert not guest.exists("/made/gone") and guest.text("/etc/hostname") == "erp\n"

    def test_renaming_replaces_files_and_moves_directories(self, guest: Guest) -> None:
        guest.write("/made/from/a", "a")
        guest.write("/made/b", "b")
        guest.rename("/made/from/a", "/made/b")
        assert guest.text("/made/b") == "a" and guest.names("/made/from") == []
        guest.write("/made/from/a", "again")
        guest.rename("/made/from", "/made/to")
        assert guest.text("/made/to/a") == "again" and not guest.exists("/made/from")
        with pytest.raises(FileNotFoundError):
            guest.rename("/made/none", "/made/b")
        with pytest.raises(FileNotFoundError):
            guest.rename("/made/b", "/made/no/such/folder")

    def test_symlinks_are_made_and_replaced(self, guest: Guest) -> None:
        guest.symlink("/dev/null", "/made/links/unit.service")
        guest.symlink("/etc/hostname", "/made/links/unit.service")
        assert guest.readlink("/made/links/unit.service") == "/etc/hostname"
        guest.write("/made/plain", "x")
        guest.symlink("plain2", "/made/plain")
        assert guest.readlink("/made/plain") == "plain2"
        with pytest.raises(IsADirectoryError):
            guest.symlink("/x", "/made/links")

    def test_programs_run_inside(self, guest: Guest) -> None:
        assert guest.run(["/usr/bin/say", "hello world"]) == "said hello world\n"
        assert guest.text("/etc/said") == "hello world\n"
        with pytest.raises(GuestError, match="it is broken"):
            guest.run(["/bin/fail"])
        with pytest.raises(GuestError):
            guest.run(["/usr/bin/no-such-program"])

    def test_fetching_copies_a_file_out(self, guest: Guest, tmp_path: Path) -> None:
        guest.fetch("/srv/large", str(tmp_path / "large"))
        assert (tmp_path / "large").read_bytes() == guest.read("/srv/large")

    def test_room_is_told(self, guest: Guest) -> None:
        assert 1 << 20 < guest.free("/") < 1 << 40

    def test_the_facts_are_read(self, guest: Guest) -> None:
        facts = guest.facts
        assert (facts.family, facts.distribution, facts.version) == ("debian", "debian", "12")
        assert (facts.hostname, facts.firmware, facts.bootloaders) == ("erp", "bios", ("grub2-bios",))
        assert [k.release for k in facts.kernels] == ["6.1.0-9-amd64", "6.1.0-13-amd64"]
        assert facts.default_kernel == "6.1.0-13-amd64"
        assert facts.enabled_units == ("erp.service", "getty@.service")
        assert [u.name for u in facts.users] == ["root", "erp"]
        assert facts.root == "/dev/sda" and facts.root_type == "ext4" and facts.root_uuid
        assert [(m.spec, m.where, m.uuid) for m in facts.mounts] == [("/dev/sda", "/", facts.root_uuid)]
