"""`voicemill`: the command group, and the one place where errors become one line and an exit code."""

import difflib
import gc
import importlib
import io
import sys
from pathlib import Path
from typing import Any

import click

from cli import show
from cli.exit_codes import ExitCode
from cli.place import Place
from storage import errors

# A command is imported when it is asked for, so that `voicemill --help` answers at once. In the order of use:
# name, where it is, and what it does.
COMMANDS = {
    "render": ("render:command", "Render texts to audio, all in this process."),
    "estimate": ("estimate:command", "Tell segments, audio hours, time and cost before any work."),
    "submit": ("submit:command", "Submit a corpus to the workers."),
    "watch": ("watch:command", "Show a corpus live until it has ended."),
    "status": ("status:command", "Show how a corpus is doing."),
    "list": ("listing:command", "List corpora, or the jobs of one."),
    "fetch": ("fetch:command", "Bring finished audio and results into a folder."),
    "cancel": ("cancel:command", "Stop a corpus; what is done is kept."),
    "retry": ("retry:command", "Take failed and cancelled work up again."),
    "review": ("review:command", "List takes that need a listen, and say that they are fine."),
    "redo": ("redo:command", "Render one sentence again."),
    "report": ("report:command", "Put a corpus on one page: progress, cost, takes to listen to."),
    "rejected": ("rejected:command", "List producers' messages that could not be accepted, and why."),
    "webhooks": ("webhooks:command", "Tell other programs what happens, and see what came of it."),
    "takes": ("takes:command", "Get at the takes of a job, and their codec tokens."),
    "thaw": ("thaw:command", "Ask for audio from an archive, and see how far it is."),
    "storage": ("storage:command", "Look after the object store: how it ages, what is missing."),
    "voices": ("voices:command", "List the voices."),
    "model": ("model:command", "Fetch and examine the model of the engine maya1."),
    "worker": ("worker:worker", "Run a worker."),
    "scheduler": ("worker:scheduler", "Run the scheduler."),
    "flower": ("worker:flower", "Run Flower: workers and tasks in a browser."),
    "db": ("db:command", "Bring the database to the tables of this version."),
    "config": ("config:command", "Print the settings in force and where each comes from."),
    "doctor": ("doctor:command", "Check everything this machine needs, and say what to do."),
    "completion": ("completion:command", "Print the line that turns on completion in your shell."),
}


class Commands(click.Group):
    """The commands, with a guess at what a mistyped one was meant to be."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(f"cli.{module}"), attribute)
        gc.freeze()
        gc.enable()  # see `cli.start`
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Say what a mistyped command might have been."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " `voicemill --help` lists the commands."
            raise click.UsageError(f"There is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="voicemill", prog_name="voicemill")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the embedded database and store.",
)
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.pass_context
def cli(ctx: click.Context, home: Path | None, traceback: bool) -> None:
    """Voicemill renders text corpora to speech.

    \b
    Example:
      voicemill render book.epub --format m4b -o out/
    """
    ctx.meta["traceback"] = traceback
    ctx.obj = Place(home)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; the process ends with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):  # a folder's name may be bytes that are no text; in JSON, too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(arguments, prog_name="voicemill", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.Abort:
        code = ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = ExitCode.BAD_INPUT
    except errors.VoicemillError as error:
        if "--traceback" in arguments:
            raise
        show.error(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        code = ExitCode.OK
    except Exception as error:
        if "--traceback" in arguments:
            raise
        show.error(
            f"unexpected {type(error).__name__}: {error}. Run again with `voicemill --traceback ...` and report it, please."
        )
        code = ExitCode.INTERNAL
    sys.exit(code if isinstance(code, int) else ExitCode.OK)
