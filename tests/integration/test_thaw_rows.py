"""Thaws and recipes in the tables, on both databases."""

import sqlalchemy as sa

from storage import takes, thaws
from storage.models import Job, Take
from tests import corpus_maker


def test_a_thaw_is_taken_up_by_one_and_ends_once(database):
    corpus_maker.accepted(database, ["One text.", "Another text."])
    with database.read() as connection:
        one, two = connection.scalars(sa.select(Job.c.id).order_by(Job.c.id))
        assert not thaws.any_pending(connection)
    database.run(lambda connection: thaws.ask(connection, [one, two], "standard", 3))
    database.run(lambda connection: thaws.ask(connection, [one], "bulk", 9, anew=False))  # on its way already
    database.run(lambda connection: thaws.ask(connection, [two], "bulk", 9))
    with database.write() as connection:
        assert thaws.any_pending(connection)
        assert thaws.take_up(connection, 60.0, 10) == []
        taken = thaws.take_up(connection, 0.0, 10)
        assert [(row.id, row.custom_id, row.tier, row.days) for row in taken] == [
            (one, "job-0000", "standard", 3),
            (two, "job-0001", "bulk", 9),
        ]
        thaws.withdraw(connection, two)
        connection.execute(sa.update(Job).values(state="completed", samples=8000, sample_rate=8000))
    assert database.run(lambda connection: thaws.arrive(connection, one, 1e9))
    assert not database.run(lambda connection: thaws.arrive(connection, one, 1e9))
    assert not database.run(lambda connection: thaws.arrive(connection, two, None))
    with database.read() as connection:
        assert not thaws.any_pending(connection)
        (left,) = thaws.each(connection, 10)
    assert (left.corpus, left.state, left.until) == ("corpus", "ready", 1e9)
    database.run(
        lambda connection: thaws.ask(connection, [one], "bulk", 9, anew=False)
    )  # its copy has gone since
    with database.read() as connection:
        (again,) = thaws.each(connection, 10)
    assert (again.state, again.tier, again.until, again.ready_at) == ("pending", "bulk", None, None)


def test_a_take_keeps_its_recipe(database):
    recipe = {"codec": "0123456789abcdef", "seed": 2**63 - 1}
    new = [
        takes.NewTake("a" * 64, "maya1", 24_000, 100, 7, True, {"rms": 0.1}, recipe),
        takes.NewTake("b" * 64, "tones", 8000, 100, 0, False, {"rms": 0.1}),
    ]
    database.run(lambda connection: takes.record(connection, new))
    with database.read() as connection:
        found = connection.execute(sa.select(Take.c.recipe, Take.c.metrics).order_by(Take.c.take_key)).all()
    assert [tuple(row) for row in found] == [(recipe, {"rms": 0.1}), (None, {"rms": 0.1})]
