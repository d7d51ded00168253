"""The package as others install it: a wheel with drivers/ inside, in a fresh environment, by pip, uv and pipx."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UV = str(Path(sys.executable).parent / "uv")
PLATFORMS = "from v2c import platforms; print(platforms.folders()[0]); print(*sorted(platforms.platforms()))"


def run(*argv: str | Path, cwd: Path, **env: str | Path) -> str:
    """Runs a program, away from the checkout; its words are the failure."""
    given = {**os.environ, **{name: str(value) for name, value in env.items()}}
    done = subprocess.run([str(a) for a in argv], cwd=cwd, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("copy") / "v2c"
    copy.mkdir()
    for name in ("v2c", "drivers"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=copy)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.tool
def test_wheel_has_the_facts_and_nothing_foreign(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    facts = {p.relative_to(ROOT / "drivers").as_posix() for p in (ROOT / "drivers").rglob("*") if p.is_file()}
    assert {f"v2c/_drivers/{name}" for name in facts} <= names
    shown = {p.relative_to(ROOT).as_posix() for kind in ("html", "css", "js") for p in (ROOT / "v2c").rglob(f"*.{kind}")}
    assert shown <= names and len(shown) >= 8, "reports and the page need them"
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"v2c"}
    assert any(name.endswith("licenses/LICENSE") for name in names) and "v2c/py.typed" in names


def works(v2c: Path, python: Path, cwd: Path) -> None:
    """What a user tries first; the platforms come from inside the installed package."""
    assert run(v2c, "--version", cwd=cwd) == "v2c 0.1.0\n"
    assert json.loads(run(v2c, "doctor", "--json", "--state", cwd / "state", cwd=cwd))["healthy"] is True
    folder, names = run(python, "-c", PLATFORMS, cwd=cwd).splitlines()
    assert folder.endswith("site-packages/v2c/_drivers") and {"aws", "azure", "gcp", "kvm"} <= set(names.split())


@pytest.mark.tool
def test_wheel_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """With pip and exactly the locked packages, by their digests."""
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=tmp_path)
    run(*pip, "--no-deps", wheel, cwd=tmp_path)
    works(environment / "bin" / "v2c", environment / "bin" / "python", tmp_path)


@pytest.mark.full
def test_wheel_as_a_uv_tool(wheel: Path, tmp_path: Path) -> None:
    tools, bin = tmp_path / "tools", tmp_path / "bin"
    run(UV, "tool", "install", "--python", sys.executable, wheel, cwd=tmp_path, UV_TOOL_DIR=tools, UV_TOOL_BIN_DIR=bin)
    works(bin / "v2c", tools / "v2c" / "bin" / "python", tmp_path)


@pytest.mark.full
def test_wheel_by_pipx(wheel: Path, tmp_path: Path) -> None:
    home, bin = tmp_path / "pipx", tmp_path / "bin"
    argv: list[str | Path] = [UV, "tool", "run", "--python", sys.executable, "pipx", "install", "--python", sys.executable, wheel]
    run(*argv, cwd=tmp_path, UV_TOOL_DIR=tmp_path / "tools", PIPX_HOME=home, PIPX_BIN_DIR=bin)
    works(bin / "v2c", home / "venvs" / "v2c" / "bin" / "python", tmp_path)
