"""Writes docs/cli.md and docs/settings.md from the code: `python docs/generate.py`. A test holds them against it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cli import config, main  # noqa: E402
from cli.exit_codes import ExitCode  # noqa: E402
from storage import settings  # noqa: E402

NOTE = "<!-- Written by docs/generate.py. Change the code, not this page. -->\n\n"


def cli_page() -> str:
    """Every command and option, and the exit codes."""
    parts = [NOTE, "# The command line\n\n", "Every command has `--help`; whatever prints data has `--json`.\n"]
    context = click.Context(main.cli, info_name="voicemill")
    for name in main.COMMANDS:
        command = main.cli.get_command(context, name)
        assert command is not None
        parts.extend(_command(command, f"voicemill {name}"))
    parts.append("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n")
    parts.extend(f"| {code.value} | {code.meaning} |\n" for code in ExitCode)
    return "".join(parts)


def _command(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(
        command, info_name=name, max_content_width=100, terminal_width=100, help_option_names=["-h", "--help"]
    )
    yield f"\n## `{name}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _command(found, f"{name} {child}")


def settings_page() -> str:
    """Every setting of every room."""
    lines = [
        NOTE,
        "# Settings\n\n",
        "A setting is an environment variable or a line of `voicemill.toml` in the working folder (or the file\n",
        "that `VOICEMILL_CONFIG` names); the variable wins. `voicemill config` prints what is in force and why.\n",
    ]
    for room in config.ROOMS:
        lines.append(
            f"\n## {(room.__doc__ or '').strip().rstrip('.')}\n\n| variable | default | meaning |\n| --- | --- | --- |\n"
        )
        for name, field in room.model_fields.items():
            default = "" if field.default is None else f"`{field.default}`"
            prefix = str(room.model_config.get("env_prefix", settings.PREFIX))
            lines.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |\n")
    return "".join(lines)


PAGES = {"cli.md": cli_page, "settings.md": settings_page}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    for page, write in PAGES.items():
        (folder / page).write_text(write(), encoding="utf-8")
