"""`voicemill storage`: what the object store holds, how it ages, what of it nobody needs."""

import sys
from datetime import UTC, datetime

import click

from cli import lifecycle, show
from cli.exit_codes import ExitCode
from cli.place import Place, pass_place
from scheduler import collect, verify

HOUR = 3600.0  # seconds

GRACE = click.option(
    "--grace",
    type=click.FloatRange(collect.LEAST_GRACE / HOUR, 24 * 3650),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="An object may wait so long for its row.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group("storage")
def command() -> None:
    """Look after the object store: how it ages, what nobody needs any more, what is missing.

    \b
    Example:
      voicemill storage lifecycle plan
    """


command.add_command(lifecycle.command)


@command.command("gc")
@click.option("--yes", is_flag=True, help="Remove it. Without, only tell.")
@GRACE
@JSON
@pass_place
def gc(place: Place, yes: bool, grace: float, as_json: bool) -> None:
    """Tell which objects no row refers to, and with --yes remove them. Never what is younger than the grace time.

    Only what Voicemill has written is looked at. Texts that were sent by reference are kept for 30 days in any case.

    \b
    Example:
      voicemill storage gc --yes
    """
    found = collect.collect(place.database(), place.store(), grace * HOUR, remove=yes)
    if as_json:
        show.print_json(
            {
                "removed": found.removed,
                "objects": found.objects,
                "bytes": found.bytes,
                "kinds": {
                    kind.value: {"objects": heap.objects, "bytes": heap.bytes}
                    for kind, heap in found.heaps.items()
                },
                "too_young": found.young,
                "not_ours": found.strange,
                "assembled_again": found.again,
            }
        )
        return
    if found.objects:
        rows = [
            (kind.value, f"{heap.objects:,}", show.size(heap.bytes), f"{_day(heap.oldest)}")
            for kind, heap in found.heaps.items()
        ]
        show.table(("NO ROW REFERS TO", "OBJECTS", "SIZE", "OLDEST"), rows, right=(1, 2))
    if found.young:
        show.say(f"{found.young:,} more are younger than {max(grace, 1):g} hours, or are texts: they stay.")
    told = f"{found.objects:,} objects, {show.size(found.bytes)}"
    if not found.objects:
        show.say("There is nothing to remove.")
    elif not found.removed:
        show.say(f"{told} would be removed; nothing was. `voicemill storage gc --yes` removes them.")
    else:
        show.say(f"{told} were removed.")
    if found.again:
        show.say(f"{found.again} jobs came to need some of it meanwhile and are assembled again.")


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


WORDS = {
    verify.Finding.MISSING: "missing",
    verify.Finding.WRONG_SIZE: "of a wrong size",
    verify.Finding.ORPHANED: "orphaned",
}


@command.command("verify")
@click.option("--mend", is_flag=True, help="Have audio assembled again that is missing or of a wrong size.")
@click.option(
    "--limit", type=click.IntRange(1, verify.KEEP), default=20, show_default=True, help="Lines, at most."
)
@GRACE
@JSON
@pass_place
def verify_(place: Place, mend: bool, limit: int, grace: float, as_json: bool) -> None:
    """Hold rows and objects against each other: what is missing, of a wrong size, or referred to by no row.

    Returns 1 where anything is amiss. Takes that the bucket's rules have deleted are not; nor is what is younger than the
    grace time. With --mend, run `voicemill render` again afterwards in an embedded home; workers do it by themselves.

    \b
    Example:
      voicemill storage verify --mend
    """
    database, store = place.database(), place.store()
    verdict = verify.verify(database, store, grace * HOUR)
    mended = verify.mend(database, store, verdict) if mend else 0
    if as_json:
        show.print_json(
            {
                "well": verdict.is_well,
                "objects": verdict.objects,
                **{finding.value: count for finding, count in verdict.counts.items()},
                "expired_takes": verdict.expired,
                "too_young": verdict.young,
                "not_ours": verdict.strange,
                "assembled_again": mended,
                "findings": [
                    {
                        "finding": one.finding.value,
                        "key": one.key,
                        "bytes": one.size,
                        "expected_bytes": one.expected,
                    }
                    for one in verdict.named
                ],
            }
        )
    else:
        _show(verdict, limit, mending=mend)
        if mended:
            when = ", once `voicemill render` is run again" if place.is_embedded else ""
            show.say(f"{mended} jobs are assembled again{when}.")
    if not verdict.is_well:
        sys.exit(ExitCode.SOME_FAILED)


def _show(verdict: verify.Verdict, limit: int, *, mending: bool) -> None:
    rows = [
        (
            WORDS[one.finding],
            one.key,
            "" if one.size is None else f"{one.size:,}",
            "" if one.expected is None else f"{one.expected:,}",
        )
        for one in verdict.named[:limit]
    ]
    if rows:
        show.table(("", "OBJECT", "BYTES", "EXPECTED"), rows, right=(2, 3))
    more = sum(verdict.counts.values()) - len(rows)
    if more:
        show.say(f"and {more:,} more")
    amiss = ", ".join(f"{count:,} {WORDS[finding]}" for finding, count in verdict.counts.items() if count)
    told = [f"{verdict.objects:,} objects: {amiss or 'every one is as its row says'}"]
    told += [f"{verdict.expired:,} takes deleted by the bucket's rules"] if verdict.expired else []
    told += [f"{verdict.young:,} too young to judge"] if verdict.young else []
    told += [f"{verdict.strange:,} that are none of ours"] if verdict.strange else []
    show.say("; ".join(told))
    if verdict.counts[verify.Finding.ORPHANED]:
        show.say("`voicemill storage gc` removes what is orphaned.")
    if verdict.broken and not mending:
        show.say("`voicemill storage verify --mend` has finished audio made again.")
