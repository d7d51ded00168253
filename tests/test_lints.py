"""Linters are tests: style, types, lengths, drivers/, shell scripts, names that must not appear, stale measurements."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from v2c import platforms

ROOT = Path(__file__).resolve().parent.parent
LINES = 400
LONGER: frozenset[str] = frozenset()  # files of v2c/ that may be longer, each with a reason beside it
STALE_AFTER_DAYS = 30  # so long may a measurement lag behind a change of what it measured

# Package hosts (they belong to the machine's configuration) and this or that machine's paths; written so that this file passes.
UNSAID = [
    r"\b(files\.)?py" + r"thonhosted\.org",
    r"\bpypi" + r"\.org",
    r"\b(deb|ftp[a-z.]*|snapshot|security)\.debian" + r"\.org",
    r"\bregistry\.np" + r"mjs\.org",
    r"(?<![\w.])/wo" + r"rk/(main|shared)",
    r"(?<![\w.])/home/" + r"[a-z]+/",
]


def tracked() -> list[Path]:
    """The files of the project: those git knows, or, in a copy without git, all but caches."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]
    return [
        p for p in ROOT.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(ROOT).parts[:-1])
    ]


def tool(*argv: str) -> None:
    """Runs a Python tool of the environment at the top of the project; its words are the failure."""
    done = subprocess.run([sys.executable, "-m", *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_check() -> None:
    tool("ruff", "check", "--quiet", ".")


def test_ruff_format() -> None:
    tool("ruff", "format", "--check", "--quiet", ".")


def test_mypy_strict() -> None:
    tool("mypy", "--no-error-summary")


def test_drivers_are_valid() -> None:
    """Every file, strictly; and every platform that boots says for which firmware."""
    files = sorted((ROOT / "drivers").glob("*/platform.toml"))
    assert len(files) >= 9
    for file in files:
        platform = platforms.read(file)
        assert platform.boot is None or platform.boot.bios or platform.boot.uefi, file


@pytest.mark.tool
def test_shell_scripts() -> None:
    scripts = [
        p
        for p in tracked()
        if p.suffix == ".sh" or (p.suffix == "" and p.read_bytes()[:2] == b"#!" and b"sh" in p.read_bytes()[:24])
    ]
    assert {ROOT / "run", ROOT / ".ci" / "run"} <= set(scripts)
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["run", ".ci/run"])
def test_scripts_are_executable(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


def test_files_are_short() -> None:
    long = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in (ROOT / "v2c").rglob("*.py")}
    assert {name: count for name, count in long.items() if count > LINES and name not in LONGER} == {}


def test_no_package_host_and_no_path_of_a_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for pattern in UNSAID for m in re.finditer(pattern, text)]
    assert found == []


def test_changes_name_this_version() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "v2c" / "__init__.py").read_text())
    assert version
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version[1])}\b", text, re.MULTILINE)


def test_locks_have_digests_for_everything() -> None:
    """Also the build backend: nothing is installed that a lock does not name."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        entries = re.split(r"\n(?=\S)", text.strip())
        assert all("--hash=sha256:" in entry for entry in entries), name
        assert any(entry.startswith("hatchling==") for entry in entries), name


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


# --- measurements -------------------------------------------------------------------------------------------------------


def git(folder: Path, *argv: str) -> str:
    return subprocess.run(["git", *argv], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def stale(folder: Path, commit: str, date: str, paths: list[str]) -> str:
    """Why a measurement made at `commit`, on `date`, of the code in `paths` is stale, or "".

    It is when that code changed afterwards, and the change is more than 30 days older than the newest commit: then nobody
    measured again in all that time. It does not depend on today's date, so an old checkout stays as it was. In a history that
    was squashed or rebased meanwhile, the commit is not there: then what changed after that day counts.
    """
    known = subprocess.run(["git", "merge-base", "--is-ancestor", commit, "HEAD"], cwd=folder, capture_output=True, check=False)
    since = [f"{commit}..HEAD"] if known.returncode == 0 else [f"--since-as-filter={date}T23:59:59+0000", "HEAD"]
    now = int(git(folder, "log", "-1", "--format=%ct"))
    changes = [line.split() for line in git(folder, "log", "--format=%ct %h", *since, "--", *paths).splitlines()]
    old = [(int(at), name) for at, name in changes if now - int(at) > STALE_AFTER_DAYS * 86400]
    return f"{old[-1][1]} changed what it measured, over {STALE_AFTER_DAYS} days ago" if old else ""


def test_measurements_are_fresh() -> None:
    """Each bench/*.json says {"commit": ..., "date": ..., "paths": [the code it measured], ...}."""
    if not (ROOT / ".git").exists():
        pytest.skip("a copy without history")
    if git(ROOT, "rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("a shallow clone")
    for file in sorted((ROOT / "bench").glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", document["date"]), file
        assert all((ROOT / path).exists() for path in document["paths"]), file
        why = stale(ROOT, document["commit"], document["date"], document["paths"])
        assert not why, f"{file.name} is stale: {why}; run ./run bench (or ./run soak) again"


@pytest.mark.tool
def test_the_rule_of_staleness(tmp_path: Path) -> None:
    def commit(name: str, day: int) -> str:
        (tmp_path / name).write_text(str(day))
        at = f"2026-01-01T00:00:00Z {day}"
        when = f"@{1767225600 + day * 86400} +0000"
        env = {**os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        git(tmp_path, "add", name)
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", at], cwd=tmp_path, env=env, check=True
        )
        return git(tmp_path, "rev-parse", "HEAD")

    git(tmp_path, "init", "-q")
    first = commit("code", 0)
    commit("other", 50)
    assert stale(tmp_path, first, "2026-01-01", ["code"]) == "", "nothing it measured has changed"
    commit("code", 60)
    assert stale(tmp_path, first, "2026-01-01", ["code"]) == "", "changed just now"
    again = commit("other", 100)
    assert "changed what it measured" in stale(tmp_path, first, "2026-01-01", ["code"])
    assert stale(tmp_path, again, "2026-04-11", ["code"]) == ""
    lost = "0" * 40  # a history that was written anew
    assert "changed what it measured" in stale(tmp_path, lost, "2026-03-01", ["code"])
    assert stale(tmp_path, lost, "2026-03-02", ["code"]) == "", "day 60: it is what was measured"
