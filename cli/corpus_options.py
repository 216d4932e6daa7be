"""The options that shape a corpus, shared by `render`, `estimate` and `submit`."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from cli import show
from scheduler import accept, custom_ids, lexicon, options, readers
from scheduler.document import Document, Problem
from scheduler.readers import source
from scheduler.settings import SchedulerSettings
from storage import errors, settings
from workers import deliverables, voices
from workers.audio import covers, formats
from workers.engines.engine import EngineSpec, Tunable
from workers.settings import WorkerSettings
from workers.webhooks import targets

Command = TypeVar("Command", bound=Callable[..., Any])

SHOWN_PROBLEMS = 20  # bad lines told one by one; of more, only the number


class KeyValue(click.ParamType[tuple[str, Any]]):
    """`name=value`, the value as JSON where it is any (a number, true, a list), else as text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Split at the first equals sign."""
        name, equals, text = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not of the form name=value", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


class Captions(click.ParamType[tuple[str, ...]]):
    """A list such as `vtt,srt`."""

    name = "kinds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Check each kind."""
        if isinstance(value, tuple):
            return value
        kinds = tuple(dict.fromkeys(part.strip().lower() for part in str(value).split(",") if part.strip()))
        for kind in kinds:
            if kind not in options.CAPTIONS:
                self.fail(f"{kind!r} is none of {', '.join(options.CAPTIONS)}", param, ctx)
        return kinds


