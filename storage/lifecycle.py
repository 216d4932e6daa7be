"""A bucket's lifecycle rules: which ones Voicemill wants, and how they live beside those that others made.

S3 knows one set of rules a bucket and replaces it whole, so it is read, merged and written. A rule is ours if its id
says so: `voicemill-NAME`, or `voicemill-NAME@PREFIX` for a store below a prefix, so that two stores in one bucket leave
each other's alone. Facts about rules: https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from storage import errors, keys, prices
from storage.objects.store import AgingStore, Lifecycle, Store
from storage.prices import Class, Prices
from storage.settings import RoomSettings

OURS = "voicemill-"  # what the ids of our rules begin with
ID_LENGTH = 255  # characters, S3's limit
MOST_RULES = 1000  # in a bucket, S3's limit
VERSIONS_STAY = 7  # days that something deleted can be had back, where the bucket keeps versions
SMALL_STAY = "all_storage_classes_128K"  # told to a bucket that has no rules yet
READS_BACK = 5  # times that rules are read until they are those that were written ...
READ_AGAIN = 1.0  # ... after so many seconds

Rule = Mapping[str, Any]


class NoLifecycleError(errors.InputError):
    """The store {url} is a folder, and a folder has no lifecycle: nothing in it ages by itself. `voicemill storage gc`
    removes what nothing refers to."""


class BadAgesError(errors.InputError):
    """These lifecycle rules cannot be: {reason}."""


class TooManyRulesError(errors.StoreError):
    """The bucket of {url} would have {count} lifecycle rules, and S3 takes 1,000. Remove some that are not needed."""


class RulesNotKeptError(errors.StoreError):
    """The bucket of {url} does not give back the lifecycle rules that it was given: {reason}. Look at them with
    `voicemill storage lifecycle show`; somebody else may have written rules at the same moment."""


class LifecycleSettings(RoomSettings):
    """How objects in a bucket grow old."""

    lifecycle_audio: dict[Literal["instant", "flexible", "deep"], int] = pydantic.Field(
        default={"instant": 30},
        description="Finished audio moves to these Glacier classes after so many days, "
        'such as {"instant": 30, "deep": 365}; {} leaves it where it is.',
    )
    lifecycle_audio_expire_days: int = pydantic.Field(
        default=0, ge=0, description="Finished audio is deleted after so many days; 0: never."
    )
    lifecycle_takes_days: int = pydantic.Field(
        default=30,
        ge=0,
        description="Takes are deleted after so many days; 0: never. Codes, which make them again, are kept.",
    )
    lifecycle_texts_days: int = pydantic.Field(
        default=30, ge=0, description="Texts sent by reference are deleted after so many days; 0: never."
    )
    lifecycle_reels_days: int = pydantic.Field(
        default=3,
        ge=0,
        description="Encoded stretches that an assembly has left behind are deleted after so many days; 0: never.",
    )
    lifecycle_uploads_days: int = pydantic.Field(
        default=2,
        ge=0,
        description="Uploads that were never finished are given up after so many days; 0: never.",
    )
    lifecycle_pays_within_months: float = pydantic.Field(
        default=12,
        gt=0,
        le=1200,
        description="An object moves only where that saves, in so many months, what the move costs.",
    )
    prices_file: Path | None = pydantic.Field(
        default=None, description="A price list like storage/prices.toml, for your region and day."
    )


@dataclass(frozen=True, slots=True)
class Want:
    """One thing that shall happen to a kind of object. `days` is its age."""

    name: str  # of the rule
    kind: keys.Kind | None  # None: whatever is below the store's prefix
    days: int
    source: Class | None = None  # a move: from there ...
    target: Class | None = None  # ... to here; neither: it is deleted
    least: int | None = None  # bytes: what is smaller stays

    @property
    def is_move(self) -> bool:
        """Whether objects are moved, and not deleted."""
        return self.target is not None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that is not done because it cannot pay."""

    want: Want
    reason: str


def wants(
    ages: LifecycleSettings, price_list: Prices, put_as: str = "STANDARD"
) -> tuple[list[Want], list[Refusal]]:
    """What shall happen, by the settings, and what of it never pays, whatever the size of an object.

    `put_as` is the class, in S3's words, in which the store puts everything. Raises BadAgesError for what contradicts
    itself or leaves a class before its least time is over.
    """
    moves = sorted(
        ((days, Class(name)) for name, days in ages.lifecycle_audio.items()), key=lambda move: move[0]
    )
    _check(moves, ages.lifecycle_audio_expire_days)
    _check_put_as(put_as, moves, ages)
    found: list[Want] = []
    refused: list[Refusal] = []
    source, own = Class.STANDARD, prices.class_of(put_as)
    for at, (days, target) in enumerate(moves):
        ends = moves[at + 1][0] if at + 1 < len(moves) else ages.lifecycle_audio_expire_days
        months = ages.lifecycle_pays_within_months
        months = min(months, (ends - days) / prices.MONTH) if ends else months
        if _colder(target, own) and _colder(own, source):
            source = own
        least = price_list.least_size(source, target, months)
        want = Want(f"audio-{target}", keys.Kind.AUDIO, days, source, target, least)
        if least is None:
            refused.append(
                Refusal(want, f"{target} costs no less than {source}, by the prices of {price_list.date}")
            )
            continue
        found.append(want)
        source = target
    for name, kind, days in (
        ("audio-expire", keys.Kind.AUDIO, ages.lifecycle_audio_expire_days),
        ("takes", keys.Kind.TAKES, ages.lifecycle_takes_days),
        ("texts", keys.Kind.TEXTS, ages.lifecycle_texts_days),
        ("reels", keys.Kind.REELS, ages.lifecycle_reels_days),
        ("uploads", None, ages.lifecycle_uploads_days),
    ):
        if days:
            found.append(Want(name, kind, days))
    return found, refused


