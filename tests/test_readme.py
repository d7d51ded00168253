"""README.md is tested: every command in it parses, and where a block is marked `console run` its output is what comes out."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from v2c.cli import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [(m[1].strip(), m[2]) for m in re.finditer(r"^```([^\n]*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]


@dataclass(frozen=True)
class Command:
    """A `$ ...` line of a console block, and the output shown below it."""

    line: str
    output: str
    run: bool


def commands() -> list[Command]:
    found = []
    for kind, text in BLOCKS:
        if kind.partition(" ")[0] != "console":
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            while line.endswith("\\"):
                more, _, output = output.partition("\n")
                line = line[:-1] + more
            found.append(Command(line, output, kind == "console run"))
    return found


def matches(shown: str, real: str) -> bool:
    """Whether the output is what the README shows; "..." there stands for anything."""
    pattern = re.escape(shown.strip()).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, real.strip(), re.DOTALL) is not None


def test_the_two_commands_come_first() -> None:
    assert [c.line.partition("#")[0].strip() for c in commands()][:2] == ["./run demo", "./run test"]


@pytest.mark.parametrize("command", commands(), ids=lambda c: c.line[:60])
def test_command_exists(command: Command) -> None:
    """The verb and every option; nothing is run."""
    words = shlex.split(command.line.partition(";")[0], comments=True)
    if words[:2] == ["./run", "v2c"]:
        words = words[1:]
    if words[0] == "./run":
        verbs = re.findall(r"^\./run (\w+)", (ROOT / "run").read_text(), re.MULTILINE)
        assert words[1] in verbs
        return
    if words[0] != "v2c":
        assert words[0] in ("git", "pipx", "uv", "cd"), f"{words[0]} is not a command that this README may show"
        return
    context = click.Context(cli, info_name="v2c")
    if words[1].startswith("-"):
        assert words[1:] in (["--help"], ["--version"])
        return
    verb = cli.get_command(context, words[1])
    assert verb, words[1]
    if "--help" not in words:
        verb.make_context(words[1], [w for w in words[2:] if not w.startswith((">", "|"))], parent=context)


@pytest.mark.parametrize("command", [c for c in commands() if c.run], ids=lambda c: c.line[:60])
def test_output_is_real(command: Command, tmp_path: Path) -> None:
    script = command.line.replace("./run v2c", "v2c").replace("v2c", f"{sys.executable} -m v2c", 1)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert matches(command.output, done.stdout), done.stdout


def test_every_verb_is_told() -> None:
    for verb in cli.list_commands(click.Context(cli)):
        assert f"v2c {verb}" in README, verb


def test_exit_codes_are_the_errors_own() -> None:
    from v2c import errors

    told = {int(m[1]) for m in re.finditer(r"^\| (\d+) \|", README, re.MULTILINE)}
    real = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.V2cError)}
    assert real <= told and 0 in told


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"`((?:v2c|tests|drivers|bench|fixtures)/[\w./-]*[\w/])`", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\(((?!http|#)[^)]+)\)", README):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    ("shown", "real", "same"), [("a ... z\n", "a b c z", True), ("a ... z", "a b c", False), ("x.y", "xzy", False)]
)
def test_matching(shown: str, real: str, same: bool) -> None:
    assert matches(shown, real) is same
