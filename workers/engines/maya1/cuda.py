"""A frame as one CUDA graph: seven decode steps, drawing included, without Python in between.

There is a graph for each of a few batch sizes; a batch takes the next larger one, whose further rows are empty. A
graph fixes its kernels' arguments, so everything that changes between frames lies in `Rows`, and attention is given
the cache's whole length as its bound.
"""

from collections.abc import Iterator

import torch

from workers.engines.maya1.cache import Cache
from workers.engines.maya1.decode import Runner
from workers.engines.maya1.kernels import Rows
from workers.engines.maya1.model import Model

SMALL = (8, 16)  # rows; then in steps, so that less than a tenth of a large batch is padding
STEP = 32


def batch_sizes(most: int) -> Iterator[int]:
    """The batch sizes to capture, up to `most`, which is one of them."""
    yield from (size for size in SMALL if size < most)
    yield from range(STEP, most, STEP)
    yield most


def graph_runner(model: Model, cache: Cache, rows: Rows) -> Runner:
    """Runs frames by replaying graphs, all captured now, the largest first: the others find room in its memory."""
    device = rows.slot.device
    graphs: dict[int, torch.cuda.CUDAGraph] = {}
    pool = None
    with torch.cuda.device(device), torch.inference_mode():
        current, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(current)  # the cache and the rows are still being zeroed there
        for size in sorted(batch_sizes(cache.slots), reverse=True):
            part = rows.view(size)
            with torch.cuda.stream(stream):  # compiles kernels and makes the libraries' workspaces
                model.frame(part, cache, cache.length)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                model.frame(part, cache, cache.length)
            pool = graph.pool()
            graphs[size] = graph
        current.wait_stream(stream)

    def run(count: int, longest: int) -> None:
        graphs[min(size for size in graphs if size >= count)].replay()

    return run
