"""The waits between attempts, and how failing endpoints are spared."""

import random

import pytest

from workers.webhooks import schedule


@pytest.fixture(autouse=True)
def _chance():
    random.seed(7)


def test_the_waits_are_the_standard_s_with_jitter():
    minutes, hours = 60, 3600
    waits = [schedule.retry_in(failed) for failed in range(11)]
    expected = [0, 5, 5 * minutes, 30 * minutes] + [hour * hours for hour in (2, 5, 10, 14, 20, 24)]
    assert waits[10] is None
    for wait, least in zip(waits[:10], expected, strict=True):
        assert least <= wait <= least * 1.2
    assert len({schedule.retry_in(3) for _ in range(10)}) == 10


@pytest.mark.parametrize(("asked", "least", "most"), [(3600.0, 3600, 3600), (0.0, 5, 6), (1e9, 86_400, 86_400)])
def test_retry_after_is_honoured_within_a_day_and_never_shortens_a_wait(asked, least, most):
    assert least <= schedule.retry_in(1, asked) <= most


def test_an_endpoint_that_merely_fails_is_blocked_from_the_fifth_time_on_and_ever_longer():
    assert [schedule.block_for(failures, 500) for failures in range(1, 5)] == [0.0] * 4
    waits = [schedule.block_for(failures, None) for failures in range(5, 40)]
    assert 60 <= waits[0] <= 72
    assert 120 <= waits[1] <= 144
    assert all(3600 <= wait <= 4320 for wait in waits[6:])


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_endpoint_with_too_much_to_do_is_spared_at_once(status):
    assert 30 <= schedule.block_for(1, status) <= 36
    assert schedule.block_for(1, status, 120.0) == 120.0
    assert schedule.block_for(1, status, 0.0) == 0.0
