"""`voicemill storage lifecycle`: how objects in a bucket grow old."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.decorators import FC

from cli import show
from cli.exit_codes import ExitCode
from cli.place import Place, pass_place
from storage import keys, lifecycle, lifecycle_cost, prices, settings
from storage.lifecycle import LifecycleSettings, Rule, Want
from storage.objects.store import Store

MOVE = re.compile(r"(instant|flexible|deep)[=:](\d{1,5})")
NAMES = {
    "GLACIER_IR": "Glacier Instant",
    "GLACIER": "Glacier Flexible",
    "DEEP_ARCHIVE": "Glacier Deep Archive",
}

JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


def _moves(_context: click.Context, _parameter: click.Parameter, given: Sequence[str]) -> dict[str, int] | None:
    """`--audio deep=180` as setting; `--audio keep` as none at all."""
    if not given:
        return None
    if list(given) == ["keep"]:
        return {}
    found: dict[str, int] = {}
    for text in given:
        match = MOVE.fullmatch(text)
        if match is None:
            raise click.BadParameter(f"{text!r} is not like instant=30, flexible=90 or deep=180, nor keep")
        found[match[1]] = int(match[2])
    return found


def _days(name: str, told: str) -> Callable[[FC], FC]:
    return click.option(name, type=click.IntRange(0, 36_500), metavar="DAYS", help=f"{told}; 0: never.")


def rule_options(command: FC) -> FC:
    """The settings of the rules as options, for what is asked this once."""
    for decorate in (
        JSON,
        click.option(
            "--pays-within",
            type=click.FloatRange(0.1, 1200),
            metavar="MONTHS",
            help="A move must save in so many months what it costs.",
        ),
        _days("--uploads", "Give up unfinished uploads after so many days"),
        _days("--reels", "Delete encoded stretches that an assembly has left behind after so many days"),
        _days("--texts", "Delete texts sent by reference after so many days"),
        _days("--takes", "Delete takes after so many days"),
        _days("--expire-audio", "Delete finished audio after so many days"),
        click.option(
            "--audio",
            multiple=True,
            metavar="CLASS=DAYS",
            callback=_moves,
            help="Move finished audio to instant, flexible or deep Glacier at that age; may be repeated. keep: nowhere.",
        ),
    ):
        command = decorate(command)
    return command


@click.group("lifecycle")
def command() -> None:
    """How the objects of a bucket grow old: what moves to an archive, what is deleted, what it costs.

    The settings VOICEMILL_LIFECYCLE_... say what is wanted; options say it for once.

    \b
    Example:
      voicemill storage lifecycle plan --audio instant=30 --audio deep=365
    """


@command.command("show")
@JSON
@pass_place
def show_(place: Place, as_json: bool) -> None:
    """List the lifecycle rules of the store's bucket, ours and those of others.

    \b
    Example:
      voicemill storage lifecycle show
    """
    store = lifecycle.aging(_store(place))
    found = store.lifecycle()
    if as_json:
        ours = [lifecycle.is_ours(store, rule) for rule in found.rules]
        told = [{"ours": mine, "rule": dict(rule)} for mine, rule in zip(ours, found.rules, strict=True)]
        show.print_json({"rules": told, "default_minimum": found.default_minimum})
    elif not found.rules:
        show.say("The bucket has no lifecycle rules; `voicemill storage lifecycle plan` proposes some.")
    else:
        rows = [
            ("ours" if lifecycle.is_ours(store, rule) else "others'", rule.get("ID", ""), *_words(rule))
            for rule in found.rules
        ]
        show.table(("WHOSE", "RULE", "OBJECTS", "WHAT HAPPENS"), rows)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that `plan` shows and `apply` does."""

    price_list: prices.Prices
    wanted: Sequence[Want]
    refused: Sequence[lifecycle.Refusal]
    projection: lifecycle_cost.Projection
    rules: Sequence[dict[str, Any]]
    versions: bool | None  # whether the bucket keeps them; None: we are not told
    diff: lifecycle.Diff
    meddling: Sequence[Rule]  # of others


@command.command("plan")
@rule_options
@pass_place
def plan(place: Place, /, as_json: bool, **given: Any) -> None:
    """Show what `apply` would change in the bucket's rules, and what its objects cost a month before and after.

    Looks at every object. Returns 1 where something that was asked for cannot pay and is left out.

    \b
    Example:
      voicemill storage lifecycle plan --audio flexible=60 --takes 14
    """
    store = _store(place)
    made = _plan(store, given)
    _tell(made, as_json, applied=False)


