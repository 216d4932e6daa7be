"""A whole frame decoded with the Triton kernels: the same codes as with plain torch. Run by test_kernels_interpreted.py."""

from pathlib import Path

import torch

from tests import tiny_maya1
from workers.engines.engine import Request
from workers.engines.maya1 import cache, checkpoint, constants, decode, kernels
from workers.engines.maya1.kernels import fast, plain
from workers.engines.maya1.model import Model
from workers.engines.maya1.sequence import Sequence

torch.set_num_threads(1)  # two threads that share a busy core wait for each other most of the time

CPU = torch.device("cpu")


def decoded(folder: Path, each: kernels.Kernels) -> list[bytes]:
    """Codes of three prompts of unequal length, one of them greedy, in a batch with an empty row."""
    opened = checkpoint.open_directory(folder)
    model = Model(opened.shape, opened.load(CPU, torch.float32), each, 128)
    decoder = decode.Decoder(model, cache.Cache(opened.shape, 4, 128, torch.float32, CPU), every_row)
    members = [
        Sequence(Request(str(n), "", "", n), (constants.BOS, *range(40, 40 + length), constants.SPEECH_START), (),
                 budget=9, temperature=temperature, top_p=0.9, penalty=1.1)
        for n, (length, temperature) in enumerate([(3, 0.4), (20, 1.0), (9, 0.0)])
    ]  # fmt: skip
    decoder.admit(members)
    decoder.step()
    return [bytes(member.codes) for member in members]


def every_row(model: Model, store: cache.Cache, rows: kernels.Rows) -> decode.Runner:
    """As a CUDA graph does: a batch's empty rows are run too, and no bound but the cache's is known."""
    return lambda count, longest: model.frame(rows, store, store.length)


def test_the_same_frame_as_plain_torch(tmp_path: Path) -> None:
    folder = tiny_maya1.make_model(tmp_path, end_bias=0, num_hidden_layers=1)
    with torch.inference_mode():
        expected = decoded(folder, plain)
        got = decoded(folder, fast)
    assert [len(codes) for codes in expected] == [14] * 3
    assert got == expected