def _check(moves: Sequence[tuple[int, Class]], expire: int) -> None:
    order = list(Class)
    steps: list[tuple[int, Class | None]] = [*moves, *([(expire, None)] if expire else [])]
    for days, _ in steps:
        if days < 0:
            raise BadAgesError(reason=f"{days} days is before anything is written")
    for (days, target), (next_days, follows) in itertools.pairwise(steps):
        assert target is not None
        goal = f"moves to {follows}" if follows else "is deleted"
        if follows and order.index(follows) <= order.index(target):
            raise BadAgesError(
                reason=f"audio cannot go from {target} to {follows}, only instant, flexible, deep"
            )
        stays = next_days - days
        if stays < prices.LEAST_DAYS[target]:
            raise BadAgesError(
                reason=f"audio {goal} {stays} days after it came to {target}, which is billed for "
                f"{prices.LEAST_DAYS[target]}: make that at least {days + prices.LEAST_DAYS[target]} days of age"
            )


def _check_put_as(put_as: str, moves: Sequence[tuple[int, Class]], ages: LifecycleSettings) -> None:
    """What is put into a class with a least time must stay there so long. Reels go with their assembly in any case."""
    least, own = prices.LEAST_DAYS_AS_PUT.get(put_as, 0), prices.class_of(put_as)
    deleted = (
        ("audio is deleted", ages.lifecycle_audio_expire_days),
        ("takes are deleted", ages.lifecycle_takes_days),
        ("texts are deleted", ages.lifecycle_texts_days),
    )
    ends = [("audio moves on", days) for days, target in moves if _colder(target, own)]
    for what, days in ends + [end for end in deleted if end[1]]:
        if days < least:
            raise BadAgesError(
                reason=f"{what} after {days} days, and the store puts everything into {put_as}, which is billed for "
                f"{least}: make that at least {least} days, or take another storage_class"
            )


def _colder(one: Class, other: Class) -> bool:
    order = list(Class)
    return order.index(one) > order.index(other)


def rules(store: AgingStore, wanted: Sequence[Want], *, versions: bool = False) -> list[dict[str, Any]]:
    """Rules in S3's words, for one store. In a bucket with versions, what is deleted is deleted once more as a version."""
    made = [_rule(store, want) for want in wanted]
    stay = {"NoncurrentVersionExpiration": {"NoncurrentDays": VERSIONS_STAY}}
    return [rule | stay if versions and "Expiration" in rule else rule for rule in made]


def _rule(store: AgingStore, want: Want) -> dict[str, Any]:
    prefix = store.bucket_prefix + (keys.prefix(want.kind) if want.kind else "")
    rule: dict[str, Any] = {"ID": rule_id(store, want.name), "Status": "Enabled"}
    if want.kind is None:  # S3 allows no tags beside it
        return rule | {
            "Filter": {"Prefix": prefix},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": want.days},
        }
    chosen: dict[str, Any] = {"Prefix": prefix}
    if store.tags:
        chosen["Tags"] = [{"Key": name, "Value": value} for name, value in sorted(store.tags.items())]
    if want.least is not None:
        chosen["ObjectSizeGreaterThan"] = want.least - 1
    rule["Filter"] = {"And": chosen} if len(chosen) > 1 else chosen
    if want.target is None:
        return rule | {"Expiration": {"Days": want.days}}
    return rule | {"Transitions": [{"Days": want.days, "StorageClass": prices.S3_NAMES[want.target]}]}


def rule_id(store: AgingStore, name: str) -> str:
    """The id of one of a store's own rules."""
    return f"{OURS}{name}{_mark(store)}"


def is_ours(store: AgingStore, rule: Rule) -> bool:
    """Whether a rule is this store's own."""
    name, at, mark = str(rule.get("ID", "")).partition("@")
    return name.startswith(OURS) and at + mark == _mark(store)


def _mark(store: AgingStore) -> str:
    place = store.bucket_prefix.rstrip("/")
    if len(place) > ID_LENGTH - 64 or "@" in place:
        place = hashlib.sha256(place.encode()).hexdigest()[:32]
    return f"@{place}" if place else ""


