"""What a sequence becomes depends on itself alone: not on its neighbours, interruptions, or shared prefixes."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests import tiny_maya1
from workers.engines.engine import Request
from workers.engines.maya1 import cache, checkpoint, decode
from workers.engines.maya1.checkpoint import Checkpoint
from workers.engines.maya1.kernels import LayerCache, plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.prompt import Prompts
from workers.engines.maya1.sequence import End, Sequence

torch.set_num_threads(1)

CPU = torch.device("cpu")
CONTEXT = 512
BUDGET = 28  # frames
VOICES = ("A calm voice.", "An old man, hoarse and slow.", "A robot.")
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "away", "it", "runs"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return checkpoint.open_directory(tiny_maya1.make_model(tmp_path_factory.mktemp("maya1")))


@pytest.fixture(scope="module")
def model(opened: Checkpoint) -> Model:
    return Model(opened.shape, opened.load(CPU, torch.float32), plain, CONTEXT)


def sequences(opened: Checkpoint, count: int, share: bool = True, budget: int = BUDGET) -> list[Sequence]:
    """Texts of unequal length in three voices, every other one drawn and the others greedy."""
    prompts = Prompts(opened.tokenizer, double_bos=True)
    made = []
    for n in range(count):
        voice, text = VOICES[n % len(VOICES)], " ".join(WORDS[n % 5 : 5 + n % 8])
        prefix = prompts.prefix(voice) if share else ()
        temperature = 0.4 * (n % 2)
        request = Request(str(n), text, voice, seed=n * 2**55)
        made.append(Sequence(request, prompts.ids(voice, text), prefix, budget, temperature, 0.9, 1.1))
    return made


def run(
    model: Model, waiting: list[Sequence], slots: int, kv_dtype: torch.dtype = torch.float32
) -> list[bytes]:
    """Decodes all, as many at once as there are slots; gives the codes of each."""
    decoder = decode.Decoder(model, cache.Cache(model.shape, slots, CONTEXT, kv_dtype, CPU))
    left = list(waiting)
    with torch.inference_mode():
        while left or decoder.active:
            free = len(decoder.free)
            decoder.admit(left[:free])
            del left[:free]
            decoder.step()
    assert all(s.end for s in waiting) and sorted(decoder.free) == list(range(slots))
    return [bytes(s.codes) for s in waiting]


def test_neighbours_and_shared_prefixes_change_nothing(opened: Checkpoint, model: Model) -> None:
    alone = run(model, sequences(opened, 15, share=False), slots=1)
    assert run(model, sequences(opened, 15), slots=4) == alone
    backwards = sequences(opened, 15)[::-1]
    assert run(model, backwards, slots=15)[::-1] == alone
    assert len({len(codes) for codes in alone}) > 5


def prefills(monkeypatch: pytest.MonkeyPatch, model: Model) -> list[tuple[int, ...]]:
    """The shapes of what is prefilled from now on."""
    shapes: list[tuple[int, ...]] = []
    real = model.prefill

    def counted(tokens: torch.Tensor, *rest: Any) -> None:
        shapes.append(tuple(tokens.shape))
        real(tokens, *rest)

    monkeypatch.setattr(model, "prefill", counted)
    return shapes


def test_many_known_voices_are_one_prefill(
    opened: Checkpoint, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen sequences of as many voices that are known, a new one among them, and one whose codes are known too."""
    prompts = Prompts(opened.tokenizer, double_bos=True)

    def one(n: int, text: str) -> Sequence:
        voice = f"Voice {'number ' * (n % 3)}{n}."
        request = Request(f"{n} {text}", text, voice, n)
        return Sequence(request, prompts.ids(voice, text), prompts.prefix(voice), BUDGET, 0.4, 0.9, 1.1)

    expected = run(model, [one(n, "the quick fox" * (1 + n % 2)) for n in range(17)], slots=1)
    shapes = prefills(monkeypatch, model)
    decoder = decode.Decoder(model, cache.Cache(model.shape, 40, CONTEXT, torch.float32, CPU))
    with torch.inference_mode():
        decoder.admit([one(n, text) for n in range(16) for text in ("it", "runs")])
        assert len(shapes) == 2  # the voices, then the rest of the prompts
        assert shapes[0][0] == 16
        decoder.release(list(decoder.active))
        asked = [one(n, "the quick fox" * (1 + n % 2)) for n in range(17)]
        asked[3].codes += expected[3][: 14 * 5]
        decoder.admit(asked)
        assert len(shapes) == 3
        assert shapes[2][0] == 17
        while decoder.active:
            decoder.step()
    assert [bytes(s.codes) for s in asked] == expected


