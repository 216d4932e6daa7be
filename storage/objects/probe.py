"""One small object there and back, to find a fault of a store before any work is done."""

import uuid

from storage import errors
from storage.objects.store import Store

CONTENT = b"Voicemill was here.\n"


def round_trip(store: Store) -> None:
    """Write, read and delete an object of its own name. Raises a StoreError."""
    key = f"checks/{uuid.uuid4().hex}"
    store.put(key, CONTENT, content_type="text/plain")
    try:
        found = store.get(key)
    finally:
        store.delete([key])
    if found != CONTENT:
        raise errors.StoreError(url=store.url, reason="it gave back other bytes than it was given")