class Formats(click.ParamType[str]):
    """A format, or several: `m4b,mp3`."""

    name = "formats"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check each name."""
        names = [part.strip() for part in str(value).split(",") if part.strip()]
        return ",".join(dict.fromkeys(formats.by_name(name).name for name in names))


@dataclass(frozen=True)
class CorpusArguments:
    """What the user said of a corpus."""

    sources: tuple[str, ...]
    engine: str | None
    voice: str | None
    format: tuple[str, ...]
    bitrate: str | None
    sample_rate: int | None
    loudness: float | None
    preset: str | None
    cover: Path | None
    captions: tuple[str, ...]
    split: Literal["auto", "book", "chapter"]
    encoding: str
    stdin_format: Literal["auto", "jsonl", "text"]
    seed: int
    priority: str
    engine_options: Mapping[str, Any]
    voices_file: Path | None
    lexicon_file: Path | None
    skip_invalid: bool
    name: str | None
    webhook: str | None
    model: str | None

    @property
    def source(self) -> str:
        """Where it comes from, in one line."""
        return " ".join(map(source.printable, self.sources))

    def audio_format(self, scheduler: SchedulerSettings) -> str | None:
        """The formats in force, such as `m4b,mp3`; None where only a preset is asked for."""
        if not any(self.format) and self.preset is not None:
            return None
        return ",".join(name for name in self.format if name) or formats.by_name(scheduler.format).name


def corpus_options(command: Command) -> Command:
    """Give a command the options that shape a corpus, as one `CorpusArguments`."""
    names = [field for field in CorpusArguments.__dataclass_fields__ if field != "engine_options"]

    @wraps(command)
    def wrapped(*args: Any, engine_options: tuple[tuple[str, Any], ...], **given: Any) -> Any:
        mine = {name: given.pop(name) for name in names}
        if mine["model"] is not None:  # a setting like any other, named on the command line
            os.environ["VOICEMILL_MAYA1_MODEL"] = mine["model"]
        arguments = CorpusArguments(**mine, engine_options=dict(engine_options))
        return command(*args, arguments=arguments, **given)

    for decorate in reversed(_DECORATORS):
        wrapped = decorate(wrapped)
    return wrapped  # type: ignore[return-value]


_DECORATORS = (
    click.argument("sources", nargs=-1, required=True, metavar="SOURCE..."),
    click.option(
        "--engine",
        metavar="NAME",
        help="Engine: maya1, espeak, ... Default: maya1 where it can run, else espeak.",
    ),
    click.option("--model", metavar="MODEL", help="Weights for maya1: a folder or a Hugging Face name."),
    click.option("--voice", metavar="VOICE", help="A voice by name, or a description in place."),
    click.option(
        "--format",
        metavar="FORMAT",
        multiple=True,
        type=Formats(),
        help=f"Audio format: {', '.join(formats.FORMATS)}; several as in m4b,mp3. Default: mp3.",
    ),
    click.option(
        "--bitrate", metavar="RATE", help="Bit rate of lossy formats, such as 96k. Default: the format's own."
    ),
    click.option(
        "--sample-rate",
        type=click.IntRange(*deliverables.RATES),
        metavar="HZ",
        help="Sample rate of the files. Default: the engine's own.",
    ),
    click.option(
        "--loudness",
        type=click.FloatRange(deliverables.QUIETEST, deliverables.LOUDEST),
        metavar="LUFS",
        help="Loudness of each file as a whole (EBU R128), such as -16. Default: as it was spoken.",
    ),
    click.option(
        "--preset",
        type=click.Choice(deliverables.PRESETS),
        help="A file made and checked by a publisher's rules, beside those of --format.",
    ),
    click.option(
        "--cover",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A picture (PNG, JPEG) for mp3, m4b and flac. Default: the book's own.",
    ),
    click.option(
        "--captions", type=Captions(), default=(), help="Captions to write: vtt, srt, json (times of segments)."
    ),
    click.option(
        "--split",
        type=click.Choice(["auto", "book", "chapter"]),
        default="auto",
        show_default=True,
        help="One file a book or one a chapter; auto: a book for m4b, chapters for the others.",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        default="utf-8",
        show_default=True,
        help="How texts are encoded, such as cp1252, where no byte order mark says it.",
    ),
    click.option(
        "--stdin-format",
        metavar="KIND",
        type=click.Choice(["auto", "jsonl", "text"]),
        default="auto",
        show_default=True,
        help="Standard input: jsonl, text, or auto: JSON lines where it begins with {.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, options.MAX_SEED),
        default=0,
        show_default=True,
        help="Same seed, same takes.",
    ),
    click.option(
        "--priority",
        type=click.Choice(["high", "normal", "low"]),
        default="normal",
        show_default=True,
        help="Which work goes first where several corpora wait.",
    ),
    click.option(
        "-O", "engine_options", multiple=True, type=KeyValue(), help="An option of the engine; may be repeated."
    ),
    click.option(
        "--voices",
        "voices_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A TOML file with voices of your own.",
    ),
    click.option(
        "--lexicon",
        "lexicon_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A pronunciation lexicon (TOML, TSV or CSV).",
    ),
    click.option(
        "--skip-invalid", is_flag=True, help="Leave out what cannot be used instead of refusing the corpus."
    ),
    click.option(
        "--webhook", metavar="URL", help="Tell this address of every job and of the end (docs/webhooks.md)."
    ),
    click.option("--name", metavar="NAME", help="The corpus' name. Default: from the source and its content."),
)


def on_this_machine(arguments: CorpusArguments, spec: EngineSpec) -> CorpusArguments:
    """Options that are settings of the machine that renders become that: here it is this one."""
    known = spec.settings.model_fields if isinstance(spec, Tunable) else {}
    options_left = {}
    for name, value in arguments.engine_options.items():
        setting = f"{spec.name}_{name}"
        if setting in known:
            os.environ[settings.PREFIX + setting.upper()] = str(value)
        else:
            options_left[name] = value
    return dataclasses.replace(arguments, engine_options=options_left)


def read(arguments: CorpusArguments, spec: EngineSpec) -> accept.Staged:
    """Read, check and cut the whole corpus; tells every bad item. Raises BadCorpusError."""
    scheduler = settings.load(SchedulerSettings)
    how = accept.How(
        spec=spec, resolver=_resolver(arguments, spec, scheduler), lexicon=_lexicon(arguments, scheduler)
    )
    split = arguments.split
    if split == "auto":
        names = (arguments.audio_format(scheduler) or "").split(",")
        split = "book" if "m4b" in names and arguments.preset != "acx" else "chapter"
    documents = readers.read(
        arguments.sources, split=split, encoding=arguments.encoding, stdin_format=arguments.stdin_format
    )
    if arguments.cover is not None:
        documents = _covered(documents, _cover(arguments.cover))
    try:
        staged = accept.stage(documents, how, skip_invalid=arguments.skip_invalid)
    except accept.BadCorpusError as error:
        tell_problems(error.fields["problems"], error.fields["count"])
        raise
    tell_problems(staged.problems, staged.problem_count)
    if not staged.totals.jobs:
        with staged:
            raise accept.EmptyCorpusError(source=arguments.source)
    return staged


def name_of(arguments: CorpusArguments, staged: accept.Staged) -> str:
    """The corpus' name: the user's, or one that follows from the source and the content. Raises an InputError."""
    if arguments.name is not None:
        reason = custom_ids.check(arguments.name)
        if reason is not None:
            raise options.BadOptionError(reason=f"--name: {reason}")
        return arguments.name
    first = arguments.sources[0]
    stem = "stdin" if first == "-" else re.sub(r"[*?\[\]]+", "", Path(first.rstrip("/")).stem) or "corpus"
    mark = hashlib.sha256((staged.fingerprint + staged.how.spec.name).encode()).hexdigest()[:8]
    return f"{custom_ids.slug(stem)[:60] or 'corpus'}-{mark}"


def checked_webhook(arguments: CorpusArguments) -> str | None:
    """The webhook's URL, if there is one and it may be spoken to. Raises BadUrlError."""
    if arguments.webhook is not None:
        targets.parse(arguments.webhook)
    return arguments.webhook


