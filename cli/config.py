"""`voicemill config`: the settings in force and where each comes from."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import click
import pydantic

from cli import show
from cli.place import Place, pass_place
from scheduler.settings import SchedulerSettings
from storage import settings
from storage.lifecycle import LifecycleSettings
from storage.settings import RoomSettings, StorageSettings
from workers.engines.maya1.settings import Maya1Settings
from workers.quality.settings import ListenSettings
from workers.settings import QueueSettings, WorkerSettings
from workers.spot.settings import LifeSettings
from workers.webhooks.settings import WebhookSettings

ROOMS: tuple[type[RoomSettings], ...] = (
    StorageSettings,
    LifecycleSettings,
    SchedulerSettings,
    WorkerSettings,
    QueueSettings,
    LifeSettings,
    Maya1Settings,
    WebhookSettings,
    ListenSettings,
)

_PASSWORD = re.compile(r"(://[^:/@]*:).*(?=@)|(password=)[^&]*", re.DOTALL | re.IGNORECASE)


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@pass_place
def command(place: Place, as_json: bool) -> None:
    """Print every setting in force, where it comes from and what it means. Secrets are masked.

    A setting is an environment variable (VOICEMILL_STORE_URL) or a line of voicemill.toml (store_url = "..."); the
    variable wins.

    \b
    Example:
      VOICEMILL_FORMAT=opus voicemill config
    """
    check_file()
    rows = list(_rows(place))
    if as_json:
        show.print_json(rows)
    else:
        show.table(
            ("SETTING", "VALUE", "FROM", "MEANING"),
            [
                (row["name"], row["value"] if row["value"] is not None else "", row["from"], row["meaning"])
                for row in rows
            ],
        )


def check_file() -> None:
    """Refuse a settings file with keys that no room knows. Raises SettingsFileError, SettingsError."""
    path = settings.file_path()
    for room in ROOMS:
        settings.load(room)
    if path is None:
        return
    known = {name for room in ROOMS for name in room.model_fields}
    for key in tomllib.loads(path.read_text(encoding="utf-8")):
        if key not in known:
            raise settings.SettingsFileError(
                path=path, reason=f"there is no setting {key!r}; `voicemill config` lists all"
            )


def _rows(place: Place) -> Iterator[dict[str, Any]]:
    for room in ROOMS:
        values = place.storage if room is StorageSettings else settings.load(room)
        for name, field in room.model_fields.items():
            value = getattr(values, name)
            shown = None if value is None else masked(value)
            yield {
                "name": name,
                "value": shown,
                "from": settings.origin(name),
                "variable": settings.PREFIX + name.upper(),
                "meaning": field.description,
            }


def masked(value: Any) -> str:
    """A value as it may be shown: of a URL with a password only the rest, of a list of them what is before and behind."""
    secret = isinstance(value, pydantic.SecretStr)
    text = str(value.get_secret_value() if secret else value)
    if "://" in text:  # of a store, too: no password belongs there, and somebody may have put one
        return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", text)
    return "***" if secret else text
