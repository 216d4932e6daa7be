"""What the process imports that `tests.warm` forks commands from: all commands, and what they import later."""

import gc
import importlib

from cli.main import COMMANDS

LATER = (
    "rich.console",
    "rich.table",
    "psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql",
    "alembic.command",
    "kombu",
    "redis",
    "boto3",
    "pydub",
    "scheduler.readers",
)

gc.disable()
for module, _ in COMMANDS.values():
    importlib.import_module(f"cli.{module.partition(':')[0]}")
for name in LATER:
    importlib.import_module(name)
gc.freeze()
