"""`voicemill completion`: completion for the shell."""

import click

LINES = {
    "bash": 'eval "$(_VOICEMILL_COMPLETE=bash_source voicemill)"',
    "zsh": 'eval "$(_VOICEMILL_COMPLETE=zsh_source voicemill)"',
    "fish": "_VOICEMILL_COMPLETE=fish_source voicemill | source",
}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(LINES)))
def command(shell: str) -> None:
    """Print the line that turns on completion; put it into your shell's start file.

    \b
    Example:
      voicemill completion bash >> ~/.bashrc
    """
    click.echo(LINES[shell])