@dataclass(frozen=True, slots=True)
class Diff:
    """What applying the wanted rules changes. Rules of others are never in it."""

    added: Sequence[Rule]
    changed: Sequence[Rule]
    removed: Sequence[Rule]
    same: Sequence[Rule]
    foreign: Sequence[Rule]
    after: Lifecycle  # the bucket's whole set, to be written

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.added or self.changed or self.removed)


def diff(store: AgingStore, now: Lifecycle, wanted: Sequence[Rule], url: str) -> Diff:
    """How the bucket's rules would change. Raises TooManyRulesError."""
    mine = {str(rule["ID"]): canonical(rule) for rule in now.rules if is_ours(store, rule)}
    foreign = [_modern(rule) for rule in now.rules if not is_ours(store, rule)]
    added: list[Rule] = []
    changed: list[Rule] = []
    same: list[Rule] = []
    for rule in wanted:
        before = mine.pop(str(rule["ID"]), None)
        (added if before is None else same if before == canonical(rule) else changed).append(rule)
    count = len(foreign) + len(wanted)
    if count > MOST_RULES:
        raise TooManyRulesError(url=url, count=count)
    default = now.default_minimum if now.rules else SMALL_STAY
    after = Lifecycle([*foreign, *wanted], default)
    return Diff(added, changed, list(mine.values()), same, foreign, after)


def apply(store: AgingStore, wanted: Sequence[Rule], url: str) -> Diff:
    """Bring the bucket to the wanted rules beside those of others, and read them back. Raises a StoreError."""
    step = diff(store, store.lifecycle(), wanted, url)
    if step.is_empty:
        return step
    store.set_lifecycle(step.after)
    for attempt in range(READS_BACK):  # S3 says that a change may take a moment to be seen
        time.sleep(READ_AGAIN * min(1, attempt))
        read = store.lifecycle()
        if same_rules(read.rules, step.after.rules):
            return step
    lost = {str(rule.get("ID")) for rule in step.after.rules} ^ {str(rule.get("ID")) for rule in read.rules}
    told = ", ".join(sorted(lost)) or "their contents differ"
    raise RulesNotKeptError(url=url, reason=told)


def same_rules(one: Sequence[Rule], other: Sequence[Rule]) -> bool:
    """Whether two sets of rules say the same, in whatever order."""
    return sorted(map(_text, one)) == sorted(map(_text, other))


def canonical(rule: Rule) -> dict[str, Any]:
    """A rule in the one form in which equal rules are equal."""
    told = _modern(rule)
    chosen = dict(told.get("Filter", {}))
    inner = dict(chosen.get("And", {}))
    if "Tags" in inner:
        inner["Tags"] = sorted(inner["Tags"], key=lambda tag: str(tag["Key"]))
    if inner:
        chosen["And"] = inner
    told["Filter"] = chosen
    if "Transitions" in told:
        told["Transitions"] = sorted(told["Transitions"], key=lambda move: int(move.get("Days", 0)))
    return told


def _modern(rule: Rule) -> dict[str, Any]:
    """A rule with its prefix in a filter: S3 takes old rules, which have it outside, only where all are old."""
    told = dict(rule)
    if "Prefix" in told:
        told["Filter"] = {"Prefix": told.pop("Prefix")}
    return told


def _text(rule: Rule) -> str:
    return json.dumps(canonical(rule), sort_keys=True, default=str)  # dates, in rules of others


def aging(store: Store) -> AgingStore:
    """The store as one that ages. Raises NoLifecycleError for a folder."""
    if not isinstance(store, AgingStore):
        raise NoLifecycleError(url=store.url)
    return store


def expires_after(store: Store, kind: keys.Kind) -> int | None:
    """The age in days at which the rules in force delete objects of a kind, whoever made them; None: they stay."""
    if not isinstance(store, AgingStore):
        return None
    place = store.bucket_prefix + keys.prefix(kind)
    found = [
        int(rule["Expiration"]["Days"])
        for rule in store.lifecycle().rules
        if rule.get("Status") == "Enabled"
        and "Days" in rule.get("Expiration", {})
        and place.startswith(reach(rule))
    ]
    return min(found, default=None)


def reach(rule: Rule) -> str:
    """The prefix that a rule goes by; empty where it goes by none."""
    chosen = _modern(rule).get("Filter", {})
    return str(chosen.get("Prefix", chosen.get("And", {}).get("Prefix", "")))


def meddling(store: AgingStore, foreign: Sequence[Rule]) -> list[Rule]:
    """Rules of others that delete or move what this store keeps."""
    return [
        rule
        for rule in foreign
        if rule.get("Status") == "Enabled"
        and ("Expiration" in rule or "Transitions" in rule)
        and (reach(rule).startswith(store.bucket_prefix) or store.bucket_prefix.startswith(reach(rule)))
    ]
