"""What all machines of an account and region share, asked for one or for many together: quotas, and addresses of subnets."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from v2c.model import GIB, Finding, Level, Plan
from v2c.targets.aws import cards, names
from v2c.targets.aws.facts import api
from v2c.targets.aws.launch import Instances
from v2c.targets.aws.options import Options
from v2c.targets.aws.session import ApiError, Session

Going = tuple[Options, Plan]  # a machine, and what its locator says
TYPES = 100  # names in one question about instance types: a filter takes 200 values (API reference, Using_Filtering)


def processors(session: Session, going: Sequence[Going]) -> Iterator[Finding]:
    """Processors: those that run of the same quota, and the machines'."""
    wanted: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for options, plan in going:
        if kind := plan.instance_type or options.type:
            wanted[code_of(kind)].append((kind, plan.machine.vcpus))
    jobs = {plan.job for _, plan in going}
    for code, machines in wanted.items():
        yield from _processors(session, code, machines, jobs)


def _processors(session: Session, code: str, machines: Sequence[tuple[str, int]], jobs: set[str]) -> Iterator[Finding]:
    first, many = machines[0][0], len(machines) > 1
    try:
        limit = limit_of(session, "ec2", code)
    except ApiError as error:
        if error.code not in api().errors.denied:
            raise
        fit = "machines fit" if many else "machine fits"
        text = f"the quota of processors cannot be read (servicequotas:GetServiceQuota), so nobody knows whether the {fit}"
        yield Finding("aws.vcpu-quota", Level.WARNING, first, text, "allow it, or look at the quota yourself")
        return
    if limit is None:
        return
    running = [
        instance["InstanceType"]
        for instance in _running(session)
        if code_of(instance["InstanceType"]) == code and not _counted(names.tagged(instance), jobs)
    ]
    vcpus = _vcpus(session, sorted({*running, *(kind for kind, _ in machines)}))
    used = sum(vcpus.get(kind, 0) for kind in running)
    needed = sum(vcpus.get(kind, own) for kind, own in machines)
    if used + needed > limit:
        who = f"the {len(machines)} machines together have" if many else f"{first} has"
        text = f"the account may run {limit:.0f} processors of this family; {used} run, and {who} {needed}"
        yield _blocker("aws.vcpu-quota", code, text, f"ask AWS to raise the quota {code}, or stop something")


def _running(session: Session) -> Iterator[dict[str, Any]]:
    """The account's instances that run here."""
    found = {"Name": "instance-state-name", "Values": ["pending", "running"]}
    for reservation in session.pages("ec2", "describe_instances", "Reservations", Filters=[found]):
        yield from reservation["Instances"]


def _counted(tags: Mapping[str, str], jobs: set[str]) -> bool:
    """Whether a running instance is one of the machines themselves; a test may still stand beside the real one."""
    return tags.get(names.TAG) in jobs and tags.get(names.ROLE) == "cutover"


def _vcpus(session: Session, kinds: Sequence[str]) -> dict[str, int]:
    """The processors of instance types; those that AWS does not know are left out."""
    found = {}
    for at in range(0, len(kinds), TYPES):
        filters = [{"Name": "instance-type", "Values": list(kinds[at : at + TYPES])}]
        for kind in session.pages("ec2", "describe_instance_types", "InstanceTypes", Filters=filters):
            found[str(kind["InstanceType"])] = int(kind["VCpuInfo"]["DefaultVCpus"])
    return found


def code_of(kind: str) -> str:
    """The quota that counts an instance type: the longest prefix of its family that has one of its own."""
    codes = api().quota.vcpus
    family = kind.partition(".")[0]
    matching = [prefix for prefix in codes if family.startswith(prefix) and family[len(prefix) :][:1].isdigit()]
    return codes[max(matching, key=len)] if matching else codes["standard"]


def limit_of(session: Session, service: str, code: str) -> float | None:
    """A quota's value; None when AWS does not tell."""
    for method in ("get_service_quota", "get_aws_default_service_quota"):
        try:
            return float(session.call("service-quotas", method, ServiceCode=service, QuotaCode=code)["Quota"]["Value"])
        except ApiError as error:
            if error.code != "NoSuchResourceException":
                raise
    return None


