"""What `voicemill` returns to the shell."""

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """One table for the code and the docs: a number and what it means."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        """A number that knows its meaning."""
        member = int.__new__(cls, number)
        member._value_, member.meaning = number, meaning
        return member

    OK = 0, "all good"
    SOME_FAILED = 1, "some items failed; the others are done"
    BAD_INPUT = (
        2,
        "bad usage, input or surroundings (database, broker, store): mend what the line says and run it again",
    )
    INTERNAL = 70, "a defect of Voicemill: please report it"
    INTERRUPTED = 130, "stopped by Ctrl-C or SIGTERM; run the same command again and it goes on"
