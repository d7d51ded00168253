"""Bad input through the real command line: one clear sentence, the right exit code, and nothing left behind."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from bad_disks import MIB, START, blank, elf, image, partitioned, put, tree, with_system
from luks_images import ROUNDS

Prepare = Callable[[Path], list[str]]

TO = ["--to", "local:kvm"]
KEPT = re.compile(r"v2c\.db(-wal|-shm)?|locks/[\w.-]+")  # of the state folder: what happened, and who held it


@dataclass(frozen=True)
class Bad:
    """`prepare` makes files in a folder and answers with the words after `v2c convert`; `says` matches the one line."""

    id: str
    prepare: Prepare
    code: int
    says: str
    verb: str = "convert"


def word(*words: str) -> Prepare:
    return lambda folder: [w.format(folder=folder) for w in words]


def with_disk(*words: str) -> Prepare:
    """A good disk at {folder}/good.qcow2, and these words."""

    def prepare(folder: Path) -> list[str]:
        image(folder / "good.qcow2", blank(folder / "raw"), "qcow2")
        (folder / "raw").unlink()
        return word(*words)(folder)

    return prepare


def truncated(format: str, keep: float, *options: str) -> Prepare:
    """An image whose end is missing."""

    def prepare(folder: Path) -> list[str]:
        raw = blank(folder / "raw")
        put(raw, 0, os.urandom(8 * MIB))
        made = image(folder / f"disk.{format}", raw, format, *options)
        raw.unlink()
        os.truncate(made, int(made.stat().st_size * keep))
        return [str(made), *TO]

    return prepare


def content(name: str, data: bytes) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        (folder / name).write_bytes(data)
        return [str(folder / name), *TO]

    return prepare


def backing_elsewhere(folder: Path) -> list[str]:
    """A qcow2 over a file outside its folder: what a hostile image would do to read a secret of this machine."""
    secret = folder.parent / "elsewhere.raw"
    blank(secret)
    own = folder / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(own)], check=True, capture_output=True
    )
    return [str(own), *TO]


def extent_elsewhere(folder: Path) -> list[str]:
    """A VMDK descriptor whose extent is a file of another folder."""
    blank(folder.parent / "elsewhere-flat.vmdk")
    text = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    text += 'RW 131072 FLAT "../elsewhere-flat.vmdk" 0\nddb.adapterType = "lsilogic"\n'
    (folder / "disk.vmdk").write_text(text)
    return [str(folder / "disk.vmdk"), *TO]


def extent_missing(folder: Path) -> list[str]:
    raw = blank(folder / "raw")
    image(folder / "disk.vmdk", raw, "vmdk", "-o", "subformat=monolithicFlat")
    raw.unlink()
    (folder / "disk-flat.vmdk").unlink()
    return [str(folder / "disk.vmdk"), *TO]


def lock_folder(folder: Path) -> list[str]:
    """VMware keeps DISK.lck beside a disk that a running machine uses."""
    words = with_disk()(folder)
    image(folder / "disk.vmdk", folder / "good.qcow2", "vmdk")  # read as raw: any bytes will do
    (folder / "disk.vmdk.lck").mkdir()
    (folder / "disk.vmdk.lck" / "M12345.lck").write_text("x")
    return [*words, str(folder / "disk.vmdk"), *TO]


def onto_itself(folder: Path) -> list[str]:
    return with_disk("{folder}/good.qcow2", "--to", "file:{folder}/good.qcow2")(folder)


def target_exists(folder: Path) -> list[str]:
    words = with_disk("{folder}/good.qcow2", "--to", "file:{folder}/out.raw")(folder)
    (folder / "out.raw").write_text("somebody's work")
    return words


def machine_file(text: str) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        (folder / "erp.toml").write_text(text)
        return with_disk("{folder}/good.qcow2", "--machine", "{folder}/erp.toml", *TO)(folder)

    return prepare


QUICK = [
    Bad("no such file", word("{folder}/nothing.vmdk", *TO), 2, r"nothing\.vmdk"),
    Bad("a directory", word("{folder}", *TO), 2, r"is a (directory|folder)"),
    Bad("an empty file", content("disk.raw", b""), 2, r"disk\.raw.*empty"),
    Bad("a text", content("disk.vmdk", b"this is no disk\n" * 100), 2, r"disk\.vmdk"),
    Bad("half a sector", content("disk.raw", bytes(1000)), 2, r"512"),
    Bad("a truncated vmdk", truncated("vmdk", 0.5), 1, r"disk\.vmdk.*(truncated|ends|shorter|corrupt)"),
    Bad("a truncated stream-optimized vmdk", truncated("vmdk", 0.7, "-o", "subformat=streamOptimized"), 1, r"disk\.vmdk"),
    Bad("a truncated qcow2", truncated("qcow2", 0.5), 1, r"disk\.qcow2.*(truncated|ends|shorter|corrupt)"),
    Bad("a vmdk head only", truncated("vmdk", 0.0001), 1, r"disk\.vmdk"),
    Bad("a backing file in another folder", backing_elsewhere, 2, r"elsewhere\.raw.*(outside|another|other)"),
    Bad("an extent in another folder", extent_elsewhere, 2, r"elsewhere-flat\.vmdk.*(outside|another|other)"),
    Bad("an extent that is missing", extent_missing, 2, r"disk-flat\.vmdk"),
    Bad("a disk in use", lock_folder, 1, r"in use|lck"),
    Bad("a wrong format", with_disk("{folder}/good.qcow2", "--format", "vmdk", *TO), 2, r"vmdk.*qcow2|qcow2.*vmdk"),
    Bad("the same disk twice", with_disk("{folder}/good.qcow2", "{folder}/good.qcow2", *TO), 2, r"twice"),
    Bad("an unknown target", with_disk("{folder}/good.qcow2", "--to", "moon:base"), 2, r'"moon:base" names no target'),
    Bad("an unknown shape", with_disk("{folder}/good.qcow2", "--to", "local:mars"), 2, r"mars"),
    Bad("an unknown image format", with_disk("{folder}/good.qcow2", "--to", "file:{folder}/out.iso"), 2, r"out\.iso"),
    Bad(
        "a target folder that is not there",
        with_disk("{folder}/good.qcow2", "--to", "file:{folder}/no/out.raw"),
        4,
        r"/no does not exist",
    ),
    Bad("a target that exists", target_exists, 4, r"out\.raw.*(exists|there)"),
    Bad("the source as target", onto_itself, 2, r"good\.qcow2 is the source itself"),
    Bad("no machine file", with_disk("{folder}/good.qcow2", "--machine", "{folder}/erp.toml", *TO), 2, r"erp\.toml"),
    Bad("a machine file that is no TOML", machine_file("memory = = 3\n"), 2, r"erp\.toml.*line 1"),
    Bad("a machine file with a strange word", machine_file("memroy_mib = 2048\n"), 2, r"erp\.toml.*memroy_mib"),
    Bad("a machine file with a wrong value", machine_file('memory_mib = "much"\n'), 2, r"erp\.toml.*memory_mib"),
    Bad(
        "a key file that is not there", with_disk("{folder}/good.qcow2", "--key", "all:file:{folder}/k", *TO), 2, r"key file .*/k"
    ),
    Bad("an address without network", with_disk("{folder}/good.qcow2", "--address", "192.0.2.1", *TO), 2, r"prefix length"),
    Bad(
        "a folder of drivers that is not there",
        with_disk("{folder}/good.qcow2", "--drivers", "{folder}/d", *TO),
        2,
        r"drivers folder",
    ),
    Bad(
        "a work folder that is a file",
        with_disk("{folder}/good.qcow2", "--workdir", "{folder}/good.qcow2", *TO),
        2,
        r"cannot be used",
    ),
    Bad("a job that is not there", word("abc"), 2, r'"abc" is not a job', "report"),
    Bad("a clean-up of nothing", word("abc", "--yes"), 2, r'"abc" is not a job', "cleanup"),
]


def no_system(folder: Path) -> list[str]:
    partitioned(folder / "disk.raw")
    return [str(folder / "disk.raw"), "--format", "raw", *TO]


def system(**how: object) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        with_system(folder / "disk.raw", tree(folder.parent / "content", **how))  # type: ignore[arg-type]
        return [str(folder / "disk.raw"), "--format", "raw", *TO]

    return prepare


def locked_root(folder: Path) -> list[str]:
    """A LUKS container and no key for it."""
    disk = partitioned(folder / "disk.raw")
    part = blank(folder.parent / "part", disk.stat().st_size - START)
    argv = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", *ROUNDS, "--key-file", "-", str(part)]
    subprocess.run(argv, input=b"canary", check=True, capture_output=True)
    put(disk, START, part.read_bytes()[: 4 * MIB])
    part.unlink()
    return [str(disk), "--format", "raw", *TO]


def full_root(folder: Path) -> list[str]:
    """A root filesystem without a free block."""
    files = tree(folder.parent / "content")
    disk = with_system(folder / "disk.raw", files, 16 * MIB, options=("-m", "0"))
    big = folder.parent / "big"
    for size in (8 * MIB, 4 * MIB, 2 * MIB, MIB, 512 * 1024, 128 * 1024, 32 * 1024, 8 * 1024, 1024, 1024, 1024, 1024):
        big.write_bytes(b"x" * size)
        name = f"fill{size}-{os.urandom(3).hex()}"
        subprocess.run(["debugfs", "-w", "-R", f"write {big} {name}", f"{disk}?offset={START}"], capture_output=True, check=False)
    return [str(disk), "--format", "raw", *TO]


def hibernated(folder: Path) -> list[str]:
    """A root, and beside it a swap area that holds a sleeping machine."""
    disk = with_system(folder / "disk.raw", tree(folder.parent / "content"))
    swap = partitioned(folder / "swap.raw", 32 * MIB, "82")
    put(swap, START + 4096 - 10, b"S1SUSPEND\0")
    put(swap, START + 1024, (1).to_bytes(4, "little") + ((31 * MIB) // 4096 - 1).to_bytes(4, "little"))
    return [str(disk), str(swap), "--format", "raw", *TO]


def broken_filesystem(folder: Path) -> list[str]:
    """A root whose superblock is there and whose metadata is not."""
    words = system()(folder)
    put(folder / "disk.raw", START + 2048, os.urandom(512 * 1024))
    return words


SLOW = [
    Bad("no operating system", no_system, 1, r"no operating system"),
    Bad(
        "an unknown distribution",
        system(os_release='ID=plan9\nPRETTY_NAME="Plan 9"\n'),
        4,
        r"Plan 9.*only Linux guests of Debian's family",
    ),
    Bad("a 32-bit guest", system(program=elf(3, 32)), 4, r"32-bit system"),
    Bad("an encrypted root without key", locked_root, 1, r"encrypted.*--key|LUKS.*--key"),
    Bad("a full root filesystem", full_root, 1, r"full|room|space|free"),
    Bad("a hibernated machine", hibernated, 1, r"hibernat|suspend"),
    Bad("a broken filesystem", broken_filesystem, 1, r"/dev/sda1 cannot be read.*fsck"),
]


def picture(folder: Path) -> dict[str, str]:
    """Every file below a folder by content, every directory by name."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "directory"
        for p in sorted(folder.rglob("*"))
    }