def tell_secret(accepted: accept.Accepted) -> None:
    """A new webhook's secret: shown here, and never again."""
    if accepted.secret is not None:
        show.note(f"The webhook's secret, shown only now: {accepted.secret.get_secret_value()}")


def stored(arguments: CorpusArguments) -> dict[str, Any]:
    """The corpus' options as its row remembers them."""
    scheduler = settings.load(SchedulerSettings)
    return {
        "voice": arguments.voice or scheduler.voice,
        "format": arguments.audio_format(scheduler),
        "bitrate": arguments.bitrate,
        "sample_rate": arguments.sample_rate,
        "loudness": arguments.loudness,
        "preset": arguments.preset,
        "captions": list(arguments.captions),
        "split": arguments.split,
        "seed": arguments.seed,
        "engine_options": dict(arguments.engine_options),
    }


def tell_problems(problems: list[Any], count: int) -> None:
    """Each bad item in a line, the first ones of many."""
    for problem in problems[:SHOWN_PROBLEMS]:
        show.note(f"{problem.where}: {problem.reason}")
    if count > SHOWN_PROBLEMS:
        show.note(f"... and {count - SHOWN_PROBLEMS} more")


def _resolver(arguments: CorpusArguments, spec: EngineSpec, scheduler: SchedulerSettings) -> options.Resolver:
    worker = settings.load(WorkerSettings)
    corpus = options.CorpusOptions(
        voice=arguments.voice or scheduler.voice,
        format=arguments.audio_format(scheduler),
        bitrate=arguments.bitrate,
        sample_rate=arguments.sample_rate,
        loudness=arguments.loudness,
        preset=arguments.preset,
        captions=arguments.captions,
        seed=arguments.seed,
        priority=arguments.priority,
        engine_options=arguments.engine_options,
    )
    resolver = options.Resolver(spec, corpus, voices.load(arguments.voices_file or worker.voices))
    resolver.resolve({})  # a mistake in the corpus' own options is told once, not for every line
    return resolver


class BadCoverFileError(errors.InputError):
    """The cover {path} cannot be used: {reason}."""


def _cover(path: Path) -> bytes:
    try:
        picture = path.read_bytes()
    except OSError as error:
        raise BadCoverFileError(path=path, reason=error.strerror) from error
    if covers.suffix(picture) is None:
        raise BadCoverFileError(path=path, reason="it is neither PNG nor JPEG, or larger than 20 MB")
    return picture


def _covered(documents: Iterable[Document | Problem], picture: bytes) -> Iterator[Document | Problem]:
    for item in documents:
        yield dataclasses.replace(item, cover=picture) if isinstance(item, Document) else item


def _lexicon(arguments: CorpusArguments, scheduler: SchedulerSettings) -> lexicon.Lexicon:
    path = arguments.lexicon_file or scheduler.lexicon
    return lexicon.Lexicon.load(path) if path is not None else lexicon.Lexicon()
