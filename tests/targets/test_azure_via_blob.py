"""Azure by way of a storage account: the contract over the double, and what goes wrong on that way."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from azure_place import CAPS, JOB, Sender, at, azure, content, holds, overtaken, planned, uploaded
from kept_machines import KeptMachines
from target_contract import TargetContract

from v2c import qemu
from v2c.emulators.azure import ACCOUNT, KINDS, AzureEmulator
from v2c.emulators.azure.accounts import CONTAINER_RIGHTS, RIGHTS
from v2c.errors import TargetError
from v2c.events import Meter
from v2c.journal import MemoryJournal
from v2c.model import GIB, MIB, DiskFormat, Level, Placement, Plan, Ref
from v2c.targets import Target, open_target
from v2c.targets.azure import AzureTarget, staging
from v2c.targets.azure.catalogue import facts

pytestmark = pytest.mark.tool
MORE = "&via=blob&storage-account=v2clab"
REAL = Placement(isolated=False, cutover=True)


class Idle(KeptMachines):
    """Machines that stay on though nothing boots: what boots is not what is asked here."""

    def alive(self, id: str) -> bool:
        return id in self._shown


class TestAzureViaBlob(TargetContract):
    size = 25 * MIB
    second = 21 * MIB
    intents = 4  # container, blob, managed disk, image
    lasting = ("imported-disk", "image", "instance")  # disks are staged
    emulator: AzureEmulator

    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        folder = tmp_path / "place"
        with azure(folder, monkeypatch) as self.emulator:
            self.emulator.cloud.machines = Idle(tmp_path)
            yield folder

    def make(self, folder: Path) -> Target:
        return open_target(self.emulator.locator + MORE)

    def read(self, target: Target, disk: Ref, folder: Path) -> Path:
        """The staged VHD, by qemu-img."""
        raw = folder / "staged.raw"
        qemu.convert(self.emulator.blob(disk.id.removeprefix("blob://v2clab/")), DiskFormat.VHD, raw, DiskFormat.RAW)
        return raw


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    with azure(tmp_path / "azure", monkeypatch) as running:
        running.cloud.machines = Idle(tmp_path)
        yield running


def staged(emulator: AzureEmulator, ref: Ref) -> Path:
    return emulator.blob(ref.id.removeprefix("blob://v2clab/"))


def holding(emulator: AzureEmulator, ref: Ref, plan: Plan, blocks: dict[int, bytes], folder: Path) -> None:
    """The blob is a fixed VHD of these blocks, as qemu-img reads it."""
    raw = folder / "read.raw"
    qemu.convert(staged(emulator, ref), DiskFormat.VHD, raw, DiskFormat.RAW)
    holds(raw, plan.disks[0].target_size, blocks)


def begun(emulator: AzureEmulator, plan: Plan, more: str = "") -> tuple[AzureTarget, MemoryJournal]:
    target, journal = at(emulator, MORE + more), MemoryJournal(JOB)
    list(target.reserve(plan, journal))
    return target, journal


def test_the_whole_way(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Data and footers are sent, and nothing else; the machine's disks hold it; nothing of the staging is left after finalize."""
    plan = at(emulator).size(planned(40, 24))
    target, journal = begun(emulator, plan)
    refs = [uploaded(target, plan, journal, tmp_path / "work", content(plan, n), n) for n in range(2)]
    sent = sum(len(data) for number in range(2) for data in content(plan, number).values())
    assert emulator.requests.bytes("PutPage") == sent + 2 * 512 and emulator.resources("disks") == []
    assert all(data == content(plan)[index] for index, data in target.read(plan, refs[0], sorted(content(plan))))
    image = target.register(plan, refs, CAPS, journal)
    for number, disk in enumerate(sorted(emulator.resources("disks"), key=lambda disk: str(disk["name"]))):
        holds(emulator.disk(disk["id"]), plan.disks[number].target_size, content(plan, number))
        assert disk["properties"]["hyperVGeneration"] == "V1" and disk["properties"]["creationData"]["createOption"] == "Import"
    test = target.launch(plan, image, Placement(), journal, Meter())
    target.stop(test, journal)
    real = target.launch(plan, image, REAL, journal, Meter())
    assert {ref.kind for ref in target.finalize(plan, journal)} == {"disk", "container"}
    assert emulator.resources("blobs") == [] == emulator.resources("containers")
    assert real in set(target.find(JOB)) == set(journal.refs()) and list(target.finalize(plan, journal)) == []
    for ref in reversed(list(target.find(JOB))):
        target.destroy(ref)
    assert emulator.left() == [] and len(list((emulator.folder / "blobs").iterdir())) == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_all_goes_in_any_order(emulator: AzureEmulator, tmp_path: Path, seed: int) -> None:
    """One disk complete, one in the middle of its upload and under a lease."""
    plan = planned(24, 24)
    target, journal = begun(emulator, plan)
    ref = uploaded(target, plan, journal, tmp_path / "work", content(plan))
    target.register(plan, [ref], CAPS, journal)
    with target.writer(plan, plan.machine.disks[1], None, journal) as writer:
        Sender(tmp_path / "work", plan, 1).send(writer, content(plan, 1), only=1)
    made = list(target.find(JOB))
    assert set(made) == set(journal.refs()) and [ref.kind for ref in made] == [
        "container",
        "disk",
        "disk",
        "imported-disk",
        "image",
    ]
    random.Random(seed).shuffle(made)
    for ref in made:
        at(emulator, MORE).destroy(ref)
    assert emulator.left() == [] and list(target.find(JOB)) == []


