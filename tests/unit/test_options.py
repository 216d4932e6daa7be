"""What `-O` and a line's `options` mean: an option of the engine, the seed, or a setting of this machine."""

import os
from dataclasses import fields
from typing import Any

import pytest

from cli import corpus_options
from scheduler import options
from storage import settings
from tests import corpus_maker, tones
from workers.engines import maya1
from workers.engines.maya1.settings import Maya1Settings


def seed(line: dict[str, Any], **corpus: Any) -> Any:
    resolver = options.Resolver(tones.Spec(), options.CorpusOptions(**corpus), corpus_maker.VOICE)
    return resolver.resolve(line).values["seed"]


def test_a_seed_among_the_options_is_the_seed() -> None:
    assert seed({}, engine_options={"seed": 5}) == 5
    assert seed({}, seed=3, engine_options={"seed": 5}) == 5
    assert seed({"options": {"seed": 7}}, engine_options={"seed": 5}) == 7
    assert seed({"seed": 9, "options": {"seed": 7}}, engine_options={"seed": 5}) == 9
    with pytest.raises(options.BadOptionError, match="the seed 'five' is not a whole number"):
        seed({"options": {"seed": "five"}})


def arguments(**given: Any) -> corpus_options.CorpusArguments:
    silent = {field.name: None for field in fields(corpus_options.CorpusArguments)}
    return corpus_options.CorpusArguments(**{**silent, "engine_options": given})  # type: ignore[arg-type]


def test_a_setting_of_the_engine_is_set_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KV_DTYPE", "SLOTS"):
        monkeypatch.setenv(f"VOICEMILL_MAYA1_{name}", "")  # so that it is unset again afterwards
    given = arguments(kv_dtype="int8", slots=64, temperature=0.9, seed=5, unknown=1)
    left = corpus_options.on_this_machine(given, maya1.SPEC)
    assert left.engine_options == {"temperature": 0.9, "seed": 5, "unknown": 1}
    chosen = settings.load(Maya1Settings)
    assert (chosen.maya1_kv_dtype, chosen.maya1_slots) == ("int8", 64)


def test_of_another_engine_nothing_is_set() -> None:
    before = dict(os.environ)
    given = arguments(kv_dtype="int8")
    assert corpus_options.on_this_machine(given, tones.Spec()) == given
    assert os.environ == before


def test_a_line_cannot_set_what_a_machine_was_loaded_with() -> None:
    resolver = options.Resolver(maya1.SPEC, options.CorpusOptions(), corpus_maker.VOICE)
    with pytest.raises(options.BadOptionError, match="VOICEMILL_MAYA1_SLOTS=64"):
        resolver.resolve({"options": {"slots": 64}})
