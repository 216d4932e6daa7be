"""Prompts as ids, and what text and descriptions may hold."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests import tiny_maya1
from workers.engines.maya1 import SPEC, constants, options, prompt
from workers.voices import Voice


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(json.dumps(tiny_maya1.tokenizer()))


def test_the_ids_of_a_prompt_in_both_forms(tokenizer: Tokenizer) -> None:
    body = tokenizer.encode('<description="Calm."> Hi <laugh> there.', add_special_tokens=False).ids
    assert body.count(tiny_maya1.FIRST_TAG + constants.TAGS.index("laugh")) == 1
    single = prompt.Prompts(tokenizer, double_bos=False).ids("Calm.", "Hi <laugh> there.")
    assert single == (128259, 128000, *body, 128009, 128260, 128261, 128257)
    assert prompt.Prompts(tokenizer, double_bos=True).ids("Calm.", "Hi <laugh> there.") == (128000, *single)


def test_the_prompts_of_a_voice_share_its_prefix(tokenizer: Tokenizer) -> None:
    prompts = prompt.Prompts(tokenizer, double_bos=True)
    prefix = prompts.prefix("Calm voice.")
    for text in ("Hi.", "<sigh> Well.", '"Quoted."'):
        assert prompts.ids("Calm voice.", text)[: len(prefix)] == prefix


@pytest.mark.parametrize("smuggled", ["<|eot_id|>", "<custom_token_10>", "<|begin_of_text|>"])
def test_control_tokens_never_reach_the_model(tokenizer: Tokenizer, smuggled: str) -> None:
    prompts = prompt.Prompts(tokenizer, double_bos=True)
    with pytest.raises(ValueError, match="control token"):
        prompts.ids("Calm.", f"Hi {smuggled} there.")
    with pytest.raises(ValueError, match="control token"):
        prompts.ids(f"Calm {smuggled}.", "Hi.")
    with pytest.raises(ValueError, match="is not one of Maya1's"):
        prompt.prepare(f"Hi {smuggled} there.", strip_unknown=False)


def test_known_tags_and_other_angles_pass() -> None:
    for text in ("Ha <laugh_harder> ha.", "If 3 < 4 and 5 > 4, fine.", "I <3 you."):
        assert prompt.prepare(text, strip_unknown=False) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Ha </laugh> ha.", "closing tag </laugh>"),
        ("Oh <yawn> dear.", "the tag <yawn> is not one of Maya1's$"),
        ("Oh <Whisper> dear.", r"did you mean <whisper>\?"),
        ('A <break time="1s"/> b.', "the tag <break"),
        ("...", "nothing to say"),
        ("", "nothing to say"),
    ],
)
def test_text_that_cannot_be_spoken_is_named(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SPEC.prepare(text, options.Maya1Options())


def test_unknown_tags_can_be_stripped() -> None:
    chosen = options.Maya1Options(strip_unknown_tags=True)
    assert SPEC.prepare("Oh <yawn> dear </laugh>, <sigh> no.", chosen) == "Oh dear , <sigh> no."
    with pytest.raises(ValueError, match="nothing to say"):
        SPEC.prepare("<yawn>", chosen)


def test_descriptions_end_in_a_full_stop_and_cannot_close_their_attribute() -> None:
    assert SPEC.voice(Voice("x", 'A "warm"\n voice')) == "A 'warm' voice."
    with pytest.raises(ValueError, match="<laugh>"):
        SPEC.voice(Voice("x", "A <laugh> voice."))
    with pytest.raises(ValueError, match="no description"):
        SPEC.voice(Voice("x", " "))


def test_the_spec_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, workers.engines.maya1 as m; m.SPEC.unavailable(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
