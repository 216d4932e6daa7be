"""Many rows in one statement: they go in as one parameter, in JSON, which either database takes apart by itself.

A statement a row costs a round trip or at least a parse each; a statement with as many parameters as there are values is
compiled anew for every number of rows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa


def table(connection: sa.Connection, columns: Mapping[str, str]) -> str:
    """SQL for what stands after FROM: the rows of the parameter `:given` as a table `given` with these columns.

    Types are Postgres' (`bigint`, `text`, `boolean`, `json`); SQLite takes each value as it is, JSON as text.
    """
    if connection.dialect.name == "sqlite":
        wanted = ", ".join(f"json_extract(value, '$[{at}]') AS {name}" for at, name in enumerate(columns))
        return f"(SELECT {wanted} FROM json_each(:given)) AS given"  # noqa: S608 - names of our own
    wanted = ", ".join(
        f"CAST(item ->> {at} AS {kind}) AS {name}" for at, (name, kind) in enumerate(columns.items())
    )
    return f"(SELECT {wanted} FROM json_array_elements(CAST(:given AS json)) AS items(item)) AS given"  # noqa: S608


def rows(values: Iterable[Sequence[Any]]) -> dict[str, str]:
    """The parameter: rows in the order of the columns, of whatever JSON can say."""
    return {"given": json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))}
