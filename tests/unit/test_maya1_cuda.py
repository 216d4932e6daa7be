"""What a CPU can tell of CUDA graphs: which batch sizes they are for, and what waits for what while they are made."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workers.engines.maya1 import cuda


def test_a_graph_for_every_batch_size_that_is_worth_one() -> None:
    assert list(cuda.batch_sizes(4)) == [4]
    assert list(cuda.batch_sizes(100)) == [8, 16, 32, 64, 96, 100]
    assert list(cuda.batch_sizes(64)) == [8, 16, 32, 64]


def test_the_first_frame_waits_for_the_cache_and_what_comes_next_for_the_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache is zeroed on the stream that is current; frames are tried and captured on another."""
    told: list[str] = []

    class Stream:
        def __init__(self, name: Any) -> None:
            self.name = name if isinstance(name, str) else "own"

        def wait_stream(self, other: "Stream") -> None:
            told.append(f"{self.name} waits for {other.name}")

        def synchronize(self) -> None:
            pass

    @contextlib.contextmanager
    def nothing(*_: Any, **__: Any) -> Iterator[None]:
        yield

    graph = SimpleNamespace(pool=lambda: None, replay=lambda: told.append("replay"))
    for name, value in {
        "Stream": Stream,
        "current_stream": lambda device=None: Stream("current"),
        "device": nothing,
        "stream": nothing,
        "graph": nothing,
        "CUDAGraph": lambda: graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    model: Any = SimpleNamespace(frame=lambda rows, cache, longest: told.append("frame"))
    rows: Any = SimpleNamespace(slot=torch.zeros(4), view=lambda count: None)
    run = cuda.graph_runner(model, SimpleNamespace(slots=4, length=64), rows)  # type: ignore[arg-type]
    run(3, 64)
    assert told == ["own waits for current", "frame", "frame", "current waits for own", "replay"]
