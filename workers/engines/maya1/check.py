"""What nobody has published about the real weights, measured on them: `voicemill model check`.

For a few sentences, under each form of the prompt's begin, the engine draws takes with the official sampling. Then the
model reads them again with its whole head, and every step's probabilities (temperature 1, no penalty) tell how much
of them the frame's grammar cuts off.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engines.engine import Request
from workers.engines.maya1 import cache, calls, constants, decode, loading, prompt
from workers.engines.maya1.checkpoint import Checkpoint
from workers.engines.maya1.model import Model
from workers.engines.maya1.sequence import End, Sequence
from workers.engines.maya1.settings import Maya1Settings

VOICE = "Realistic male voice in the 30s age with american accent. Normal pitch, warm timbre, conversational pacing."
SENTENCES = (
    "The weather turned on the way home, and by the time we reached the bridge it was raining hard.",
    "Yes.",
    "I never said she stole the money, and I would thank you not to repeat it.",
    "In nineteen eighty four, about two thousand people lived there; today there are twelve.",
    "Wait, what was that? <gasp> Did you hear it too?",
    "That was the worst joke I have ever heard, <laugh> tell me another one.",
    "The report covers costs, deadlines, open questions and the names of those who will answer them.",
    "Good night, and thank you for listening.",
)
LONGEST = 1024  # steps of one take that are read again: their probabilities take 0.6 MB each


@dataclass(frozen=True, slots=True)
class Measure:
    """One form of the prompt. Masses are probabilities per step."""

    bos: str
    takes: int
    ended: int  # by the end of speech
    tokens_per_character: float
    illegal_mean: float  # mass on ids that the step's slot does not allow
    illegal_max: float
    end_off_slot_mean: float  # mass on the end of speech at slots 1 .. 6, also counted as illegal
    end_off_slot_max: float
    log_likelihood: float  # of a drawn token under the grammar, mean, in nats: how sure it is of its own speech


def measure(settings: Maya1Settings, sentences: Many[str] = SENTENCES) -> list[Measure]:
    """Both forms of the prompt's begin, measured. Raises what `loading` raises."""
    device = loading.find_device(settings.maya1_device)
    opened = loading.open_checkpoint(settings)
    dtype = loading.find_dtype(settings, device)
    model = loading.make_model(opened, settings, device, dtype)
    head = opened.whole_head(device, dtype)
    with torch.inference_mode():
        return [
            _form(model, head, opened, bos, sentences, settings.maya1_context) for bos in ("double", "single")
        ]


def _form(
    model: Model, head: Tensor, opened: Checkpoint, bos: str, sentences: Many[str], context: int
) -> Measure:
    takes = _takes(model, prompt.Prompts(opened.tokenizer, bos == "double"), sentences, context)
    steps = torch.cat([_steps(model, head, take) for take in takes])
    illegal, end, likelihood, slot = steps.unbind(1)
    off_slot = end[slot > 0]
    return Measure(
        bos=bos,
        takes=len(takes),
        ended=sum(take.end is End.SPEECH for take in takes),
        tokens_per_character=sum(len(t.codes) // 2 for t in takes) / sum(len(t.request.text) for t in takes),
        illegal_mean=float(illegal.mean()),
        illegal_max=float(illegal.max()),
        end_off_slot_mean=float(off_slot.mean()),
        end_off_slot_max=float(off_slot.max()),
        log_likelihood=float(likelihood.mean()),
    )


def _takes(model: Model, prompts: prompt.Prompts, sentences: Many[str], context: int) -> list[Sequence]:
    """The sentences, drawn with the official sampling."""
    dtype, device = model.weights.embedding.dtype, model.weights.embedding.device
    requests = [Request(str(seed), text, VOICE, seed) for seed, text in enumerate(sentences)]
    made = [calls.sequence_of(request, prompts, context) for request in requests]
    takes = [one for one in made if isinstance(one, Sequence)]
    decoder = decode.Decoder(model, cache.Cache(model.shape, len(takes), context, dtype, device))
    decoder.admit(takes)
    while decoder.active:
        decoder.step()
    return takes


def _steps(model: Model, head: Tensor, take: Sequence) -> Tensor:
    """float64 [steps, 4] on the host: illegal mass, mass of the end of speech, log-likelihood of the token, slot."""
    ids = torch.tensor(decode.known(take)[: len(take.prompt) + LONGEST], device=head.device)
    logits = model.logits(ids, head)[len(take.prompt) - 1 : -1]  # what each token of the take was predicted by
    return torch.tensor(list(_masses(logits, ids[len(take.prompt) :])), dtype=torch.float64)


def _masses(logits: Tensor, tokens: Tensor) -> Iterator[tuple[float, float, float, int]]:
    for step, (row, token) in enumerate(zip(logits, tokens.tolist(), strict=True)):
        slot = step % constants.FRAME
        first = constants.AUDIO_START + slot * constants.CODES
        band, end = row[first : first + constants.CODES], row[constants.SPEECH_END : constants.SPEECH_END + 1]
        whole = row.logsumexp(0)
        legal = (band if slot else torch.cat((band, end))).logsumexp(0)
        yield (
            float(-torch.expm1((legal - whole).double()).clamp(max=0)),
            float((end[0] - whole).exp()),
            float(row[token] - legal),
            slot,
        )
