"""Texts for the fault harness: each corpus follows from the seed and its number, whatever else happens."""

import random
from dataclasses import dataclass

LONG_JOB = 90  # segments: as WAV it is larger than one part of a multipart upload
JOBS = 12  # short ones, in a corpus
SHORT_JOB = (1, 6)  # segments

SUBJECTS = [
    "the miller",
    "my old aunt",
    "a grey heron",
    "the night train",
    "this small river",
    "our captain",
    "the last guest",
]
VERBS = ["carried", "followed", "forgot", "painted", "remembered", "repaired", "counted"]
OBJECTS = [
    "seven lamps",
    "the empty boat",
    "a letter from home",
    "the church bell",
    "two quiet horses",
    "the broken mill",
]
PLACES = [
    "before sunrise",
    "under the bridge",
    "in heavy rain",
    "without a word",
    "near the harbour",
    "for a whole year",
]


@dataclass(frozen=True, slots=True)
class Text:
    """A corpus to be accepted."""

    name: str
    jobs: dict[str, str | list[str]]  # paragraphs by custom_id, each of one segment
    audio_format: str
    captions: tuple[str, ...]
    priority: str

    @property
    def segments(self) -> int:
        """How many segments it is cut into."""
        return sum(len(job) for job in self.jobs.values())


def made(seed: int, number: int) -> Text:
    """The corpus of that number: books of one long job with short ones after it, and lists of short ones."""
    chance = random.Random(f"{seed}:{number}")
    jobs: dict[str, str | list[str]] = {}
    is_book = number % 3 == 0
    if is_book:
        jobs["book"] = [_sentence(chance, f"{number} {line}") for line in range(LONG_JOB)]
    for job in range(JOBS):
        lines = [_sentence(chance, f"{number} {job} {line}") for line in range(chance.randint(*SHORT_JOB))]
        if job % 5 == 4:
            lines.append(lines[0])  # the same words twice: one take
        jobs[f"job-{job}"] = lines
    jobs["twin"] = jobs["job-0"]  # two jobs with the same sound
    return Text(
        f"corpus-{number}",
        jobs,
        "wav" if is_book else chance.choice(["mp3", "opus", "flac"]),
        ("vtt", "json") if number % 2 else (),
        chance.choice(["high", "normal", "low"]),
    )


def _sentence(chance: random.Random, number: str) -> str:
    words = " ".join(chance.choice(some) for some in (SUBJECTS, VERBS, OBJECTS, PLACES))
    return f"{words.capitalize()}, {number}."