def test_no_prefill_is_larger_than_it_may_be(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes are two bytes each, and count once: what is longest in bytes is not what is longest in ids."""
    monkeypatch.setattr(decode, "PREFILL_TOKENS", 264)
    shapes = prefills(monkeypatch, model)
    asked = [
        Sequence(Request(str(n), "", "", n), tuple(range(1, 1 + length)), (), 99, 0.4, 0.9, 1.1)
        for n, length in enumerate([60] * 5 + [100] * 5)
    ]
    for one in asked[:5]:
        one.codes += bytes(14 * 4)  # 88 ids, 116 with bytes taken for ids
    decoder = decode.Decoder(model, cache.Cache(model.shape, 10, CONTEXT, torch.float32, CPU))
    with torch.inference_mode():
        decoder.admit(asked)
        assert sum(rows for rows, _ in shapes) == 10
        assert all(rows * length <= 264 for rows, length in shapes)
        decoder.step()
    positions = decoder.rows.position.tolist()
    assert positions == sorted(positions, reverse=True)


def test_padding_stays_within_its_stretch_of_the_cache(opened: Checkpoint, model: Model) -> None:
    """A short prompt after a shared prefix, prefilled beside one that fills its whole stretch."""
    length = 60
    made = cache.Cache(model.shape, 2, length, torch.float32, CPU)
    made.data[:, 2] = 7.0  # what lies behind
    tokens = torch.arange(1, 1 + 2 * (length - 2)).view(2, -1)
    model.prefill(tokens, torch.tensor([0, 1]), [0, 50], made)
    assert bool((made.data[:, 2] == 7.0).all())
    assert bool((made.data[0, 1, :50] == 0).all())


def test_interrupted_at_every_frame_and_resumed_is_uninterrupted(opened: Checkpoint, model: Model) -> None:
    whole = sequences(opened, 6)
    run(model, whole, slots=6)
    resumed, expected = [], []
    for number, one in enumerate(whole):
        for frames in range(1, one.frames):
            again = sequences(opened, 6)[number]
            again.codes += one.codes[: frames * 14]
            resumed.append(again)
            expected.append(bytes(one.codes))
    assert len(resumed) > 60
    assert run(model, resumed, slots=16) == expected
    assert [s.end for s in resumed] == [one.end for one in whole for _ in range(1, one.frames)]


def test_most_sequences_of_the_tiny_model_end_by_themselves(opened: Checkpoint, model: Model) -> None:
    ended = sequences(opened, 24, budget=40)
    run(model, ended, slots=24)
    assert sum(s.end is End.SPEECH for s in ended) > 14
    assert min(s.frames for s in ended) >= 4


class NoIndexingOfFloats8(TorchDispatchMode):
    """As torch 2.6 is, on a GPU and on a CPU."""

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        name = function.overloadpacket.__name__
        tensors = [each for each in given if isinstance(each, torch.Tensor)]
        assert not (name.startswith("index") and any(each.dtype == torch.float8_e4m3fn for each in tensors)), (
            name
        )
        return function(*given, **(named or {}))


def test_an_8_bit_cache_needs_no_torch_that_can_index_it(opened: Checkpoint, model: Model) -> None:
    with NoIndexingOfFloats8():
        run(model, sequences(opened, 6), slots=4, kv_dtype=torch.float8_e4m3fn)


@pytest.mark.parametrize(("kv_dtype", "bound"), [(torch.float8_e4m3fn, 0.03), (torch.int8, 0.008)])
def test_a_cache_in_eight_bits_is_near_and_half_the_size(
    opened: Checkpoint, model: Model, kv_dtype: torch.dtype, bound: float
) -> None:
    assert cache.slot_bytes(model.shape, 100, kv_dtype) < 0.63 * cache.slot_bytes(
        model.shape, 100, torch.bfloat16
    )
    tokens = torch.tensor([sequences(opened, 1)[0].prompt])
    slots, stored = torch.tensor([0]), []
    for dtype in (torch.float32, kv_dtype):
        made = cache.Cache(model.shape, 1, CONTEXT, dtype, CPU)
        model.prefill(tokens, slots, [0], made)
        stored.append(torch.stack(plain.read(made.layer(0), slots, tokens.shape[1], torch.float32)))
    error = float((stored[1] - stored[0]).norm() / stored[0].norm())
    assert 0 < error < bound
    ended = sequences(opened, 8)
    run(model, ended, slots=4, kv_dtype=kv_dtype)


def test_products_in_eight_bits_run(opened: Checkpoint) -> None:
    rough = Model(opened.shape, opened.load(CPU, torch.bfloat16, fp8=True), plain, CONTEXT)
    assert rough.quantised
    run(rough, sequences(opened, 4), slots=4, kv_dtype=torch.bfloat16)
    tokens = torch.tensor(sequences(opened, 1)[0].prompt)
    exact = Model(opened.shape, opened.load(CPU, torch.float32), plain, CONTEXT)
    with torch.inference_mode():
        one, other = (m.logits(tokens, m.weights.slot(0).to(m.weights.norm.dtype)) for m in (rough, exact))
    assert float((one - other).norm() / other.norm()) < 0.2


def test_attention_reads_no_further_than_its_row(model: Model) -> None:
    generator = torch.Generator().manual_seed(2)
    data = torch.randn(4, 64, 2, 2, 16, generator=generator)
    query = torch.randn(3, 6, 16, generator=generator)
    slot, position = torch.tensor([3, 0, 2]), torch.tensor([0, 63, 30])
    whole = plain.decode_attention(query, LayerCache(data, None), slot, position, 64)
    for row in range(3):
        used = int(position[row]) + 1
        keys, values = data[slot[row], :used].repeat_interleave(3, dim=1).unbind(2)
        wanted = torch.nn.functional.scaled_dot_product_attention(
            query[row][:, None], keys.transpose(0, 1), values.transpose(0, 1)
        )
        torch.testing.assert_close(whole[row].view(6, 16), wanted[:, 0], atol=1e-5, rtol=1e-5)
