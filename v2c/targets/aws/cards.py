"""The machine's network cards: the subnet that each is in, what a launch asks for them, and those that are held beforehand.

An address of the real instance is held by a network interface that has it (CreateNetworkInterface), made at `reserve` and
attached when the instance is launched. From then on it goes with the instance: ended, it leaves nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from v2c.errors import TargetError
from v2c.journal import Journal
from v2c.model import Plan, Ref
from v2c.targets.aws import names
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

WAIT_S = 300.0
LIVING = ["pending", "running", "stopping", "stopped"]
_ABSENT = "InvalidNetworkInterfaceID.NotFound"


def count(plan: Plan) -> int:
    """How many cards the instance gets: as many as the machine has, and one at least."""
    return max(1, len(plan.machine.nics))


def named(options: Options, number: int) -> str:
    """The id of a card's subnet, counted from 0; empty: nobody said any."""
    return options.subnets[min(number, len(options.subnets) - 1)] if options.subnets else ""


def subnets(session: Session, options: Options, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """The subnets of these cards: those of the locator, else the default one of the region's first zone. TargetError when there
    is none."""
    wanted = [named(options, number) for number in numbers]
    if options.subnets:
        told = session.call("ec2", "describe_subnets", SubnetIds=list(dict.fromkeys(wanted)))["Subnets"]
        known = {subnet["SubnetId"]: dict(subnet) for subnet in told}
        return [known[id] for id in wanted]
    filters = [{"Name": "default-for-az", "Values": ["true"]}]
    found = list(session.pages("ec2", "describe_subnets", "Subnets", Filters=filters))
    if not found:
        raise TargetError(f"{options.region} has no default subnet", remedy="name one with ?subnet=")
    return [dict(min(found, key=lambda subnet: str(subnet["AvailabilityZone"])))] * len(wanted)


def asked(
    places: Sequence[dict[str, Any]], groups: Sequence[str], held: Mapping[int, str], *, public: bool
) -> list[dict[str, Any]]:
    """What RunInstances is asked for: a card in each place, each in the same groups, or the interface that is held for it. Only
    one that is alone may say that it gets no public address; where there are several, or one that is there already, EC2 gives
    none (API reference, RunInstances)."""
    made = []
    for number, subnet in enumerate(places):
        if number in held:  # it has its subnet and groups, and that it ends with the instance can only be said afterwards
            made.append({"DeviceIndex": number, "NetworkInterfaceId": held[number]})
            continue
        card: dict[str, Any] = {"DeviceIndex": number, "SubnetId": subnet["SubnetId"], "DeleteOnTermination": True}
        if groups:
            card["Groups"] = list(groups)
        made.append(card)
    if len(made) == 1 and not public and not held:
        made[0]["AssociatePublicIpAddress"] = False
    return made


# ---- held --------------------------------------------------------------------------------------------------------------------


def hold(session: Session, options: Options, plan: Plan, journal: Journal) -> Iterator[Ref]:
    """An interface for each address that the real instance is to have; twice is one. TargetError when somebody has it."""
    wanted = {n: address for n, address in enumerate(options.addresses[: count(plan)]) if address}
    if not wanted:
        return
    for (number, address), subnet in zip(wanted.items(), subnets(session, options, wanted), strict=True):
        found = next(held(session, journal.job, number), None)
        if found is not None and not _settled(session, found["NetworkInterfaceId"]):
            found = None  # it went with an instance that is over
        known = {ref.id: ref for ref in journal.refs("nic") if ref["card"] == str(number)}
        ref = known.pop(found["NetworkInterfaceId"], None) if found else None
        if ref is None:
            with journal.intent("nic", address, {names.TAG: journal.job}) as intent:
                id = found["NetworkInterfaceId"] if found else _made(session, options, plan, journal.job, number, subnet)
                ref = intent.done(Ref.of("nic", id, job=journal.job, card=str(number)))
            _settled(session, ref.id)
        for gone in known.values():
            journal.undone(gone)
        yield ref


def _made(session: Session, options: Options, plan: Plan, job: str, number: int, subnet: Mapping[str, Any]) -> str:
    """Its address makes it the only one, so no client token is needed: a repeat finds that it is in use, by our own."""
    groups: dict[str, Any] = {"Groups": options.groups} if options.groups else {}
    tags = names.tags(job, f"{plan.machine.name} card {number}", v2c_card=str(number))
    try:
        made = session.call(
            "ec2",
            "create_network_interface",
            SubnetId=subnet["SubnetId"],
            PrivateIpAddress=options.addresses[number],
            Description=f"holds an address for {plan.machine.name}, moved by v2c job {job}"[:255],
            TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}],
            **groups,
        )
        return str(made["NetworkInterface"]["NetworkInterfaceId"])
    except ApiError as error:
        if error.code != "InvalidIPAddress.InUse":
            raise
        found = next(held(session, job, number), None)
        if found is None:
            raise TargetError(error.text, remedy="choose another &private-ip=, or free this one") from error
        return str(found["NetworkInterfaceId"])


def held(session: Session, job: str, number: int | None = None) -> Iterator[dict[str, Any]]:
    """The job's interfaces that hold an address, in use or not: all, or a card's."""
    one = [] if number is None else [{"Name": f"tag:{names.CARD}", "Values": [str(number)]}]
    yield from session.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=[*names.ours(job), *one])


def described(session: Session, id: str) -> dict[str, Any] | None:
    """An interface; None when there is none."""
    try:
        return dict(session.call("ec2", "describe_network_interfaces", NetworkInterfaceIds=[id])["NetworkInterfaces"][0])
    except ApiError as error:
        if error.code != _ABSENT:
            raise
        return None


def _settled(session: Session, id: str) -> bool:
    """Waits until it can be attached, or sees that it is, to an instance that lives. False: it is gone."""
    status = "pending"
    for _ in session.polls(WAIT_S):
        found = described(session, id)
        if found is None:
            return False
        status = found["Status"]
        if status == "available" or (status == "in-use" and _lives(session, found)):
            return True
    raise TargetError(f"the network interface {id} is still {status}", remedy="try again", transient=True)


def _lives(session: Session, card: Mapping[str, Any]) -> bool:
    instance = card.get("Attachment", {}).get("InstanceId", "")
    filters = [{"Name": "instance-id", "Values": [instance]}, {"Name": "instance-state-name", "Values": LIVING}]
    return bool(instance) and any(True for _ in session.pages("ec2", "describe_instances", "Reservations", Filters=filters))


def bind(session: Session, job: str, instance: str) -> None:
    """What was held goes with its instance from now on."""
    for card in held(session, job):
        attachment = card.get("Attachment", {})
        if attachment.get("InstanceId") == instance and not attachment.get("DeleteOnTermination"):
            change = {"AttachmentId": attachment["AttachmentId"], "DeleteOnTermination": True}
            session.call(
                "ec2", "modify_network_interface_attribute", NetworkInterfaceId=card["NetworkInterfaceId"], Attachment=change
            )


def drop(session: Session, id: str) -> None:
    """Deletes it; an instance that is still going away is waited for. Absent is success."""
    for _ in session.polls(WAIT_S):
        try:
            session.call("ec2", "delete_network_interface", NetworkInterfaceId=id)
            return
        except ApiError as error:
            if error.code == _ABSENT:
                return
            if "in use" not in error.text and "InUse" not in error.code:
                raise
    raise TargetError(f"the network interface {id} is still in use", remedy="try again", transient=True)
