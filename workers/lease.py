"""A lease kept alive: renewed in the background until the work is done, and the work told when it is lost."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from storage import errors

log = logging.getLogger(__name__)

RENEWALS = 3  # per lease time: two may fail before the lease is lost


@contextmanager
def kept(renew: Callable[[], None], seconds: float, lost: Event) -> Iterator[None]:
    """Call `renew` three times per lease time until the block ends. `lost` is set once the lease cannot be kept.

    A database that is away for a moment is not a lost lease: whether it is, the fence decides when it is back.
    """
    ended = Event()

    def keep() -> None:
        while not ended.wait(seconds / RENEWALS):
            try:
                renew()
            except errors.DatabaseUnreachableError as error:
                log.warning("cannot renew a lease for now: %s", error)
            except Exception as error:  # LeaseLostError, or whatever else makes the work pointless
                log.warning("%s", error)
                lost.set()
                return

    thread = Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