@command.command("apply")
@rule_options
@pass_place
def apply(place: Place, /, as_json: bool, **given: Any) -> None:
    """Bring the bucket's rules to what `plan` shows. Rules of others stay as they are.

    \b
    Example:
      voicemill storage lifecycle apply --audio flexible=60 --takes 14
    """
    store = _store(place)
    made = _plan(store, given)
    lifecycle.apply(lifecycle.aging(store), made.rules, store.url)
    _tell(made, as_json, applied=True)


def _store(place: Place) -> Store:
    """The store; of an embedded home the one that is there."""
    if place.is_embedded and place.storage.store_url is None:
        place.existing()
    return place.store()


def _plan(store: Store, given: dict[str, Any]) -> _Plan:
    aging = lifecycle.aging(store)
    named = {
        "lifecycle_audio": given["audio"],
        "lifecycle_audio_expire_days": given["expire_audio"],
        "lifecycle_takes_days": given["takes"],
        "lifecycle_texts_days": given["texts"],
        "lifecycle_reels_days": given["reels"],
        "lifecycle_uploads_days": given["uploads"],
        "lifecycle_pays_within_months": given["pays_within"],
    }
    ages = settings.load(
        LifecycleSettings, **{name: value for name, value in named.items() if value is not None}
    )
    price_list = prices.load(ages.prices_file)
    wanted, refused = lifecycle.wants(ages, price_list, aging.storage_class)
    projection = lifecycle_cost.project(store, wanted, price_list)
    refused += lifecycle_cost.refusals(projection, wanted, price_list)
    gone = {refusal.want.name for refusal in refused}
    wanted = [want for want in wanted if want.name not in gone]
    versions = aging.versions()
    rules = lifecycle.rules(aging, wanted, versions=bool(versions))
    diff = lifecycle.diff(aging, aging.lifecycle(), rules, store.url)
    meddling = lifecycle.meddling(aging, diff.foreign)
    return _Plan(price_list, wanted, refused, projection, rules, versions, diff, meddling)


def _tell(made: _Plan, as_json: bool, *, applied: bool) -> None:
    if as_json:
        show.print_json(_json(made, applied))
    else:
        _show_rules(made, applied)
        _show_costs(made)
        _show_losses(made)
        for rule in made.meddling:
            which, what = _words(rule)
            show.note(f"Mind the rule {rule.get('ID', '')!r}, which is not ours: {which}: {what}.")
        for refusal in made.refused:
            show.error(f"{refusal.want.name} is refused: {refusal.reason}.")
        if made.diff.is_empty:
            show.say("The bucket's rules are as wanted; there is nothing to do.")
        elif applied:
            show.say("Applied, and read back the same.")
        else:
            show.say("Nothing was changed; `voicemill storage lifecycle apply` with the same options does it.")
    if made.refused:
        sys.exit(ExitCode.SOME_FAILED)


def _show_rules(made: _Plan, applied: bool) -> None:
    rows = [
        (sign, rule.get("ID", ""), *_words(rule))
        for sign, some in (
            ("+ added" if applied else "+ add", made.diff.added),
            ("~ changed" if applied else "~ change", made.diff.changed),
            ("- removed" if applied else "- remove", made.diff.removed),
            ("= as it is", made.diff.same),
            ("  others'", made.diff.foreign),
        )
        for rule in some
    ]
    if rows:
        show.table(("", "RULE", "OBJECTS", "WHAT HAPPENS"), rows)


def _show_costs(made: _Plan) -> None:
    found, currency = made.projection, made.price_list.currency
    rows: list[tuple[object, ...]] = [
        (
            kind.value,
            f"{held.objects:,}",
            show.size(held.bytes),
            _money(held.before),
            _money(held.after) if not held.deleted else "deleted",
        )
        for kind, held in found.holdings.items()
    ]
    if not rows:
        show.say("The store is empty, so there is nothing to reckon.")
        return
    total = sum(held.objects for held in found.holdings.values())
    size = sum(held.bytes for held in found.holdings.values())
    rows.append(("all", f"{total:,}", show.size(size), _money(found.before), _money(found.after)))
    show.say("")
    headings = ("", "OBJECTS", "SIZE", f"{currency} A MONTH", "IN THE END")
    show.table(headings, rows, right=(1, 2, 3, 4))
    for want in made.wanted:
        if want.is_move and (move := found.moves[want.name]).too_small:
            show.say(
                f"{want.name}: {move.too_small:,} objects are under {-(-(want.least or 0) // 1024)} KiB and stay where "
                "they are: moving them would not pay."
            )
    if found.once:
        paid = f", paid back in {found.months_to_pay:.1f} months" if found.months_to_pay else ""
        show.say(
            f"The moves cost {_money(found.once)} {currency} once{paid}; "
            f"reading all of it back once, {_money(found.back)}."
        )
    show.say(f"Prices of {made.price_list.date}, {made.price_list.region} ({made.price_list.source}).")