def ours(folder: Path) -> list[str]:
    """Programs that still run and name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and "pytest" not in line:
            found.append(line)
    return found


@contextmanager
def nothing_left(folder: Path, state: Path) -> Iterator[None]:
    before = picture(folder)
    yield
    assert picture(folder) == before, "the sources' folder has changed"
    left = (
        [name for name, what in picture(state).items() if what != "directory" and not KEPT.fullmatch(name)]
        if state.exists()
        else []
    )
    assert left == [], "files are left"
    assert ours(folder.parent) == [], "programs are left"


def ended(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    """What came of it; of one that does not end, where each of its threads stands."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            out, err = program.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGABRT)
            raise AssertionError(f"{argv} does not end: {program.communicate()}") from None
    return subprocess.CompletedProcess(argv, program.returncode, out, err)


def check(bad: Bad, tmp_path: Path) -> None:
    folder, state = tmp_path / "in", tmp_path / "state"
    folder.mkdir()
    words = bad.prepare(folder)
    options = ["--state", str(state), *([] if bad.verb in ("report", "cleanup") else ["--progress", "none"])]
    with nothing_left(folder, state):
        done = ended([sys.executable, "-X", "faulthandler", "-m", "v2c", bad.verb, *words, *options])
    assert done.returncode == bad.code, done
    assert re.fullmatch(r"v2c: [^\n]+\n", done.stderr), done.stderr
    assert "mistake of v2c" not in done.stderr and "Traceback" not in done.stderr
    assert re.search(bad.says, done.stderr), done.stderr
    assert "canary" not in done.stderr + done.stdout


@pytest.mark.tool
@pytest.mark.parametrize("bad", QUICK, ids=lambda b: b.id)
def test_bad_input(bad: Bad, tmp_path: Path) -> None:
    check(bad, tmp_path)


@pytest.mark.appliance
@pytest.mark.parametrize("bad", SLOW, ids=lambda b: b.id)
def test_bad_guest(bad: Bad, tmp_path: Path) -> None:
    check(bad, tmp_path)


@pytest.mark.tool
def test_no_permission(tmp_path: Path) -> None:
    """A disk that may not be read; root would read it all the same, so he gives that right away."""
    disk = blank(tmp_path / "disk.raw")
    disk.chmod(0)
    humble = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    argv = [*humble, sys.executable, "-m", "v2c", "convert", str(disk), *TO, "--state", str(tmp_path / "state"), "-q"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and re.fullmatch(r"v2c: [^\n]*disk\.raw[^\n]*[Pp]ermission[^\n]*\n", done.stderr), done
