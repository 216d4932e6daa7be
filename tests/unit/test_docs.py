"""The documentation says what the code does."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from cli import config, main

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


def test_generated_pages_are_up_to_date(tmp_path):
    """By a process of its own: click keeps the help option that a command was first asked for, by whichever test."""
    subprocess.run([sys.executable, ROOT / "docs" / "generate.py", tmp_path], check=True, cwd=tmp_path)
    for page in generate.PAGES:
        there, wanted = ((folder / page).read_text(encoding="utf-8") for folder in (ROOT / "docs", tmp_path))
        assert there == wanted, "run `python docs/generate.py`"


def test_every_command_has_an_example():
    for part in generate.cli_page().split("\n## `voicemill ")[1:]:
        assert "Example:" in part, part.split("`")[0]


def test_every_setting_is_explained():
    for room in config.ROOMS:
        for name, field in room.model_fields.items():
            assert field.description, f"{room.__name__}.{name}"


def test_the_readme_names_commands_and_files_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"^\| `(\w+)`", readme, re.MULTILINE):
        assert name in main.COMMANDS
    for link in re.findall(r"\]\(((?:docs/)?[\w.-]+\.md)\)", readme):
        assert (ROOT / link).is_file(), link
    for name in re.findall(r"^voicemill (\w+)", readme, re.MULTILINE):
        assert name in main.COMMANDS


def test_every_document_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name
