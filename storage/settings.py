"""Settings, in one form for every room: typed, from the environment (`VOICEMILL_…`) or one TOML file, the former winning.

Each room declares its own class; unknown keys in the file are refused by `cli.config`, which knows them all.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from storage import errors

PREFIX = "VOICEMILL_"


class SettingsError(errors.InputError):
    """The setting {name} is wrong ({origin}): {reason}."""


class SettingsFileError(errors.InputError):
    """The settings file {path} cannot be used: {reason}."""


def file_path() -> Path | None:
    """The settings file in force: VOICEMILL_CONFIG, else `voicemill.toml` here, else none."""
    named = os.environ.get(PREFIX + "CONFIG")
    if named:
        return Path(named)
    here = Path("voicemill.toml")
    return here if here.is_file() else None


class RoomSettings(BaseSettings):
    """The base of every room's settings."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        path = file_path()
        if path is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)


AnySettings = TypeVar("AnySettings", bound=RoomSettings)


def load(kind: type[AnySettings], **given: Any) -> AnySettings:
    """One room's settings. Raises SettingsError with the first wrong one, SettingsFileError for the file itself."""
    path = file_path()
    if path is not None and not path.is_file():
        raise SettingsFileError(path=path, reason="there is no such file")
    try:
        return kind(**given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(name=name, origin=origin(name), reason=first["msg"]) from error
    except (ValueError, OSError) as error:  # a TOML that is none
        raise SettingsFileError(path=path, reason=error) from error


def origin(name: str) -> str:
    """Where a setting's value comes from, for people: an environment variable, the file, or the default."""
    variable = PREFIX + name.upper()
    if variable in os.environ:
        return variable
    path = file_path()
    if path is not None and path.is_file() and name in _keys(path, path.stat().st_mtime_ns):
        return str(path)
    return "default"


@cache
def _keys(path: Path, _changed: int) -> frozenset[str]:
    import tomllib

    try:
        return frozenset(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return frozenset()


class StorageSettings(RoomSettings):
    """Where state and bytes are kept."""

    home: Path = pydantic.Field(
        default=Path(".voicemill"),
        description="Folder for the embedded database and store where no other is set.",
    )
    database_url: pydantic.SecretStr | None = pydantic.Field(
        default=None, description="SQLAlchemy URL: postgresql://user:password@host/name, or sqlite:///path."
    )
    store_url: str | None = pydantic.Field(
        default=None, description="Where the bytes go: a folder, or s3://bucket/prefix?endpoint_url=…&region=…."
    )
    database_pool_size: int = pydantic.Field(
        default=5, ge=1, le=100, description="Connections kept per process."
    )

    def database(self) -> str:
        """The database URL in force, secrets and all."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home.absolute() / 'voicemill.db'}"

    def store(self) -> str:
        """The store URL in force."""
        return self.store_url if self.store_url is not None else str(self.home.absolute() / "store")
