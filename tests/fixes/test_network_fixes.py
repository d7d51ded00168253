"""The network fixes, stack by stack: DHCP on any card, fixed addresses, and which stack takes the card."""

import dataclasses

import pytest
from fix_trees import NEEDS, RECIPES
from ruamel.yaml import YAML

from v2c.errors import GuestError
from v2c.fixes.linux.ifupdown import Ifupdown
from v2c.fixes.linux.netplan import NetplanAnyCard
from v2c.fixes.linux.networkd import NetworkdAnyCard
from v2c.fixes.linux.networkmanager import NetworkManagerAnyCard
from v2c.guest.memory import MemoryGuest, Node, link
from v2c.model import AddressNeed, Needs

BY_MAC = AddressNeed(mac="52:54:00:00:00:01", address="192.0.2.10/24", gateway="192.0.2.1", dns=("192.0.2.53",))
SIX = AddressNeed(mac="52:54:00:00:00:02", address="2001:db8::10/64", gateway="2001:db8::1")
DHCP = AddressNeed()


def asking(*addresses: AddressNeed) -> Needs:
    return dataclasses.replace(NEEDS["aws"], addresses=addresses)


def applied(
    fix: Ifupdown | NetplanAnyCard | NetworkdAnyCard | NetworkManagerAnyCard, guest: MemoryGuest, need: Needs
) -> MemoryGuest:
    assert fix.detect(guest, need)
    fix.apply(guest, need)
    assert fix.detect(guest, need) is None
    return guest


def test_ifupdown_by_position_by_mac_and_by_dhcp() -> None:
    text = applied(Ifupdown(), RECIPES["debian12-bios"].guest(), asking(BY_MAC, SIX, DHCP)).text("/etc/network/interfaces")
    assert "auto mac/52:54:00:00:00:01=v2c0\niface v2c0 inet static\n    address 192.0.2.10/24\n    gateway 192.0.2.1\n" in text
    assert "    dns-nameservers 192.0.2.53\n" in text
    assert "iface v2c1 inet6 static\n    address 2001:db8::10/64\n" in text
    assert text.endswith("auto /e*=v2c\niface v2c inet dhcp\n")
    alone = dataclasses.replace(BY_MAC, mac=None)
    text = applied(Ifupdown(), RECIPES["debian12-bios"].guest(), asking(alone)).text("/etc/network/interfaces")
    assert "auto /e*/1=v2c0\n" in text
    assert "dhcp" not in text


def test_ifupdown_without_a_dhcp_client_hands_over_to_networkd() -> None:
    unit = "systemd-networkd.service"
    more: dict[str, str | bytes | Node | None] = {
        "/usr/sbin/dhclient": None,
        "/usr/lib/systemd/systemd-networkd": b"",
        f"/usr/lib/systemd/system/{unit}": "",
        "/usr/lib/systemd/system/systemd-networkd-wait-online.service": "",
        f"/etc/systemd/system/{unit}": link("/dev/null"),
    }
    guest = applied(Ifupdown(), RECIPES["debian12-bios"].guest(**more), asking(DHCP))
    assert "e*" not in guest.text("/etc/network/interfaces")
    assert "DHCP=yes" in guest.text("/etc/systemd/network/20-v2c.network")
    assert guest.readlink(f"/etc/systemd/system/multi-user.target.wants/{unit}") == f"/usr/lib/systemd/system/{unit}"
    assert guest.exists("/etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service")
    assert not guest.exists(f"/etc/systemd/system/{unit}")
    assert NetworkdAnyCard().detect(guest, asking(DHCP)) is None


def test_neither_client_nor_networkd_is_said() -> None:
    with pytest.raises(GuestError, match="neither a DHCP client nor systemd-networkd"):
        Ifupdown().detect(RECIPES["debian12-bios"].guest(**{"/usr/sbin/dhclient": None}), asking(DHCP))


def test_ifupdown_leaves_the_card_to_a_network_manager_that_runs() -> None:
    wants = "/etc/systemd/system/multi-user.target.wants/NetworkManager.service"
    more: dict[str, str | bytes | Node] = {
        "/usr/sbin/NetworkManager": b"",
        wants: link("/lib/systemd/system/NetworkManager.service"),
    }
    guest = applied(Ifupdown(), RECIPES["debian12-bios"].guest(**more), asking(DHCP))
    assert "e*" not in guest.text("/etc/network/interfaces")
    assert NetworkManagerAnyCard().detect(guest, asking(DHCP)) is None  # it asks for a lease on cards without a profile


