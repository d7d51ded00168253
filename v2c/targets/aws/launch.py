"""Instances: the test in a security group of its own without a single rule, and the real one where the user wants it."""

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from v2c import state
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import Journal
from v2c.model import Observation, Placement, Plan, Ref, StatusCheck, Verdict
from v2c.targets.aws import cards, licensed, names
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session
from v2c.targets.aws.volumes import asked as volume

POLL_S = 3.0  # how old an observation may be: EC2's buckets are shared by the whole account
PICTURE_S = 20.0
WAIT_S = 900.0
ATTEMPTS = 20  # launches of one image, each with a client token of its own
_CHECKS = {"SystemStatus": "system status", "InstanceStatus": "instance status"}
_VERDICTS = {"ok": Verdict.PASS, "impaired": Verdict.FAIL}
_UNKNOWN = (StatusCheck("status", Verdict.OBSERVED, ""),)
_OVER = ("shutting-down", "terminated")


@dataclass
class _Seen:
    """The last observation of an instance, and when."""

    at: float
    observation: Observation
    pictured: float = 0.0


@dataclass
class Instances:
    """Launches, watches and ends."""

    session: Session
    options: Options
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # ---- the place ---------------------------------------------------------------------------------------------------------

    def subnet(self) -> dict[str, Any]:
        """The subnet of the first card. TargetError when there is none."""
        return cards.subnets(self.session, self.options, [0])[0]

    def _isolated(self, vpc: str, job: str, journal: Journal) -> str:
        """A security group without any rule: nothing comes in, nothing goes out."""
        name = f"v2c-test-{job}"[:255]
        filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}]
        found = next(self.session.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters), None)
        ref = Ref.of("network", found["GroupId"], job=job) if found else None
        if ref is None or ref not in journal.refs("network"):
            with journal.intent("network", name, {names.TAG: job}) as intent:
                ref = intent.done(Ref.of("network", found["GroupId"] if found else self._group(name, vpc, job), job=job))
        self._strip(ref.id)
        return ref.id

    def _group(self, name: str, vpc: str, job: str) -> str:
        try:
            made = self.session.call(
                "ec2",
                "create_security_group",
                GroupName=name,
                Description="boot test of a moved machine: no rules, reaches nothing",
                VpcId=vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": names.tags(job, name)}],
            )
            return str(made["GroupId"])
        except ApiError as error:
            if error.code != "InvalidGroup.Duplicate":
                raise
        filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}]
        return str(next(self.session.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters))["GroupId"])

    def _strip(self, group: str) -> None:
        """A new group may send anything anywhere: that rule goes, and every other one."""
        found = self.session.call("ec2", "describe_security_groups", GroupIds=[group])["SecurityGroups"][0]
        if found.get("IpPermissions"):
            raise TargetError(
                f"the security group {group} lets something in", remedy="remove its rules, or the group, and try again"
            )
        if found.get("IpPermissionsEgress"):
            self.session.call("ec2", "revoke_security_group_egress", GroupId=group, IpPermissions=found["IpPermissionsEgress"])

    # ---- the instance ------------------------------------------------------------------------------------------------------

    def launch(self, plan: Plan, image: Ref, placement: Placement, journal: Journal, meter: Meter) -> Ref:
        """The instance of the placement, running. Its client token makes a repeat find it; one that is over gets a successor."""
        role = "cutover" if placement.cutover else "test"
        places = cards.subnets(self.session, self.options, range(cards.count(plan)))
        if placement.isolated and not placement.cutover:
            groups = [self._isolated(str(places[0]["VpcId"]), journal.job, journal)]
        else:
            groups = self.options.groups
        key = f"aws/launch/{role}"
        first = int(journal.noted(key) or 0)
        with meter.phase("start"):
            for attempt in range(first, first + ATTEMPTS):
                journal.note(key, str(attempt))
                held = list(cards.hold(self.session, self.options, plan, journal)) if placement.cutover else []
                asked = cards.asked(places, groups, {int(ref["card"]): ref.id for ref in held}, public=placement.cutover)
                instance = self._run(plan, image, placement, asked, role, attempt, journal)
                if instance is not None:
                    if held:
                        cards.bind(self.session, journal.job, instance.id)
                    return instance
        raise TargetError(f"{ATTEMPTS} instances of {image.id} ended as soon as they were launched", remedy="look at the image")

    def _run(
        self,
        plan: Plan,
        image: Ref,
        placement: Placement,
        asked: list[dict[str, Any]],
        role: str,
        attempt: int,
        journal: Journal,
    ) -> Ref | None:
        """The attempt's instance, or None when it is over already (it ran before, and was ended)."""
        job = journal.job
        name = f"{role}/{attempt}"
        known = {ref.get("launch"): ref for ref in journal.refs("instance")}
        if ref := known.get(name):
            if self._running(ref.id, known=True, test=role == "test"):
                return ref
            journal.undone(ref)
            return None
        tags = names.tags(job, plan.machine.name, plan.tags, v2c_role=role, v2c_launch=name)
        ref = None
        with journal.intent("instance", name, {names.TAG: job}) as intent:
            try:
                answer = self.session.call(
                    "ec2",
                    "run_instances",
                    **self._request(plan, image, placement, asked, tags, journal.refs("reservation")),
                    ClientToken=names.token(job, "instance", image.id, name),
                )
            except ApiError as error:
                if error.code != "IdempotentParameterMismatch":
                    raise
                answer = {"Instances": self._launched(job, name)}  # what is wanted changed since
                for instance in answer["Instances"] if role == "test" else ():
                    terminate(self.session, instance["InstanceId"])  # a real one may have taken writes: it is adopted
            for instance in answer["Instances"]:
                ref = intent.done(Ref.of("instance", instance["InstanceId"], job=job, launch=name))
        if ref is not None and self._running(ref.id, fresh=instance["State"]["Name"] not in _OVER):
            return ref
        if ref is not None:
            journal.undone(ref)
        return None

    def _launched(self, job: str, name: str) -> list[dict[str, Any]]:
        filters = [*names.ours(job), {"Name": "tag:v2c-launch", "Values": [name]}]
        found = self.session.pages("ec2", "describe_instances", "Reservations", Filters=filters)
        return [instance for reservation in found for instance in reservation["Instances"]]

    def _request(
        self,
        plan: Plan,
        image: Ref,
        placement: Placement,
        asked: list[dict[str, Any]],
        tags: list[dict[str, str]],
        held: list[Ref],
    ) -> dict[str, Any]:
        request: dict[str, Any] = {
            "ImageId": image.id,
            "InstanceType": plan.instance_type or self.options.type,
            "MinCount": 1,
            "MaxCount": 1,
            "NetworkInterfaces": asked,
            "MetadataOptions": {"HttpTokens": self.options.imds, "HttpEndpoint": "enabled"},
            "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
        }
        if self.options.licensed:
            request["BlockDeviceMappings"] = licensed.volumes(self.session, volume(self.options, plan.disks[0]), image.id)
        if placement.cutover and self.options.key_name:
            request["KeyName"] = self.options.key_name
        if placement.cutover and held:
            request["CapacityReservationSpecification"] = {"CapacityReservationTarget": {"CapacityReservationId": held[-1].id}}
        if placement.cutover and self.options.role:
            request["IamInstanceProfile"] = {"Name": self.options.role}
        return request

    def _running(self, id: str, *, known: bool = False, test: bool = False, fresh: bool = False) -> bool:
        """Waits until it runs. False: it is over; a test that powered itself off is ended. TargetError when AWS itself ended
        one that is `fresh`."""
        word = "pending"
        for _ in self.session.polls(WAIT_S):
            found = described(self.session, id)
            word = found["State"]["Name"] if found else ("terminated" if known else "pending")
            if test and word in ("stopping", "stopped"):
                terminate(self.session, id)
                return False
            if word in ("running", "stopping", "stopped"):
                return True
            if word in _OVER:
                reason = (found or {}).get("StateReason", {})
                if fresh and not str(reason.get("Code", "")).startswith("Client.UserInitiated"):
                    remedy = "give EC2 the use of the encryption key" if reason.get("Code") == "Client.InternalError" else ""
                    words = reason.get("Message", "AWS does not say why")
                    raise TargetError(f"AWS ended the instance {id} as it began: {words}", remedy=remedy)
                return False
        raise TargetError(f"the instance {id} is still {word} after {WAIT_S / 60:.0f} minutes", remedy="try again")

    def observe(self, instance: Ref) -> Observation:
        """State, addresses, console, screen; what was asked a moment ago is told again."""
        with self._lock:
            seen = self._seen.get(instance.id)
            if seen and time.monotonic() - seen.at < POLL_S:
                return seen.observation
        fresh = self._look(instance, seen)
        with self._lock:
            self._seen[instance.id] = fresh
        return fresh.observation

    def _look(self, instance: Ref, before: _Seen | None) -> _Seen:
        found = described(self.session, instance.id)
        now = time.monotonic()
        if found is None:
            return _Seen(now, Observation("gone", alive=False, console=before.observation.console if before else ""))
        word = found["State"]["Name"]
        alive = word in ("pending", "running")
        console = self._console(instance.id) or (before.observation.console if before else "")
        pictured = before.pictured if before else 0.0
        picture = before.observation.screenshot if before else ""
        statuses = before.observation.statuses if before else ()
        if word == "running" and now - pictured > PICTURE_S:
            picture, pictured = self._picture(instance.id) or picture, now
        if word == "running" and any(status.verdict is Verdict.OBSERVED for status in statuses or _UNKNOWN):
            statuses = self._statuses(instance.id)
        others = [card["PrivateIpAddress"] for card in found.get("NetworkInterfaces", ()) if card.get("PrivateIpAddress")]
        first = [found[key] for key in ("PrivateIpAddress", "PublicIpAddress") if found.get(key)]
        addresses = tuple(dict.fromkeys([*first, *others]))
        return _Seen(now, Observation(word, alive, console, picture, addresses, statuses=statuses), pictured)

    def _console(self, id: str) -> str:
        try:
            told = str(self.session.call("ec2", "get_console_output", InstanceId=id, Latest=True).get("Output") or "")
        except ApiError as error:
            if error.code not in ("UnsupportedOperation", "IncorrectInstanceState", "InvalidInstanceID.NotFound"):
                raise
            return ""
        return told.encode("latin-1", "replace").decode("utf-8", "replace")  # the SDK takes each byte for a character

    def _statuses(self, id: str) -> tuple[StatusCheck, ...]:
        """EC2's own checks: of the host, and of the guest's network (its card answers ARP, so ENA and DHCP work)."""
        found = self.session.call("ec2", "describe_instance_status", InstanceIds=[id])["InstanceStatuses"]
        told = {name: str(found[0].get(key, {}).get("Status", "?")) if found else "initializing" for key, name in _CHECKS.items()}
        return tuple(StatusCheck(name, _VERDICTS.get(word, Verdict.OBSERVED), word) for name, word in told.items())

    def _picture(self, id: str) -> str:
        """The screen in a file of v2c's own; empty when there is none."""
        from base64 import b64decode

        try:
            data = b64decode(self.session.call("ec2", "get_console_screenshot", InstanceId=id).get("ImageData") or "")
        except ApiError:
            return ""  # nothing depends on it
        if not data:
            return ""
        folder = state.default_folder() / "screens"
        state.private_folder(folder)
        path = folder / (f"{id}.png" if data.startswith(b"\x89PNG") else f"{id}.jpg")
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.write_bytes(data)
        new.replace(path)
        return str(path)

    def stop(self, instance: Ref, journal: Journal) -> None:
        """Ends a test for good, and its security group: nothing of it costs anything any more. The real instance stays."""
        found = described(self.session, instance.id)
        if found and names.tagged(found).get("v2c-role") == "cutover":
            return
        terminate(self.session, instance.id)
        journal.undone(instance)
        with self._lock:
            self._seen.pop(instance.id, None)
        for ref in journal.refs("network"):
            drop_group(self.session, ref.id)
            journal.undone(ref)


