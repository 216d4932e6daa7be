"""The calls of `render` that are in progress, and how their requests become sequences."""

import logging
import queue
import threading

from workers.engines.engine import Failure, Partial, Reason, Request, Result
from workers.engines.maya1 import constants, partials, sequence
from workers.engines.maya1.options import Maya1Options
from workers.engines.maya1.prompt import Prompts
from workers.engines.maya1.sequence import Sequence

logger = logging.getLogger(__name__)


class Call:
    """One `render`: its results (or the error that ends it), and whether anyone still wants them."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.abandoned = False
        self.results: queue.SimpleQueue[Result | Exception] = queue.SimpleQueue()

    @property
    def over(self) -> bool:
        """Whether its sequences should leave the batch."""
        return self.abandoned or self.stop.is_set()


def sequence_of(
    request: Request, prompts: Prompts, context: int, call: Call | None = None
) -> Sequence | Failure:
    """A request as the decoder takes it, with the codes of its partial; or why it cannot be spoken."""
    try:
        options = Maya1Options.model_validate(dict(request.options))
        prompt = prompts.ids(request.voice, request.text)
    except ValueError as error:
        return Failure(request.key, Reason.BAD_TEXT, " ".join(str(error).split()))
    try:
        budget = sequence.budget(request.text, options.max_tokens, context - len(prompt))
    except ValueError as error:
        return Failure(request.key, Reason.TOO_LONG, str(error))
    made = Sequence(
        request=request,
        prompt=prompt,
        prefix=prompts.prefix(request.voice),
        budget=budget,
        temperature=options.temperature,
        top_p=options.top_p,
        penalty=options.repetition_penalty,
        owner=call,
    )
    try:
        codes = partials.unpack(request.partial or b"", made.cause)
    except ValueError as error:
        logger.warning("The partial of %s is not used: %s. It is rendered afresh.", request.key, error)
        return made
    if len(codes) < budget * partials.FRAME:  # else it is of an attempt that had a larger budget
        made.codes += codes
    return made


def answer(one: Sequence, result: Result) -> None:
    """Hands a sequence's result to the call that waits for it."""
    one.owner.results.put(result)


def partial(one: Sequence) -> Partial:
    """A sequence as it is now."""
    return Partial(one.request.key, partials.pack(one.cause, bytes(one.codes)), one.frames * constants.FRAME)