def test_a_container_of_the_users_stays(emulator: AzureEmulator, tmp_path: Path) -> None:
    plan = planned(24)
    own = begun(emulator, plan)[0].session.kept["blobs"]
    own.create_container("images")
    own.get_blob_client("images", "theirs.vhd").create_page_blob(512)
    target, journal = at(emulator, f"{MORE}&container=images"), MemoryJournal(JOB)
    assert list(target.reserve(plan, journal)) == []
    ref = uploaded(target, plan, journal, tmp_path / "work", content(plan))
    assert ref.id == f"blob://v2clab/images/v2c/{JOB}/disk-0.vhd" and list(target.find(JOB)) == [ref]
    assert list(target.finalize(plan, journal)) == [ref]
    assert emulator.blob("images/theirs.vhd").exists() and list(target.find(JOB)) == []
    for strange in (
        Ref.of("container", "blob://v2clab/images", job=JOB),
        Ref.of("disk", "blob://v2clab/images/theirs.vhd", job=JOB),
    ):
        with pytest.raises(TargetError, match="is not of job"):
            target.destroy(strange)
    with pytest.raises(TargetError, match="is not in the account v2clab"):
        target.destroy(Ref.of("disk", f"blob://another/images/v2c/{JOB}/disk-0.vhd", job=JOB))


def test_a_stranger_who_is_quicker_keeps_his_blob(emulator: AzureEmulator) -> None:
    """Under our name, between our look and our try."""
    plan = planned(24)
    target, journal = begun(emulator, plan)
    blob = staging.staged(target.session, JOB, 0)
    blob.client.create_page_blob(512, metadata={"owner": "me"})
    for act in (
        lambda: blob.create(plan, plan.machine.disks[0], plan.disks[0], boots=True),
        lambda: target.writer(plan, plan.machine.disks[0], None, journal).__enter__(),
        lambda: target.destroy(staging.ref_of(target.session, JOB, 0)),
    ):
        with pytest.raises(TargetError, match=f"is not of job {JOB}"):
            act()
    assert blob.shown().size == 512


# ---- what fails for the moment ---------------------------------------------------------------------------------------------


def test_every_published_failure_is_outlived(emulator: AzureEmulator, tmp_path: Path) -> None:
    """Each kind strikes a page, and a lost answer everything that is made; and 5 % of all requests fail besides."""
    for kind in KINDS:
        emulator.faults.once("PutPage", kind)
    made = ("CreateContainer", "PutBlob", "LeaseBlob", "SetBlobMetadata", "disks.put", "DeleteBlob", "DeleteContainer")
    for operation in made:
        emulator.faults.once(operation, "lost-answer")
    emulator.faults.kinds, emulator.faults.share, emulator.faults.seed = KINDS, 0.05, 3
    plan = planned(60)
    target, journal = begun(emulator, plan)
    ref = uploaded(target, plan, journal, tmp_path / "work", content(plan))
    holding(emulator, ref, plan, content(plan), tmp_path)
    target.register(plan, [ref], CAPS, journal)
    (disk,) = emulator.resources("disks")
    holds(emulator.disk(disk["id"]), plan.disks[0].target_size, content(plan))
    assert set(target.find(JOB)) == set(journal.refs())
    for one in reversed(list(target.find(JOB))):
        target.destroy(one)
    assert emulator.left() == []
    assert {kind for operation, kind in emulator.faults.drawn if operation == "PutPage"} == set(KINDS)
    assert {operation for operation, kind in emulator.faults.drawn if kind == "lost-answer"} >= set(made)


