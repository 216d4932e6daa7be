"""Other ways of doing the same, on the same requests with the same weights, ended at the same lengths."""

import inspect
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gpu_parts import inputs
from gpu_parts.bench import Bench, relative
from gpu_parts.runs import SPARE, Result, measured
from workers.engines.maya1 import constants, kernels
from workers.engines.maya1.model import Model
from workers.engines.maya1.sequence import Sequence

# mypy: disable-error-code="no-untyped-call"

Outcome = dict[str, Any]  # seconds, tokens, finished (requests), attention


def run(bench: Bench, folder: Path) -> None:
    model, count = inputs.model(bench), bench.sizes.peer_requests
    slots = min(count, bench.fitting(bench.exact))
    what = f"{str(bench.exact)[6:]}, the peers' requests"
    ours = bench.step(what, 40, partial(measured, bench, what, model, bench.exact, slots, count, folder))
    theirs = bench.step("transformers", 20, partial(transformers_model, bench, model))
    if ours is None or theirs is None:
        return
    for name, peer, lacks in (
        ("transformers generate, one static batch", static_batch, "a vocoder"),
        ("transformers continuous batching", continuous_batching,
         "a vocoder and the repetition penalty, which it does not support"),
    ):  # fmt: skip
        bench.step(name, 60, partial(beside, bench, ours, name, peer, theirs, lacks))


def transformers_model(bench: Bench, model: Model) -> Any:
    """transformers' Llama with our weights, in the same memory."""
    import transformers

    transformers.logging.set_verbosity_error()
    s = model.shape
    config = transformers.LlamaConfig(
        vocab_size=s.vocabulary, hidden_size=s.hidden, intermediate_size=s.intermediate, num_hidden_layers=s.layers,
        num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, head_dim=s.head_dim, rms_norm_eps=s.epsilon,
        max_position_embeddings=s.positions, tie_word_embeddings=True, rope_parameters=dict(s.rope),
        bos_token_id=constants.BOS, eos_token_id=None, pad_token_id=constants.TEXT_END,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(config)
    state = {"model.embed_tokens.weight": model.weights.embedding, "model.norm.weight": model.weights.norm,
             "lm_head.weight": model.weights.embedding}  # fmt: skip
    for index, layer in enumerate(model.weights.layers):
        name, width = f"model.layers.{index}.", s.kv_heads * s.head_dim
        q, k, v = whole(layer.qkv).split([s.heads * s.head_dim, width, width])
        gate, up = whole(layer.gate_up).chunk(2)
        output, down = whole(layer.output), whole(layer.down)
        state |= {f"{name}self_attn.{n}_proj.weight": w for n, w in zip("qkvo", (q, k, v, output), strict=True)}
        state |= {f"{name}mlp.{n}_proj.weight": w for n, w in (("gate", gate), ("up", up), ("down", down))}
        state |= {f"{name}input_layernorm.weight": layer.input_norm}
        state |= {f"{name}post_attention_layernorm.weight": layer.post_norm}
    theirs.load_state_dict(state, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config=config).to(bench.device)
    theirs.eval()
    ids = torch.randint(0, s.vocabulary, (64,), device=bench.device)
    expected, got = theirs(ids[None]).logits[0].float(), model.logits(ids, model.weights.embedding)
    bench.check("logits of a prompt, beside transformers", relative(got, expected), 0.05)
    return theirs


def whole(matrix: kernels.Matrix) -> torch.Tensor:
    assert isinstance(matrix, torch.Tensor)
    return matrix


def beside(
    bench: Bench, ours: Result, name: str, generate: Callable[..., Outcome], theirs: Any, lacks: str
) -> None:
    """A peer's speed on what `ours` was measured on. Out of time it counts for what it has finished."""
    members = inputs.sequences(bench.sizes, ours.requests)
    lengths = [member.budget * constants.FRAME for member in members]
    outcome = generate(bench, theirs, members, lengths)
    speed = outcome["tokens"] / constants.TOKENS_PER_SECOND / outcome["seconds"]
    ratio = ours.audio / ours.total / speed if speed else None
    bench.found["peers"].append(
        {
            "name": name,
            "audio_per_second": speed,
            "ours_over_it": ratio,
            "lacks": lacks,
            "requests": len(members),
        }
        | outcome
    )
    times = "" if ratio is None else f"; ours on the same requests {ratio:.1f} times that"
    print(
        f"{name}: {speed:.2f} audio-s/s{times}. {outcome['finished']} of {len(members)} requests finished, "
        f"attention {outcome['attention']}. It lacks {lacks}.",
        flush=True,
    )


def static_batch(bench: Bench, theirs: Any, members: list[Sequence], lengths: list[int]) -> Outcome:
    import transformers

    width = max(len(member.prompt) for member in members)
    gaps = [width - len(member.prompt) for member in members]
    padded = [[constants.TEXT_END] * gap + list(m.prompt) for gap, m in zip(gaps, members, strict=True)]
    ids = torch.tensor(padded, device=bench.device)
    mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in gaps], device=bench.device)
    ends = torch.tensor(lengths, device=bench.device) + width

    class Forced(transformers.StoppingCriteria):
        def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return (ids.shape[1] >= ends) | (bench.cuda and bench.left() < SPARE)

    def generate(limit: int) -> int:
        """Steps that were made."""
        made = theirs.generate(
            ids, attention_mask=mask, do_sample=True, temperature=inputs.TEMPERATURE, top_p=inputs.TOP_P, top_k=0,
            repetition_penalty=inputs.PENALTY, max_new_tokens=limit,
            stopping_criteria=transformers.StoppingCriteriaList([Forced()]),
        )  # fmt: skip
        return int(made.shape[1]) - width

    generate(3)
    bench.sync()
    start = time.perf_counter()
    steps = generate(max(lengths))
    bench.sync()
    return {
        "seconds": time.perf_counter() - start,
        "tokens": sum(min(length, steps) for length in lengths),
        "finished": sum(length <= steps for length in lengths),
        "attention": theirs.config._attn_implementation,
    }


