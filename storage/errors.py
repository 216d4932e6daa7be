"""The one tree of errors.

A subclass is a condition; its docstring is the sentence the user reads, with the fields it was raised with
filled in. It says what is wrong, where, and what to do. The CLI prints it as one line.
"""

import inspect
from typing import Any, ClassVar


class VoicemillError(Exception):
    """Something went wrong that Voicemill has no better words for."""

    exit_code: ClassVar[int] = 2  # cli/exit_codes.py

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(type(self).template().format(**fields))

    @classmethod
    def template(cls) -> str:
        """The docstring as one line, with its `{field}` places still open."""
        return " ".join(inspect.cleandoc(cls.__doc__ or "").split())


class InputError(VoicemillError):
    """The input cannot be used."""


class StoreError(VoicemillError):
    """The object store {url} failed: {reason}."""


class ObjectMissingError(StoreError):
    """The object {key} is not in the store {url}. `voicemill storage verify` lists what else is missing."""


class ObjectArchivedError(StoreError):
    """The object {key} of the store {url} lies in an archive. `voicemill thaw` asks for it; then run this again."""


class StoreUnreachableError(StoreError):
    """The object store {url} cannot be reached: {reason}. Work done so far is kept; try again when it is back."""


class StoreForbiddenError(StoreError):
    """The object store {url} refused {action}: {reason}. Check its credentials and permissions."""


class StoreFullError(StoreError):
    """The object store {url} is full: {reason}. Free some space and run the same command again."""


class DatabaseUnreachableError(VoicemillError):
    """The database {url} cannot be reached: {reason}. Check VOICEMILL_DATABASE_URL and that the server runs."""
