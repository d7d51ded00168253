"""The command line: verbs to calls, signals to pause, errors to exit codes; nothing else.

Verbs are imported when they are called: `v2c --help` loads click and this file only.
"""

from importlib import import_module

import click

from v2c import __version__
from v2c.cli.running import run

# verb -> (module, what it does in one line); the command is the module's attribute of the verb's name
VERBS = {
    "convert": ("v2c.cli.convert", "Move a machine: repair it, send its disks, boot it at the target, prove it."),
    "discover": ("v2c.cli.discover", "Look through a folder of disk files, and make a wave manifest of its machines."),
    "inspect": ("v2c.cli.look", "Tell what is inside a machine's disks and what stands in the way."),
    "plan": ("v2c.cli.look", "Tell what convert would do; with --repair show every change it would make."),
    "run": ("v2c.cli.waves", "Work off a wave manifest, or go on with it."),
    "worker": ("v2c.cli.waves", "Be one of several converters that share their runs."),
    "approve": ("v2c.cli.waves", "Say yes or no at a gate of a run's machines."),
    "pause": ("v2c.cli.waves", "Begin no stage of a run's machines until resume."),
    "resume": ("v2c.cli.waves", "End a pause."),
    "retry": ("v2c.cli.waves", "Let machines of a run try again, with edited settings if need be."),
    "replicate": ("v2c.cli.waves", "Copy and repair machines of a run, and no more."),
    "manifest": ("v2c.cli.manifest", "Check, show, import and export wave manifests; their JSON Schema."),
    "status": ("v2c.cli.jobs", "Tell where every job stands."),
    "report": ("v2c.cli.jobs", "Show a job's report again, or print it as JSON, JUnit or HTML."),
    "serve": ("v2c.cli.serve", "Show the runs on a local web page, live; gates can be agreed to there."),
    "validate": ("v2c.cli.jobs", "Boot a job's instance again and compare it with what the machine was."),
    "test-cutover": ("v2c.cli.cutover", "Boot a job's image as an isolated test again."),
    "cutover": ("v2c.cli.cutover", "Launch a job's real instance, prove it, and leave it running."),
    "finalize": ("v2c.cli.cutover", "End a job after its cut-over: what only the migration needed goes."),
    "rollback": ("v2c.cli.cutover", "Undo a job at the target, and leave the source as it was."),
    "cancel": ("v2c.cli.jobs", "Give a job up for good; what it made stays until cleanup."),
    "cleanup": ("v2c.cli.jobs", "Remove what a job made, and prove by listing that nothing is left."),
    "emulate": ("v2c.cli.emulate", "Be a cloud on this machine, for rehearsing without an account."),
    "prices": ("v2c.cli.prices", "Bring a price list that plans are estimated with."),
    "doctor": ("v2c.cli.doctor", "Check this machine: tools, versions, KVM, guestfs, disk space."),
    "completion": ("v2c.cli.completion", "Print the completion script of a shell."),
}

EPILOG = """\b
Exit codes: 0 done, 1 failed, 2 wrong command line or file, 3 some machines of several failed,
4 stopped by a readiness finding, 130 paused by Ctrl-C (the same command goes on)."""


class Lazy(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(import_module(VERBS[cmd_name][0]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(cls=Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="v2c", message="%(prog)s %(version)s")
def cli() -> None:
    """Move machines from VMware and other hypervisors into a cloud, and prove that they came up as the same machines."""


def main() -> None:
    """The entry point `v2c`."""
    run(cli)
