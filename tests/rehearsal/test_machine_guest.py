"""A real guest on every shape: it reaches the metadata service, and nothing else."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_guest import TinyGuest

from v2c.model import MIB, Firmware
from v2c.rehearsal.machine import BootDisk, VirtualMachine
from v2c.rehearsal.shape import BootSpec, DirectKernel

pytestmark = pytest.mark.guest

MODULES = {
    "aws": ("nvme", "e1000e"),
    "gcp": ("virtio_pci", "virtio_scsi", "sd_mod", "virtio_net"),
    "azure": ("ahci", "sd_mod", "tulip"),
    "kvm": ("virtio_pci", "virtio_blk", "virtio_net"),
    "vmware": ("vmw_pvscsi", "sd_mod", "vmxnet3"),
}
DISKS = {"aws": "nvme0n1 nvme1n1", "gcp": "sda sdb", "azure": "sda sdb", "kvm": "vda vdb", "vmware": "sda sdb"}
REFUSED = {"aws": "401", "gcp": "403", "azure": "400"}
BOOT_S = 120.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyGuest:
    return TinyGuest(tmp_path_factory.mktemp("tiny"))


class Listener:
    """Listens on one TCP and one UDP port of every address of this host and remembers who came."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._tcp = socket.create_server(("", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("", self.port))
        for watch in (self._accept, self._receive):
            threading.Thread(target=watch, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, who = self._tcp.accept()
            except OSError:
                return
            self.heard.append(f"tcp {who[0]}")
            connection.close()

    def _receive(self) -> None:
        while True:
            try:
                _, who = self._udp.recvfrom(100)
            except OSError:
                return
            self.heard.append(f"udp {who[0]}")

    def close(self) -> None:
        self._tcp.close()
        self._udp.close()


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()


def host_addresses() -> str:
    """The user network's name for this host, and the address by which this host talks to others, if it has one."""
    found = ["169.254.169.2"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found.append(probe.getsockname()[0])
        except OSError:
            pass
    return " ".join(found)


def resolvers() -> str:
    lines = Path("/etc/resolv.conf").read_text().splitlines() if Path("/etc/resolv.conf").exists() else []
    own = [line.split()[1] for line in lines if line.startswith("nameserver") and ":" not in line]
    return " ".join(["169.254.169.3", *own])


def disks(folder: Path, count: int = 2) -> list[BootDisk]:
    made = []
    for number in range(count):
        path = folder / f"disk-{number}.raw"
        with path.open("wb") as file:
            file.truncate(64 * MIB)
        made.append(BootDisk(str(number), 64 * MIB, path))
    return made


def run(machine: VirtualMachine, until: str = "RESULT done") -> dict[str, str]:
    """What the tiny guest reported, once it has printed `until`."""
    deadline = time.monotonic() + BOOT_S
    while until not in machine.console():
        assert time.monotonic() < deadline and machine.alive, machine.console()[-2000:]
        time.sleep(0.1)
    return results(machine.console())


def results(console: str) -> dict[str, str]:
    lines = [line.partition("RESULT ")[2].strip() for line in console.splitlines() if "RESULT " in line]
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def spec(platform: str, kernel: DirectKernel, isolated: bool = True) -> BootSpec:
    return BootSpec(platform, Firmware.BIOS, seed="0123", memory_mib=384, kernel=kernel, isolated=isolated)


@pytest.mark.parametrize(
    "platform", ["aws", *(pytest.param(name, marks=pytest.mark.full) for name in sorted(MODULES) if name != "aws")]
)
def test_a_rehearsal_reaches_only_the_metadata_service(platform: str, tiny: TinyGuest, tmp_path: Path) -> None:
    with listening() as listener:
        kernel = tiny.make(
            MODULES[platform],
            port=str(listener.port),
            hosts=host_addresses(),
            servers=resolvers(),
            metadata=platform,
            wait="30",
        )
        with VirtualMachine(spec(platform, kernel), disks(tmp_path), tmp_path, console=tmp_path / "console.log") as machine:
            found = run(machine)
            requests = machine.requests()
            assert machine.screenshot(tmp_path / "screen.png")
        assert found["disks"] == DISKS[platform]
        assert found["card"] == "eth0"
        reached = {
            name: value for name, value in found.items() if name.startswith(("tcp", "dns", "ipv6")) and "failed" not in value
        }
        assert reached == {}
        assert listener.heard == []
    if platform in REFUSED:
        assert found["metadata-bare"] == REFUSED[platform]
        assert "failed" not in found["metadata"]
        assert requests[0].endswith(REFUSED[platform]) and requests[-1].endswith("200")
    else:
        assert requests == ()
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")
    assert "RESULT done yes" in (tmp_path / "console.log").read_text(errors="replace")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["console.log", "disk-0.raw", "disk-1.raw", "screen.png"]


def test_the_same_attempts_arrive_when_the_network_is_asked_for(tiny: TinyGuest, tmp_path: Path) -> None:
    """The proof that the test above can fail."""
    with listening() as listener:
        kernel = tiny.make(MODULES["kvm"], port=str(listener.port), hosts="169.254.169.2", servers="", wait="30")
        with VirtualMachine(spec("kvm", kernel, isolated=False), disks(tmp_path), tmp_path) as machine:
            found = run(machine)
        assert found["tcp:169.254.169.2"].startswith("connected")
        assert {who.split()[0] for who in listener.heard} == {"tcp", "udp"}


def test_the_guest_writes_into_a_layer_that_is_thrown_away(tiny: TinyGuest, tmp_path: Path) -> None:
    mine = disks(tmp_path, 1)
    kernel = tiny.make(MODULES["kvm"], write="vda")
    with VirtualMachine(spec("kvm", kernel), mine, tmp_path) as machine:
        assert run(machine)["wrote"] == "vda"
        deadline = time.monotonic() + 30
        while machine.alive and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not machine.alive, "the guest powered off, so QEMU ended"
    assert mine[0].path is not None and mine[0].path.read_bytes() == bytes(64 * MIB)
    assert [path.name for path in tmp_path.iterdir()] == ["disk-0.raw"]


@pytest.mark.full
def test_a_flood_on_the_console_stays_within_bounds(tiny: TinyGuest, tmp_path: Path) -> None:
    from v2c.rehearsal import serial

    kernel = tiny.make((), flood="60", wait="30")  # 360 kB
    machine = VirtualMachine(spec("kvm", kernel), [], tmp_path, console=tmp_path / "console.log")
    machine._console = serial.Console(tmp_path / "console.log", head=50_000, tail=20_000)
    with machine:
        assert run(machine)["done"] == "yes"
        assert len(machine.console()) < 71_000
    assert "bytes were left out here" in (tmp_path / "console.log").read_text(errors="replace")
    assert (tmp_path / "console.log").stat().st_size < 71_000


def test_nothing_of_it_stays_when_it_is_closed_at_once(tiny: TinyGuest, tmp_path: Path) -> None:
    machine = VirtualMachine(spec("aws", tiny.make(())), disks(tmp_path, 1), tmp_path)
    machine.start()
    assert machine._process is not None
    pid = machine._process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert json.dumps("NoNewPrivs:\t1")[1:-1] in json.dumps(status)
    machine.close()
    machine.close()
    assert not Path(f"/proc/{pid}").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["disk-0.raw"]