def described(session: Session, id: str) -> dict[str, Any] | None:
    """An instance; None when there is none (any more)."""
    try:
        found = session.call("ec2", "describe_instances", InstanceIds=[id])["Reservations"]
    except ApiError as error:
        if not error.code.startswith("InvalidInstanceID"):
            raise
        return None
    return dict(found[0]["Instances"][0]) if found else None


def terminate(session: Session, id: str) -> None:
    """Ends an instance and waits until it is over; volumes that stay are deleted. Absent is success."""
    try:
        session.call("ec2", "terminate_instances", InstanceIds=[id])
    except ApiError as error:
        if not error.code.startswith("InvalidInstanceID"):
            raise
        return
    for _ in session.polls(WAIT_S):
        found = described(session, id)
        if found is None or found["State"]["Name"] == "terminated":
            return
    raise TargetError(f"the instance {id} does not end", remedy="try again", transient=True)


def drop_group(session: Session, id: str) -> None:
    """Deletes a security group; a network card that is still going away is waited for. Absent is success."""
    for _ in session.polls(WAIT_S):
        try:
            session.call("ec2", "delete_security_group", GroupId=id)
            return
        except ApiError as error:
            if error.code == "InvalidGroup.NotFound":
                return
            if error.code != "DependencyViolation":
                raise
    raise TargetError(f"the security group {id} is still in use", remedy="try again", transient=True)
