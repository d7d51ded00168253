"""`v2c completion`: the script that makes a shell complete v2c's words."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash: v2c completion bash > ~/.local/share/bash-completion/completions/v2c
    zsh:  v2c completion zsh > ~/.zfunc/_v2c
    fish: v2c completion fish > ~/.config/fish/completions/v2c.fish
    """
    from v2c.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "v2c", "_V2C_COMPLETE").source())
