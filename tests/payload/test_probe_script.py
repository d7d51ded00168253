"""The probe's script, run by this machine's own shells with a file for a serial line."""

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from v2c.platforms import payload

LINE = re.compile(r"V2C1 (\S+) (\d+)/(\d+) ([0-9a-f]{64}) (\d+) (\S{1,200})")
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
TOOLS = ("sh", "sleep", "rm", "cat", "head", "tr", "base64", "gzip", "sha256sum", "uname")


def arm(root: Path, nonce: str = "00ff00ff00ff00ff") -> Path:
    """A root folder with what the fix plants, and a file for the serial line."""
    for folder in ("etc/v2c", "dev", "proc/net", "proc/sys/kernel", "sys/block/vda/device"):
        (root / folder).mkdir(parents=True)
    (root / "etc/v2c/nonce").write_text(nonce + "\n")
    (root / "etc/v2c/device").write_text("ttyS0\n")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nerp:x:1000:1000:Größe:/home/erp:/bin/bash\n")
    (root / "proc/cmdline").write_text("root=/dev/vda1 ro console=ttyS0\n")
    (root / "proc/mounts").write_text("/dev/vda1 / ext4 rw 0 0\n")
    (root / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/vda2 partition 262140 0 -2\n")
    (root / "proc/net/tcp").write_text("  sl  local_address rem_address   st\n   0: 00000000:1F90 00000000:0000 0A 00000000\n")
    (root / "proc/sys/kernel/hostname").write_text("erp\n")
    (root / "sys/block/vda/size").write_text("6291456\n")
    (root / "sys/block/vda/device/uevent").write_text("")
    serial = root / "dev/ttyS0"
    serial.write_text("[    1.0] booting\n")
    return serial


def probe(root: Path, shell: str, script: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    """Runs the script to its end."""
    (root / "probe.sh").write_text(script)
    argv = [shell, "sh"] if shell == "busybox" else [shell]
    env = {"PATH": path, "V2C_ROOT": str(root), "V2C_SETTLE": "0", "V2C_ADDRESS": "0", "V2C_PAUSE": "0"}
    return subprocess.run([*argv, str(root / "probe.sh")], env=env, capture_output=True, text=True, timeout=60, check=False)


def told(console: str, nonce: str) -> dict[str, str]:
    """The sections, after everything the line format promises was checked."""
    lines = [found for line in console.splitlines() if (found := LINE.fullmatch(line)) and found[1] == nonce]
    total = int(lines[0][3])
    assert [int(found[2]) for found in lines] == [*range(1, total + 1)] * 3
    whole = "".join(found[6] for found in lines[:total])
    assert len(whole) == int(lines[0][5])
    assert hashlib.sha256(whole.encode()).hexdigest() == lines[0][4]
    document = json.loads(gzip.decompress(base64.b64decode(whole)))
    assert (document["v"], document["nonce"]) == (1, nonce)
    return {name: base64.b64decode(text).decode() for name, text in document["sections"].items()}


@pytest.mark.parametrize("shell", SHELLS)
def test_tells_three_times_and_disarms_itself(tmp_path: Path, shell: str) -> None:
    serial = arm(tmp_path)
    done = probe(tmp_path, shell, payload("v2c-probe.sh"))
    assert (done.returncode, done.stderr) == (0, "")
    sections = told(serial.read_text(), "00ff00ff00ff00ff")
    assert sections["machine-id"].strip() == "0123456789abcdef0123456789abcdef"
    assert sections["kernel"].strip() == os.uname().release
    assert sections["cmdline"].startswith("root=/dev/vda1")
    assert {"hostname", "mounts", "swaps", "enabled", "failed", "passwd", "listening", "disks", "addresses"} < set(sections)
    assert {"modules", "uptime", "state"} < set(sections)
    assert not (tmp_path / "etc/v2c/nonce").exists()
    before = serial.read_text()
    assert probe(tmp_path, shell, payload("v2c-probe.sh")).returncode == 0
    assert serial.read_text() == before


def test_a_guest_that_has_hardly_any_tools(tmp_path: Path) -> None:
    serial = arm(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        where = shutil.which(tool)
        assert where
        (tools / tool).symlink_to(where)
    bare = payload("v2c-probe.sh").replace("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH", "$PATH")
    assert probe(tmp_path, str(tools / "sh"), bare, str(tools)).returncode == 0
    sections = told(serial.read_text(), "00ff00ff00ff00ff")
    assert sections["hostname"] == "erp\n"
    assert sections["mounts"] == "/ /dev/vda1 ext4\n"
    assert sections["swaps"] == "/dev/vda2\n"
    assert sections["passwd"].endswith("erp:x:1000:1000:Größe:/home/erp:/bin/bash\n")
    assert sections["listening"] == "tcp LISTEN 0 0 *:8080 *:*\n"
    assert sections["disks"] == 'NAME="vda" TYPE="disk" SIZE="3221225472" SERIAL="" UUID=""\n'
    assert sections["state"] == "unknown\n"
    assert (sections["enabled"], sections["failed"]) == ("", "")
    assert set(sections["unheard"].split()) == {"enabled", "failed", "addresses", "uptime", "modules"}
    assert not (tmp_path / "etc/v2c/unheard").exists()


def test_an_unarmed_guest_says_nothing(tmp_path: Path) -> None:
    serial = arm(tmp_path)
    (tmp_path / "etc/v2c/nonce").unlink()
    assert probe(tmp_path, SHELLS[0], payload("v2c-probe.sh")).returncode == 0
    assert serial.read_text() == "[    1.0] booting\n"


def test_the_device_cannot_lead_out_of_dev(tmp_path: Path) -> None:
    serial = arm(tmp_path)
    (tmp_path / "etc/v2c/device").write_text("../etc/passwd\n")
    assert probe(tmp_path, SHELLS[0], payload("v2c-probe.sh")).returncode == 1
    assert serial.read_text() == "[    1.0] booting\n"
    assert (tmp_path / "etc/passwd").read_text().startswith("root:x:0:0::/root:/bin/sh\nerp")


def test_a_cut_short_probe_stays_armed(tmp_path: Path) -> None:
    arm(tmp_path)
    shutil.rmtree(tmp_path / "dev")
    script = payload("v2c-probe.sh").replace("rm -f", "exit 7; rm -f")
    assert probe(tmp_path, SHELLS[0], script).returncode == 7
    assert (tmp_path / "etc/v2c/nonce").exists()


@pytest.mark.tool
def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    script = tmp_path / "v2c-probe.sh"
    script.write_text(payload("v2c-probe.sh"))
    done = subprocess.run(["shellcheck", "-s", "dash", str(script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_the_unit_waits_for_nobody_and_runs_once() -> None:
    unit = payload("v2c-probe.service")
    assert "Type=simple" in unit  # a oneshot would wait for itself in `systemctl is-system-running`
    assert "ConditionPathExists=/etc/v2c/nonce" in unit
    assert "After=multi-user.target" in unit and "WantedBy=multi-user.target" in unit
