"""docker/compose.yaml: each service's command line is one that the CLI takes, and the parts are those of the tests."""

from pathlib import Path

import click
import pytest
import yaml

from cli import main
from storage.settings import StorageSettings
from workers.settings import QueueSettings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
OURS = {
    name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("voicemill:")
}


@pytest.mark.parametrize("name", OURS)
def test_the_cli_takes_each_command_line(name: str) -> None:
    command, *arguments = OURS[name]["command"]
    context = click.Context(main.cli)
    found = main.cli.get_command(context, command)
    assert found is not None
    while isinstance(found, click.Group):
        command, *arguments = arguments
        found = found.get_command(context, command)
        assert found is not None
    found.make_context(command, arguments)  # parses; raises a UsageError where an option is unknown or wrong


def test_every_part_is_there() -> None:
    assert {"upgrade", "scheduler", "worker", "gpu-worker", "flower"} <= OURS.keys()
    assert {"postgres", "rabbitmq", "s3"} <= COMPOSE["services"].keys()


def test_the_acceptance_tests_run_the_same_command_lines() -> None:
    """Outside of containers: `scheduler`, `worker --engine espeak`, `flower`; the GPU's engine is none of theirs."""
    texts = "".join(path.read_text() for path in (ROOT / "tests" / "acceptance").glob("test_queue_*.py"))
    for name in ("scheduler", "worker"):
        assert f"start({', '.join(f'{part!r}' for part in OURS[name]['command'])})".replace("'", '"') in texts
    assert 'start("flower"' in texts


@pytest.mark.parametrize("name", OURS)
def test_settings_are_known_and_can_be_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {key: value for key, value in OURS[name]["environment"].items() if key.startswith("VOICEMILL_")}
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    assert StorageSettings().database() == given["VOICEMILL_DATABASE_URL"]
    assert StorageSettings().store() == given["VOICEMILL_STORE_URL"]
    assert QueueSettings().broker_url.get_secret_value() == given["VOICEMILL_BROKER_URL"]
    documented = (ROOT / "docs" / "settings.md").read_text()
    assert all(key.removeprefix("VOICEMILL_").lower() in documented.lower() for key in given)


def test_the_images_are_built_from_targets_that_are_there() -> None:
    targets = {
        line.rpartition(" AS ")[2]
        for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines()
        if line.startswith("FROM ")
    }
    assert {service["build"]["target"] for service in OURS.values()} <= targets
