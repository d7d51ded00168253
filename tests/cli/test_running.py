"""Every end of the command line is one line and an exit code."""

import signal
import subprocess
import sys

import click
import pytest

from v2c.cli import cli, running
from v2c.errors import BlockedError, Paused, UsageError, V2cError


def ending(error: BaseException) -> click.Group:
    """A command line with one verb, `go`, that ends like this."""

    @click.group()
    def group() -> None: ...

    @group.command()
    @click.option("--debug", is_flag=True)
    def go(debug: bool) -> None:
        raise error

    return group


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (V2cError("the disk broke", remedy="mend it"), 1, "v2c: the disk broke: mend it\n"),
        (UsageError("no such file"), 2, "v2c: no such file\n"),
        (BlockedError("disk-1: 4096-byte sectors\nand\tmore"), 4, "v2c: disk-1: 4096-byte sectors and more\n"),
        (V2cError("guest \x1b[2J says"), 1, "v2c: guest ?[2J says\n"),
        (Paused("paused"), 130, "v2c: paused\n"),
        (KeyboardInterrupt(), 130, "v2c: paused: the same command goes on\n"),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            1,
            "v2c: /x: No such file or directory: run again with --debug for the trace\n",
        ),
        (
            ZeroDivisionError("by zero"),
            1,
            "v2c: ZeroDivisionError: by zero: this is a mistake of v2c; run again with --debug for the trace\n",
        ),
    ],
)
def test_an_error_is_one_line(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert running.outcome(ending(error), ["go"]) == code
    assert capsys.readouterr().err.lstrip("\n") == line  # click ends the line of a ^C


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert running.outcome(ending(ZeroDivisionError("by zero")), ["go", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith("v2c: ZeroDivisionError: by zero\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["convrt"], "No such command 'convrt'"),
        (["completion"], "Missing argument"),
        (["doctor", "--jsn"], "No such option"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_wrong_words_are_exit_code_2(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert running.outcome(cli, words) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.startswith("v2c: ") and err.count("\n") == 1 and " --help" in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert running.outcome(cli, ["--help"]) == 0
    assert "Exit codes: 0 done" in capsys.readouterr().out
    assert running.outcome(cli, ["--version"]) == 0
    assert capsys.readouterr().out == "v2c 0.1.0\n"


@pytest.mark.parametrize("verb", cli.list_commands(click.Context(cli)))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert running.outcome(cli, [verb, "--help"]) == 0
    assert f"v2c {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o nosort"), ("zsh", "#compdef v2c"), ("fish", "complete --no-files")]
)
def test_completion(shell: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert running.outcome(cli, ["completion", shell]) == 0
    assert word in capsys.readouterr().out


@pytest.mark.parametrize(("words", "index", "expected"), [("v2c con", "1", "convert"), ("v2c convert --to lo", "3", "local:aws")])
def test_completion_completes(words: str, index: str, expected: str) -> None:
    env = {"_V2C_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": index}
    done = subprocess.run([sys.executable, "-m", "v2c"], capture_output=True, text=True, env=env, check=False)
    assert expected in [line.partition(",")[2] for line in done.stdout.splitlines()], done


def test_a_closed_pipe_is_no_trace() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m v2c completion bash | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_signals_are_as_they_were() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
