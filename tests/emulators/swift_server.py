"""OpenStack Swift with its S3 API: four servers of this test's own on loopback, over a folder."""

import getpass
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".cache" / "swift"  # ./run test makes it
ACCESS, SECRET = "test:tester", "testing"
KINDS = ("account", "container", "object")
FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "bulk", "tempurl", "s3api", "tempauth")
EGGS = {"cache": "memcache"}  # where the name is another one
MORE = {
    "s3api": "location = {region}\ns3_acl = false",
    "tempauth": f"user_test_tester = {SECRET} .admin",
    "slo": "rate_limit_after_segment = 1000",
}
HASHES = "[swift-hash]\nswift_hash_path_suffix = x\nswift_hash_path_prefix = y\n[storage-policy:0]\nname = p0\ndefault = yes\n"
RING = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(sys.argv[2::2], sys.argv[3::2]):
    ring = RingBuilder(4, 1, 1)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "sda", "weight": 1})
    ring.rebalance()
    ring.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


def free(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def configure(folder: Path, region: str) -> int:
    """Writes what the servers read; the port of the one that answers S3."""
    port, *ports = free(1 + len(KINDS))
    (folder / "devices" / "sda").mkdir(parents=True)
    (folder / "swift.conf").write_text(HASHES)
    common = f"[DEFAULT]\nbind_ip = 127.0.0.1\nswift_dir = {folder}\nuser = {getpass.getuser()}\nworkers = 0\n"
    for kind, at in zip(KINDS, ports, strict=True):
        own = f"bind_port = {at}\ndevices = {folder / 'devices'}\nmount_check = false\n"
        pipeline = f"[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n"
        (folder / f"{kind}-server.conf").write_text(common + own + pipeline)
    filters = (*FILTERS, "copy", "slo", "dlo")
    told = [
        f"[filter:{name}]\nuse = egg:swift#{EGGS.get(name, name)}\n{MORE.get(name, '').format(region=region)}\n"
        for name in filters
    ]
    pipeline = f"[pipeline:main]\npipeline = {' '.join(filters)} proxy-server\n"
    proxy = "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    (folder / "proxy-server.conf").write_text(f"{common}bind_port = {port}\n{pipeline}{proxy}" + "".join(told))
    words = [word for kind, at in zip(KINDS, ports, strict=True) for word in (kind, str(at))]
    subprocess.run([HOME / "bin" / "python", "-c", RING, folder, *words], check=True)
    return port


@contextmanager
def serving(folder: Path, region: str) -> Iterator[Mapping[str, str]]:
    """The settings of the SDK that lead there."""
    port = configure(folder, region)
    python = HOME / "bin" / "python"
    argv = [[python, HOME / "bin" / f"swift-{kind}-server", folder / f"{kind}-server.conf"] for kind in (*KINDS, "proxy")]
    with (folder / "log").open("w") as log, ExitStack() as stack:
        servers = []
        for words in argv:
            server = stack.enter_context(subprocess.Popen(words, stdout=log, stderr=log))
            stack.callback(server.kill)
            servers.append(server)
        until = time.monotonic() + 240  # a busy machine takes its time
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                dead = [server.args for server in servers if server.poll() is not None]
                assert not dead and time.monotonic() < until, (folder / "log").read_text()[-2000:]
                time.sleep(0.2)
        place = f"http://127.0.0.1:{port}"
        yield {"AWS_ENDPOINT_URL_S3": place, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