def test_a_token_that_runs_out_is_renewed(emulator: AzureEmulator, tmp_path: Path) -> None:
    plan = planned(60)
    target, journal = begun(emulator, plan)
    emulator.faults.once("PutPage", "expired", times=4)
    ref = uploaded(target, plan, journal, tmp_path / "work", content(plan))
    holding(emulator, ref, plan, content(plan), tmp_path)
    assert [kind for _, kind in emulator.faults.drawn] == ["expired"] * 4


def test_a_page_that_was_confirmed_and_lost_is_sent_again(emulator: AzureEmulator, tmp_path: Path) -> None:
    """The list of pages tells before the blob is said to be complete."""
    plan, blocks = planned(60), content(planned(60))
    target, journal = begun(emulator, plan)
    emulator.faults.once("PutPage", "lost")
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        Sender(tmp_path / "work", plan).send(writer, blocks)
        with pytest.raises(TargetError, match=r"1 blocks of .*disk-0.vhd were confirmed and are not there") as caught:
            writer.commit()
    assert caught.value.transient
    ref = uploaded(target, plan, journal, tmp_path / "work", blocks)
    holding(emulator, ref, plan, blocks, tmp_path)
    sent = emulator.requests.done("PutPage")
    assert sorted(sent.values())[:-2] == [1] * (len(sent) - 2), "only the lost page, and the footer, went twice"


def test_a_page_that_rotted_is_seen_when_it_is_read_back(emulator: AzureEmulator, tmp_path: Path) -> None:
    plan, blocks = planned(60), content(planned(60))
    target, journal = begun(emulator, plan)
    emulator.faults.once("PutPage", "rotten")
    ref = uploaded(target, plan, journal, tmp_path / "work", blocks)
    read = dict(target.read(plan, ref, sorted(blocks)))
    assert len([index for index in blocks if read[index] != blocks[index]]) == 1


# ---- two workers, and disks that are sent again ----------------------------------------------------------------------------


def test_a_second_worker_takes_over_and_the_first_changes_nothing(emulator: AzureEmulator, tmp_path: Path) -> None:
    plan, blocks = planned(60), content(planned(60), seed=2)
    first, journal = begun(emulator, plan)
    ref = overtaken(first, at(emulator, MORE), plan, journal, tmp_path, blocks)
    assert journal.refs("disk") == [ref] and len(emulator.resources("blobs")) == 1
    holding(emulator, ref, plan, blocks, tmp_path)


def test_a_blob_that_is_sent_again_makes_the_disk_anew(emulator: AzureEmulator, tmp_path: Path) -> None:
    """A worker whose map is older than the complete blob does not trust it; the disk of the first blob goes."""
    plan = planned(40)
    target, journal = begun(emulator, plan)
    target.register(plan, [uploaded(target, plan, journal, tmp_path / "one", content(plan, seed=1))], CAPS, journal)
    blocks = content(plan, seed=2)
    ref = uploaded(target, plan, journal, tmp_path / "two", blocks)
    image = target.register(plan, [ref], CAPS, journal)
    (disk,) = emulator.resources("disks")
    holds(emulator.disk(disk["id"]), plan.disks[0].target_size, blocks)
    assert image.id == disk["id"] and set(target.find(JOB)) == set(journal.refs())


def test_what_was_never_completed_is_not_imported(emulator: AzureEmulator, tmp_path: Path) -> None:
    plan = planned(40)
    target, journal = begun(emulator, plan)
    with target.writer(plan, plan.machine.disks[0], None, journal) as writer:
        Sender(tmp_path / "work", plan).send(writer, content(plan), only=2)
    for act in (lambda ref: target.register(plan, [ref], CAPS, journal), lambda ref: list(target.read(plan, ref, [0]))):
        with pytest.raises(TargetError, match=r"was never completed|was not uploaded"):
            act(journal.refs("disk")[0])
    assert emulator.resources("disks") == []


def test_what_is_no_vhd_is_refused_by_azure(emulator: AzureEmulator, tmp_path: Path) -> None:
    """The operation fails, Azure's own words say why, and there is no disk."""
    plan = planned(40)
    target, journal = begun(emulator, plan)
    ref = uploaded(target, plan, journal, tmp_path / "work", content(plan))
    with staged(emulator, ref).open("r+b") as file:
        file.seek(plan.disks[0].target_size)
        file.write(b"conected")
    with pytest.raises(
        TargetError, match=r"disk erp-\w+-disk0 cannot be made: InvalidVhd: .* is not a supported VHD: the cookie"
    ):
        target.register(plan, [ref], CAPS, journal)
    assert emulator.resources("disks") == []