def test_ifupdown_that_only_has_the_loopback_is_left_alone() -> None:
    more = {"/etc/network/interfaces": "auto lo\niface lo inet loopback\n", "/etc/network/interfaces.d/storage": None}
    assert Ifupdown().detect(RECIPES["debian12-bios"].guest(**more), asking(DHCP)) is None


def test_netplan_by_mac_and_by_dhcp() -> None:
    guest = applied(NetplanAnyCard(), RECIPES["debian12-uefi-lvm"].guest(), asking(BY_MAC, DHCP))
    network = YAML(typ="safe").load(guest.text("/etc/netplan/90-v2c.yaml"))["network"]
    assert network["ethernets"] == {
        "v2c0": {
            "match": {"macaddress": "52:54:00:00:00:01"},
            "addresses": ["192.0.2.10/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}],
            "nameservers": {"addresses": ["192.0.2.53"]},
        },
        "v2c": {"match": {"name": "e*"}, "dhcp4": True, "dhcp-identifier": "mac"},
    }
    assert guest.stat("/etc/netplan/90-v2c.yaml").mode == 0o600
    assert guest.names("/etc/netplan") == ["01-netcfg.yaml.v2c-before", "90-v2c.yaml"]


def test_netplan_keeps_its_renderer_and_a_file_that_names_no_card() -> None:
    only = {"/etc/netplan/01-netcfg.yaml": "network:\n  version: 2\n  renderer: NetworkManager\n"}
    assert NetplanAnyCard().detect(RECIPES["debian12-uefi-lvm"].guest(**only), asking(DHCP)) is None
    naming = {"/etc/netplan/02-card.yaml": "network:\n  ethernets:\n    ens192: {dhcp4: true}\n"}
    guest = applied(NetplanAnyCard(), RECIPES["debian12-uefi-lvm"].guest(**only, **naming), asking(DHCP))
    network = YAML(typ="safe").load(guest.text("/etc/netplan/90-v2c.yaml"))["network"]
    assert network == {"version": 2, "renderer": "NetworkManager"}
    assert "/etc/netplan/01-netcfg.yaml" in guest.glob("/etc/netplan/*.yaml")


def test_networkd_and_network_manager_by_mac() -> None:
    guest = applied(NetworkdAnyCard(), RECIPES["debian12-systemd-boot"].guest(), asking(BY_MAC, DHCP))
    file = guest.text("/etc/systemd/network/10-v2c-0.network")
    assert "MACAddress=52:54:00:00:00:01\n" in file
    assert "Address=192.0.2.10/24\nGateway=192.0.2.1\nDNS=192.0.2.53\n" in file
    assert guest.exists("/etc/systemd/network/50-wg0.network")  # no card: a tunnel
    applied(NetworkdAnyCard(), guest, asking(DHCP))  # another plan: the address goes
    assert not guest.exists("/etc/systemd/network/10-v2c-0.network")
    manager = applied(NetworkManagerAnyCard(), RECIPES["debian12-dracut"].guest(), asking(BY_MAC))
    profile = manager.text("/etc/NetworkManager/system-connections/v2c-0.nmconnection")
    assert "[ethernet]\nmac-address=52:54:00:00:00:01\n" in profile
    assert "method=manual\naddress1=192.0.2.10/24\ngateway=192.0.2.1\ndns=192.0.2.53;\n" in profile
    names = manager.names("/etc/NetworkManager/system-connections")
    assert names == [".ens192.nmconnection.v2c-before", "v2c-0.nmconnection", "v2c.nmconnection"]


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        ((AddressNeed(address="192.0.2.500/24"),), "192.0.2.500"),
        ((AddressNeed(address="192.0.2.1/24"), DHCP), "hardware address"),
    ],
)
def test_addresses_that_cannot_be_given_are_said(addresses: tuple[AddressNeed, ...], words: str) -> None:
    with pytest.raises(GuestError, match=words):
        NetplanAnyCard().detect(RECIPES["debian12-uefi-lvm"].guest(), asking(*addresses))
