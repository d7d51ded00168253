"""Compares a machine that came up with the machine it was, and says on what grounds each value was expected.

Expected is what inspection read before the repair, changed by our own ledger: a unit we masked is expected to be gone. What
nothing is known about is `observed`, never passed. What a guest says is data: it is compared and quoted, bounded in length.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from v2c.model import Change, ChangeKind, Check, Declared, Expectation, Facts, Mount, Plan, Probe, User, Verdict
from v2c.validate import seen
from v2c.validate.boot import Evidence

_QUOTE = 2000  # characters of a guest's words that a check keeps
_MUTE = "not told: systemctl did not answer inside the guest"
_WANTED = re.compile(r"/etc/systemd/system/[^/]+\.(?:wants|requires|upholds)/([^/]+)")
_UNIT = re.compile(r"/etc/systemd/system/([^/]+\.[a-z]+)")
_ELSEWHERE = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.sshfs", "9p", "afs", "davfs")  # reached over a network
_IDS = re.compile(r"(?:UUID|LABEL|PARTUUID|PARTLABEL)=|/dev/")  # specs that name a block device


def compare(
    facts: Facts, evidence: Evidence, plan: Plan, changes: Sequence[Change], declared: Declared | None = None
) -> tuple[Check, ...]:
    """Every check, the boot first. Without a probe there is that one, failed, with the reason, and what the target says.
    `declared`: what the user expects, if it is not what the plan says."""
    probe = evidence.probe
    if probe is None:
        why = evidence.failure or "the machine did not tell what it is"
        boot = _check("boot", "boot", Expectation.INSPECTED, "the machine comes up and tells what it is", why, False)
        return (boot, *_statuses(evidence))
    wanted = declared or plan.declared
    told = f"told what it is after {evidence.seconds:.0f} s"
    checks = [_check("boot", "boot", Expectation.INSPECTED, "the machine comes up and tells what it is", told, True)]
    checks += _identity(facts, probe)
    checks += _mounts(facts, plan, probe)
    checks += _swaps(facts, plan, probe)
    checks += _units(facts, probe, changes, wanted)
    checks.append(_users(facts, probe))
    checks.append(_disks(plan, probe))
    checks += _network(facts, plan, probe)
    checks += _ports(probe, wanted)
    checks.append(_known("state", "init state", Expectation.NONE, "", seen.first(probe, "state")))
    checks += [*evidence.reached, *_statuses(evidence)]
    return tuple(checks)


def verdict(checks: Iterable[Check]) -> Verdict:
    """FAIL when one fails, PASS when one passes and none fails, else OBSERVED."""
    verdicts = {check.verdict for check in checks}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if Verdict.PASS in verdicts else Verdict.OBSERVED


def expected_units(facts: Facts, changes: Iterable[Change]) -> tuple[set[str], set[str]]:
    """The units expected to be enabled, and those that our own repair disabled or masked."""
    before = set(facts.enabled_units)
    units = set(before)
    for change in changes:
        if found := _WANTED.fullmatch(change.path):
            gone = change.kind in (ChangeKind.REMOVED, ChangeKind.RENAMED)
            (units.discard if gone else units.add)(found[1])
        elif (found := _UNIT.fullmatch(change.path)) and change.kind is ChangeKind.LINKED and "/dev/null" in change.diff:
            units.discard(found[1])
    return units, before - units


def _check(id: str, subject: str, expectation: Expectation, expected: str, found: str, good: bool, note: str = "") -> Check:
    outcome = Verdict.PASS if good else Verdict.FAIL
    return Check(id, subject, expectation, _cut(expected), _cut(found), outcome, _cut(note))


def _known(id: str, subject: str, expectation: Expectation, expected: str, found: str, note: str = "") -> Check:
    """Equal or not; with nothing to compare with, observed."""
    if expectation is Expectation.NONE or not expected:
        return Check(id, subject, Expectation.NONE, "", _cut(found), Verdict.OBSERVED, note)
    return _check(id, subject, expectation, expected, found, expected == found, note)


def _skipped(id: str, subject: str, expected: str, note: str, found: str = "") -> Check:
    return Check(id, subject, Expectation.INSPECTED, _cut(expected), _cut(found), Verdict.SKIPPED, note)


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTE else f"{text[:_QUOTE]} ... ({len(text) - _QUOTE} more characters)"


def _statuses(evidence: Evidence) -> Iterator[Check]:
    """What the target itself says of the instance."""
    for status in evidence.observation.statuses:
        yield Check(f"status:{status.name}", status.name, Expectation.TARGET, "ok", _cut(status.words), status.verdict)


def _identity(facts: Facts, probe: Probe) -> Iterator[Check]:
    inspected = Expectation.INSPECTED
    yield _known("hostname", "hostname", inspected, facts.hostname, seen.first(probe, "hostname"))
    machine_id = facts.machine_id if facts.machine_id != "uninitialized" else ""
    yield _known("machine-id", "machine-id", inspected, machine_id, seen.first(probe, "machine-id"))
    yield _known("kernel", "kernel", inspected, facts.default_kernel, seen.first(probe, "kernel"))
    root = seen.mounts(probe).get("/")
    yield _known("root", "root filesystem", inspected, facts.root_uuid, root.uuid if root else "")


def _mounts(facts: Facts, plan: Plan, probe: Probe) -> Iterator[Check]:
    found = seen.mounts(probe)
    for mount in facts.mounts:
        options = mount.options.split(",")
        if "noauto" in options:
            continue
        subject, id = f"mount {mount.where}", f"mount:{mount.where}"
        there = found.get(mount.where)
        shown = f"{there.type} {there.uuid or there.source}" if there else "nothing"
        if mount.type in _ELSEWHERE:
            yield _skipped(id, subject, f"{mount.type} {mount.spec}", "a test boot reaches no network", shown)
        elif _absent(mount, plan):
            why = "its disk did not come along" if not mount.device else "the plan leaves its disk behind"
            yield _skipped(id, subject, mount.spec, why, shown)
        elif there and there.type == "autofs":
            yield _check(id, subject, Expectation.INSPECTED, "mounted on demand", "ready to be mounted", True)
        elif mount.uuid:
            type = there.type if there else ""
            expected = f"{type} {mount.uuid}" if there and there.uuid == mount.uuid else f"{mount.type} {mount.uuid}"
            yield _check(id, subject, Expectation.INSPECTED, expected, shown, bool(there and there.uuid == mount.uuid))
        elif "bind" in options or "rbind" in options:
            yield _check(id, subject, Expectation.INSPECTED, f"bind of {mount.spec}", shown, there is not None)
        else:
            good = there is not None and mount.type in (there.type, "auto", "none")
            yield _check(id, subject, Expectation.INSPECTED, f"{mount.type} {mount.spec}", shown, good)


def _absent(mount: Mount, plan: Plan) -> bool:
    staying = {mount.spec, mount.uuid, mount.spec.removeprefix("UUID=")} & set(plan.needs.staying) - {""}
    return bool(staying) or (not mount.device and not mount.uuid and _IDS.match(mount.spec) is not None)


def _swaps(facts: Facts, plan: Plan, probe: Probe) -> Iterator[Check]:
    active, names = seen.swaps(probe)
    shown = ", ".join(sorted(names)) or "none"
    for swap in facts.swaps:
        subject, id = f"swap {swap.spec}", f"swap:{swap.spec}"
        if {swap.spec, swap.uuid} & set(plan.needs.staying) - {""}:
            yield _skipped(id, subject, swap.spec, "the plan leaves its disk behind", shown)
        elif swap.uuid:
            good = swap.uuid in active
            yield _check(id, subject, Expectation.INSPECTED, swap.uuid, swap.uuid if good else shown, good)
        elif _IDS.match(swap.spec) and swap.spec not in active:
            yield _skipped(id, subject, swap.spec, "its disk did not come along", shown)
        else:
            yield _check(id, subject, Expectation.INSPECTED, swap.spec, shown, swap.spec in active)
    if not facts.swaps:
        yield _known("swap", "swap", Expectation.NONE, "", shown)


def _units(facts: Facts, probe: Probe, changes: Sequence[Change], declared: Declared) -> Iterator[Check]:
    expected, silenced = expected_units(facts, changes)
    enabled = set(seen.units(probe, "enabled"))
    unheard = set(seen.lines(probe, "unheard"))
    notes = [f"disabled by the repair: {', '.join(sorted(silenced))}"] if silenced else []
    if new := enabled - expected:
        notes.append(f"enabled as well: {', '.join(sorted(new))}")
    if facts.enabled_units:
        missing = sorted(expected - enabled)
        shown = f"missing: {', '.join(missing)}" if missing else f"all {len(expected)}"
        shown = _MUTE if "enabled" in unheard and not enabled else shown
        listing = ", ".join(sorted(expected))
        yield _check("units", "enabled units", Expectation.INSPECTED, listing, shown, not missing, "; ".join(notes))
    else:
        yield _known("units", "enabled units", Expectation.NONE, "", ", ".join(sorted(enabled)), "; ".join(notes))
    failed = seen.units(probe, "failed")
    ours = _touched(failed, changes)
    note = f"the repair changed what belongs to {', '.join(ours)}" if ours else ""
    shown = ", ".join(failed) or (_MUTE if "failed" in unheard else "none")
    if declared.failed_units is None:
        yield _known("failed", "failed units", Expectation.NONE, "", shown, note)
    else:
        allowed = ", ".join(declared.failed_units) or "none"
        good = set(failed) <= set(declared.failed_units) and shown != _MUTE
        yield _check("failed", "failed units", Expectation.DECLARED, allowed, shown, good, note)


def _touched(failed: Iterable[str], changes: Sequence[Change]) -> list[str]:
    """Failed units whose unit file, drop-in or wish our repair changed."""
    words = [change.path.split("/") for change in changes]
    return [unit for unit in failed if any(unit in path or f"{unit}.d" in path for path in words)]


def _users(facts: Facts, probe: Probe) -> Check:
    there = seen.users(probe)
    if not facts.users:
        return _known("users", "users", Expectation.NONE, "", ", ".join(sorted(there)))
    wrong = [_difference(user, there.get(user.name)) for user in facts.users if there.get(user.name) != user]
    shown = "; ".join(wrong) or f"all {len(facts.users)}"
    new = sorted(set(there) - {user.name for user in facts.users})
    note = f"there as well: {', '.join(new)}" if new else ""
    names = ", ".join(user.name for user in facts.users)
    return _check("users", "users", Expectation.INSPECTED, names, shown, not wrong, note)


def _difference(was: User, now: User | None) -> str:
    if now is None:
        return f"{was.name} is missing"
    pairs = ((field, getattr(was, field), getattr(now, field)) for field in ("uid", "gid", "home", "shell"))
    return f"{was.name}: {', '.join(f'{field} {old} is {new}' for field, old, new in pairs if old != new)}"


def _disks(plan: Plan, probe: Probe) -> Check:
    expected = sorted(disk.target_size for disk in plan.disks)
    there = list(seen.disks(probe))
    left = list(there)
    for size in expected:
        if size in left:
            left.remove(size)
    good = len(there) - len(left) == len(expected)
    # a cloud may add a disk of its own (Azure's temporary one)
    note = f"a disk more than planned: {', '.join(map(str, left))}" if good and left else ""
    return _check("disks", "disks", Expectation.INSPECTED, _sizes(expected), _sizes(there), good, note)


def _sizes(sizes: Sequence[int]) -> str:
    return f"{len(sizes)}: {', '.join(f'{size} bytes' for size in sizes)}" if sizes else "none"


def _network(facts: Facts, plan: Plan, probe: Probe) -> Iterator[Check]:
    there = seen.addresses(probe)
    shown = ", ".join(f"{name} {' '.join(addresses)}" for name, addresses in there.items()) or "no address"
    given = [need.address for need in plan.needs.addresses if need.address]
    for address in given:
        good = any(address in addresses for addresses in there.values())
        yield _check(f"address:{address}", f"address {address}", Expectation.DECLARED, address, shown, good)
    if given:
        return
    if plan.needs.keep_network:
        yield _known("network", "network", Expectation.NONE, "", shown, "the plan leaves the network configuration alone")
    elif facts.network:
        yield _check("network", "network", Expectation.INSPECTED, "a network card with an address", shown, bool(there))
    else:
        yield _known("network", "network", Expectation.NONE, "", shown)


def _ports(probe: Probe, declared: Declared) -> Iterator[Check]:
    there = seen.listening(probe)
    shown = ", ".join(there) or "none"
    for port in declared.listening:
        yield _check(f"listening:{port}", f"listening on {port}", Expectation.DECLARED, port, shown, port in there)
    if not declared.listening:
        yield _known("listening", "listening ports", Expectation.NONE, "", shown)
