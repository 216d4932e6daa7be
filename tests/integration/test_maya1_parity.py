"""Token for token the same as `LlamaForCausalLM.generate` of transformers, which nobody here wrote."""

import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from tests import tiny_maya1
from workers.engines.engine import Request
from workers.engines.maya1 import cache, checkpoint, constants, decode
from workers.engines.maya1.kernels import plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.sequence import End, Sequence

torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time
transformers.logging.disable_progress_bar()

PROMPTS = 26  # for each shape, with and without penalty, each time others
PENALTIES = 1.0, 1.1
FRAMES = 7
LLAMA3 = tiny_maya1.LLAMA3
SHAPES: dict[str, dict[str, Any]] = {
    "as Maya1: 3 to 1 heads, llama3 rope, tied": {},
    "every head its own, default rope, untied": {
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": None,
        "rms_norm_eps": 1e-6,
        "rope_theta": None,
        "rope_scaling": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": False,
    },
    "4 to 1 heads, linear rope": {
        "num_attention_heads": 8,
        "head_dim": 8,
        "rms_norm_eps": 1e-3,
        "num_hidden_layers": 3,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    },
    "1 key head, llama3 rope in transformers 5's form": {
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rope_theta": None,
        "rope_scaling": None,
        "rope_parameters": LLAMA3 | {"rope_theta": 100_000.0, "factor": 8.0},
    },
}


class Grammar(LogitsProcessor):  # type: ignore[misc]
    """Masks all but the frame slot's codes, and the end of speech at slot 0."""

    def __init__(self, width: int) -> None:
        self.width = width

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        slot = (ids.shape[1] - self.width) % 7
        first = 128_266 + 4096 * slot
        legal = torch.full_like(scores, -torch.inf)
        legal[:, first : first + 4096] = scores[:, first : first + 4096]
        if slot == 0:
            legal[:, 128_258] = scores[:, 128_258]
        return legal


def generate(folder: Path, prompts: list[tuple[int, ...]], penalty: float) -> list[list[int]]:
    """What transformers makes of the prompts, padded on the left, up to the end of speech (which is kept)."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[constants.BOS] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    made = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=constants.FRAME * FRAMES,
        min_new_tokens=28,
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=128_258,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([Grammar(width)]),
    )[:, width:].tolist()
    return [row[: row.index(128_258) + 1] if 128_258 in row else row for row in made]


def decoded(folder: Path, prompts: list[tuple[int, ...]], penalty: float) -> list[list[int]]:
    """What the engine makes of them in a batch of eight places, refilled as places become free."""
    opened = checkpoint.open_directory(folder)
    model = Model(opened.shape, opened.load(torch.device("cpu"), torch.float32), plain, 256)
    decoder = decode.Decoder(model, cache.Cache(opened.shape, 8, 256, torch.float32, torch.device("cpu")))
    sequences = [
        Sequence(Request(str(n), "", "", 0), prompt, (), FRAMES, temperature=0, top_p=1, penalty=penalty)
        for n, prompt in enumerate(prompts)
    ]
    waiting = list(sequences)
    with torch.inference_mode():
        while waiting or decoder.active:
            free = len(decoder.free)
            decoder.admit(waiting[:free])
            del waiting[:free]
            decoder.step()
    ended = {End.SPEECH: [constants.SPEECH_END], End.BUDGET: [], End.LOOP: []}
    return [[*decode.known(s)[len(s.prompt) :], *ended[s.end]] for s in sequences if s.end]


def prompts_of(shape: str, penalty: float) -> list[tuple[int, ...]]:
    """Prompts of any text ids, no two of one length."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{shape}{penalty}".encode()))
    prompts = []
    for length in (3 + torch.randperm(70, generator=generator)[:PROMPTS]).tolist():
        text = torch.randint(0, constants.FIRST_SPECIAL, (length,), generator=generator).tolist()
        prompts.append((constants.BOS, constants.HUMAN_START, *text, constants.SPEECH_START))
    return prompts


def test_there_are_two_hundred_prompts() -> None:
    every = {prompt for shape in SHAPES for penalty in PENALTIES for prompt in prompts_of(shape, penalty)}
    assert len(every) == len(SHAPES) * len(PENALTIES) * PROMPTS >= 200
    assert sum(max(prompt[2:-1]) > 256 for prompt in every) == len(every)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_tokens_equal_those_of_transformers(tmp_path: Path, shape: str, penalty: float) -> None:
    folder = tiny_maya1.make_model(tmp_path, **SHAPES[shape])
    prompts = prompts_of(shape, penalty)
    mine = decoded(folder, prompts, penalty)
    theirs = generate(folder, prompts, penalty)
    assert len(mine) == len(theirs) == PROMPTS
    for one, other in zip(mine, theirs, strict=True):
        assert one == other[: len(one)]  # a loop ends mine sooner
        assert len(one) == len(other) or len(one) >= 8 * constants.FRAME
    assert any(row[-1] == 128_258 for row in mine)
