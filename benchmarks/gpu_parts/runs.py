"""How fast is it? Whole runs: prefill, decoding, drawing, the vocoder beside it, the copies."""

import dataclasses
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_parts import inputs, rates
from gpu_parts.bench import FP8, Bench, name, no_end
from workers.engines.maya1 import constants, cuda, decode, faults, vocoder
from workers.engines.maya1.cache import Cache
from workers.engines.maya1.engine import PREFILL_SHARE
from workers.engines.maya1.model import Model
from workers.engines.maya1.sequence import Sequence

# mypy: disable-error-code="no-untyped-call"

VOCODER_BATCH = 64  # takes
SPARE = 10  # seconds before the end at which a run is given up
COLUMNS = (
    "what", "rows", "requests", "audio-s/s", "tokens/s", "of bound", "prefill", "vocoder, alone", "in between",
)  # fmt: skip
HEADING = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


@dataclasses.dataclass
class Result:
    """One run's times, in seconds."""

    name: str
    slots: int
    requests: int
    audio: float = 0.0
    tokens: int = 0
    total: float = 0.0
    prefill: float = 0.0
    frames: float = 0.0
    bound: float = 0.0
    vocoder: float = 0.0  # all of it once more, alone

    def row(self) -> str:
        shares = [self.prefill, self.vocoder, max(0.0, self.total - self.prefill - self.frames)]
        cells = [self.name, self.slots, self.requests]
        cells += [f"{self.audio / self.total:.0f}", f"{self.tokens / self.total:.0f}"]
        cells += [f"{self.bound / self.total:.2f}", *(f"{share / self.total:.1%}" for share in shares)]
        return f"| {' | '.join(map(str, cells))} |"


def exact(bench: Bench, folder: Path) -> None:
    what = name(bench.exact)
    bench.step(what, 120, partial(usual, bench, what, False, bench.exact, folder))


def fp8_cache(bench: Bench, folder: Path) -> None:
    what = f"{name(bench.exact)}, fp8 cache"
    bench.step(what, 100, partial(usual, bench, what, False, FP8, folder))


def fp8_products(bench: Bench, folder: Path) -> None:
    what = "fp8 products and cache"
    bench.step(what, 90, partial(usual, bench, what, True, FP8, folder))


def usual(bench: Bench, what: str, fp8: bool, cached: torch.dtype, folder: Path) -> Result:
    """As many rows as the engine would take on this device, and as there, half as many where that is too much."""
    model, slots = inputs.model(bench, fp8), bench.usual(cached)
    while True:
        try:
            return measured(bench, what, model, cached, slots, bench.sizes.waves * slots, folder)
        except RuntimeError as error:
            if not faults.is_out_of_memory(error) or slots == 1:
                raise
        print(f"{what}: no memory for {slots} rows")
        slots //= 2
        bench.tidy()


def sweep(bench: Bench, folder: Path) -> None:
    """Other batch sizes, those that fit: which one do the tiles of this device's products like best?"""
    model = inputs.model(bench)
    for cached in (bench.exact, FP8):
        for slots in bench.sizes.sweep:
            what = f"{name(bench.exact)}, {name(cached)} cache, {slots} rows"
            if slots > bench.fitting(cached):
                print(f"{what}: no room")
            elif slots != bench.usual(cached):
                work = partial(measured, bench, what, model, cached, slots, 2 * slots, folder)
                bench.step(what, 40, work)


