"""The options of a job: what a line says, else what its corpus says, else the default; checked once, stored whole."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pydantic

from scheduler import planner
from storage import errors, states
from workers import deliverables, voices
from workers.audio import acx
from workers.deliverables import Deliverable
from workers.engines.engine import EngineSpec, Options

CAPTIONS = ("vtt", "srt", "json")
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """What holds where a line is silent."""

    voice: str = "narrator"
    format: str | None = "mp3"  # or several, `m4b,mp3`; None: only what the preset has
    bitrate: str | None = None  # such as 96k; None: the format's own. Formats without one pass it over
    sample_rate: int | None = (
        None  # Hz, of the files; None: the engine's own, or the next that the format takes
    )
    loudness: float | None = None  # LUFS; None: as it comes from the engine
    preset: str | None = None  # `acx`: one more file, made by a publisher's rules
    deliverables: Sequence[Mapping[str, Any]] | None = None  # every file, in place of format and preset
    captions: tuple[str, ...] = ()
    seed: int = 0
    priority: str = "normal"
    engine_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """One job's options, nothing left open."""

    values: Mapping[str, Any]  # as stored in the database
    priority: states.Priority
    engine_options: Options


class BadOptionError(errors.InputError):
    """{reason}."""


class Resolver:
    """Makes a line's options whole. Lines with the same options are checked once."""

    def __init__(self, spec: EngineSpec, corpus: CorpusOptions, table: Mapping[str, voices.Voice]) -> None:
        self._spec, self._corpus, self._table = spec, corpus, table
        self._cached = lru_cache(maxsize=4096)(self._resolve)

    def resolve(self, given: Mapping[str, Any]) -> JobOptions:
        """The options in force for a line that gives these. Raises an InputError that says which one is wrong."""
        known = {key: value for key, value in given.items() if value is not None and key != "title"}
        return self._cached(json.dumps(known, sort_keys=True))

    def _resolve(self, given_json: str) -> JobOptions:
        given: dict[str, Any] = json.loads(given_json)
        corpus = self._corpus
        voice = voices.resolve(str(given.get("voice", corpus.voice)), self._table)
        wanted = _deliverables(given, corpus)
        engine_given = {**corpus.engine_options, **given.get("options", {})}
        seed = corpus.seed
        if "seed" not in self._spec.options.model_fields:  # else it is another one
            seed = engine_given.pop("seed", seed)
        engine_options = self._engine_options(engine_given)
        try:
            engine_voice = self._spec.voice(voice)
            priority = planner.priority_of(given.get("priority", corpus.priority))
        except ValueError as error:
            raise BadOptionError(reason=error) from error
        seed = given.get("seed", seed)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise BadOptionError(reason=f"the seed {seed!r} is not a whole number from 0 to {MAX_SEED}")
        values = {
            "voice": voice.name or voice.description,
            "engine_voice": engine_voice,
            "engine_options": engine_options.model_dump(mode="json"),
            "deliverables": [each.stored() for each in wanted],
            "captions": list(corpus.captions),
            "seed": seed,
        }
        if any(each.preset == "acx" for each in wanted):
            values |= {"head_ms": acx.HEAD_MS, "tail_ms": acx.TAIL_MS}
        return JobOptions(values, priority, engine_options)

    def _engine_options(self, given: Mapping[str, Any]) -> Options:
        try:
            return self._spec.options.model_validate(given)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                known = ", ".join(sorted(self._spec.options.model_fields)) or "none"
                reason = f"the engine {self._spec.name} has no option {name!r}; it knows {known}"
            else:
                reason = f"the option {name} of the engine {self._spec.name}: {first['msg']}"
            raise BadOptionError(reason=reason) from error


def _deliverables(given: Mapping[str, Any], corpus: CorpusOptions) -> list[Deliverable]:
    """The files to be made of a job. Raises an InputError."""
    listed = given.get("deliverables")
    if listed is None and not {"format", "preset"} & given.keys():  # a line that names either means only that
        listed = corpus.deliverables
    if listed is not None:
        return deliverables.several([_deliverable(each, given, corpus) for each in _checked_list(listed)])
    preset = given.get("preset", corpus.preset)
    silent = None if "preset" in given else corpus.format  # a line that names a preset means only that
    names = [name for name in str(given.get("format", silent) or "").split(",") if name.strip()]
    wanted = [_deliverable({"format": name}, given, corpus) for name in names]
    if preset is not None:
        wanted.append(_deliverable({"preset": preset}, given, corpus))
    if not wanted:
        raise BadOptionError(reason="no audio format is named")
    return deliverables.several(wanted)


def _deliverable(each: Mapping[str, Any], given: Mapping[str, Any], corpus: CorpusOptions) -> Deliverable:
    """One file: what is said of itself, else of its job, else of its corpus."""

    def option(name: str) -> Any:
        return each.get(name, given.get(name, getattr(corpus, name)))

    if "preset" not in each and "format" not in each:
        raise BadOptionError(reason="each of the `deliverables` needs a `format` or a `preset`")
    rate, loudness = option("sample_rate"), option("loudness")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int)):
        raise BadOptionError(reason=f"the sample rate {rate!r} is not a whole number of Hz")
    if loudness is not None and (isinstance(loudness, bool) or not isinstance(loudness, int | float)):
        raise BadOptionError(reason=f"the loudness {loudness!r} is not a number of LUFS")
    bitrate = option("bitrate")
    return deliverables.checked(
        str(each.get("format", "mp3")),
        None if bitrate is None else str(bitrate),
        rate,
        loudness,
        each.get("preset"),
    )


def _checked_list(listed: Any) -> list[Mapping[str, Any]]:
    names = ("format", "bitrate", "sample_rate", "loudness", "preset")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise BadOptionError(reason="`deliverables` is not a list of objects")
    if unknown := next((name for each in listed for name in each if name not in names), None):
        raise BadOptionError(reason=f"a deliverable has no {unknown!r}; it has {', '.join(names)}")
    return listed