# ---- what stands in the way ------------------------------------------------------------------------------------------------


def told(target: AzureTarget, plan: Plan, level: Level = Level.BLOCKER) -> dict[str, str]:
    found = [finding for finding in target.check(target.size(plan)) if finding.level is level]
    assert all(finding.remedy for finding in found)
    return {finding.id: finding.text for finding in found}


def test_nothing_stands_in_the_way(emulator: AzureEmulator) -> None:
    assert list(at(emulator, MORE).check(at(emulator).size(planned(24)))) == []


@pytest.mark.parametrize(
    ("change", "id", "words"),
    [
        (
            {"location": "northeurope"},
            "azure.account-location",
            "is in northeurope, and disks are imported within westeurope only",
        ),
        (
            {"kind": "BlockBlobStorage", "sku": {"name": "Premium_LRS"}},
            "azure.account-kind",
            "BlockBlobStorage (Premium_LRS), and",
        ),
        ({"properties": {"isHnsEnabled": True}}, "azure.account-kind", "with a hierarchical namespace, and holds no page blobs"),
        ({"type": "Microsoft.Storage/other"}, "azure.account", "the subscription has no storage account v2clab"),
    ],
)
def test_an_account_that_will_not_do(emulator: AzureEmulator, change: dict[str, object], id: str, words: str) -> None:
    account = emulator.cloud.store.get(ACCOUNT)
    assert account
    account.shown |= change
    found = told(at(emulator, MORE), planned(24))
    assert list(found) == [id] and words in found[id]


def test_an_account_that_cannot_be_reached_or_is_not_ours(emulator: AzureEmulator) -> None:
    """Nothing else is asked of it then; a container that is not there, and a disk larger than a page blob, are told too."""
    account = emulator.cloud.store.get(ACCOUNT)
    assert account
    missing = told(at(emulator, f"{MORE}&container=nobodys"), planned(24))
    assert missing == {"azure.container": "there is no container nobodys"}
    plan = planned(24, 24)
    large = replace(plan, disks=(plan.disks[0], replace(plan.disks[1], target_size=8192 * GIB)))
    assert "a page blob, by which it would go, 8192 with its footer" in told(at(emulator, MORE), large)["azure.blob"]
    emulator.faults.once("accounts.list", "internal")
    assert told(at(emulator, MORE), planned(24)) == {}, "a failure of the moment stands in nobody's way"


@pytest.mark.parametrize("lacking", [*facts().rights.blob, *facts().rights.blob_container, *facts().rights.blob_data])
def test_each_right_is_missed_by_name(emulator: AzureEmulator, lacking: str) -> None:
    known = facts().rights
    emulator.cloud.actions[:] = [
        a for a in (*known.always, *known.blob, *known.blob_container, *known.blob_import) if a != lacking
    ]
    emulator.cloud.data_actions[:] = [action for action in known.blob_data if action != lacking]
    found = told(at(emulator, MORE), planned(24))
    assert found == {"azure.rights": f"these rights are missing on v2clab: {lacking}"}


def test_the_rights_of_the_readme_are_enough(emulator: AzureEmulator, tmp_path: Path) -> None:
    """And none is listed that nothing here asks for."""
    known = facts().rights
    emulator.cloud.actions[:] = [*known.always, *known.blob, *known.blob_container]
    emulator.cloud.data_actions[:] = known.blob_data
    plan = planned(24)
    found = told(at(emulator, MORE), plan, Level.WARNING)
    assert found == {"azure.rights": f"these rights are missing on v2clab: {known.blob_import[0]}"}
    target, journal = begun(emulator, plan)
    target.register(plan, [uploaded(target, plan, journal, tmp_path / "work", content(plan))], CAPS, journal)
    for ref in reversed(list(target.find(JOB))):
        target.destroy(ref)
    assert emulator.left() == []
    asked = {request.operation for request in emulator.requests}
    used = {CONTAINER_RIGHTS.get(one) for one in asked} | {RIGHTS.get(one, "write") for one in asked}
    assert used >= {action.rpartition("/")[2] for action in (*known.blob_container, *known.blob_data)}


def test_a_right_that_is_taken_away_is_told_with_its_remedy(emulator: AzureEmulator) -> None:
    plan = planned(24)
    target, journal = begun(emulator, plan)
    emulator.cloud.data_actions.clear()
    with (
        pytest.raises(TargetError, match="AuthorizationPermissionMismatch") as caught,
        target.writer(plan, plan.machine.disks[0], None, journal),
    ):
        pass
    assert "Storage Blob Data Contributor" in caught.value.remedy