def measured(
    bench: Bench, what: str, model: Model, cached: torch.dtype, slots: int, requests: int, folder: Path
) -> Result:
    """A run, and its row of the table."""
    times: list[Any] = []

    def timed(*state: Any) -> decode.Runner:
        inner = (cuda.graph_runner if bench.cuda else decode.plain_runner)(*state)

        def one(count: int, longest: int) -> None:
            with stopwatch(bench, times):
                inner(count, longest)

        return one

    sound = vocoder.load(folder, bench.device, folder, backend="torch")
    result, members = Result(what, slots, requests), inputs.sequences(bench.sizes, requests)
    with no_end():
        store = Cache(model.shape, slots, bench.sizes.context, cached, bench.device)
        decoder = decode.Decoder(model, store, timed)
        short = inputs.sequences(bench.sizes, 1)
        short[0].budget = 5  # frames
        render(bench, decoder, sound, short, Result("", 0, 0))  # loads what is loaded on first use
        times.clear()
        render(bench, decoder, sound, members, result)
    result.frames = sum(taken() for taken in times)
    alone = Result("", 0, 0)
    start = time.perf_counter()
    done, worker = start_vocoder(sound, alone)
    for member in [*members, None]:
        done.put(member)
    worker.join()
    result.vocoder = time.perf_counter() - start
    assert all(member.frames == member.budget for member in members), "a request did not reach its length"
    made = result.tokens / constants.TOKENS_PER_SECOND
    assert abs(result.audio - made) < 0.01, "some codes did not become sound"
    bench.found["runs"].append(dataclasses.asdict(result))
    if len(bench.found["runs"]) == 1:
        print(HEADING)
    print(result.row(), flush=True)
    return result


def render(
    bench: Bench, decoder: decode.Decoder, sound: vocoder.Vocoder, members: list[Sequence], result: Result
) -> None:
    """As the engine does it: longest first, admitted when a 32nd of the slots is free, the vocoder in its thread."""
    waiting = sorted(members, key=lambda member: -member.remaining)
    bound = rates.bound(bench, decoder.model, decoder.cache)
    bench.sync()
    start = time.perf_counter()
    done, worker = start_vocoder(sound, result)
    try:
        while waiting or decoder.active:
            room = len(decoder.free)
            if waiting and (room >= max(1, decoder.cache.slots // PREFILL_SHARE) or not decoder.active):
                before = time.perf_counter()
                decoder.admit(waiting[:room])
                del waiting[:room]
                bench.sync()
                result.prefill += time.perf_counter() - before
            bound.add(len(decoder.active), sum(map(decode.length, decoder.active)))
            for member in decoder.step():
                done.put(member)
            if bench.cuda and bench.left() < SPARE:
                raise TimeoutError(
                    f"given up; so far {tokens(members) / (time.perf_counter() - start):.0f} tokens/s"
                )
    finally:
        done.put(None)
        worker.join()
    result.total = time.perf_counter() - start
    result.bound = bound.seconds
    result.tokens = tokens(members)


def tokens(members: list[Sequence]) -> int:
    return sum(len(member.codes) // 2 for member in members)


@contextmanager
def stopwatch(bench: Bench, times: list[Any]) -> Iterator[None]:
    """Adds a function that tells, later, how long the device took."""
    if not bench.cuda:
        before = time.perf_counter()
        yield
        taken = time.perf_counter() - before
        times.append(lambda: taken)
        return
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    yield
    end.record()
    times.append(lambda: begin.elapsed_time(end) / 1000)


def start_vocoder(sound: vocoder.Vocoder, result: Result) -> tuple[Any, threading.Thread]:
    """A thread that makes sound of the sequences it is sent, up to None, and counts its seconds."""
    done: queue.SimpleQueue[Sequence | None] = queue.SimpleQueue()

    def work() -> None:
        over = False
        while not over:
            batch = [done.get()]
            while batch[-1] is not None and len(batch) < VOCODER_BATCH and not done.empty():
                batch.append(done.get())
            over = batch[-1] is None
            members = [member for member in batch if member is not None]
            codes = [np.frombuffer(bytes(m.codes), "<i2").reshape(-1, constants.FRAME) for m in members]
            sounds = sound.decode(codes, [member.request.seed for member in members])
            result.audio += sum(len(each) for each in sounds) / constants.SAMPLE_RATE

    worker = threading.Thread(target=work)
    worker.start()
    return done, worker
