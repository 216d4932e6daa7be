"""The arithmetic of S3's bill, against figures worked out by hand from the price list of 2026-03."""

import pytest

from storage import prices
from storage.prices import Class

BOOK = 576_000_000  # bytes: ten hours of MP3 at 128 kbit/s, 0.53644 GB


@pytest.fixture(scope="module")
def price_list():
    return prices.load()


@pytest.mark.parametrize(
    ("size", "kept_as", "expected"),
    [
        (2**30, Class.STANDARD, 0.023),
        (2**30, Class.INSTANT, 0.004),
        (BOOK, Class.STANDARD, 0.0123382),  # 0.5364418 * 0.023
        (BOOK, Class.DEEP, 0.000531283),  # 0.5364723 * 0.00099 + 8192 / 2**30 * 0.023
        (0, Class.STANDARD, 0.0),
        (1, Class.INSTANT, 4.8828125e-7),  # 128 KiB / 1 GiB * 0.004
        (0, Class.FLEXIBLE, 2.853394e-7),  # 32 KiB / 1 GiB * 0.0036 + 8 KiB / 1 GiB * 0.023
        (0, Class.DEEP, 2.05688e-7),
    ],
)
def test_a_month(price_list, size, kept_as, expected):
    assert price_list.month(size, kept_as) == pytest.approx(expected, rel=1e-5)


def test_a_small_object_costs_more_in_the_archive_than_it_saves(price_list):
    """A take of 0.3 s, 14 kB: dearer in Glacier Instant and Flexible than in Standard; in Deep it takes years to pay."""
    size = 14_444
    standard = price_list.month(size, Class.STANDARD)
    assert price_list.month(size, Class.INSTANT) > standard
    assert price_list.month(size, Class.FLEXIBLE) > standard
    assert price_list.move(Class.DEEP) / (standard - price_list.month(size, Class.DEEP)) > 12 * 20


@pytest.mark.parametrize(
    ("source", "target", "months", "expected"),
    [
        (Class.STANDARD, Class.INSTANT, 12, 131_072),  # 94,188 would pay, but Instant bills 128 KiB
        (Class.STANDARD, Class.FLEXIBLE, 12, 154_162),
        (Class.STANDARD, Class.DEEP, 12, 213_303),
        (Class.INSTANT, Class.DEEP, 12, 1_559_728),
        (Class.FLEXIBLE, Class.DEEP, 12, 1_681_380),  # (0.05 / 1000 / 12) * 2**30 / 0.00261 - 32 KiB
        (Class.STANDARD, Class.DEEP, 1200, 131_072),
        (Class.STANDARD, Class.DEEP, 0, None),
        (Class.DEEP, Class.INSTANT, 12, None),
    ],
)
def test_the_smallest_object_that_pays(price_list, source, target, months, expected):
    assert price_list.least_size(source, target, months) == expected


@pytest.mark.parametrize("target", [Class.INSTANT, Class.FLEXIBLE, Class.DEEP])
def test_it_pays_from_there_on_and_not_below(price_list, target):
    least = price_list.least_size(Class.STANDARD, target, 12)

    def saved(size):
        return 12 * (price_list.month(size, Class.STANDARD) - price_list.month(size, target))

    assert saved(least) >= price_list.move(target) * (1 - 1e-12)
    if least > prices.LEAST_BILLED:
        assert saved(least - 1) < price_list.move(target)


def test_thawing_ten_books(price_list):
    gigabytes = 10 * 0.5364418
    assert price_list.retrieve(10 * BOOK, 10, Class.FLEXIBLE, "standard") == pytest.approx(
        gigabytes * 0.01 + 0.01 * 0.05, rel=1e-6
    )
    assert price_list.retrieve(10 * BOOK, 10, Class.FLEXIBLE, "bulk") == 0
    assert price_list.retrieve(10 * BOOK, 10, Class.DEEP, "expedited") is None


def test_a_thawed_copy_lies_in_standard_for_its_days(price_list):
    """0.5364418 GB for half a month at 0.023."""
    assert price_list.thawed_copy(BOOK, 15) == pytest.approx(0.0123382 / 2, rel=1e-5)


def test_a_price_list_of_ones_own(tmp_path, price_list):
    text = prices.BUNDLED.read_text(encoding="utf-8")
    mine = tmp_path / "prices.toml"
    mine.write_text(
        text.replace('date = "2026-03"', 'date = "2027-01"').replace("deep = 0.00099", "deep = 0.0018")
    )
    assert prices.load(mine).date == "2027-01"
    assert prices.load(mine).storage[Class.DEEP] == 0.0018


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("deep = 0.00099", "", r"\[storage\] lacks deep"),
        ("instant = 0.004", "instant = -1", "below zero"),
        ("[storage]", "[stroage]", "storage: Field required"),
        ("flexible = 0.03\n", "flexible = dear\n", "Invalid value"),
        ('date = "2026-03"', "", "date: Field required"),
    ],
)
def test_a_bad_price_list_is_refused_in_one_line(tmp_path, old, new, reason):
    mine = tmp_path / "prices.toml"
    mine.write_text(prices.BUNDLED.read_text(encoding="utf-8").replace(old, new, 1))
    with pytest.raises(prices.PricesFileError, match=reason):
        prices.load(mine)


def test_a_price_list_that_is_not_there(tmp_path):
    with pytest.raises(prices.PricesFileError, match="No such file"):
        prices.load(tmp_path / "none.toml")
