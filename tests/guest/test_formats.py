"""Text formats: what is read comes back byte for byte, and an edit changes what it names only."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2c.guest.formats.cmdline import CommandLine, key
from v2c.guest.formats.crypttab import Crypttab
from v2c.guest.formats.devicemap import DeviceMap
from v2c.guest.formats.fstab import Fstab
from v2c.guest.formats.grubcfg import GrubConfig
from v2c.guest.formats.ini import Ini
from v2c.guest.formats.interfaces import Interfaces
from v2c.guest.formats.loaderentry import LoaderEntry
from v2c.guest.formats.lvmconf import LvmConf, accepts
from v2c.guest.formats.modprobe import Modprobe
from v2c.guest.formats.netplan import Netplan
from v2c.guest.formats.shellvars import ShellVars, unquote

FORMATS: list[Callable[[str], object]] = [
    Fstab, Crypttab, CommandLine, ShellVars, GrubConfig, LoaderEntry, Interfaces, Ini, Netplan, Modprobe, LvmConf, DeviceMap,
]  # fmt: skip
SCRAPS = st.lists(
    st.sampled_from(
        ["#", " ", "\t", "\n", "\\\n", '"', "'", "=", "+=", "UUID=1-2", "/dev/sda1", "/", "ext4", "linux", "root=/dev/sda1", "A",
         "iface", "auto", "source", "[", "]", "filter", "blacklist", "x", "options", ":", "- ", "\r\n", "\x0c", "\u2028",
         "\udcff", "${A}"]
    )
)  # fmt: skip


@pytest.mark.parametrize("make", FORMATS)
@given(text=st.one_of(SCRAPS.map("".join), st.text()))
def test_what_is_read_comes_back(make: Callable[[str], object], text: str) -> None:
    assert str(make(text)) == text


def test_fstab_edits_a_field_and_nothing_else() -> None:
    text = "# a\n\n/dev/sda1\t/ ext4  errors=remount-ro 0 1 # odd\n/dev/sdb1 /mnt/with\\040blank xfs"
    tab = Fstab(text)
    first, second = tab.entries
    assert (first.spec, first.where, first.type, first.options) == ("/dev/sda1", "/", "ext4", ("errors=remount-ro",))
    assert second.where == "/mnt/with blank"
    first.spec = "UUID=1"
    second.options = ("defaults", "nofail")
    assert str(tab) == ("# a\n\nUUID=1\t/ ext4  errors=remount-ro 0 1 # odd\n/dev/sdb1 /mnt/with\\040blank xfs defaults,nofail")


def test_crypttab_short_lines_can_get_options() -> None:
    tab = Crypttab("c /dev/sda5\n")
    tab.volumes[0].options = ("luks", "nofail")
    tab.volumes[0].device = "UUID=9"
    assert str(tab) == "c UUID=9 none luks,nofail\n"


@pytest.mark.parametrize(
    ("text", "unwanted", "left"),
    [
        ("root=/dev/sda1 ro quiet", "quiet", "root=/dev/sda1 ro"),
        ("  quiet  ro", "quiet", "  ro"),
        ("quiet ro", "quiet", "ro"),
        ("quiet", "quiet", ""),
        ("quiet\n", "quiet", "\n"),
        ('a dyndbg="file x +p" quiet b', "dyndbg", "a quiet b"),
        ('a dyndbg=\\"file x +p\\" b', "dyndbg", "a b"),
        ("nvme-core.io_timeout=1 x", "nvme_core.io_timeout", "x"),
    ],
)
def test_words_are_dropped_with_one_blank(text: str, unwanted: str, left: str) -> None:
    line = CommandLine(text)
    line.drop(lambda word: key(word) == unwanted)
    assert str(line) == left


@given(text=SCRAPS.map("".join), at=st.integers(0, 5))
def test_dropping_a_word_leaves_the_others(text: str, at: int) -> None:
    words = list(CommandLine(text).words)
    if at >= len(words):
        return
    line = CommandLine(text)
    line.drop(lambda word: word == words[at])
    assert list(line.words) == [word for word in words if word != words[at]]
    assert CommandLine(str(line)).words == line.words


def test_appended_words_go_before_the_newline() -> None:
    line = CommandLine("root=UUID=1 ro\n")
    line.append(["console=tty0", "console=ttyS0"])
    assert str(line) == "root=UUID=1 ro console=tty0 console=ttyS0\n"
    empty = CommandLine("")
    empty.append(["a", "b"])
    assert str(empty) == "a b"


def test_shell_assignments_over_lines_quotes_and_additions() -> None:
    text = (
        'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX="a \\\n b"\nGRUB_CMDLINE_LINUX+=" c"\n'
        "export X='it''s' # why\n#GRUB_CMDLINE_LINUX=no\nGRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`\n"
        'if test; then\n  Y="$X $(uname)"\nfi\n'
    )
    vars = ShellVars(text)
    assert vars.get("GRUB_CMDLINE_LINUX") == "a  b c"
    assert vars.get("X") == "its"
    assert vars.get("Y") == "its $(uname)"
    assert vars.get("Z") is None
    vars.all("X")[0].inner = "new"
    assert 'export X="new" # why' in str(vars)
    vars.set("GRUB_DEFAULT", "1 2")
    vars.set("NEW", "v")
    vars.set("GRUB_DISTRIBUTOR", "Debian")
    assert str(vars).startswith('GRUB_DEFAULT="1 2"\n')
    assert str(vars).endswith('fi\nNEW="v"\n')
    vars.comment("NEW")
    assert str(vars).endswith('\n#NEW="v"\n')


def test_unquote() -> None:
    assert unquote("""a'b c'"d \\"e\\" \\$f"\\ g""") == 'ab cd "e" $f g'


GRUB = """menuentry 'Debian' {
\tsearch --no-floppy --fs-uuid --set=root 0
\tlinux\t/boot/vmlinuz-6.1 root=/dev/sda1 ro  quiet
\tinitrd\t/boot/initrd.img-6.1
}
### BEGIN /etc/grub.d/30_os-prober ###
\tlinux /boot/vmlinuz root=/dev/sda7
### END /etc/grub.d/30_os-prober ###
\tlinux16 /boot/memtest86+.bin console=ttyS0
"""


def test_grub_edits_our_kernel_lines_only() -> None:
    config = GrubConfig(GRUB)
    (line,) = config.kernels
    assert line.image == "/boot/vmlinuz-6.1"
    line.command.swap(lambda word: "root=UUID=5" if key(word) == "root" else word)
    assert str(config) == GRUB.replace("root=/dev/sda1", "root=UUID=5")


def test_loader_entries_merge_their_options() -> None:
    entry = LoaderEntry("title x\noptions  root=/dev/sda2\n# c\ninitrd /a\ninitrd /b\noptions ro")
    assert entry.all("initrd") == ["/a", "/b"]
    command = entry.command
    command.append(["quiet"])
    entry.command = command
    assert str(entry) == "title x\noptions  root=/dev/sda2 ro quiet\n# c\ninitrd /a\ninitrd /b\n"
    bare = LoaderEntry("title x")
    bare.command = CommandLine("a b")
    assert str(bare) == "title x\noptions a b\n"


def test_interfaces_know_their_stanzas() -> None:
    file = Interfaces(
        "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n# c\nauto ens192\n"
        "iface ens192 inet static\n  address 10.0.0.5/24\n  dns-nameservers 10.0.0.1 \\\n 10.0.0.2\n"
    )
    assert file.sources == [("source", "/etc/network/interfaces.d/*")]
    assert file.names == ("ens192",)
    (stanza,) = file.interfaces
    assert stanza.option("address") == "10.0.0.5/24"
    assert stanza.option("dns-nameservers") == "10.0.0.1  10.0.0.2"


def test_ini_values_and_removal() -> None:
    file = Ini("; c\n[Match]\nName=ens192\nMACAddress = 00:11\n[Network]\nDNS=1\nDNS=2\n")
    assert file.all("Network", "DNS") == ["1", "2"]
    assert file.get("Match", "MACAddress") == "00:11"
    assert file.sections == ("Match", "Network")
    file.drop("Match", "MACAddress")
    assert str(file) == "; c\n[Match]\nName=ens192\n[Network]\nDNS=1\nDNS=2\n"


def test_netplan_says_why_it_cannot_be_read() -> None:
    good = Netplan("network:\n  version: 2 # two\n  renderer: networkd\n  ethernets:\n    ens192: {dhcp4: false}\n")
    assert (good.renderer, list(good.devices("ethernets")), good.broken) == ("networkd", ["ens192"], "")
    good.network["renderer"] = "NetworkManager"
    good.changed = True
    assert str(good).startswith("network:\n  version: 2 # two\n  renderer: NetworkManager\n")
    assert Netplan("a: [").broken
    assert Netplan("- 1\n").network == {}


def test_modprobe_blocks() -> None:
    file = Modprobe("blacklist nvme\ninstall virtio-net /bin/true\ninstall x /sbin/modprobe y\n# blacklist ena\n")
    assert file.blocked == {"nvme", "virtio_net"}
    file.allow({"nvme"})
    assert str(file).startswith("#blacklist nvme\ninstall virtio-net")
    assert file.blocked == {"virtio_net"}


def test_lvm_filters() -> None:
    text = (
        'devices {\n\t# filter = [ "a|.*|" ]\n\tfilter = [ "a|^/dev/sda|",\n\t\t"r|.*|" ]\n\tglobal_filter = "r|/dev/cdrom|"\n}\n'
    )
    conf = LvmConf(text)
    assert conf.filters == [("filter", ["a|^/dev/sda|", "r|.*|"]), ("global_filter", ["r|/dev/cdrom|"])]
    assert accepts(["a|^/dev/sda|", "r|.*|"], "/dev/sda3")
    assert not accepts(["a|^/dev/sda|", "r|.*|"], "/dev/nvme0n1p3")
    assert accepts(["a(", "zz"], "/dev/sda")
    conf.comment({"filter"})
    assert '#\tfilter = [ "a|^/dev/sda|",\n#\t\t"r|.*|" ]\n' in str(conf)
    assert [name for name, _ in conf.filters] == ["global_filter"]
