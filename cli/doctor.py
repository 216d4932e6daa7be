"""`voicemill doctor`: is everything here that the work needs?"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

import click

from cli import config, ring, show
from cli.exit_codes import ExitCode
from cli.place import NoStateError, Place, pass_place
from scheduler.settings import SchedulerSettings
from storage import errors, migrate, settings
from storage.database import Database
from workers.audio import ffmpeg
from workers.engines import registry
from workers.settings import QueueSettings

LOW_SPACE = 2e9  # bytes
CLOCK_SECONDS = 5.0  # that a clock may be off before it is told of


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    what: str
    good: bool
    told: str  # what is there, or what is wrong
    advice: str = ""  # what to do about it


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@pass_place
def command(place: Place, as_json: bool) -> None:
    """Check settings, database, store, broker, clock, ffmpeg and engines, and say what to do about each fault.

    Returns 1 where something is wrong.

    \b
    Example:
      voicemill doctor
    """
    findings = [finding for check in CHECKS for finding in _run(check, place)]
    if as_json:
        show.print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = click.style("ok  ", fg="green") if finding.good else click.style("bad ", fg="red", bold=True)
            click.echo(
                f"{mark}{finding.what}: {finding.told}" + (f" {finding.advice}" if finding.advice else "")
            )
    if not all(finding.good for finding in findings):
        sys.exit(ExitCode.SOME_FAILED)


Check = Callable[[Place], Iterator[Finding]]


def _run(check: Check, place: Place) -> Iterator[Finding]:
    try:
        yield from check(place)
    except errors.VoicemillError as error:
        yield Finding((check.__doc__ or "").rstrip("."), False, str(error))
    except Exception as error:
        yield Finding((check.__doc__ or "").rstrip("."), False, f"{type(error).__name__}: {error}")


def _settings(place: Place) -> Iterator[Finding]:
    """Settings."""
    config.check_file()
    yield Finding("Settings", True, "understood")


def _database(place: Place) -> Iterator[Finding]:
    """Database."""
    if not _has_state(place):
        yield Finding("Database", True, "embedded, made where it is needed")
        return
    with closing(Database(place.storage.database())) as database:
        current, newest = migrate.current(database), migrate.newest()
        database.check()
    if current == newest:
        yield Finding("Database", True, f"{database.url} at revision {current}")
    else:
        told = f"{database.url} is at revision {current or 'none'}, this version needs {newest}."
        yield Finding("Database", False, told, "Run `voicemill db upgrade`.")


def _store(place: Place) -> Iterator[Finding]:
    """Store."""
    if place.is_embedded and place.storage.store_url is None:
        free = shutil.disk_usage(place.storage.home if _has_state(place) else ".").free
        told = f"a folder beside the output, {show.size(free)} free here"
        yield Finding("Store", free > LOW_SPACE, told, "" if free > LOW_SPACE else "Free some space.")
        if not _has_state(place):
            return
    store = place.store()
    try:
        store.check()
    except errors.StoreError as error:
        yield Finding("Store", False, str(error), "Mend it, or name another one in VOICEMILL_STORE_URL.")
        return
    yield Finding("Store", True, f"{store.url} can be written, read and deleted from")


def _broker(place: Place) -> Iterator[Finding]:
    """Broker."""
    if settings.load(QueueSettings).broker_url is None:
        if place.is_embedded:
            yield Finding(
                "Broker", True, "none, and none is needed: `voicemill render` does all the work itself"
            )
        else:
            yield Finding("Broker", False, "none is set, and workers need one.", "Set VOICEMILL_BROKER_URL.")
        return
    ring.need()
    from workers import broker

    try:
        broker.check_times(settings.load(SchedulerSettings).batch_seconds)
    except broker.TimesOverlapError as error:
        yield Finding("Broker", False, str(error))
    yield Finding("Broker", True, f"{broker.version()} at {broker.shown_url()}")


def _clock(place: Place) -> Iterator[Finding]:
    """Clock."""
    if place.is_embedded:
        yield Finding("Clock", True, "this machine's, which the embedded database goes by, too")
        return
    with closing(Database(place.storage.database())) as database:
        try:
            ahead = database.ahead()
        except errors.DatabaseUnreachableError:
            return  # as the line on the database says
    if abs(ahead) <= CLOCK_SECONDS:
        yield Finding("Clock", True, f"within {CLOCK_SECONDS:.0f} s of the database's")
        return
    told = f"{abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the database's, by which leases go."
    advice = "Let NTP set both (chrony, systemd-timesyncd): webhooks are refused when 5 min off, S3's requests 15 min."
    yield Finding("Clock", False, told, advice)


def _has_state(place: Place) -> bool:
    """Whether there is a database to look at: on a server, or in an embedded home that there is already."""
    try:
        place.existing()
    except NoStateError:
        return False
    return True


def _ffmpeg(place: Place) -> Iterator[Finding]:
    """ffmpeg."""
    yield Finding("ffmpeg", True, f"{ffmpeg.version()} at {ffmpeg.find()}")


def _engines(place: Place) -> Iterator[Finding]:
    """Engines."""
    any_good = False
    for name, spec in sorted(registry.specs().items()):
        reason = spec.unavailable()
        any_good = any_good or reason is None
        # An engine that cannot run here is no fault as long as another can.
        yield Finding(
            f"Engine {name}", True, "can run here" if reason is None else f"cannot run here: {reason}"
        )
    if not any_good:
        yield Finding("Engines", False, "none can run here.", "Reinstall voicemill: espeak comes with it.")


CHECKS: tuple[Check, ...] = (_settings, _database, _store, _broker, _clock, _ffmpeg, _engines)
