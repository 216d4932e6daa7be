"""Secrets that a whole fleet uses, and whether any of them shows where somebody may look.

Nothing asks for them but RabbitMQ: our Postgres, Redis and S3 take any password. What is held against is that every
process has them, and would show them if it showed what it has.
"""

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from storage import signing
from tests import fleet

USER = "hidden"  # of the database and the broker


def _new(what: str) -> str:
    return f"{what}{uuid.uuid4().hex}"  # no character that a URL or JSON would write in another way


@dataclass
class Secrets:
    """The secrets of one fleet. A webhook's is the mill's to make: it is added when it is told."""

    database: str = field(default_factory=lambda: _new("database"))
    broker: str = field(default_factory=lambda: _new("broker"))
    store: str = field(default_factory=lambda: _new("store"))
    webhooks: list[str] = field(default_factory=list)

    def database_url(self, url: str) -> str:
        """A Postgres URL with the password."""
        return url.replace("postgres@", f"postgres:{self.database}@")

    def broker_url(self, url: str) -> str:
        """A broker's URL with the password; of RabbitMQ, where there may be several, one that names it twice."""
        scheme, _, rest = url.partition("://")
        if scheme == "redis":
            return f"redis://default:{self.broker}@{rest}"
        mine = f"amqp://{USER}:{self.broker}@{rest.rpartition('@')[2]}"
        return f"{mine};{mine}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment of every process."""
        return {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": self.store}

    def shown(self, text: str) -> list[str]:
        """Which of them are in a text."""
        named = {"database": self.database, "broker": self.broker, "store": self.store}
        named |= {f"webhook {n}": secret for n, secret in enumerate(self.webhooks)}
        return [name for name, secret in named.items() if secret.removeprefix(signing.PREFIX) in text]

    def missing(self, mill: fleet.Fleet) -> dict[str, list[str]]:
        """Processes of a fleet that do not have all three of them, by their command lines."""
        found = {}
        for number, line in mill.left_behind().items():
            had = self.shown((Path("/proc") / str(number) / "environ").read_text(errors="replace"))
            if had != ["database", "broker", "store"]:
                found[line] = had
        return found
