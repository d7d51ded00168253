"""AWS on this machine: EBS direct with real blocks on disk, images and instances that really boot, rights, quotas, faults.

moto (a server that others maintain) answers what it answers well: identity and rights, networks, security groups, keys, the real
catalogue of instance types, S3. What it simplifies is done here: see `front.OPERATIONS`. State lies in the folder:

    settings.json   account and seed          cloud.json      snapshots, images, instances, volumes, reservations
    ca.pem          whom clients trust        server.pem      the server's certificate, and server.key
    moto.jsonl      what was asked of moto    snapshots/      raw files of blocks          machines/    consoles
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # read when moto makes a region: its images have no disks

from moto.core.base_backend import BackendDict
from moto.s3.models import s3_backends

from v2c.emulators.aws import cards, imageimports, imports, instances
from v2c.emulators.aws.access import Access
from v2c.emulators.aws.cloud import Cloud, Pace
from v2c.emulators.aws.front import Front, settings
from v2c.emulators.aws.server import Server
from v2c.emulators.faults import Faults
from v2c.emulators.ledger import Requests
from v2c.emulators.machines import Machines
from v2c.emulators.tls import authority
from v2c.platforms import folders

REGION = "eu-west-1"
USER = "migrator"  # has the rights that drivers/aws/rights.toml lists, and no others
EVERYTHING = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]


def open_emulator(folder: Path, port: int = 0) -> "AwsEmulator":
    """The cloud in `folder`."""
    return AwsEmulator(folder, port)


class AwsEmulator:
    """One account. `pace`, `quotas` (by code), `offset` of the clock may be changed while it runs."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._port = port
        known = settings(folder)
        self._authority = authority(folder)
        self.faults, self.requests = Faults(), Requests()
        self.cloud = Cloud(known["account"], folder, Machines(folder / "machines"))
        self.access = Access(known["account"])
        self.front = Front(self.cloud, self.access, self.faults, self.requests, known["seed"])
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._place: tuple[str, str] = ("", "")
        self._keys: tuple[str, str] = ("", "")
        self._admin: tuple[str, str] = ("", "")

    @property
    def pace(self) -> Pace:
        """How long things take."""
        return self.cloud.pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self.cloud.pace = pace

    @property
    def url(self) -> str:
        """Where it answers."""
        assert self._server
        return f"https://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> Mapping[str, str]:
        return self.keyed(self._keys)

    @property
    def administrator(self) -> Mapping[str, str]:
        """The same for somebody who may everything."""
        return self.keyed(self._admin)

    def keyed(self, keys: tuple[str, str]) -> Mapping[str, str]:
        """The variables that point an SDK here under a key and its secret."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self._authority.trusted),
            "AWS_ACCESS_KEY_ID": keys[0],
            "AWS_SECRET_ACCESS_KEY": keys[1],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def locator(self) -> str:
        subnet, group = self._place
        return f"aws:{REGION}?subnet={subnet}&security-group={group}"

    def left(self) -> list[str]:
        with self.cloud.store.lock:
            return sorted(self._left())

    def _left(self) -> list[str]:
        all = self.cloud.store.all
        found = [f"snapshot {record['SnapshotId']}" for _, record in all("snapshots")]
        found += [f"image {record['ImageId']}" for _, record in all("images")]
        found += [f"volume {record['VolumeId']}" for _, record in all("volumes")]
        found += [f"card {card['NetworkInterfaceId']}" for _, card in all("cards") if card["Status"] != "in-use"]
        for region in {region for region, _ in all("instances")}:
            for instance in instances.instances(self.cloud, region).values():
                if instance["State"]["Name"] not in ("terminated", "shutting-down"):
                    found.append(f"instance {instance['InstanceId']}")
        found += [f"reservation {r['CapacityReservationId']}" for _, r in all("reservations") if r["State"] == "active"]
        found += [f"import {t['ImportTaskId']}" for _, t in all("imports") if t["SnapshotTaskDetail"]["Status"] == "active"]
        going = [t for _, t in all("image-imports") if t["Status"] not in imageimports.OVER]
        found += [f"import {task['ImportTaskId']}" for task in going]
        for groups in cards.network(self.cloud, REGION).groups.values():
            found += [f"group {g.id}" for g in groups.values() if g.name not in ("default", "servers")]
        for name, bucket in s3_backends[self.cloud.account]["aws"].buckets.items():
            found += [f"bucket s3://{name}", *(f"object s3://{name}/{key}" for key in bucket.keys)]
            found += [f"upload s3://{name}/{upload.key_name}" for upload in bucket.multiparts.values()]
        return found

    def disk(self, id: str) -> Path:
        for _, snapshot in self.cloud.store.all("snapshots"):
            if snapshot["SnapshotId"] == id:
                return self.cloud.blocks(snapshot).path
        raise KeyError(id)

    def __enter__(self) -> Self:
        self._found()
        self._server = Server(self._port, self.front, self._authority.context())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="aws-emulator")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self.cloud.close()
        with self.cloud.store.lock:
            self.cloud.store.save()
        _forget(self.cloud.account)

    def _found(self) -> None:
        """The account as it is at the beginning, then as it was changed since."""
        _forget(self.cloud.account)
        front = self.front
        front.seeded("users")
        self._keys = self.access.user(USER, rights())
        self._admin = self.access.user("administrator", EVERYTHING)
        self.access.role(imports.ROLE, "vmie.amazonaws.com")
        front.region(REGION)
        network = cards.network(self.cloud, REGION)
        front.seeded("place")
        zone = f"{REGION}a"
        subnet = next(s for s in cards.subnets(self.cloud, REGION).values() if s.availability_zone == zone)
        group = network.create_security_group("servers", "where moved servers live", vpc_id=subnet.vpc_id)
        self._place = (subnet.id, group.id)
        front.replay()
        for region in {region for region, _ in self.cloud.store.all("instances")}:
            for instance in self.cloud.store.table(region, "instances").values():  # their machines ended with their emulator
                if instance["State"]["Name"] in ("pending", "running"):
                    instance |= {**instances.state(instance, "stopped"), "_next": []}
        self.cloud.store.save()


def rights() -> list[dict[str, Any]]:
    """What a migration needs, as a policy's statements."""
    import tomllib

    for folder in reversed(folders()):
        path = folder / "aws" / "rights.toml"
        if path.exists():
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            actions = sorted({action for group in document["group"] for action in group["actions"]})
            return [{"Effect": "Allow", "Action": actions, "Resource": "*"}]
    return EVERYTHING


def _forget(account: str) -> None:
    """moto keeps its accounts in the process: this one begins anew."""
    known: Any = BackendDict
    for backends in list(known._instances):
        dict.pop(backends, account, None)
