"""No secret may be told: canaries in every place that is known to hold secrets."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2c.guest.redact import HIDDEN, redact, secret_file

CANARY = st.text(string.ascii_letters + string.digits + "!#%&()*+-./:;<=>?@^_~", min_size=8, max_size=40).map(lambda s: "Cy" + s)
WORD = st.text(string.ascii_letters + string.digits + "+/_.-", min_size=8, max_size=40).map(lambda s: "Cy" + s)

# ruff: noqa: E501 - one secret place, one line
FREE = {  # path -> text with @ for the secret, which may hold anything that a line can
    "/etc/netplan/50.yaml": 'network:\n  wifis:\n    wlan0:\n      access-points:\n        "home":\n          password: "@"\n',
    "/etc/netplan/51.yaml": "network:\n  wifis:\n    w:\n      access-points: {home: {auth: {key-management: psk, password: '@'}}}\n",
    "/etc/netplan/52.yaml": "network:\n  tunnels:\n    wg0:\n      keys:\n        private: @\n      key: @\n      peers:\n      - keys:\n          shared: @\n",
    "/etc/netplan/53.yaml": "      auth:\n        password: >-\n          @\n          and @\n\n          @\n      dhcp4: true\n",
    "/etc/NetworkManager/wifi.nmconnection": "[wifi-security]\nkey-mgmt=wpa-psk\npsk=@\n[802-1x]\npassword=@\n",
    "/etc/wpa.conf": 'network={\n  ssid="home"\n  psk="@"\n  wep_key0="@"\n  password="@"\n}\n',
    "/etc/network/interfaces": "iface wlan0 inet dhcp\n  wpa-ssid home\n  wpa-psk @\n  wireless-key s:@\n",
    "/etc/cloud/cloud.cfg.d/99.cfg": "chpasswd:\n  expire: false\n  list: |\n    root:@\n    erp:@\nusers:\n- name: erp\n  passwd: @\n",
    "/etc/cloud/user-data": "users:\n  - name: a\n    plain_text_passwd: '@'\n    hashed_passwd: @\n",
    "/etc/cloud/x.json": '{"admin_password": "@", "name": "x"}\n',
    "/etc/ppp/peers/dsl": 'user "me"\npassword @\n',
    "/etc/wireguard.conf": "[Interface]\nPrivateKey = @\n[Peer]\nPresharedKey = @\n",
    "/etc/app.ini": "db_password=@\nAPI_KEY: @\nauth-token = @\nclient_secret=@\n",
    "/etc/script": "export TOKEN=@\\\n  more@\nDB_PASS='@'\n",
    "/etc/agent.conf": "Authorization: Bearer @\n",
}
OPTIONS = {  # one word among others that must stay
    "/etc/fstab": "//nas/x /mnt cifs username=me,password=@,uid=0,credentials=@ 0 0\nUUID=1 / ext4 defaults,nofail 0 1\n",
    "/etc/default/grub": 'GRUB_CMDLINE_LINUX="rd.iscsi.password=@ console=ttyS0 nofail"\n',
    "/boot/grub/grub.cfg": "set superusers=root\npassword_pbkdf2 root grub.pbkdf2.sha512.10000.@\npassword erp @\nlinux /vmlinuz nofail\n",
}


@pytest.mark.parametrize("path", FREE)
@given(canary=CANARY)
def test_no_secret_is_shown(path: str, canary: str) -> None:
    text = FREE[path].replace("@", canary)
    shown = redact(path, text)
    assert canary not in shown and HIDDEN in shown
    assert shown.count("\n") == text.count("\n"), "a diff keeps its lines"


@pytest.mark.parametrize("path", OPTIONS)
@given(canary=WORD)
def test_a_secret_among_options_goes_alone(path: str, canary: str) -> None:
    shown = redact(path, OPTIONS[path].replace("@", canary))
    assert canary not in shown and HIDDEN in shown
    assert "nofail" in shown, "what stands beside it is told"


@given(canary=WORD, number=st.sampled_from(["1", "5", "6", "y", "2b", "gy"]))
def test_hashes_and_urls_are_found_anywhere(canary: str, number: str) -> None:
    text = f"erp:${number}$salt${canary}:19000:\nproxy http://me:{canary}@proxy.example:3128/\n"
    assert canary not in redact("/etc/anything", text)


@given(canary=st.text(string.ascii_letters + string.digits + "+/=", min_size=20))
def test_private_keys_go_whole(canary: str) -> None:
    text = f"before\n-----BEGIN OPENSSH PRIVATE KEY-----\n{canary}\n{canary}\n-----END OPENSSH PRIVATE KEY-----\nafter\n"
    shown = redact("/etc/x", text)
    assert canary not in shown
    assert shown.startswith("before\n") and shown.endswith("\nafter\n")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/fstab", "# <file system> <mount point> <type> <options> <dump> <pass>\nUUID=1 / ext4 errors=remount-ro 0 1\n"),
        ("/etc/default/grub", 'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200n8"\nGRUB_TIMEOUT=5\n'),
        ("/etc/network/interfaces", "auto ens192\niface ens192 inet static\n  address 192.0.2.10/24\n  gateway 192.0.2.1\n"),
        ("/etc/netplan/x.yaml", "network:\n  ethernets:\n    all:\n      match: {name: 'e*'}\n      dhcp4: true\n"),
        ("/etc/crypttab", "sda2_crypt UUID=123 none luks,discard\n"),
        ("/etc/modprobe.d/x.conf", "blacklist nvme\noptions e1000e InterruptThrottleRate=3000\n"),
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(path: str, text: str) -> None:
    assert redact(path, text) == text


@given(st.text())
def test_any_text_keeps_its_lines(text: str) -> None:
    assert redact("/etc/x", text).count("\n") == text.count("\n")


def test_files_of_secrets_are_known() -> None:
    for path in ("/etc/shadow", "/etc/shadow-", "/etc/ppp/chap-secrets", "/etc/ssh/ssh_host_rsa_key", "/root/.ssh/id_ed25519"):
        assert secret_file(path)
    for path in ("/etc/fstab", "/etc/ssh/ssh_host_rsa_key.pub", "/etc/passwd", "/etc/ssh/sshd_config"):
        assert not secret_file(path)