def addresses(session: Session, going: Sequence[Going]) -> Iterator[Finding]:
    """Room in the subnets for all cards, and for those of a test, which may still stand beside the real instances: one at a time,
    the largest. Cards that there are already need none. Subnets that are not there are left out: `check` tells of them."""
    jobs = {plan.job for _, plan in going}
    there: dict[str, dict[str, str]] = {job: {} for job in jobs}  # by job: its real instance's cards, and the subnet of each
    for instance in _running(session):
        if _counted(tags := names.tagged(instance), jobs):
            there[tags[names.TAG]] |= {c["NetworkInterfaceId"]: c["SubnetId"] for c in instance.get("NetworkInterfaces", ())}
    wanted, tests, free = Counter[str](), Counter[str](), dict[str, int]()
    for options, plan in going:
        try:
            found = cards.subnets(session, options, range(cards.count(plan)))
        except ApiError as error:
            if "NotFound" not in error.code:
                raise
            continue
        own = Counter(str(subnet["SubnetId"]) for subnet in found)
        free |= {str(subnet["SubnetId"]): int(subnet["AvailableIpAddressCount"]) for subnet in found}
        more = cards.held(session, plan.job) if options.private_ip else []
        held = list((there[plan.job] | {card["NetworkInterfaceId"]: card["SubnetId"] for card in more}).values())
        for id, count in own.items():
            wanted[id] += max(0, count - held.count(id))
            tests[id] = max(tests[id], count)
    for id, count in wanted.items():
        if free[id] < count + tests[id]:
            needed = f"{count + tests[id]} are needed" + (f" for the {len(going)} machines together" if len(going) > 1 else "")
            text = f"{free[id]} addresses are free, and {needed}"
            yield _blocker("aws.addresses", id, text, "free some, or name another subnet with ?subnet=")


def storage(session: Session, going: Sequence[Going]) -> Iterator[Finding]:
    """Storage by volume type: what there is, the machines', and that of a test, as in `addresses`."""
    wanted, tests, jobs = Counter[str](), Counter[str](), {plan.job for _, plan in going}
    for options, plan in going:
        own = Counter[str]()
        for disk in plan.disks:
            own[disk.type or options.volume_type] += -(-disk.target_size // GIB)
        wanted += own
        tests |= own  # of each type the largest
    for kind, code in api().quota.volumes.items():
        if not wanted[kind] or (limit := limit_of(session, "ebs", code)) is None:
            continue
        found = session.pages("ec2", "describe_volumes", "Volumes", Filters=[{"Name": "volume-type", "Values": [kind]}])
        there = sum(int(volume["Size"]) for volume in found if names.tagged(volume).get(names.TAG) not in jobs)
        if there + wanted[kind] + tests[kind] > limit * 1024:
            who = f"the {len(going)} machines together need" if len(going) > 1 else f"{going[0][1].machine.name} needs"
            text = (
                f"the account may have {limit:g} TiB of {kind} volumes; {there} GiB are there, and "
                f"{who} {wanted[kind]} GiB, and {tests[kind]} GiB for a test"
            )
            yield _blocker("aws.storage-quota", code, text, f"ask AWS to raise the quota {code}, or remove volumes")


def fits(session: Session, going: Sequence[Going]) -> Iterator[Finding]:
    """Whether all of them fit together. Who nobody is logged in as, or what cannot be asked, `check` tells."""
    for ask in (processors, addresses, storage):
        try:
            yield from ask(session, going)
        except ApiError as error:
            if error.code not in api().errors.denied:
                yield _blocker("aws.check", session.account, error.text, error.remedy)


def quota(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """The same for one machine, as `check` asks; `addresses` are asked for with the cards."""
    yield from processors(session, [(options, plan)])
    yield from storage(session, [(options, plan)])


def pending(session: Session, options: Options, instances: Instances, plan: Plan) -> Iterator[Finding]:
    """Snapshots that are being written, of everybody in the account, against the most that may be at a time."""
    filters = [{"Name": "status", "Values": ["pending"]}]
    written = list(session.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters))
    others = [snapshot for snapshot in written if names.tagged(snapshot).get(names.TAG) != plan.job]
    limit = limit_of(session, "ebs", api().quota.pending_snapshots)
    if limit is not None and len(others) + len(plan.disks) > limit:
        text = (
            f"{len(others)} snapshots of the account are being written, of at most {limit:.0f}; the machine has {len(plan.disks)}"
        )
        yield _blocker("aws.pending-snapshots", options.region, text, "wait for them, or delete those that nobody finishes")


def _blocker(id: str, subject: str, text: str, remedy: str) -> Finding:
    return Finding(id, Level.BLOCKER, subject, text, remedy)
