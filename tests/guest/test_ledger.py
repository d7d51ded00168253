"""What the ledger tells of the changes to a guest."""

from v2c.guest.ledger import Ledger
from v2c.guest.memory import MemoryGuest, Node, file, link
from v2c.model import Change, ChangeKind


def make() -> Ledger:
    def build(guest: MemoryGuest, argv: object) -> str:
        guest.write("/boot/initrd.img-1", b"\0" * 2_000_000)
        return ""

    tree: dict[str, str | bytes | Node] = {
        "/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n",
        "/etc/netplan/a.yaml": "wifis:\n  w:\n    password: canary-1\n    dhcp4: false\n",
        "/etc/closed": file("canary-2\n", 0o600),
        "/etc/binary": b"\x00\x01",
        "/etc/latin": b"caf\xe9\n",
        "/etc/link": link("/etc/fstab"),
        "/etc/shadow": file("root:canary-3:1::\n", 0o644),
        "/boot/initrd.img-1": b"\0" * 1_500_000,
    }
    return Ledger(MemoryGuest.from_tree(tree, programs={"build": build}))


def only(ledger: Ledger) -> Change:
    (change,) = ledger.changes
    return change


def test_writes_of_one_fix_are_one_change_and_another_fix_begins_where_it_ended() -> None:
    ledger = make()
    with ledger.doing("one"):
        ledger.write("/etc/fstab", "first\n")
        ledger.write("/etc/fstab", "UUID=1 / ext4 defaults 0 1\n")
    with ledger.doing("two"):
        ledger.write("/etc/fstab", "UUID=1 / ext4 defaults 0 1\nmore\n")
    first, second = ledger.changes
    assert (first.fix, first.kind, first.path) == ("one", ChangeKind.CHANGED, "/etc/fstab")
    assert first.diff.split("\n") == [
        "--- a/etc/fstab",
        "+++ b/etc/fstab",
        "@@ -1 +1 @@",
        "-/dev/sda1 / ext4 defaults 0 1",
        "+UUID=1 / ext4 defaults 0 1",
    ]
    assert second.fix == "two" and "+more" in second.diff and "/dev/sda1" not in second.diff


def test_what_ends_as_it_began_is_not_told() -> None:
    ledger = make()
    before = ledger.text("/etc/fstab")
    ledger.write("/etc/fstab", "other")
    ledger.write("/etc/fstab", before)
    ledger.write("/etc/new", "x")
    ledger.remove("/etc/new")
    ledger.remove("/etc/none")
    ledger.chmod("/etc/fstab", 0o600)
    ledger.chmod("/etc/fstab", 0o644)
    assert ledger.changes == ()


def test_every_kind_of_change_is_told() -> None:
    ledger = make()
    ledger.fix = "f"
    ledger.write("/etc/new", "line\n")
    ledger.remove("/etc/fstab")
    ledger.chmod("/etc/latin", 0o755)
    ledger.symlink("/dev/null", "/etc/link")
    ledger.rename("/etc/binary", "/etc/binary.v2c-before")
    assert [(c.kind, c.path) for c in ledger.changes] == [
        (ChangeKind.CREATED, "/etc/new"),
        (ChangeKind.REMOVED, "/etc/fstab"),
        (ChangeKind.MODE, "/etc/latin"),
        (ChangeKind.LINKED, "/etc/link"),
        (ChangeKind.RENAMED, "/etc/binary"),
    ]
    told = [c.diff for c in ledger.changes]
    assert told[0].startswith("--- /dev/null\n+++ b/etc/new") and "+++ /dev/null" in told[1]
    assert told[2:] == [
        "mode 0644 -> 0755",
        "now a symlink to /dev/null, was a symlink to /etc/fstab",
        "renamed to /etc/binary.v2c-before",
    ]


def test_a_file_put_aside_and_written_anew_is_told_as_both() -> None:
    ledger = make()
    ledger.rename("/etc/fstab", "/etc/fstab.v2c-before")
    ledger.write("/etc/fstab", "new\n")
    kept, changed = ledger.changes
    assert kept.kind is ChangeKind.RENAMED and "/etc/fstab.v2c-before" in kept.diff
    assert changed.kind is ChangeKind.CHANGED and "-/dev/sda1 / ext4 defaults 0 1\n+new" in changed.diff


def test_no_secret_is_in_a_change() -> None:
    ledger = make()
    ledger.write("/etc/netplan/a.yaml", "wifis:\n  w:\n    password: canary-4\n    dhcp4: true\n")
    ledger.write("/etc/closed", "canary-5\n")
    ledger.write("/etc/shadow", "root:canary-6:1::\n")
    ledger.write("/etc/opened", "canary-7\n", mode=0o640)
    ledger.remove("/etc/closed")
    told = str(ledger.changes)
    assert "canary" not in told and "dhcp4: true" in told
    assert [c.kind for c in ledger.changes] == [ChangeKind.CHANGED, ChangeKind.REMOVED, ChangeKind.CHANGED, ChangeKind.CREATED]


def test_a_change_of_nothing_but_a_secret_is_still_told() -> None:
    ledger = make()
    ledger.write("/etc/netplan/a.yaml", "wifis:\n  w:\n    password: canary-4\n    dhcp4: false\n")
    assert only(ledger).diff == "only what is redacted changed"


def test_binary_and_large_files_are_told_by_their_size() -> None:
    ledger = make()
    ledger.write("/etc/binary", b"\x00\x01\x02")
    ledger.write("/etc/latin", b"th\xe9\n")
    ledger.touched(["/boot/initrd.img-1"])
    ledger.run(["build"])
    assert [c.diff for c in ledger.changes] == [
        "a binary file (2 bytes -> 3 bytes); not shown",
        "a binary file (5 bytes -> 4 bytes); not shown",
        "a large file (1.4 MiB -> 1.9 MiB); not shown",
    ]


def test_a_program_that_was_not_announced_is_told_as_far_as_known() -> None:
    ledger = make()
    ledger.fix = "initramfs"
    ledger.run(["build"])
    ledger.touched(["/boot/initrd.img-1"])
    assert only(ledger).diff == "written by a program of the guest (1.9 MiB); what it was before is not known"