def _show_losses(made: _Plan) -> None:
    """What to know of what is deleted."""
    kinds = {want.kind for want in made.wanted if want.kind is not None and not want.is_move}
    if keys.Kind.TAKES in kinds:
        show.say(
            "Takes that are deleted are rendered again where their job is assembled again and their engine (espeak) has no "
            "codes."
        )
    if kinds and made.versions:
        show.say(
            f"The bucket keeps versions: what is deleted stays as one, and is billed, {lifecycle.VERSIONS_STAY} days more."
        )
    elif kinds and made.versions is None:
        show.note(
            "The bucket does not tell us whether it keeps versions (s3:GetBucketVersioning); if it does, what is deleted "
            "stays as one, and is billed."
        )


def _json(made: _Plan, applied: bool) -> dict[str, Any]:
    found = made.projection
    return {
        "applied": applied,
        "rules": list(made.rules),
        "added": [rule["ID"] for rule in made.diff.added],
        "changed": [rule["ID"] for rule in made.diff.changed],
        "removed": [rule["ID"] for rule in made.diff.removed],
        "foreign": [rule.get("ID") for rule in made.diff.foreign],
        "meddling": [rule.get("ID") for rule in made.meddling],
        "versions": made.versions,
        "refused": [{"rule": one.want.name, "reason": one.reason} for one in made.refused],
        "costs": {
            "currency": made.price_list.currency,
            "prices_of": made.price_list.date,
            "month_before": found.before,
            "month_after": found.after,
            "moves_once": found.once,
            "months_to_pay": found.months_to_pay,
            "read_back_once": found.back,
            "kinds": {
                kind.value: {
                    "objects": held.objects,
                    "bytes": held.bytes,
                    "month_before": held.before,
                    "month_after": held.after,
                    "deleted": held.deleted,
                }
                for kind, held in found.holdings.items()
            },
        },
    }


def _words(rule: Rule) -> tuple[str, str]:
    """Which objects a rule is about, and what happens to them."""
    chosen = lifecycle.canonical(rule).get("Filter", {})
    chosen = chosen.get("And", chosen)
    tags = [*chosen.get("Tags", []), *([chosen["Tag"]] if "Tag" in chosen else [])]
    which = [str(chosen.get("Prefix", "")) or "all", *(f"{tag['Key']}={tag['Value']}" for tag in tags)]
    if "ObjectSizeGreaterThan" in chosen:
        which.append(f"from {-(-(int(chosen['ObjectSizeGreaterThan']) + 1) // 1024)} KiB")
    return " ".join(which), "; ".join(_actions(rule)) + (
        "" if rule.get("Status") == "Enabled" else " (disabled)"
    )


def _actions(rule: Rule) -> list[str]:
    told = []
    for move in rule.get("Transitions", []):
        target = NAMES.get(move["StorageClass"], move["StorageClass"])
        told.append(
            f"to {target} after {move['Days']} days" if "Days" in move else f"to {target} on {move['Date']}"
        )
    expiration = rule.get("Expiration", {})
    if "Days" in expiration:
        told.append(f"deleted after {expiration['Days']} days")
    elif "Date" in expiration:
        told.append(f"deleted on {expiration['Date']}")
    if "NoncurrentDays" in (versions := rule.get("NoncurrentVersionExpiration", {})):
        told.append(f"old versions deleted after {versions['NoncurrentDays']} days")
    if "AbortIncompleteMultipartUpload" in rule:
        days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
        told.append(f"unfinished uploads given up after {days} days")
    return told or ["something that Voicemill has no words for"]


def _money(amount: float) -> str:
    """An amount as people read it: two decimals, more where it is small."""
    if amount == 0:
        return "0"
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.3g}" if amount >= 0.0001 else "under 0.0001"
