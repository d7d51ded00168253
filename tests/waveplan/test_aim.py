"""What a manifest says of a machine's network cards, as a target's locator says it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from v2c.manifest import Manifest, parse, resolve
from v2c.model import Level
from v2c.waveplan import Choices, make
from v2c.waveplan.aim import aim
from v2c.waveplan.describe import describe

HEAD = """version: 1
name: move
sources:
  inv: {type: inventory}
targets:
  aws: {to: "aws:eu-west-1", subnet: subnet-z}
  plain: {to: "aws:eu-west-1"}
  named: {to: "aws:eu-west-1?subnet=subnet-n&private-ip=10.9.9.9"}
  gcp: {to: "gcp:project-1/europe-west1-b"}
  azure: {to: "azure:s/g/westeurope?test-subnet=v/t"}
  kvm: {to: "local:kvm"}
networks:
  - {source: lan, subnet: subnet-a, securityGroups: [sg-1]}
  - {source: dmz, subnet: subnet-b}
waves:
  - name: w1
    machines:
"""


def manifest(target: str, nics: str, os: str = "") -> Manifest:
    machine = f"id: erp, source: {{at: inv}}, target: {target}, hardware: {{vcpus: 2, memory: 4GiB, firmware: bios{os}}}"
    return parse(f"{HEAD}      - {{{machine}, disks: [{{id: a, size: 1GiB}}], nics: [{nics}]}}\n".encode(), "wave.yaml")


@pytest.mark.parametrize(
    ("target", "nics", "query"),
    [
        ("plain", "{network: lan}", "subnet=subnet-a&security-group=sg-1"),
        ("plain", "{network: lan}, {network: dmz}", "subnet=subnet-a,subnet-b&security-group=sg-1"),
        ("plain", "{network: dmz}, {network: dmz}, {network: dmz}", "subnet=subnet-b"),
        ("plain", "{network: dmz}, {subnet: subnet-c}, {network: dmz}", "subnet=subnet-b,subnet-c,subnet-b"),
        ("plain", "{network: dmz}, {network: wan}", "subnet=subnet-b"),
        ("plain", "{network: wan}, {network: dmz}", ""),
        ("aws", "{network: wan}, {network: dmz}", "subnet=subnet-z,subnet-b"),
        ("plain", "{subnet: s, address: 10.0.0.5}", "subnet=s&private-ip=10.0.0.5"),
        ("plain", "{subnet: s}, {subnet: t, address: 10.0.0.5/24}, {subnet: u}", "subnet=s,t,u&private-ip=,10.0.0.5"),
        ("plain", "{subnet: s, address: keep}, {subnet: s, address: 'fd00::5/64'}", "subnet=s"),
        ("named", "{subnet: s, address: 10.0.0.5}, {subnet: t}", "subnet=subnet-n&private-ip=10.9.9.9"),
        ("gcp", "{subnet: s, address: 10.0.0.5}, {subnet: t, address: 10.0.1.5}", "subnet=s,t&private-ip=10.0.0.5,10.0.1.5"),
        ("azure", "{subnet: v/s, address: 10.0.0.5}, {subnet: v/u}", "test-subnet=v/t&subnet=v/s,v/u&private-ip=10.0.0.5"),
        ("azure", "{subnet: v/s}, {subnet: v/s, address: 10.0.0.5}", "test-subnet=v/t&subnet=v/s&private-ip=,10.0.0.5"),
        ("kvm", "{subnet: s, address: 10.0.0.5}", ""),
    ],
)
def test_a_locator_says_what_it_can_of_all_cards(target: str, nics: str, query: str) -> None:
    read = manifest(target, nics)
    (one,) = resolve(read)
    assert aim(read, one).partition("?")[2] == query


@pytest.mark.parametrize(("target", "query"), [("plain", "subnet=s&licence=included"), ("gcp", "subnet=s")])
def test_a_licence_is_said_where_the_locator_can(target: str, query: str) -> None:
    read = manifest(target, "{subnet: s}], licence: included, tags: {}, hooks: [")
    (one,) = resolve(read)
    assert aim(read, one).partition("?")[2] == query


@pytest.mark.parametrize(
    ("target", "system", "text"),
    [
        ("plain", "Debian GNU/Linux 12", 'it runs "Debian GNU/Linux 12", and the licence that aws includes is for Windows'),
        ("plain", "Microsoft Windows Server 2019 (64-bit)", ""),
        ("gcp", "Debian GNU/Linux 12", ""),
    ],
)
def test_a_licence_is_for_a_system(target: str, system: str, text: str) -> None:
    """As the inventory names it; where it names none, the guest is looked into."""
    for os, words in ((f", os: '{system}'", text), ("", "")):
        read = manifest(target, "{subnet: s}], licence: included, tags: {}, hooks: [", os)
        found = resolve(read)
        plan = make(read, found, describe(read, found, Path("/nowhere")), Choices(datetime(2026, 12, 1, tzinfo=UTC), 1))
        told = [f for f in plan.machines[0].findings if f.id == "licence.system"]
        assert [f.text for f in told] == [words] * bool(words) and all(f.level is Level.BLOCKER and f.remedy for f in told)


@pytest.mark.parametrize(
    ("target", "nics", "id"),
    [
        ("azure", "{subnet: v/s}, {subnet: v/u, address: 10.0.0.5}", ""),
        ("plain", "{subnet: s}, {subnet: u, address: 10.0.0.5}", ""),
        ("plain", "{subnet: s, securityGroups: [sg-1]}, {subnet: s, securityGroups: [sg-2]}", "network.groups"),
        ("plain", "{subnet: s, securityGroups: [sg-1]}, {subnet: s, securityGroups: [sg-1]}", ""),
    ],
)
def test_a_plan_tells_what_a_locator_cannot_say(target: str, nics: str, id: str) -> None:
    read = manifest(target, nics)
    found = resolve(read)
    plan = make(read, found, describe(read, found, Path("/nowhere")), Choices(datetime(2026, 12, 1, tzinfo=UTC), 1))
    assert [f.id for f in plan.machines[0].findings if f.id == "network.groups"] == [id] * bool(id)