def continuous_batching(bench: Bench, theirs: Any, members: list[Sequence], lengths: list[int]) -> Outcome:
    import transformers

    settings = transformers.GenerationConfig(
        do_sample=True, temperature=inputs.TEMPERATURE, top_p=inputs.TOP_P, top_k=0, eos_token_id=-1,
        max_new_tokens=max(lengths), pad_token_id=constants.TEXT_END,
    )  # fmt: skip
    # It cannot see a CPU's memory. Prompts that are hardly shared: its documentation advises against sharing blocks.
    size: dict[str, Any] = {} if bench.cuda else {"num_blocks": 8, "max_batch_tokens": 64}
    config = transformers.ContinuousBatchingConfig(allow_block_sharing=False, **size)
    given = {"continuous_batching_config": config} | hints(theirs, members, lengths)
    with theirs.continuous_batching_context_manager(settings, **given) as manager:
        attention = theirs.config._attn_implementation  # it may have changed to a better one
        collect(bench, manager, members, [3] * len(members))
        start = time.perf_counter()
        answers = collect(bench, manager, members, lengths)
        seconds = time.perf_counter() - start  # here, before it is stopped and destroyed
    tokens = sum(len(answer.generated_tokens) for answer in answers)
    return {"seconds": seconds, "tokens": tokens, "finished": len(answers), "attention": attention}


def hints(theirs: Any, members: list[Sequence], lengths: list[int]) -> dict[str, Any]:
    """What newer versions like to know beforehand, where this is one of them."""
    if "workload_hints" not in inspect.signature(theirs.continuous_batching_context_manager).parameters:
        return {}
    from transformers.generation.continuous_batching.utils import WorkloadHints

    longest = max(len(member.prompt) for member in members)
    return {"workload_hints": WorkloadHints(longest, max(lengths), len(members))}


def collect(bench: Bench, manager: Any, members: list[Sequence], limits: list[int]) -> list[Any]:
    """Answers to all requests, or to those that were finished in time."""
    round_ = f"{time.monotonic_ns()}"
    for index, (member, limit) in enumerate(zip(members, limits, strict=True)):
        manager.add_request(list(member.prompt), request_id=f"{round_}-{index}", max_new_tokens=limit)
    answers: list[Any] = []
    while len(answers) < len(members):
        answer = manager.get_result(timeout=1)
        if answer is not None and answer.is_finished():
            answers.append(answer)
        elif not manager.is_running():
            raise RuntimeError(f"it stopped with {len(answers)} of {len(members)} requests finished")
        if bench.cuda and bench.left() < SPARE:
            break
    return answers
