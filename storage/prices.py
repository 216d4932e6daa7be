"""What storage costs: prices from a dated file, and the arithmetic of S3's bill.

What is billed is from https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html: Glacier Instant
bills 128 KiB at least for each object; Flexible and Deep add 32 KiB at their own price and 8 KiB at Standard's to each.
"""

import tomllib
from enum import StrEnum
from fractions import Fraction
from math import ceil
from pathlib import Path

import pydantic

from storage import errors

GIGABYTE = 2**30  # bytes
LEAST_BILLED = 128 * 1024  # bytes, of an object in Glacier Instant; smaller ones are not moved anywhere
OVERHEAD = 32 * 1024  # bytes at the archive's own price, for each object in Flexible and Deep
INDEX = 8 * 1024  # bytes at Standard's price, for each object in Flexible and Deep
BUNDLED = Path(__file__).with_name("prices.toml")


class PricesFileError(errors.InputError):
    """The prices in {path} cannot be used: {reason}. storage/prices.toml shows how they are written."""


class Class(StrEnum):
    """Where an object can lie, dearest first."""

    STANDARD = "standard"  # read at once
    INSTANT = "instant"  # Glacier Instant Retrieval: read at once, each read costs
    FLEXIBLE = "flexible"  # Glacier Flexible Retrieval: thawed in minutes to hours
    DEEP = "deep"  # Glacier Deep Archive: thawed in half a day or two


S3_NAMES = {
    Class.STANDARD: "STANDARD",
    Class.INSTANT: "GLACIER_IR",
    Class.FLEXIBLE: "GLACIER",
    Class.DEEP: "DEEP_ARCHIVE",
}
LEAST_DAYS = {
    Class.INSTANT: 90,
    Class.FLEXIBLE: 90,
    Class.DEEP: 180,
}  # billed for each object, however soon it leaves
LEAST_DAYS_AS_PUT = {"STANDARD_IA": 30, "ONEZONE_IA": 30} | {
    S3_NAMES[kept_as]: days for kept_as, days in LEAST_DAYS.items()
}  # by S3's name: the same of whatever a store may put its objects in
MONTH = 30  # days
_ARCHIVES = (Class.FLEXIBLE, Class.DEEP)


class Retrieval(pydantic.BaseModel):
    """What reading costs."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gigabyte: float = pydantic.Field(ge=0)
    thousand: float = pydantic.Field(ge=0)  # objects


class Prices(pydantic.BaseModel):
    """One price list."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    date: str
    region: str
    currency: str
    source: str
    storage: dict[Class, float]  # a gigabyte and month
    transition: dict[Class, float]  # a thousand objects
    retrieval: dict[Class, dict[str, Retrieval]]  # by tier

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "Prices":
        for name, table, wanted in (
            ("storage", self.storage, set(Class)),
            ("transition", self.transition, set(LEAST_DAYS)),
        ):
            if missing := sorted(wanted - table.keys()):
                raise ValueError(f"[{name}] lacks {', '.join(missing)}")
            if any(price < 0 for price in table.values()):
                raise ValueError(f"[{name}] has a price below zero")
        return self

    def month(self, size: int, kept_as: Class) -> float:
        """What an object of so many bytes costs a month."""
        if kept_as == Class.INSTANT:
            size = max(size, LEAST_BILLED)
        if kept_as not in _ARCHIVES:
            return size * self.storage[kept_as] / GIGABYTE
        own, index = (size + OVERHEAD) * self.storage[kept_as], INDEX * self.storage[Class.STANDARD]
        return (own + index) / GIGABYTE

    def move(self, target: Class) -> float:
        """What moving one object costs, once."""
        return self.transition[target] / 1000

    def retrieve(self, size: int, count: int, source: Class, tier: str) -> float | None:
        """What thawing so many objects of so many bytes together costs; None where the list does not say."""
        found = self.retrieval.get(source, {}).get(tier)
        return None if found is None else size / GIGABYTE * found.gigabyte + count / 1000 * found.thousand

    def thawed_copy(self, size: int, days: int) -> float:
        """What a readable copy of something in an archive costs for so many days: it lies in Standard, beside it."""
        return self.month(size, Class.STANDARD) * days / MONTH

    def least_size(self, source: Class, target: Class, months: float) -> int | None:
        """The smallest object, in bytes, whose move saves in so many months what it costs; None where none does.

        At least 128 KiB: below, one class bills what is not there and S3 moves nothing of its own accord.
        """
        dear, cheap = _exact(self.storage[source]), _exact(self.storage[target])
        if dear <= cheap or months <= 0:
            return None
        move = _exact(self.transition[target]) / 1000 / _exact(months) * GIGABYTE
        added = self._overhead(target) - self._overhead(source)
        return max(LEAST_BILLED, ceil((move + added) / (dear - cheap)))

    def _overhead(self, kept_as: Class) -> Fraction:
        """What is billed for an object whatever its size, a month and gigabyte."""
        if kept_as not in _ARCHIVES:
            return Fraction(0)
        return OVERHEAD * _exact(self.storage[kept_as]) + INDEX * _exact(self.storage[Class.STANDARD])


def load(path: Path | None = None) -> Prices:
    """The price list of a file, or the one that comes with Voicemill. Raises PricesFileError."""
    path = path or BUNDLED
    try:
        return Prices.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise PricesFileError(path=path, reason=f"{name}: {first['msg']}" if name else first["msg"]) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PricesFileError(path=path, reason=reason) from error


def _exact(price: float) -> Fraction:
    """The decimal number that a float was written as."""
    return Fraction(str(price))


def class_of(storage_class: str) -> Class:
    """The class that S3 calls so. Others (Standard-IA, Intelligent-Tiering) are reckoned as Standard."""
    return next((kept_as for kept_as, name in S3_NAMES.items() if name == storage_class), Class.STANDARD)
