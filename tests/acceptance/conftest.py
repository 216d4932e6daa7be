"""Fleets of real processes for the acceptance tests, on each broker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import fleet

MakeFleet = Callable[..., fleet.Fleet]


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """An empty broker, once of each kind."""
    request.node.add_marker("server")
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def make_fleet(tmp_path: Path, postgres_url: str) -> Iterator[MakeFleet]:
    """Makes a fleet on a database of its own; whatever it started is gone after the test."""
    with ExitStack() as stack:

        def make(broker_url: str | None, **given: Any) -> fleet.Fleet:
            folder = tmp_path / "fleet"
            return stack.enter_context(
                fleet.Fleet(folder, **{"database_url": postgres_url, "broker_url": broker_url, **given})
            )

        yield make


@pytest.fixture
def mill(make_fleet: MakeFleet, broker_url: str) -> fleet.Fleet:
    """A fleet without any process yet."""
    return make_fleet(broker_url)
